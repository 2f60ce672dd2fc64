//! Optional outputs: unread ones go, and indices of pools get a node of their own.

use dfq_onnx::ir::{Attr, Graph};
use dfq_onnx::passes::{drop_unread_outputs, part_pool_indices};

use super::{Case, failures, small};
use crate::support::build::Build;
use crate::support::net::{nodes, norm};

/// A BatchNormalization with the four outputs that training has, before operator set 14.
fn five_outputs(opset: i64, read: &str) -> Graph {
    let mut graph = small(opset, |g| {
        norm(g, "x", "n", 4);
        g.node("Relu", read, "y", []);
    });
    for name in ["mean", "var", "saved_mean", "saved_var"] {
        let id = graph.find_or_add(name);
        graph.nodes[0].outputs.push(Some(id));
    }
    graph
}

fn pool(g: &mut Build, outputs: &str) {
    let side: Attr = vec![2, 2].into();
    g.node("MaxPool", "x", outputs, [("kernel_shape", side.clone()), ("strides", side)]);
}

#[test]
fn optional_outputs_that_nobody_reads_go() {
    // No comparison of results: with more outputs than one, ONNX Runtime 1.31 normalizes by the statistics of the batch.
    let mut norm = five_outputs(8, "n");
    assert_eq!(drop_unread_outputs(&mut norm).unwrap(), 1);
    assert_eq!(
        nodes(&norm),
        ["%n = BatchNormalization(%x, float32[4], float32[4], float32[4], float32[4])", "%y = Relu(%n)"]
    );
    let cases: Vec<Case> = vec![
        (
            "indices",
            small(13, |g| {
                pool(g, "p i");
                g.node("Relu", "p", "y", []);
            }),
            Some(&["%p = MaxPool(%x) kernel_shape=[2, 2] strides=[2, 2]", "%y = Relu(%p)"]),
        ),
        (
            "indices that are read",
            small(13, |g| {
                pool(g, "p i");
                g.node("Cast", "i", "f", [("to", 1.into())]);
                g.node("Add", "p f", "y", []);
            }),
            None,
        ),
        (
            "parts of a Split, which are no options",
            small(13, |g| {
                g.node("Split", "x", "a b", [("axis", 1.into())]);
                g.node("Relu", "a", "y", []);
            }),
            None,
        ),
    ];
    let failed = failures(drop_unread_outputs, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn statistics_that_are_read_are_refused_before_operator_set_14() {
    let message = drop_unread_outputs(&mut five_outputs(8, "saved_mean")).unwrap_err().to_string();
    assert!(message.contains("BatchNormalization") && message.contains("training mode"), "{message}");
    let mut output = five_outputs(9, "n");
    output.outputs.push(output.find("var").unwrap());
    assert!(drop_unread_outputs(&mut output).is_err());
    let mut trains = five_outputs(15, "mean");
    trains.nodes[0].set("training_mode", 1);
    assert_eq!(drop_unread_outputs(&mut trains).unwrap(), 0, "training mode keeps its outputs");
}

#[test]
fn a_pool_whose_values_and_indices_are_read_becomes_two() {
    let both = small(13, |g| {
        pool(g, "p i");
        g.node("Cast", "i", "f", [("to", 1.into())]);
        g.node("Add", "p f", "y", []);
    });
    let indices_alone = small(13, |g| {
        pool(g, "p i");
        g.node("Cast", "i", "y", [("to", 1.into())]);
    });
    let cases: Vec<Case> = vec![
        (
            "both",
            both,
            Some(&[
                "%p = MaxPool(%x) kernel_shape=[2, 2] strides=[2, 2]",
                "%p_of_indices, %i = MaxPool(%x) kernel_shape=[2, 2] strides=[2, 2]",
                "%f = Cast(%i) to=1",
                "%y = Add(%p, %f)",
            ]),
        ),
        ("indices alone", indices_alone, None),
    ];
    let failed = failures(part_pool_indices, cases);
    assert!(failed.is_empty(), "{failed:#?}");
}
