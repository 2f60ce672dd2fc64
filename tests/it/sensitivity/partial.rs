//! Parts of a solution in the float student.

use dfq_onnx::ir::Graph;
use dfq_onnx::onnx;
use dfq_onnx::plan::{Policy, Target};
use dfq_onnx::sensitivity::{Part, Reference, Request, choose_bits, partly_quantized, rank};
use dfq_onnx::solution::Solved;

use crate::support::net::run;
use crate::support::quantized::{Quantized, quantized};
use crate::support::{fixture, ort, random_inputs, relative_rms};
use crate::targets::{network, policy};

fn solved(model: &str, policy: &Policy) -> (Solved, Graph) {
    let graph = onnx::load(&fixture(model)).unwrap();
    let Quantized { float: student, plan, solution, emitted } = quantized(&graph, policy).unwrap();
    (Solved { float: student, plan, solution, norms: Vec::new() }, emitted)
}

#[test]
fn the_whole_part_computes_what_the_emitted_file_does_and_no_part_what_the_float_student_does() {
    // Rounding ties that fall the other way, since biases are not on their int32 grid here.
    const TIES: f64 = 0.02;
    let mut wrong = Vec::new();
    for model in ["digits_resnet8.onnx", "digits_mobilenet.onnx"] {
        for target in [Target::Onnx, Target::OrtCpu] {
            let policy = Policy { target, weight_bits: 4, activation_bits: 6, ..Policy::default() };
            let (solved, emitted) = solved(model, &policy);
            let inputs = random_inputs(&solved.float, 4, 5);
            let output = |graph: &Graph| run(graph, &inputs).unwrap().remove(0);
            let part = |quantized| partly_quantized(&solved, &Part::of(&solved.plan, quantized)).unwrap();
            let (float, whole, shipped) = (output(&solved.float), output(&part(true)), output(&emitted));
            let (apart, nothing) = (relative_rms(&whole, &shipped), relative_rms(&output(&part(false)), &float));
            let lost = relative_rms(&whole, &float);
            if apart > TIES || nothing > 0.0 || lost < TIES {
                wrong.push(format!("{model} for {target:?}: {apart} from the file, {nothing} from float, {lost} lost"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_layer_has_the_bias_of_the_solution_with_its_quantized_weight_and_its_own_bias_without() {
    let policy = Policy { weight_bits: 4, ..Policy::default() };
    let (mut solved, _) = solved("digits_resnet8.onnx", &policy);
    let inputs = random_inputs(&solved.float, 4, 5);
    let output = |graph: &Graph| run(graph, &inputs).unwrap().remove(0);
    let layer = solved.plan.layers[2].output.clone();
    let bias = solved.float.maker(&layer).and_then(|node| solved.float.constant_of(node.input(2)?)).unwrap();
    let lowered: Vec<f32> = bias.to_f32().unwrap().iter().map(|b| b - 0.5).collect();
    let mut part = Part::of(&solved.plan, false);
    part.weights[2] = true;
    let before = output(&partly_quantized(&solved, &part).unwrap());
    solved.solution.biases.insert(layer, lowered);
    let lowered = output(&partly_quantized(&solved, &part).unwrap());
    assert!(relative_rms(&lowered, &before) > 0.01, "a quantized weight goes with the bias of the solution");
    part.weights[2] = false;
    let float = output(&partly_quantized(&solved, &part).unwrap());
    assert_eq!(float, output(&solved.float), "a float weight goes with the bias of the float network");
}

#[test]
fn weights_that_are_quantized_alone_are_ranked_and_chosen_like_others() {
    let solve = |policy: &Policy| -> dfq_onnx::Result<Solved> {
        let Quantized { float: student, plan, solution, .. } = quantized(&network(), policy)?;
        Ok(Solved { float: student, plan, solution, norms: Vec::new() })
    };
    let policy = policy(Target::TensorRt, 4, 8);
    let solved = solve(&policy).unwrap();
    let inputs = random_inputs(&solved.float, 16, 5);
    let reference = Reference::new(ort(), &solved.float, &inputs).unwrap();

    let emitted = quantized(&network(), &policy).unwrap().emitted;
    let whole = partly_quantized(&solved, &Part::of(&solved.plan, true)).unwrap();
    let apart = relative_rms(&run(&whole, &inputs).unwrap()[0], &run(&emitted, &inputs).unwrap()[0]);
    assert!(apart < 1e-3, "{apart} from the file");

    let shares = rank(&solved, &reference, None).unwrap().shares;
    let share = shares.iter().find(|share| share.name == "h").unwrap();
    assert_eq!((share.weight_bits, share.input_bits, share.input_alone), (Some(4), None, None));
    assert!(share.alone.cost > 0.0 && share.gain != 0.0, "{share:?}");

    let request = Request { average: 5.0, candidates: vec![2, 4, 8] };
    let (chosen, policy) = choose_bits(&policy, &request, &solve, &reference).unwrap();
    let weight = chosen.weights.iter().find(|w| w.layers == ["h"]).unwrap();
    assert!(!weight.fixed && weight.costs.len() == 3 && weight.costs[0].cost > weight.costs[2].cost, "{weight:?}");
    assert!(chosen.average <= 5.0, "{chosen:?}");
    let planned = solve(&policy).unwrap().plan;
    let bits = planned.weights.iter().find(|w| w.tensor == "h_w").map(|w| w.scheme.bits);
    assert_eq!(bits, Some(weight.bits));
}
