//! Checks that images are on the scale of the network's inputs.

use super::{Feeds, Preprocess};
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::stats::{InputSource, InputStatistics};

/// The tolerated share of values far outside the network's input interval.
const OUTSIDE: f64 = 0.01;
/// The tolerated ratio between the standard deviations of the images and of the network's inputs, either way.
const CONTRAST: f64 = 3.0;
/// The share of the input interval below 0 above which images must have negative values.
const BELOW: f64 = 0.1;

/// Returns how the images among `inputs` of the file `place` differ in scale from the input statistics `fed`, with
/// advice; `None` where they agree. Values may exceed the interval by a tenth of its length, or by its whole length
/// where `fed` is assumed.
///
/// # Errors
/// For values that are not finite.
pub fn mismatch(place: &str, inputs: &[Tensor], fed: &InputStatistics) -> Result<Option<String>> {
    for tensor in inputs.iter().filter(|tensor| is_image(tensor)) {
        let values = tensor.to_f32()?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::malformed(place, format!("holds the value {value}; expected finite inputs")));
        }
        if let Some(found) = of_images(&values, fed) {
            return Ok(Some(format!("{place}: {found}")));
        }
    }
    Ok(None)
}

/// Returns a warning where evaluation images may be on another scale than the input statistics `fed`; `None` where they
/// agree, or where `fed` is assumed and the user gave a `preprocess`. `is_sure` says whether `fed` is certain.
///
/// # Errors
/// [`Error::Usage`] for another scale where `fed` is certain; as [`mismatch`].
pub fn refuse_other_scale(
    feeds: &Feeds,
    fed: &InputStatistics,
    is_sure: bool,
    preprocess: &Preprocess,
) -> Result<Option<String>> {
    let (inputs, is_assumed) = (feeds.judged()?, fed.source == InputSource::Assumed);
    if is_assumed && preprocess.is_given() {
        return Ok(None);
    }
    match mismatch(feeds.place(), &inputs, fed)? {
        Some(message) if is_sure && !is_assumed => Err(Error::Usage(message)),
        None if is_assumed && feeds.pixels()?.is_some() => Ok(Some(format!(
            "{}: the model's preprocessing is unknown: pixels are used unchanged, bytes over 255; give --mean and \
             --std, or --scale, if it was trained otherwise",
            feeds.place()
        ))),
        None if !is_assumed => one_sided(feeds.place(), &inputs, fed),
        found => Ok(found),
    }
}

/// Returns a warning about images without negative values where much of the input interval is below 0.
fn one_sided(place: &str, inputs: &[Tensor], fed: &InputStatistics) -> Result<Option<String>> {
    let (lo, hi) = (fed.lo, fed.hi);
    for tensor in inputs.iter().filter(|tensor| is_image(tensor)) {
        if lo < -BELOW * (hi - lo) && tensor.to_f32()?.iter().all(|&value| value >= 0.0) {
            return Ok(Some(format!(
                "{place}: holds no input below 0, the model expects {lo:.3} to {hi:.3}; give its --mean and --std"
            )));
        }
    }
    Ok(None)
}

fn is_image(tensor: &Tensor) -> bool {
    tensor.dtype().is_float() && tensor.shape().len() == 4
}

fn of_images(values: &[f32], fed: &InputStatistics) -> Option<String> {
    let (lo, hi, is_assumed) = (fed.lo, fed.hi, fed.source == InputSource::Assumed);
    let margin = if is_assumed { hi - lo } else { 0.1 * (hi - lo) };
    let beyond = values.iter().filter(|&&v| !(lo - margin..=hi + margin).contains(&f64::from(v))).count();
    let std = std(values);
    let is_alike = is_assumed || (1.0 / CONTRAST..=CONTRAST).contains(&(std / fed.contrast()));
    if values.is_empty() || (beyond as f64 <= OUTSIDE * values.len() as f64 && is_alike) {
        return None;
    }
    let [least, most] = [f32::min, f32::max].map(|end| values.iter().copied().reduce(end).unwrap_or(0.0));
    let fed = if is_assumed { "is assumed to expect" } else { "expects" };
    Some(format!(
        "holds inputs from {least:.3} to {most:.3} with a standard deviation of {std:.3}, the model {fed} {lo:.3} to \
         {hi:.3}; give its --mean, --std and --scale, or --input-range"
    ))
}

/// Returns the standard deviation of all values.
fn std(values: &[f32]) -> f64 {
    let mean_of = |of: &dyn Fn(f64) -> f64| values.iter().map(|&v| of(f64::from(v))).sum::<f64>() / values.len() as f64;
    let mean = mean_of(&|v| v);
    mean_of(&|v| (v - mean) * (v - mean)).sqrt()
}
