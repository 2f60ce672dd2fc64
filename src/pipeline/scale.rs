//! The scale of inputs, from flags and handed-over files.

use super::Config;
use super::prepare::Loaded;
use crate::data::{Dataset, refuse_other_scale};
use crate::error::Result;
use crate::ir::Graph;
use crate::report::Warning;
use crate::stats::{InputScale, InputStatistics};

/// Returns the input statistics where flags describe the preprocessing of pixels: of the pixels in the file that was
/// handed over, else of bytes.
pub(super) fn of_pixels(loaded: &Loaded, config: &Config, float: &Graph) -> Result<Option<InputStatistics>> {
    let Some(given) = config.input.as_ref().filter(|given| given.scale == InputScale::Preprocessed) else {
        return Ok(None);
    };
    let (preprocess, pixels) = match (&config.data, &config.evaluation, &loaded.images) {
        (Some((file, preprocess)), ..) => (preprocess, Dataset::read(file)?.feeds(float, preprocess)?.pixels()?),
        (None, Some((_, preprocess)), Some(images)) => (preprocess, images.feeds(float, preprocess)?.pixels()?),
        _ => return Ok(Some(given.clone())),
    };
    Ok(Some(pixels.map_or_else(|| given.clone(), |pixels| preprocess.statistics(pixels))))
}

/// Returns a warning for labeled images that may have another scale than the network's input, according to the interval
/// set by the user, else to the model itself (`guess`).
///
/// # Errors
/// Where the scale is certainly different; where the images do not fit the model.
pub(super) fn check_evaluation(
    loaded: &Loaded,
    config: &Config,
    float: &Graph,
    guess: &InputStatistics,
) -> Result<Option<Warning>> {
    let Some((images, (_, preprocess))) = loaded.images.as_ref().zip(config.evaluation.as_ref()) else {
        return Ok(None);
    };
    let interval = config.input.as_ref().filter(|given| given.scale == InputScale::Custom);
    let (feeds, _) = images.labelled(float, preprocess)?;
    let found = refuse_other_scale(&feeds, interval.unwrap_or(guess), true, preprocess)?;
    Ok(found.map(|message| Warning::OtherScale { message }))
}
