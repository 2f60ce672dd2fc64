//! What cannot be trained, or not so, with the exit code and the words that say what to do; nothing is written.

use std::path::Path;

use dfq_onnx::ir::{DType, Graph, Tensor};
use dfq_onnx::onnx;

use crate::support::build::Build;
use crate::support::net::{layer, pads};
use crate::support::program::{files, run};

/// Flags, exit code and words.
type Case<'a> = (&'a str, String, i32, &'a [&'a str]);

/// `logits: [N, 4]` of images `[batch, 3, 8, 8]` by what `middle` puts between `r: [N, 6]` and `s`.
fn net(batch: &str, middle: impl FnOnce(&mut Build)) -> Build {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, &format!("{batch}, 3, 8, 8"));
    layer(&mut g, "Conv", "x", "c", &[6, 3, 3, 3], 6, pads(1));
    g.node("Relu", "c", "features", []);
    g.node("GlobalAveragePool", "features", "p", []);
    g.node("Flatten", "p", "r", []);
    middle(&mut g);
    g
}

fn head(g: &mut Build, from: &str) {
    layer(g, "Gemm", from, "y", &[6, 4], 4, []);
}

/// Sums without a gradient rule before the last layer, from a node without a name.
fn sums() -> Graph {
    let mut g = net("N", |g| {
        g.constant("axis", Tensor::from_i64(&[], &[1]));
        g.node("CumSum", "r axis", "sums", []);
    });
    head(&mut g, "sums");
    g.outputs("y")
}

/// A normalisation without a gradient rule, from a node with a name.
fn local() -> Graph {
    let mut g = Build::at(17);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "x", "c", &[6, 3, 3, 3], 6, pads(1));
    g.node("LRN", "c", "l", [("size", 3.into())]);
    layer(&mut g, "Conv", "l", "y", &[4, 6, 3, 3], 4, pads(1));
    let mut graph = g.outputs("y");
    let node = graph.nodes.iter_mut().find(|n| n.is("LRN")).unwrap();
    node.name = "block/norm".to_owned();
    graph
}

/// Padding of a form that has no gradient, from a node with a name.
fn wrapped() -> Graph {
    let mut g = Build::at(19);
    g.fed("x", DType::F32, "N, 3, 8, 8");
    layer(&mut g, "Conv", "x", "c", &[6, 3, 3, 3], 6, pads(1));
    g.constant("widths", Tensor::from_i64(&[8], &[0, 0, 1, 1, 0, 0, 1, 1]));
    g.node("Pad", "c widths", "p", [("mode", "wrap".into())]);
    layer(&mut g, "Conv", "p", "y", &[4, 6, 3, 3], 4, pads(0));
    let mut graph = g.outputs("y");
    let node = graph.nodes.iter_mut().find(|n| n.is("Pad")).unwrap();
    node.name = "block/pad".to_owned();
    graph
}

fn sizes() -> Graph {
    net("N", |g| g.node("Shape", "features", "y", [])).outputs("y")
}

fn free() -> Graph {
    let mut g = net("N", |_| ());
    head(&mut g, "r");
    g.outputs("y")
}

/// A batch of three, each of which has numbers of its own.
fn fixed() -> Graph {
    let mut g = net("3", |g| {
        g.constant("own", Tensor::from_f32(&[3, 6], &[0.1; 18]));
        g.node("Add", "r own", "each", []);
    });
    head(&mut g, "each");
    g.outputs("y")
}

/// Returns a folder with models, a run, and what is no run.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let graphs = [
        ("sums", sums()),
        ("local", local()),
        ("wrapped", wrapped()),
        ("sizes", sizes()),
        ("fixed", fixed()),
        ("model", free()),
    ];
    for (name, graph) in graphs {
        onnx::save(&graph, &folder.path().join(format!("{name}.onnx")), usize::MAX).unwrap();
    }
    std::fs::write(folder.path().join("file"), "a regular file").unwrap();
    let ran = run(folder.path(), &format!("{RUN} --run-folder run -o first.onnx"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    std::fs::create_dir(folder.path().join("broken")).unwrap();
    let mut damaged = std::fs::read(folder.path().join("run/distil.safetensors")).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(folder.path().join("broken/distil.safetensors"), damaged).unwrap();
    folder
}

/// The run that the folder `run` holds.
const RUN: &str = "quantize model.onnx --bits 4 --recipe lsq --steps 4 --batch 8 --samples 4";

/// Returns every file with its contents.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
    files(folder).into_iter().map(|path| (path.clone(), std::fs::read(folder.join(path)).ok())).collect()
}

fn check(cases: &[Case]) {
    let folder = prepared();
    let before = contents(folder.path());
    let mut failed = Vec::new();
    for (name, flags, code, words) in cases {
        let ran = run(folder.path(), flags);
        let told = words.iter().all(|word| ran.stderr.contains(word)) && !ran.stderr.contains("panicked");
        if ran.code != Some(*code) || !told {
            failed.push(format!("{name}: exit {:?}, expected {code} with {words:?}: {}", ran.code, ran.stderr));
        }
        if contents(folder.path()) != before {
            failed.push(format!("{name}: left {:?}, or changed what was there", ran.left));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn flags_that_contradict_the_recipe_the_model_or_each_other_are_refused() {
    let lsq = |flags: &str| format!("quantize model.onnx --recipe lsq -o out.onnx {flags}");
    let trains = &["\"fast\" does not train", "--recipe cascade or cascade-max or lsq"][..];
    check(&[
        ("steps without training", "quantize model.onnx --steps 5".to_owned(), 2, trains),
        ("a batch without training", "quantize model.onnx --batch 5".to_owned(), 2, trains),
        ("graphs without training", "quantize model.onnx --save-graphs graphs".to_owned(), 2, trains),
        ("a run without training", "quantize model.onnx --run-folder other".to_owned(), 2, trains),
        ("nothing to resume", lsq("--resume none"), 2, &["--resume none", "no such folder"]),
        ("a file to resume", lsq("--resume file"), 2, &["--resume file"]),
        ("no folder to resume", lsq("--resume"), 2, &["--resume"]),
        ("both folders", lsq("--resume run --run-folder run"), 2, &["cannot be used with"]),
        ("a stage twice", lsq("--stages distil,distil"), 2, &["\"distil\" is named twice"]),
        ("no steps", lsq("--steps 0"), 2, &["--steps"]),
        ("no samples", lsq("--batch 0"), 2, &["--batch", "at least 1"]),
        ("no rate", lsq("--learning-rate 0"), 2, &["--learning-rate", "above 0"]),
        ("no number", lsq("--learning-rate nan"), 2, &["--learning-rate", "above 0"]),
        (
            "another batch than the model's",
            "quantize fixed.onnx --recipe lsq -o out.onnx --batch 8".to_owned(),
            2,
            &["--batch 8", "fixes its batch at 3"],
        ),
        ("more than memory holds", lsq("--batch 100000000"), 5, &["100000000 sample(s)", "try --batch"]),
    ]);
}

#[test]
fn runs_of_others_are_left_alone() {
    let other = |model: &str, flags: &str| {
        format!("quantize {model}.onnx --recipe lsq --samples 4 --resume run -o out.onnx {flags}")
    };
    let usual = "--bits 4 --steps 4 --batch 8";
    let settings = &["run/distil.safetensors belongs to another run", "its settings have the fingerprint"][..];
    check(&[
        ("a run already", format!("{RUN} --run-folder run -o out.onnx"), 2, &["is of an earlier run", "--resume run"]),
        ("another model", other("fixed", "--bits 4 --steps 4"), 2, &["its model has the sha256"]),
        ("another seed", other("model", &format!("{usual} --seed 7")), 2, &["its seed is 0, expected 7"]),
        ("other bits", other("model", &format!("{usual} --layer-bits c=5")), 2, settings),
        ("more steps", other("model", "--bits 4 --steps 5 --batch 8"), 2, settings),
        ("another batch", other("model", "--bits 4 --steps 4 --batch 9"), 2, settings),
        ("another rate", other("model", &format!("{usual} --learning-rate 0.1")), 2, settings),
        ("another engine", other("model", &format!("{usual} --engine tract")), 2, settings),
        ("a dry run of all this", other("model", &format!("{usual} --seed 7 --dry-run")), 2, &["its seed is 0"]),
        ("another target", other("model", &format!("{usual} --target portable")), 2, settings),
        ("another input", other("model", &format!("{usual} --mean 0.4 --std 0.2")), 2, settings),
        (
            "a damaged checkpoint",
            format!("{RUN} --resume broken -o out.onnx"),
            3,
            &["broken/distil.safetensors", "no intact checkpoint"],
        ),
    ]);
}

#[test]
fn what_cannot_be_trained_or_written_is_refused_with_advice() {
    let train = |model: &str, flags: &str| {
        format!("quantize {model}.onnx --recipe lsq --steps 20 --batch 4 --samples 4 -o out.onnx {flags}")
    };
    check(&[
        (
            "a form without a gradient",
            train("wrapped", ""),
            3,
            &["\"block/pad\" (Pad)", "mode is wrap", "use a recipe that does not train"],
        ),
        ("nothing to compare", train("sizes", ""), 3, &["no floating-point output", "without training"]),
        ("a run below a file", train("model", "--run-folder file/run"), 5, &["cannot write", "file/run"]),
        ("graphs below a file", train("model", "--save-graphs file/graphs"), 5, &["cannot write", "file/graphs"]),
        #[cfg(target_os = "linux")]
        ("a run where none can be", train("model", "--run-folder /proc/run"), 5, &["cannot write", "/proc/run"]),
        ("an absurd rate", train("model", "--learning-rate 1e30"), 3, &["lower the learning rate"]),
        (
            "one step too far",
            train("model", "--learning-rate 1e30 --steps 1").replace("--steps 20 ", ""),
            3,
            &["lower the learning rate"],
        ),
        ("a rate beyond f32", train("model", "--learning-rate 1e300"), 3, &["lower the learning rate"]),
    ]);
}

#[test]
fn a_network_is_trained_up_to_what_no_gradient_passes() {
    let folder = prepared();
    for (model, operator) in [("sums", "(CumSum)"), ("local", "\"block/norm\" (LRN)")] {
        let flags = "--bits 4 --recipe lsq --steps 3 --batch 4 --samples 4 -o out.onnx";
        let ran = run(folder.path(), &format!("quantize {model}.onnx {flags}"));
        let told = ["there is no gradient rule for", operator].iter().all(|words| ran.stdout.contains(words));
        assert!(ran.code == Some(0) && told, "{model}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_batch_that_the_model_fixes_is_trained_with() {
    let folder = prepared();
    for (model, batch) in [("fixed", 3), ("model", 32)] {
        let flags = "--recipe lsq --steps 3 --samples 6 -o out.onnx --format json";
        let ran = run(folder.path(), &format!("quantize {model}.onnx {flags}"));
        assert_eq!(ran.code, Some(0), "{model}: {}", ran.stderr);
        assert_eq!(ran.json()["training"][0]["descents"][0]["batch"], batch, "{model}");
    }
}
