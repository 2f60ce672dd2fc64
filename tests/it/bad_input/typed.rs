//! Flags that contradict themselves, the model or each other.

use std::path::Path;

use super::{Case, case, check};
use crate::support::nets::sound;

fn flags(flags: &'static str, code: i32, says: &'static [&'static str]) -> Case {
    let command = format!("quantize model.onnx {flags}");
    case("flags", sound, command.leak(), code, says)
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    check(&[
        flags("--bits 1", 2, &["--bits", "whole number from 2 to 8"]),
        flags("--bits 9", 2, &["--bits", "whole number from 2 to 8"]),
        flags("--bits four", 2, &["--bits", "four", "whole number from 2 to 8"]),
        flags("--threads many", 2, &["--threads", "whole number from 1 to 1024"]),
        flags("--seed one", 2, &["--seed", "whole number"]),
        flags("--precision w4", 2, &["--precision", "wXaY", "w4a8"]),
        flags("--precision w4a9", 2, &["--precision", "2 to 8"]),
        flags("--precision w4a8x", 2, &["--precision", "wXaY"]),
        flags("--bits 4 --precision w4a8", 2, &["--bits", "--precision", "cannot be used with"]),
        flags("--target x", 2, &["--target", "ort-cpu"]),
        flags("--engine x", 2, &["engine \"x\"", "tract"]),
        flags("--device x", 2, &["device \"x\"", "cuda:INDEX"]),
        flags("--device cpu:1", 2, &["device \"cpu:1\"", "cuda:INDEX"]),
        flags("--device cuda:-1", 2, &["device \"cuda:-1\"", "cuda:INDEX"]),
        flags("--device cuda --engine tract", 2, &["tract runs on the CPU"]),
        flags("--recipe magic", 2, &["no recipe \"magic\"", "nearest"]),
        flags("--effort huge", 2, &["--effort", "fast"]),
        flags("--exclude nothing", 2, &["\"nothing\" matches no node", "nearest:", "dfq-onnx inspect"]),
        flags("--exclude CON", 2, &["\"CON\" matches no node; nearest: \"c"]),
        flags("--exclude con(", 2, &["\"con(\"", "matches no node"]),
        flags("--exclude-op Nothing", 2, &["no node is a \"Nothing\"", "Conv, Flatten, Gemm"]),
        flags("--layer-bits y", 2, &["--layer-bits", "NAME=N"]),
        flags("--layer-bits y=1", 2, &["--layer-bits", "2 to 8"]),
        flags("--layer-bits nothing=4", 2, &["\"nothing\" matches no layer"]),
        flags("--layer-bits r=4", 2, &["\"r\" matches no layer"]),
        flags("--input-shape x", 2, &["--input-shape", "NAME:1x3x224x224"]),
        flags("--input-shape x:1x0x6x6", 2, &["--input-shape", "NAME:1x3x224x224"]),
        flags("--input-range 1:0", 2, &["--input-range", "LO below HI"]),
        flags("--mean 0.1,0.2,0.3 --std 1", 2, &["3 values", "input \"x\" has 1 channel"]),
        flags("--mean 0.5", 2, &["--mean without --std", "--std 1"]),
        flags("--std 0.5", 2, &["--std without --mean", "--mean 0"]),
        flags("--mean nan", 2, &["--mean", "number"]),
        flags("--std 0", 2, &["--std", "above 0"]),
        flags("--mean 0 --std 0.1,0.2", 2, &["2 values", "input \"x\" has 1 channel"]),
        flags("--min-agreement 2", 2, &["--min-agreement", "between 0 and 1"]),
        flags("--min-sqnr nan", 2, &["--min-sqnr", "number"]),
        flags("--max-drop 1", 2, &["--eval"]),
        flags("--samples 0", 2, &["--samples"]),
        flags("--per-tensor --per-channel", 2, &["cannot be used with"]),
        flags("--dry-run --min-sqnr 20", 2, &["--dry-run", "--min-sqnr"]),
        flags("--images 32 --effort fast", 2, &["--images", "recipe \"fast\" makes none", "--ranges synthetic"]),
        flags("--nonsense", 2, &["--nonsense"]),
        case("command", |_| (), "frobnicate", 2, &["frobnicate"]),
        case("no model", |_| (), "quantize", 2, &["<MODEL>"]),
        case("limit", sound, "eval model.onnx {fixtures}/digits_test.npz --limit 0", 2, &["--limit"]),
    ]);
}

#[test]
fn devices_and_libraries_that_are_not_there_are_missing_resources() {
    let text = |folder: &Path| {
        sound(folder);
        std::fs::write(folder.join("library.so"), "no library").unwrap();
    };
    if Path::new("/dev/nvidia0").exists() {
        eprintln!("skipped: this machine has a GPU");
    } else {
        check(&[
            flags("--device cuda", 5, &["device cuda:0 cannot be used", "onnxruntime-gpu", "use --device cpu"]),
            flags("--device tensorrt:1", 5, &["device tensorrt:1 cannot be used", "use --device cpu"]),
        ]);
    }
    check(&[
        flags("--ort-lib absent.so", 5, &["absent.so"]),
        case("no library", text, "quantize model.onnx --ort-lib library.so", 5, &["library.so"]),
    ]);
}

#[test]
fn labelled_images_that_do_not_fit_are_refused_before_a_model_is_written() {
    let digits = "quantize {fixtures}/digits_resnet8.onnx -o out.onnx";
    let with = |flags: &'static str| -> &'static str { format!("{digits} {flags}").leak() };
    let text = |folder: &Path| std::fs::write(folder.join("text.npz"), "no archive").unwrap();
    let none = |_: &Path| ();
    let images = |shape: &'static str| {
        move |folder: &Path| {
            let array = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
            let header = u16::try_from(array.len() + 1).unwrap().to_le_bytes();
            let zeros = [0u8; 512];
            let bytes = [b"\x93NUMPY\x01\x00", &header[..], array.as_bytes(), b"\n", &zeros].concat();
            std::fs::write(folder.join("images.npy"), bytes).unwrap();
        }
    };
    let unlabelled = with("--eval images.npy");
    check(&[
        case("missing", none, with("--eval absent.npz"), 3, &["cannot read absent.npz"]),
        case("no archive", text, with("--eval text.npz"), 3, &["text.npz"]),
        case("no labels", images("(2, 16, 16)"), unlabelled, 3, &["images.npy", "no array \"labels\""]),
        case("no images", images("(512,)"), unlabelled, 3, &["images.npy", "\"images\"", "[512]"]),
        case(
            "size",
            sound,
            "quantize model.onnx --eval {fixtures}/digits_test.npz",
            3,
            &["digits_test.npz", "[N, 1, 6, 6]", "found [500, 1, 32, 32]", "resize"],
        ),
        case(
            "means",
            none,
            with("--eval {fixtures}/digits_test.npz --mean 1,2 --std 1"),
            2,
            &["2 values", "1 channel"],
        ),
        case(
            "means of eval",
            none,
            "eval {fixtures}/digits_resnet8.onnx {fixtures}/digits_test.npz --mean 1,2 --std 1",
            2,
            &["mean: 2 values", "1 channel"],
        ),
        case(
            "unlabelled eval",
            images("(2, 16, 16)"),
            "eval {fixtures}/digits_resnet8.onnx images.npy",
            3,
            &["images.npy", "no array \"labels\""],
        ),
    ]);
}
