//! What generators make before they are trained, whatever the network is fed, and what is drawn for their steps.

use dfq_onnx::expr::{Builder, STANDARD};
use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::runtime::{Engine, SessionOptions, TractEngine};
use dfq_onnx::stats::{BatchNorm, InputStatistics};
use dfq_onnx::synthesis::{Generator, ImageSynthesis, InputSpec, Latents, Maker, SynthesisTeacher};
use dfq_onnx::train::RandomStream;

use crate::support::build::Build;
use crate::support::net::{layer, pads};
use crate::support::{ort, relative_rms};

const BATCH: usize = 8;

fn network(shape: &str, dtype: DType) -> Graph {
    let mut g = Build::at(17);
    g.fed("x", dtype, shape);
    g.node("Identity", "x", "y", []);
    g.outputs("y")
}

#[test]
fn inputs_have_the_shape_and_the_statistics_of_what_the_network_is_fed() {
    let pixels = || InputStatistics::of_preprocessing(&[0.5, 0.4, 0.3], &[0.2, 0.3, 0.4], 1.0 / 255.0);
    let raw = || InputStatistics::of_interval(0.0, 255.0);
    let cases = [
        ("small images", "N, 3, 32, 32", pixels(), vec![BATCH, 3, 32, 32]),
        ("one channel, raw", "N, 1, 28, 28", raw(), vec![BATCH, 1, 28, 28]),
        ("tiny images", "N, 1, 8, 8", InputStatistics::assumed(), vec![BATCH, 1, 8, 8]),
        ("sides that are no powers of two", "N, 3, 45, 30", pixels(), vec![BATCH, 3, 45, 30]),
        ("channels last", "N, 40, 40, 3", raw(), vec![BATCH, 3, 40, 40]),
        ("vectors", "N, 7", InputStatistics::assumed(), vec![BATCH, 7]),
    ];
    let mut failed = Vec::new();
    for (name, shape, input, expected) in cases {
        let spec = InputSpec::of(&network(shape, DType::F32)).unwrap();
        for classes in [None, Some(5)] {
            let generator = Generator::new(&spec, &input, 40_000_000, RandomStream::new(3, 0)).unwrap();
            let latents = Latents::new(BATCH, classes, RandomStream::new(3, 0)).unwrap();
            let builder = Builder::new("generator");
            let vectors = [("weights", &generator.weights), ("latents", &latents.vector)]
                .map(|(name, vector)| builder.input(name, DType::F32, &[vector.layout.len()]));
            let labels = classes.map(|classes| {
                let ones: Vec<f32> =
                    (0..BATCH * classes).map(|i| f32::from(u8::from(i % classes == i / classes % classes))).collect();
                builder.constant("labels", Tensor::from_f32(&[BATCH, classes], &ones))
            });
            let made = generator.forward(vectors[0], latents.forward(vectors[1], labels));
            let graph = builder.finish(&[("made", made)]).unwrap();
            let state = [generator.weights.start(), latents.vector.start()];
            let run =
                |engine: &dyn Engine| engine.load(&graph, &SessionOptions::default()).unwrap().run(&state).unwrap();
            let (made, again) = (run(ort()).remove(0), run(&TractEngine).remove(0));
            let values = made.to_f32().unwrap();
            let inside = values.iter().all(|&v| f64::from(v) >= input.lo - 1e-4 && f64::from(v) <= input.hi + 1e-4);
            let channels = expected[1];
            let area = values.len() / BATCH / channels;
            let far = (0..channels).find(|&c| {
                let own: Vec<f64> = values
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| i / area % channels == c)
                    .map(|(_, &v)| f64::from(v))
                    .collect();
                let mean = own.iter().sum::<f64>() / own.len() as f64;
                let std = (own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / own.len() as f64).sqrt();
                let (wanted, spread) = input.channel(c);
                // Some of what a normal distribution has lies outside of the interval.
                (mean - wanted).abs() > 0.2 * spread || (std / spread - 1.0).abs() > 0.2
            });
            if made.shape() != expected || !inside || far.is_some() || relative_rms(&again, &made) > 1e-4 {
                failed.push(format!("{name}, {classes:?}: {:?}, inside {inside}, channel {far:?}", made.shape()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_generator_is_sized_by_the_network_and_follows_from_seed_and_number() {
    let spec = InputSpec::of(&network("N, 3, 32, 32", DType::F32)).unwrap();
    let input = InputStatistics::assumed();
    let of = |macs, seed, number| Generator::new(&spec, &input, macs, RandomStream::new(seed, number)).unwrap();
    let (small, large) = (of(1_000_000, 0, 0).macs(), of(400_000_000, 0, 0).macs());
    assert!(small < large && large <= 200_000_000, "{small} {large}");
    assert!(of(40_000_000, 0, 0).macs() <= 20_000_000);
    let latents = |seed, number| Latents::new(BATCH, None, RandomStream::new(seed, number)).unwrap().vector.start();
    let start = |seed, number| [of(1, seed, number).weights.start(), latents(seed, number)];
    assert_eq!(start(1, 2), start(1, 2));
    let [weights, latents] = start(1, 2);
    for other in [start(1, 3), start(2, 2)] {
        assert!(other[0] != weights && other[1] != latents);
    }
}

fn strided() -> (Graph, Vec<BatchNorm>) {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 16, 16");
    layer(&mut g, "Conv", "x", "c", &[4, 3, 3, 3], 4, pads(1));
    g.node("Relu", "c", "r", []);
    let strides = [("strides", vec![2, 2].into()), ("pads", vec![1, 1, 1, 1].into())];
    layer(&mut g, "Conv", "r", "d", &[4, 4, 3, 3], 4, strides);
    let norm = |name: &str| BatchNorm {
        input: name.to_owned(),
        output: name.to_owned(),
        mean: vec![0.0; 4],
        variance: vec![1.0; 4],
        gamma: vec![1.0; 4],
        beta: vec![0.0; 4],
        epsilon: 0.0,
    };
    (g.outputs("d"), vec![norm("c"), norm("d")])
}

#[test]
fn what_is_fed_in_a_step_is_drawn_anew_and_the_same_again() {
    let (graph, norms) = strided();
    let synthesis = ImageSynthesis {
        teacher: SynthesisTeacher::new(&graph, &norms).unwrap(),
        weights: vec![("bn", 1.0)],
        slack: Vec::new(),
        swing: true,
        augment: true,
        low_pass: 0.0,
        others: Vec::new(),
        input: InputStatistics::assumed(),
    };
    assert_eq!(synthesis.teacher.normals.len(), 2);
    let swings: Vec<[usize; 2]> = synthesis.teacher.swings.iter().map(|s| s.size).collect();
    assert_eq!(swings, [[16, 16]], "only the convolution with strides sees its input shifted");
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..40 {
        let feeds = synthesis.feeds(RandomStream::new(1, 0), step);
        assert_eq!(feeds, synthesis.feeds(RandomStream::new(1, 0), step));
        assert_eq!(feeds.len(), 4);
        for places in &feeds {
            let places = places.to_i64().unwrap();
            assert!(places.len() == 16 && places.iter().all(|p| (0..16).contains(p)), "{places:?}");
        }
        // The middle tells the shift of a convolution's input.
        seen.insert(feeds[2].to_i64().unwrap()[8]);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [7, 8, 9]);
    assert_ne!(synthesis.feeds(RandomStream::new(1, 0), 3), synthesis.feeds(RandomStream::new(2, 0), 3));
    assert_ne!(synthesis.feeds(RandomStream::new(1, 0), 3), synthesis.feeds(RandomStream::new(1, 1), 3));
}

#[test]
fn every_term_can_be_descended_in_both_lowerings() {
    let (graph, norms) = strided();
    let mut synthesis = ImageSynthesis {
        teacher: SynthesisTeacher::new(&graph, &norms).unwrap(),
        weights: Vec::new(),
        slack: vec![[0.1, 0.1]; 2],
        swing: true,
        augment: true,
        low_pass: 0.8,
        others: Vec::new(),
        input: InputStatistics::assumed(),
    };
    let generator =
        Generator::new(&synthesis.teacher.spec, &synthesis.input, synthesis.teacher.macs, RandomStream::new(0, 0))
            .unwrap();
    let maker = Maker { generator, latents: Latents::new(BATCH, None, RandomStream::new(0, 0)).unwrap(), labels: None };
    for name in ["bn", "bn-relative", "bn-kl", "bn-slack", "tv", "input"] {
        synthesis.weights = vec![(name, 1.0)];
        let mut ends = Vec::new();
        for lowering in [STANDARD, ort().lowering()] {
            let step = synthesis.step(&maker, &lowering).unwrap();
            let mut session = ort().load_steps(&[&step.graph], &step.state, &SessionOptions::default()).unwrap();
            for number in 0..3 {
                let mut feeds = synthesis.feeds(RandomStream::new(0, 0), number);
                feeds.push(step.rates(&[0.01], number));
                session.step(0, &feeds).unwrap();
            }
            let losses = session.read(step.state.len() - 1).unwrap().to_f32().unwrap();
            ends.push(losses[losses.len() - 6..].to_vec());
        }
        // Loss and its only term, in three steps.
        assert!(ends[0].chunks(2).all(|pair| pair[0] == pair[1]), "{name}: {ends:?}");
        let apart = ends[0].iter().zip(&ends[1]).all(|(a, b)| (a - b).abs() < 1e-3 * a.abs().max(1e-3));
        assert!(apart, "{name}: {ends:?}");
        assert!(ends[0][4] < ends[0][0], "{name}: {ends:?}");
    }
}
