//! Selects the runtimes that vote: a second one must agree with the first on the float model.

use super::compare::{Comparison, numbers};
use super::float_run::FloatRun;
use super::granularity::granularity;
use super::limits;
use super::modes::{Engines, Mode, modes};
use super::result::LeftOut;
use crate::ir::{Graph, Tensor};
use crate::outputs::settled_tensors;

/// Splits `modes` into voters and others, with the reasons. The first mode always votes; a second runtime votes if it
/// agrees with the first on the float model, unchanged or normalized.
pub fn voters<'a>(float: &FloatRun, modes: Vec<Mode<'a>>) -> (Vec<Mode<'a>>, Vec<LeftOut>) {
    let [reference, ..] = modes[..] else { return (modes, Vec::new()) };
    let (mut voting, mut left_out) = (Vec::new(), Vec::new());
    for mode in modes {
        let is_second = mode.reads_copy && !reference.reads_copy;
        let fault = is_second.then(|| float_fault(float, &reference, &mode)).flatten();
        let cleared = |_: &String| {
            float.normalised(&reference).is_some_and(|float| float_fault(&float, &reference, &mode).is_none())
        };
        match fault.filter(|reason| !cleared(reason)) {
            Some(reason) => left_out.push(LeftOut { engine: mode.engine_name(), reason }),
            None => voting.push(mode),
        }
    }
    (voting, left_out)
}

/// Returns the runtime of `engines` that cannot vote on quantized versions of `original`, by its results on `inputs`.
pub fn left_out(original: &Graph, engines: &Engines, inputs: &[Tensor]) -> Vec<LeftOut> {
    voters(&FloatRun::new(original, original, inputs), modes(engines, 1)).1
}

/// Returns why `mode` cannot vote on quantized versions of the float model; `None` if it agrees with `reference`, or
/// the reference cannot run it either.
fn float_fault(float: &FloatRun, reference: &Mode, mode: &Mode) -> Option<String> {
    let graph = float.graph();
    let settled = settled_tensors(graph);
    let expected = float.tensors(reference, &settled).ok()?;
    let found = match float.tensors(mode, &settled) {
        Ok(found) => found,
        Err(e) => return Some(format!("it cannot run the float model ({})", in_short(&e.to_string()))),
    };
    let smallest = granularity(graph);
    settled.iter().zip(expected.iter().zip(&found)).find_map(|(&(id, _), (expected, found))| {
        let error = Comparison::of(&numbers(expected), &numbers(found)).relative_rms_above(smallest[id.index()]);
        let agrees = error <= limits::SAME_FLOAT_RELATIVE_RMS && expected.shape() == found.shape();
        (!agrees).then(|| {
            let (name, other) = (graph.name_of(id), reference.engine_name());
            format!("\"{name}\" of the float model differs from {other}'s by a relative RMS of {error:.2e}")
        })
    })
}

/// Returns the first line of an engine's error.
fn in_short(message: &str) -> String {
    const LONGEST: usize = 240;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
