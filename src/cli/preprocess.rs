//! The flags that say what the network is fed: its range, and how pixels become inputs.

use clap::{Args, ValueEnum};

use super::arguments::{interval, number, positive};
use crate::data::{Layout, Preprocess};
use crate::stats::InputStatistics;

/// What the network is fed.
#[derive(Args, Debug)]
pub(super) struct InputArguments {
    /// Smallest and largest value that the model is fed
    #[arg(long, value_name = "LO:HI", value_parser = interval, allow_hyphen_values = true)]
    input_range: Option<(f64, f64)>,
    #[command(flatten)]
    pixels: PreprocessArguments,
}

impl InputArguments {
    /// Returns what these flags say of the network's input; nothing where none is given.
    pub(super) fn input(&self) -> Option<InputStatistics> {
        let interval = self.input_range.map(|(lo, hi)| InputStatistics::of_interval(lo, hi));
        interval.or_else(|| self.pixels.input())
    }

    /// Returns the same for reading images.
    pub(super) fn preprocess(&self) -> Preprocess {
        self.pixels.preprocess()
    }
}

/// How pixels become inputs.
#[derive(Args, Debug)]
pub(super) struct PreprocessArguments {
    /// Means, one or one per channel, in units after --scale
    #[arg(long, value_name = "M[,M...]", value_delimiter = ',', allow_negative_numbers = true, value_parser = number)]
    mean: Vec<f32>,
    /// Standard deviations, one or one per channel, in units after --scale
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
    /// Returns the same for reading images.
    pub(super) fn preprocess(&self) -> Preprocess {
        Preprocess {
            mean: self.mean.clone(),
            std: self.std.clone(),
            scale: self.scale,
            layout: match self.layout {
                LayoutArgument::Auto => Layout::Auto,
                LayoutArgument::Nhwc => Layout::Nhwc,
                LayoutArgument::Nchw => Layout::Nchw,
            },
        }
    }

    fn input(&self) -> Option<InputStatistics> {
        let given = !self.mean.is_empty() || !self.std.is_empty() || self.scale.is_some();
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let scale = self.scale.map_or(1.0 / 255.0, f64::from);
        given.then(|| InputStatistics::of_preprocessing(&wide(&self.mean), &wide(&self.std), scale))
    }
}
