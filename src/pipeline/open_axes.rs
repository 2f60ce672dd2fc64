//! Checks that the file runs at other sizes than the planned ones.

use crate::error::Result;
use crate::ir::{Dim, Graph, Tensor, element_count};
use crate::runtime::{Engine, SessionOptions};
use crate::stats::InputStatistics;
use crate::verify::Check;

/// The number of samples where the batch size is open.
const SAMPLES: usize = 2;
/// The factor on the planned size of other open axes.
const LARGER: usize = 2;
/// The most elements of an input; beyond them the check is skipped.
const LARGEST: usize = 1 << 25;

/// Returns the check of `written` with inputs of other sizes than in `planned`, along axes that it and the float model
/// leave open: it must run where the float model does and return outputs of the same shapes. None where only the batch
/// axis is open, or the float model itself supports no other size.
///
/// # Errors
/// When inputs cannot be generated.
pub(super) fn open_axes_check(
    float: &Graph,
    planned: &Graph,
    written: &Graph,
    input: &InputStatistics,
    engine: &dyn Engine,
) -> Result<Option<Check>> {
    let Some(sized) = at_other_sizes(planned, written) else { return Ok(None) };
    let inputs = input.synthetic(&sized, 1, 0, 1)?;
    let shapes = |graph: &Graph| -> Result<Vec<Vec<usize>>> {
        let made = engine.load(graph, &SessionOptions::default())?.run(&inputs)?;
        Ok(made.iter().map(|tensor| tensor.shape().to_vec()).collect())
    };
    let Ok(expected) = shapes(float) else { return Ok(None) };
    let fed: Vec<String> = inputs.iter().map(|tensor: &Tensor| format!("{:?}", tensor.shape())).collect();
    let message = match shapes(written) {
        Ok(found) if found == expected => Ok(format!("runs at {}", fed.join(", "))),
        Ok(found) => {
            Err(format!("at {}: outputs are {found:?}, those of the float model {expected:?}", fed.join(", ")))
        }
        Err(error) => Err(format!("at {}: {error}", fed.join(", "))),
    };
    Ok(Some(Check {
        name: "other sizes".to_owned(),
        engine: engine.name(),
        measured: None,
        limit: None,
        passed: message.is_ok(),
        message: message.unwrap_or_else(|message| message),
    }))
}

/// Returns `written` with other sizes for the input axes that it leaves open and `planned` fixes.
fn at_other_sizes(planned: &Graph, written: &Graph) -> Option<Graph> {
    let mut sized = written.clone();
    let mut opened = false;
    for (at, id) in planned.fed_inputs().into_iter().zip(written.fed_inputs()) {
        let (planned, dims) = (planned.value(at).shape.as_ref()?, sized.value_mut(id).shape.as_mut()?);
        for (axis, (dim, planned)) in dims.iter_mut().zip(planned).enumerate() {
            let size = match (&dim, planned) {
                (Dim::Known(n), _) => *n,
                (_, Dim::Known(n)) if axis > 0 => n * LARGER,
                (_, _) if axis == 0 => SAMPLES,
                _ => return None,
            };
            opened |= dim.known().is_none() && planned.known().is_some();
            *dim = Dim::Known(size);
        }
        let sizes: Option<Vec<usize>> = dims.iter().map(Dim::known).collect();
        element_count(&sizes?).filter(|&n| n <= LARGEST)?;
    }
    opened.then_some(sized)
}
