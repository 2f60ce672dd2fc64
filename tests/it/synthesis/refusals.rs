//! What images cannot be made for, or not so, with the exit code and the words that say what to do; nothing is written.

use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::onnx;

use crate::support::build::Build;
use crate::support::fixture;
use crate::support::net::{layer, pads};
use crate::support::program::{files, run};

/// Sums without a gradient rule before everything else.
fn blocked() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    g.constant("axis", Tensor::from_i64(&[], &[1]));
    g.node("CumSum", "x axis", "sums", []);
    layer(&mut g, "Conv", "sums", "y", &[4, 3, 3, 3], 4, pads(1));
    g.outputs("y")
}

/// No classifier, and no statistics.
fn silent() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "x", "y", &[4, 3, 3, 3], 4, pads(1));
    g.outputs("y")
}

fn sequences() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 6, 8");
    layer(&mut g, "MatMul", "x", "y", &[8, 4], 0, []);
    g.outputs("y")
}

#[test]
fn what_cannot_be_made_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (name, graph) in [("blocked", blocked()), ("silent", silent()), ("sequences", sequences())] {
        onnx::save(&graph, &folder.path().join(format!("{name}.onnx")), onnx::INLINE_LIMIT).unwrap();
    }
    std::fs::copy(fixture("digits_resnet8.onnx"), folder.path().join("own.onnx")).unwrap();
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    let before = files(folder.path());
    let digits = "{fixtures}/digits_resnet8.onnx --steps 20";
    let cases: &[(&str, String, i32, &[&str])] = &[
        ("no gradient", "blocked.onnx".into(), 3, &["sums", "CumSum", "--bn-stats"]),
        ("nothing to go by", "silent.onnx".into(), 3, &["no statistics", "--bn-stats"]),
        (
            "neither images nor vectors",
            "sequences.onnx".into(),
            3,
            &["input \"x\"", "neither that of images nor of vectors"],
        ),
        ("no image", format!("{digits} -n 0"), 2, &["expected a number of images"]),
        ("too many images", format!("{digits} -n 100000000"), 2, &["expected a number of images"]),
        ("an unknown term", format!("{digits} --loss totalvariation=1"), 2, &["no term \"totalvariation\"", "nearest"]),
        ("a weight that is none", format!("{digits} --loss tv=-1"), 2, &["expected NAME=WEIGHT"]),
        ("no term at all", format!("{digits} --loss bn=0 --loss one-hot=0"), 2, &["no term of the loss is left"]),
        ("nothing to resume", format!("{digits} --resume nowhere"), 2, &["no such folder"]),
        ("a folder that is none", format!("{digits} --run-folder file"), 2, &["file is not a folder"]),
        ("the model as output", "own.onnx -o own.onnx".into(), 2, &["is the model itself"]),
        ("an unwritable place", format!("{digits} -o nowhere/out.npz"), 5, &["nowhere"]),
        ("a batch beyond memory", format!("{digits} --batch 100000000"), 5, &["try --batch"]),
        ("no learning rate", format!("{digits} --learning-rate 0"), 2, &["above 0"]),
    ];
    let mut failed = Vec::new();
    for (name, flags, code, texts) in cases {
        let ran = run(folder.path(), &format!("synth {flags}"));
        let told = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        if ran.code != Some(*code) || !texts.iter().all(|text| told.contains(text)) || ran.stderr.contains("panicked") {
            failed.push(format!("{name}: {:?} {}", ran.code, ran.stderr));
        }
        if files(folder.path()) != before {
            failed.push(format!("{name}: left {:?}", files(folder.path())));
            break;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn classes_are_chosen_only_where_there_are_scores() {
    let folder = tempfile::tempdir().unwrap();
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "x", "y", &[4, 3, 3, 3], 4, pads(1));
    onnx::save(&g.outputs("y"), &folder.path().join("map.onnx"), onnx::INLINE_LIMIT).unwrap();
    let statistics = r#"{"y": {"mean": [0, 0, 0, 0], "var": [1, 1, 1, 1]}}"#;
    std::fs::write(folder.path().join("stats.json"), statistics).unwrap();
    let ran = run(folder.path(), "synth map.onnx --bn-stats stats.json --conditional -n 16 --steps 2");
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("no logits"), "{}", ran.stderr);
}
