//! Training steps: the state that an engine keeps is what a plain session makes of its own outputs.

mod graphs;

use dfq_onnx::ir::{DType, Dim, Graph, Node, Tensor};
use dfq_onnx::onnx;
use dfq_onnx::runtime::{Engine, Optimisation, SessionOptions, StepSession, TractEngine};

use crate::support::{models, ort};
use graphs::{Case, cases, early_write, exchange, network, phases, picking};

const STEPS: u64 = 50;
/// Engines add in another order; so much of the largest element is left of that after all steps.
const BETWEEN_ENGINES: f32 = 1e-5;

fn engines() -> [&'static dyn Engine; 2] {
    [ort(), &TractEngine]
}

fn options(optimisation: Optimisation) -> SessionOptions {
    SessionOptions { optimisation, ..SessionOptions::default() }
}

fn load(engine: &dyn Engine, case: &Case, options: &SessionOptions) -> Box<dyn StepSession> {
    engine.load_steps(&[&case.graph], &case.state, options).unwrap()
}

fn run(session: &mut dyn StepSession, case: &Case, steps: std::ops::Range<u64>) {
    for step in steps {
        session.step(0, &(case.feeds)(step)).unwrap();
    }
}

fn state(session: &dyn StepSession, case: &Case) -> Vec<Tensor> {
    (0..case.state.len()).map(|i| session.read(i).unwrap()).collect()
}

fn after(engine: &dyn Engine, case: &Case, options: &SessionOptions) -> Vec<Tensor> {
    let mut session = load(engine, case, options);
    run(session.as_mut(), case, 0..STEPS);
    state(session.as_ref(), case)
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32().unwrap()
}

#[test]
fn steps_give_what_a_plain_session_makes_of_its_own_outputs() {
    let mut wrong = Vec::new();
    for case in cases() {
        for (engine, optimisation) in
            engines().into_iter().flat_map(|e| [(e, Optimisation::Default), (e, Optimisation::None)])
        {
            let mut plain = engine.load(&case.graph, &options(optimisation)).unwrap();
            let mut expected: Vec<Tensor> = case.state.iter().map(|(_, start)| start.clone()).collect();
            let start = expected.clone();
            for step in 0..STEPS {
                expected.extend((case.feeds)(step));
                expected = plain.run(&expected).unwrap();
            }
            let found = after(engine, &case, &options(optimisation));
            if found != expected || found == start && case.name != "exchange" {
                wrong.push(format!("{} in {} {optimisation:?}", case.name, engine.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn both_engines_train_a_network_to_the_same_weights() {
    let case = network();
    let [first, second] = engines().map(|engine| after(engine, &case, &options(Optimisation::Default)));
    let mut wrong = Vec::new();
    for (i, (a, b)) in first.iter().zip(&second).enumerate().filter(|(_, (a, _))| a.dtype() == DType::F32) {
        let scale = floats(a).iter().fold(0f32, |m, v| m.max(v.abs()));
        let apart = floats(a).iter().zip(floats(b)).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        if a.shape() != b.shape() || apart.is_nan() || apart > BETWEEN_ENGINES * scale {
            wrong.push(format!("entry {i} differs by {apart} of {scale}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (loss, steps) = (floats(&first[8])[0], first[9].to_i64().unwrap());
    assert_eq!((steps, first[10].shape()), (vec![50], &[0, 3][..]));
    // Two of five classes look alike to it, so that it cannot get to zero; it starts above ln 5.
    assert!(loss < 1.2, "it does not learn: {loss}");
}

#[test]
fn a_weight_that_is_updated_before_its_last_reader_ran_is_read_as_it_was() {
    let mut wrong = Vec::new();
    for (engine, optimisation) in
        engines().into_iter().flat_map(|e| [(e, Optimisation::Default), (e, Optimisation::None)])
    {
        let found: Vec<Vec<f32>> = after(engine, &early_write(), &options(optimisation)).iter().map(floats).collect();
        // 0 + 1 + … + 49.
        if found != [vec![50.0; 4], vec![1225.0; 4]] {
            wrong.push(format!("{} {optimisation:?}: {found:?}", engine.name()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_run_goes_on_from_a_state_that_was_read_and_written() {
    let mut wrong = Vec::new();
    for case in cases() {
        for (engine, stop) in engines().into_iter().flat_map(|engine| [(engine, 20), (engine, 21)]) {
            let mut first = load(engine, &case, &options(Optimisation::Default));
            run(first.as_mut(), &case, 0..stop);
            let mut second = load(engine, &case, &options(Optimisation::Default));
            // Steps before the writing leave nothing behind, whichever buffers they end in.
            run(second.as_mut(), &case, 0..1);
            for (i, entry) in state(first.as_ref(), &case).iter().enumerate() {
                second.write(i, entry).unwrap();
            }
            run(second.as_mut(), &case, stop..STEPS);
            if state(second.as_ref(), &case) != after(engine, &case, &options(Optimisation::Default)) {
                wrong.push(format!("{} stopped at {stop} in {}", case.name, engine.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_run_goes_back_to_what_was_kept_last_and_to_the_beginning_where_nothing_was() {
    let mut wrong = Vec::new();
    for case in cases() {
        for (engine, kept) in engines().into_iter().flat_map(|e| [(e, 0), (e, 20), (e, 21)]) {
            let mut session = load(engine, &case, &options(Optimisation::Default));
            if kept > 0 {
                run(session.as_mut(), &case, 0..7);
                session.keep().unwrap();
                run(session.as_mut(), &case, 7..kept);
                session.keep().unwrap();
            }
            for further in [1, 2] {
                run(session.as_mut(), &case, kept..kept + further);
                session.go_back().unwrap();
            }
            run(session.as_mut(), &case, kept..STEPS);
            if state(session.as_ref(), &case) != after(engine, &case, &options(Optimisation::Default)) {
                wrong.push(format!("{} kept at {kept} in {}", case.name, engine.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn phases_share_one_state_in_any_order_of_turns() {
    let (graphs, start) = phases();
    let number = |value: f32| Tensor::from_f32(&[1], &[value]);
    let mut wrong = Vec::new();
    for turns in [&[0, 0, 0][..], &[1, 1], &[0, 1, 0, 1], &[0, 0, 1, 1, 1, 0], &[1, 0, 0, 1, 0]] {
        for engine in engines() {
            let mut session =
                engine.load_steps(&graphs.iter().collect::<Vec<_>>(), &start, &SessionOptions::default()).unwrap();
            let (mut a, mut b, mut c) = (0.0, 1.0, 0.0);
            for (step, &phase) in turns.iter().enumerate() {
                let fed = 0.5 * step as f32;
                session.step(phase, &if phase == 0 { vec![number(fed)] } else { Vec::new() }).unwrap();
                (a, b, c) = if phase == 0 { (a + b + fed, b, c) } else { (a, b * 2.0, a) };
                if step == 1 {
                    session.keep().unwrap();
                    session.step(1 - phase, &if phase == 1 { vec![number(7.0)] } else { Vec::new() }).unwrap();
                    session.go_back().unwrap();
                }
            }
            let found: Vec<f32> = (0..3).map(|entry| floats(&session.read(entry).unwrap())[0]).collect();
            if found != [a, b, c] {
                wrong.push(format!("{turns:?} in {}: {found:?} for {:?}", engine.name(), [a, b, c]));
            }
            let error = session.step(2, &[]).unwrap_err().to_string();
            if error != "step: expected a phase below 2, found 2" {
                wrong.push(format!("{}: {error}", engine.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_same_steps_give_the_same_bytes_again_with_one_thread_and_with_two() {
    let mut wrong = Vec::new();
    for threads in [1, 2] {
        let options = SessionOptions { threads: Some(threads), ..SessionOptions::default() };
        let [first, second] = [(); 2].map(|()| after(ort(), &network(), &options));
        if first != second {
            wrong.push(format!("{threads} threads"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_step_that_fails_leaves_the_state_as_it_was() {
    let float = |shape: &[usize]| Tensor::from_f32(shape, &vec![1.0; shape.iter().product()]);
    let cases: [(&str, Vec<Tensor>, &str); 5] = [
        ("shape", vec![Tensor::from_i64(&[2], &[0, 0])], "input \"index\": expected int64 [1], found int64 [2]"),
        ("type", vec![float(&[1])], "input \"index\": expected int64 [1], found float32 [1]"),
        ("too few", vec![], "feeds of a step: expected 1 (index), found 0"),
        ("too many", vec![float(&[1]), float(&[1])], "feeds of a step: expected 1 (index), found 2"),
        // Found by the engine alone.
        ("index", vec![Tensor::from_i64(&[1], &[7])], ": "),
    ];
    let mut wrong = Vec::new();
    for engine in engines() {
        let mut session = load(engine, &picking(), &SessionOptions::default());
        run(session.as_mut(), &picking(), 0..3);
        for (name, feeds, expected) in &cases {
            let text = session.step(0, feeds).map_err(|e| e.to_string());
            let total = floats(&session.read(0).unwrap());
            if !text.as_ref().is_err_and(|text| text.contains(expected)) || total != [30.0] {
                wrong.push(format!("{name} in {}: {text:?}, {total:?}", engine.name()));
            }
        }
        run(session.as_mut(), &picking(), 3..5);
        assert_eq!(floats(&session.read(0).unwrap()), [50.0], "{}", engine.name());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn entries_that_are_not_there_or_do_not_fit_are_named() {
    let mut wrong = Vec::new();
    for engine in engines() {
        let mut session = load(engine, &exchange(), &SessionOptions::default());
        let float = |shape: &[usize]| Tensor::from_f32(shape, &vec![9.0; shape.iter().product()]);
        let found = [
            session.read(2).map(|_| ()),
            session.write(2, &float(&[2])),
            session.write(1, &float(&[1, 2])),
            session.write(0, &Tensor::from_i64(&[2], &[9, 9])),
        ];
        let expected = [
            "state: expected an entry below 2, found 2",
            "state: expected an entry below 2, found 2",
            "input \"b\": expected float32 [2], found float32 [1, 2]",
            "input \"a\": expected float32 [2], found int64 [2]",
        ];
        for (found, expected) in found.into_iter().zip(expected) {
            let found = found.map_err(|e| e.to_string());
            if found != Err(expected.to_owned()) {
                wrong.push(format!("{}: expected {expected}, found {found:?}", engine.name()));
            }
        }
        if !state(session.as_ref(), &exchange()).iter().eq(exchange().state.iter().map(|(_, start)| start)) {
            wrong.push(format!("{}: something was written", engine.name()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

type Change = fn(&mut Graph, &mut Vec<(String, Tensor)>);

fn passes_through(graph: &mut Graph, output: usize) {
    graph.nodes.remove(output);
    graph.outputs[output] = graph.inputs[1 - output];
}

const MISFITS: &[(&str, Change, &str)] = &[
    (
        "an output that updates nothing",
        |g, _| {
            let (from, to) = (g.inputs[0], g.add_value("more"));
            g.nodes.push(Node::new("Identity", [from], [to], []));
            g.outputs.push(to);
        },
        "output \"more\": updates nothing; expected ENTRY.next with an entry of the state (a, b)",
    ),
    (
        "an entry that nothing reads or updates",
        |_, s| s.push(("c".to_owned(), Tensor::from_i64(&[], &[0]))),
        "entry \"c\" of the state: is neither read nor updated by any of the step graphs (exchange)",
    ),
    (
        "shape of the state",
        |_, s| s[1].1 = Tensor::from_f32(&[3], &[0.0; 3]),
        "input \"b\": expected float32 [2], found float32 [3]",
    ),
    (
        "type of the state",
        |_, s| s[0].1 = Tensor::from_i64(&[2], &[0; 2]),
        "input \"a\": expected float32 [2], found int64 [2]",
    ),
    (
        "shape of an output",
        |g, _| g.value_mut(g.outputs[1]).shape = Some(vec![Dim::Known(2), Dim::Known(1)]),
        "output \"b.next\": expected float32 [2] as its entry, found float32 [2, 1]",
    ),
    (
        "type of an output",
        |g, _| g.value_mut(g.outputs[0]).dtype = Some(DType::F64),
        "output \"a.next\": expected float32 [2] as its entry, found float64 [2]",
    ),
    (
        "unknown output",
        |g, _| g.value_mut(g.outputs[0]).shape = None,
        "output \"a.next\": expected float32 [2] as its entry, found float32 of any shape",
    ),
    (
        "free batch",
        |g, _| g.value_mut(g.inputs[0]).shape = Some(vec![Dim::Symbol("N".to_owned())]),
        "tensor \"a\" of a step graph: expected a type and a fixed shape, found float32 [N]; fix the batch",
    ),
    (
        "an input as output",
        |g, _| passes_through(g, 0),
        "output \"b\": is an input, a constant, or an output already; put an Identity in between",
    ),
    (
        "one output twice",
        |g, _| g.outputs[1] = g.outputs[0],
        "output \"a.next\": is an input, a constant, or an output already; put an Identity in between",
    ),
];

#[test]
fn a_state_that_does_not_fit_its_graph_is_refused_and_named() {
    let mut wrong = Vec::new();
    for (name, change, expected) in MISFITS {
        let Case { mut graph, mut state, .. } = exchange();
        change(&mut graph, &mut state);
        for engine in engines() {
            let found = engine.load_steps(&[&graph], &state, &SessionOptions::default()).map(|_| ());
            let found = found.map_err(|e| e.to_string());
            if found != Err((*expected).to_owned()) {
                wrong.push(format!("{name} in {}: {found:?}", engine.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_graph_that_onnx_runtime_makes_of_a_model_can_be_read() {
    let graph = network().graph;
    let nodes = |optimisation| ort().optimised(&graph, &options(optimisation)).unwrap().nodes.len();
    let (written, kept, made) = (graph.nodes.len(), nodes(Optimisation::None), nodes(Optimisation::Default));
    assert!(made < kept && kept <= written, "{made} of {kept} of {written} nodes");
    let failed: Vec<String> = models()
        .iter()
        .filter_map(|path| {
            let made = ort().optimised(&onnx::load(path).unwrap(), &SessionOptions::default());
            let message = match made {
                Ok(made) if !made.nodes.is_empty() => return None,
                Ok(_) => "no nodes".to_owned(),
                Err(e) => e.to_string(),
            };
            Some(format!("{}: {message}", path.display()))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
