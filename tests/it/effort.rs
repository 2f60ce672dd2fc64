//! `--effort auto`: trains only where the result without training is not good.

use crate::support::program::run;

#[test]
fn nothing_is_trained_where_the_result_without_training_is_good() {
    let cases = [
        ("good without training", "--precision w7a8", true),
        ("asked for", "--precision w7a8 --effort auto", true),
        ("not good", "--precision w2a3 --all-layers --effort auto --max-minutes 0.01", false),
        ("training asked for", "--precision w7a8 --effort balanced --max-minutes 0.01", false),
        ("steps asked for", "--precision w7a8 --steps 1 --images 16 --batch 8", false),
    ];
    let mut failed = Vec::new();
    for (name, flags, is_sufficient) in cases {
        let folder = tempfile::tempdir().unwrap();
        let fixed =
            "quantize {fixtures}/digits_resnet8.onnx -o q.onnx --mean 0.3 --std 0.34 --samples 4 --accept broken";
        let report = run(folder.path(), &format!("{fixed} --format json {flags}")).json();
        let (recipe, trained) = (report["recipe"].as_str().unwrap(), report["training"].as_array().unwrap().len());
        let expected = if is_sufficient { ("fast", true) } else { ("cascade", false) };
        if (recipe, report["sufficient"].is_string()) != expected || (trained > 0) == is_sufficient {
            failed.push(format!("{name}: {recipe}, {}, {trained} stages", report["sufficient"]));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
