//! The flags that say what the network is fed: its range, and how pixels become inputs.

use clap::{Args, ValueEnum};

use super::arguments::{interval, number, positive};
use crate::data::{Layout, Pixels, Preprocess};
use crate::error::{Error, Result};
use crate::stats::InputStatistics;

/// The range or preprocessing of the input.
#[derive(Args, Debug)]
pub(super) struct InputArguments {
    /// Smallest and largest value of the model's input
    #[arg(long, value_name = "LO:HI", value_parser = interval, allow_hyphen_values = true)]
    input_range: Option<(f64, f64)>,
    #[command(flatten)]
    pixels: PreprocessArguments,
}

impl InputArguments {
    /// Returns the input statistics given by these flags, if any.
    ///
    /// # Errors
    /// As [`PreprocessArguments::preprocess`].
    pub(super) fn input(&self) -> Result<Option<InputStatistics>> {
        let preprocess = self.preprocess()?;
        let of_pixels = preprocess.is_given().then(|| preprocess.statistics(Pixels::default()));
        Ok(self.interval().or(of_pixels))
    }

    /// Returns the given interval.
    pub(super) fn interval(&self) -> Option<InputStatistics> {
        self.input_range.map(|(lo, hi)| InputStatistics::of_interval(lo, hi))
    }

    /// Returns the preprocessing.
    ///
    /// # Errors
    /// As [`PreprocessArguments::preprocess`].
    pub(super) fn preprocess(&self) -> Result<Preprocess> {
        self.pixels.preprocess()
    }
}

/// The preprocessing of pixels.
#[derive(Args, Debug)]
pub(super) struct PreprocessArguments {
    /// Means, one or one per channel, in units after --scale; goes with --std
    #[arg(long, value_name = "M[,M...]", value_delimiter = ',', allow_negative_numbers = true, value_parser = number)]
    mean: Vec<f32>,
    /// Standard deviations, one or one per channel, in units after --scale; goes with --mean
    #[arg(long, value_name = "S[,S...]", value_delimiter = ',', value_parser = positive)]
    std: Vec<f32>,
    /// Factor on pixels before --mean and --std [default: 1/255 for uint8 arrays, else 1]
    #[arg(long, value_name = "F", value_parser = positive)]
    scale: Option<f32>,
    /// Layout of arrays of images
    #[arg(long, default_value = "auto")]
    layout: LayoutArgument,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArgument {
    Auto,
    Nhwc,
    Nchw,
}

impl PreprocessArguments {
    /// Returns the preprocessing.
    ///
    /// # Errors
    /// [`Error::Usage`] for means without deviations, and the other way round.
    pub(super) fn preprocess(&self) -> Result<Preprocess> {
        let usage = |message: &str| Err(Error::Usage(message.to_owned()));
        match (self.mean.is_empty(), self.std.is_empty()) {
            (false, true) => {
                usage("--mean without --std: give what differences from the mean are divided by (--std 1 for none)")
            }
            (true, false) => {
                usage("--std without --mean: give what is subtracted before dividing (--mean 0 for nothing)")
            }
            _ => Ok(Preprocess {
                mean: self.mean.clone(),
                std: self.std.clone(),
                scale: self.scale,
                layout: match self.layout {
                    LayoutArgument::Auto => Layout::Auto,
                    LayoutArgument::Nhwc => Layout::Nhwc,
                    LayoutArgument::Nchw => Layout::Nchw,
                },
            }),
        }
    }
}
