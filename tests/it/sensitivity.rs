//! What layers cost, and bits chosen by it.

mod partial;

use std::path::Path;

use dfq_onnx::ir::{Attr, Dim, Graph, Tensor};
use dfq_onnx::onnx;
use serde_json::Value;

use crate::support::build::Build;
use crate::support::net::{layer, normal, pads};
use crate::support::program::{Ran, run};

const HOSTILE: &str = "hostile";
const FLAGS: &str = "--precision w4a8 --samples 16 --format json --input-range -2:2";

/// Returns five layers for images of 1 x 32 x 32 and 10 classes. Few bits ruin the weight of the third: each of its
/// channels has one large element, which meets a channel of zeros, beside small ones that do all the work.
fn net() -> Graph {
    let mut g = Build::at(13);
    g.input("x", &[1, 1, 32, 32]);
    let stride = |n: i64| [("strides", Attr::from(vec![n, n])), ("pads", Attr::from(vec![1i64; 4]))];
    layer(&mut g, "Conv", "x", "first", &[8, 1, 3, 3], 8, stride(4));
    g.node("Relu", "first", "r1", []);
    g.constant("second_w", dead_first_channel());
    g.constant("second_b", dead_bias());
    g.node("Conv", "r1 second_w second_b", "second", pads(1));
    g.node("Relu", "second", "r2", []);
    g.constant("hostile_w", with_outliers());
    g.node("Conv", "r2 hostile_w", HOSTILE, pads(1));
    g.node("Relu", HOSTILE, "r3", []);
    layer(&mut g, "Conv", "r3", "fourth", &[8, 8, 3, 3], 8, stride(2));
    g.node("Relu", "fourth", "r4", []);
    g.node("GlobalAveragePool", "r4", "pooled", []);
    g.node("Flatten", "pooled", "flat", []);
    layer(&mut g, "Gemm", "flat", "y", &[10, 8], 10, [("transB", 1.into())]);
    let mut graph = g.outputs("y");
    let x = graph.find("x").unwrap();
    graph.value_mut(x).shape.as_mut().unwrap()[0] = Dim::Symbol("N".to_owned());
    for i in 0..graph.nodes.len() {
        graph.nodes[i].name = format!("/net/{}", graph.name_of(graph.nodes[i].output(0).unwrap()));
    }
    graph
}

fn changed(seed: u64, change: impl Fn(usize, f32) -> f32) -> Tensor {
    let values = normal(&[8, 8, 3, 3], 0.17, seed).to_f32().unwrap();
    Tensor::from_f32(&[8, 8, 3, 3], &values.into_iter().enumerate().map(|(i, v)| change(i, v)).collect::<Vec<_>>())
}

fn dead_first_channel() -> Tensor {
    changed(1, |i, v| if i < 72 { 0.0 } else { v })
}

fn dead_bias() -> Tensor {
    let values = normal(&[8], 0.3, 2).to_f32().unwrap();
    Tensor::from_f32(&[8], &[&[-1.0], &values[1..]].concat())
}

fn with_outliers() -> Tensor {
    changed(3, |i, v| if i % 72 == 4 { 5.0 } else { v })
}

fn with_net() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), onnx::encode(&net()).unwrap()).unwrap();
    folder
}

fn ran(folder: &Path, arguments: &str, code: i32) -> Ran {
    let ran = run(folder, arguments);
    assert_eq!(ran.code, Some(code), "{arguments}: {}\n{}", ran.stderr, ran.stdout);
    ran
}

fn shares(json: &Value) -> &Vec<Value> {
    json["sensitivity"]["shares"].as_array().unwrap()
}

#[test]
fn a_layer_that_few_bits_ruin_ranks_first_both_ways_and_by_its_weight() {
    let folder = with_net();
    let json = ran(folder.path(), &format!("sensitivity model.onnx {FLAGS}"), 0).json();
    let [worst, next, ..] = shares(&json).as_slice() else { panic!("{json}") };
    assert_eq!((&worst["output"], &worst["gain_rank"]), (&HOSTILE.into(), &1.into()), "{json:#}");
    let cost = |share: &Value, what: &str| share[what]["cost"].as_f64().unwrap();
    assert!(cost(worst, "alone") > 3.0 * cost(next, "alone"), "{json:#}");
    assert!(cost(worst, "weight_alone") > 10.0 * cost(worst, "input_alone"), "{json:#}");
    assert!(cost(worst, "left_float") < json["sensitivity"]["quantized"]["cost"].as_f64().unwrap(), "{json:#}");
    let float = json["sensitivity"]["float"]["cost"].as_f64().unwrap();
    assert!(float < 1e-9, "nothing quantized costs {float}, corrections of biases are taken back");
    let table = ran(folder.path(), "sensitivity model.onnx --precision w4a8 --samples 4 --top 2", 0).stdout;
    let (rows, flags) = table.split_once("flags that spare").unwrap();
    assert_eq!(rows.matches("/net/").count(), 2, "{table}");
    assert!(flags.contains("--layer-bits /net/hostile=8"), "{table}");
}

#[test]
fn rows_are_in_the_order_of_their_rank_and_the_flags_below_are_taken_as_they_are() {
    let folder = with_net();
    for flags in ["--precision w4a8", "--bits 8"] {
        let json =
            ran(folder.path(), &format!("sensitivity model.onnx {flags} --samples 8 --top 3 --format json"), 0).json();
        let gains: Vec<f64> = shares(&json).iter().map(|share| share["gain"].as_f64().unwrap()).collect();
        assert!(gains.len() == 3 && gains.is_sorted_by(|a, b| a >= b), "{gains:?}");
        let ranks: Vec<u64> = shares(&json).iter().map(|share| share["gain_rank"].as_u64().unwrap()).collect();
        assert_eq!(ranks, [1, 2, 3]);
        let spared = json["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap());
        let spared: Vec<&str> = spared.collect();
        assert!(!spared.is_empty(), "{json:#}");
        let text = ran(folder.path(), &format!("sensitivity model.onnx {flags} --samples 8 --top 3"), 0).stdout;
        assert!(text.trim_end().ends_with(&spared.join(" ")), "{text}");
        ran(folder.path(), &format!("quantize model.onnx {flags} {} --dry-run", spared.join(" ")), 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_ranking_and_another_seed_another() {
    let folder = with_net();
    let ranking = |seed: u64| {
        let json = ran(folder.path(), &format!("sensitivity model.onnx {FLAGS} --seed {seed}"), 0).json();
        json["sensitivity"].clone()
    };
    assert_eq!(ranking(1), ranking(1));
    assert_ne!(ranking(1), ranking(2));
}

#[test]
fn reports_hold_the_ranking_where_it_is_asked_for() {
    let folder = with_net();
    let json = ran(folder.path(), &format!("quantize model.onnx {FLAGS} --sensitivity -o q.onnx"), 0).json();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let found = [&json["sensitivity"], &shares(&json)[0], &shares(&json)[0]["alone"]].map(fields);
    insta::assert_snapshot!(found.join("\n"), @r"
    float measure quantized samples shares
    accuracy alone gain gain_rank input_alone input_bits left_float name op_type output weight_alone weight_bits
    cost relative_rms sqnr_db top1_agreement
    ");
    let without = ran(folder.path(), &format!("quantize model.onnx {FLAGS} -o p.onnx"), 0).json();
    assert_eq!((&without["sensitivity"], &without["auto_bits"]), (&Value::Null, &Value::Null));
    let labelled = "{fixtures}/digits_test.npz --mean 0.3 --std 0.34";
    let json =
        ran(folder.path(), &format!("sensitivity model.onnx --samples 4 --format json --eval {labelled}"), 0).json();
    for share in shares(&json) {
        let top1 = share["accuracy"]["alone"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&top1), "{share}");
    }
}

/// Returns the chosen bits of `quantize --auto-bits`: elements, bits and whether they were fixed, in graph order.
fn chosen(json: &Value) -> Vec<(u64, u64, bool)> {
    let weights = json["auto_bits"]["weights"].as_array().unwrap();
    let weight =
        |w: &Value| (w["elements"].as_u64().unwrap(), w["bits"].as_u64().unwrap(), w["fixed"].as_bool().unwrap());
    weights.iter().map(weight).collect()
}

#[test]
fn chosen_bits_stay_within_the_average_use_it_up_and_favour_the_layer_that_needs_them() {
    let folder = with_net();
    let mut wrong = Vec::new();
    for (average, flags) in [(3.5, ""), (4.0, ""), (5.25, ""), (8.0, ""), (3.0, "--all-layers")] {
        let command = format!(
            "quantize model.onnx --auto-bits {average} {flags} --samples 16 --dry-run --format json --input-range -2:2"
        );
        let json = ran(folder.path(), &command, 0).json();
        let weights = chosen(&json);
        let (elements, bits) = weights.iter().fold((0, 0), |(n, b), w| (n + w.0, b + w.0 * w.1));
        let left = average * elements as f64 - bits as f64;
        let could_grow = |&(n, b, fixed): &(u64, u64, bool)| {
            let next = if b == 6 { 2 } else { 1 };
            !fixed && b < 8 && (n * next) as f64 <= left
        };
        let favoured = weights[2].1 >= weights[1].1 && weights[2].1 >= weights[3].1;
        let ends = [0, 4].map(|i| weights[i].2);
        let planned: Vec<u64> =
            json["layers"].as_array().unwrap().iter().map(|l| l["weight_bits"].as_u64().unwrap()).collect();
        let same = planned.iter().zip(&weights).all(|(planned, w)| *planned == w.1);
        let inputs = json["layers"].as_array().unwrap().iter().all(|l| l["input_bits"] == 8);
        if left < 0.0
            || weights.iter().any(could_grow)
            || !favoured
            || (average < 5.0 && weights[2].1 <= weights[1].1)
            || ends != [flags.is_empty(); 2]
            || !same
            || !inputs
        {
            wrong.push(format!("{average} {flags}: {weights:?}, {left} left, planned {planned:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_printed_flags_give_the_same_bytes_again() {
    let folder = with_net();
    let common = "--activation-bits 6 --samples 8 --input-range -2:2 --format json";
    let auto = ran(folder.path(), &format!("quantize model.onnx --auto-bits 4 -o a.onnx {common}"), 0).json();
    let flags: Vec<&str> = auto["auto_bits"]["flags"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    assert_eq!(flags.len(), 3, "{flags:?}");
    let common = "--activation-bits 6 --samples 8 --input-range -2:2 --format json";
    ran(folder.path(), &format!("quantize model.onnx --bits 8 {} -o b.onnx {common}", flags.join(" ")), 0);
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(read("a.onnx") == read("b.onnx"));
}

#[test]
fn averages_that_cannot_be_had_are_usage_errors_that_tell_what_can() {
    let folder = with_net();
    let cases = [
        ("--auto-bits 2", "out of reach: possible are 2.49 to 8.00; fixed are"),
        ("--auto-bits 2", "--all-layers frees"),
        ("--auto-bits 4 --exclude hostile", "out of reach"),
        ("--auto-bits 4 --exclude hostile", "(576 elements of 32 bits)"),
        ("--auto-bits 4 --layer-bits hostile=w8 --layer-bits fourth=w8", "out of reach"),
        ("--auto-bits 3 --bit-candidates 4,8", "possible are 4."),
        ("--auto-bits 4 --bit-candidates 4", "needs two widths"),
        ("--auto-bits 1.9", "from 2 to 8"),
        ("--auto-bits 8.1", "from 2 to 8"),
        ("--auto-bits nan", "from 2 to 8"),
        ("--auto-bits 4 --bits 4", "cannot be used with"),
        ("--auto-bits 4 --precision w4a8", "cannot be used with"),
        ("--bit-candidates 4,8", "--auto-bits"),
        ("--activation-bits 4 --precision w4a8", "cannot be used with"),
        ("--layer-bits hostile=w9", "NAME=wX"),
    ];
    let mut wrong = Vec::new();
    for (flags, says) in cases {
        let ran = run(folder.path(), &format!("quantize model.onnx {flags} --samples 4"));
        if ran.code != Some(2) || !ran.stderr.contains(says) || !ran.left.is_empty() {
            wrong.push(format!("{flags}: {:?} {}", ran.code, ran.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
