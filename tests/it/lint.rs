//! Every rule finds what it is for, and nothing in a sound file.

mod spoilt;

use std::collections::BTreeSet;

use dfq_onnx::ir::Graph;
use dfq_onnx::lint::{Finding, Severity, lint, rules};
use dfq_onnx::onnx;
use dfq_onnx::plan::{Container, Policy, Target};

use crate::support::program::run;
use crate::support::quantized::quantized;
use crate::support::{fixture, models};
use crate::targets::{network, policy};
use spoilt::cases;

/// Returns the file that is made for `target`, with shapes.
fn sound(target: Target, weight_bits: u32) -> Graph {
    let mut graph = quantized(&network(), &policy(target, weight_bits, 8)).unwrap().emitted;
    dfq_onnx::shape::infer(&mut graph).unwrap();
    graph
}

fn of_rule<'a>(findings: &'a [Finding], rule: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|finding| finding.rule == rule).collect()
}

#[test]
fn every_rule_finds_the_file_that_breaks_it_and_leaves_the_sound_one_alone() {
    let mut failed = Vec::new();
    let mut covered = BTreeSet::new();
    for case in cases() {
        let clean = sound(case.target, case.weight_bits);
        let before = lint(&clean, case.target);
        if !of_rule(&before, case.rule).is_empty() {
            failed.push(format!("{}: finds {before:?} in a sound file for {:?}", case.rule, case.target));
        }
        let mut broken = clean;
        (case.spoil)(&mut broken);
        let findings = lint(&broken, case.target);
        let found = of_rule(&findings, case.rule);
        if !found.iter().any(|finding| finding.place.contains(case.place)) {
            failed.push(format!("{} of {:?}: nothing at \"{}\" in {findings:#?}", case.rule, case.target, case.place));
        }
        covered.insert(case.rule);
    }
    let all: BTreeSet<&str> = rules().map(|rule| rule.id).collect();
    failed.extend(all.difference(&covered).map(|rule| format!("no case breaks the rule {rule}")));
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn rules_have_names_of_their_own() {
    let ids: Vec<&str> = rules().map(|rule| rule.id).collect();
    let different: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), different.len(), "{ids:?}");
}

#[test]
fn every_file_that_is_written_is_clean_for_its_own_target() {
    let mut failed = Vec::new();
    let fixtures = ["digits_resnet8.onnx", "digits_mobilenet.onnx"];
    let fixtures = models().into_iter().filter(|path| fixtures.iter().any(|name| path.ends_with(name)));
    let mut graphs: Vec<_> = fixtures.map(|path| (path.display().to_string(), onnx::load(&path).unwrap())).collect();
    graphs.push(("targets".to_owned(), network()));
    for (name, graph) in &graphs {
        for target in Target::ALL {
            for (weight_bits, activation_bits) in [(8, 8), (4, 8), (4, 4)] {
                for container in [Container::Auto, Container::Int8] {
                    let few = target.choices().fewest_activation_bits;
                    let policy = Policy { container, ..policy(target, weight_bits, activation_bits.max(few)) };
                    let mut emitted = quantized(graph, &policy).unwrap().emitted;
                    dfq_onnx::shape::infer(&mut emitted).unwrap();
                    // What keeps to its target's rules is not slowed down either: no warnings.
                    let found = lint(&emitted, target);
                    failed.extend(
                        found.iter().map(|f| format!("{name} w{weight_bits}a{activation_bits} {target:?}: {f:?}")),
                    );
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_command_ends_with_4_on_errors_and_0_on_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let save = |graph: &Graph| onnx::save(graph, &folder.path().join("q.onnx"), onnx::INLINE_LIMIT).unwrap();
    save(&sound(Target::OrtCpu, 8));
    let cases = [
        ("--target ort-cpu", 0, "0 error(s), 0 warning(s)"),
        (
            "--target tensorrt",
            4,
            "error[unsigned-integers]: node \"x_quantized_node\" (QuantizeLinear): uint8 is refused",
        ),
        ("--target rknn", 2, ""),
    ];
    for (flags, code, says) in cases {
        let ran = run(folder.path(), &format!("lint q.onnx {flags}"));
        assert_eq!(ran.code, Some(code), "{flags}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(says), "{flags}: {}", ran.stdout);
    }
    save(&sound(Target::Onnx, 4));
    let ran = run(folder.path(), "lint q.onnx --target ort-cpu --format json");
    let json = ran.json();
    assert_eq!((ran.code, json["errors"].as_u64()), (Some(0), Some(0)), "{json}");
    assert!(json["warnings"].as_u64().unwrap() > 0 && json["schema_version"].is_u64(), "{json}");
    let float = run(folder.path(), &format!("lint {}", fixture("digits_resnet8.onnx").display()));
    assert_eq!((float.code, float.stdout.as_str()), (Some(3), ""));
    assert!(float.stderr.contains("is not quantized"), "{}", float.stderr);
}

#[test]
fn severities_are_what_the_runtime_does() {
    let severity = |id: &str| rules().find(|rule| rule.id == id).map(|rule| rule.severity);
    assert_eq!(severity("zero-point"), Some(Severity::Error), "TensorRT refuses it");
    assert_eq!(severity("runs-in-float"), Some(Severity::Warning), "it runs in float");
}
