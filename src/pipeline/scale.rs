//! The scale of inputs, as flags and the files that were handed over tell it.

use super::Config;
use super::prepare::Loaded;
use crate::data::{Dataset, refuse_other_scale};
use crate::error::Result;
use crate::ir::Graph;
use crate::report::Warning;
use crate::stats::{InputScale, InputStatistics};

/// Returns what the network is fed where flags say how pixels become inputs: pixels are those of the file that was handed
/// over, else bytes.
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

/// Returns a warning of labelled images that are perhaps on another scale than the network is fed, by the interval that the
/// user gave, else by what the model itself tells (`guess`).
///
/// # Errors
/// Where they surely are; where they do not fit the model.
pub(super) fn check_evaluation(
    loaded: &Loaded,
    config: &Config,
    (float, guess): (&Graph, &InputStatistics),
) -> Result<Option<Warning>> {
    let Some((images, (_, preprocess))) = loaded.images.as_ref().zip(config.evaluation.as_ref()) else {
        return Ok(None);
    };
    let interval = config.input.as_ref().filter(|given| given.scale == InputScale::Custom);
    let (feeds, _) = images.labelled(float, preprocess)?;
    let found = refuse_other_scale(&feeds, (interval.unwrap_or(guess), true), preprocess)?;
    Ok(found.map(|message| Warning::OtherScale { message }))
}
