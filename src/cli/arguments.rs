//! Groups of flags shared by several commands, and parsers of their values.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::destination::Sources;
use crate::error::Result;
use crate::passes::GivenShape;
use crate::pipeline::Thresholds;
use crate::runtime::{Device, EngineChoice, EngineRequest, Engines, LIBRARY_VARIABLE, Places, engines};
use crate::verdict::{Judgement, Verdict};

/// The engine and the device that run models.
#[derive(Args, Debug)]
pub(super) struct EngineArguments {
    /// Engine: ort, tract, or auto: both, or tract alone where ONNX Runtime is not available
    #[arg(long, default_value = "auto", value_parser = parse::<EngineChoice>)]
    engine: EngineChoice,
    /// Device: cpu, cuda, cuda:INDEX, tensorrt or tensorrt:INDEX
    #[arg(long, default_value = "cpu", value_parser = parse::<Device>)]
    device: Device,
    /// Number of threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = whole(1..=1024u16))]
    threads: Option<u16>,
    /// ONNX Runtime library (libonnxruntime.so, onnxruntime.dll, libonnxruntime.dylib)
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
    /// Do not download ONNX Runtime
    #[arg(long)]
    offline: bool,
}

impl EngineArguments {
    /// Returns the requested engines.
    ///
    /// # Errors
    /// When they are not available.
    pub(super) fn start(&self) -> Result<Engines> {
        self.start_with(self.threads.map(usize::from))
    }

    /// Returns the requested engines, with one thread by default.
    ///
    /// # Errors
    /// As [`EngineArguments::start`].
    pub(super) fn start_single(&self) -> Result<Engines> {
        self.start_with(Some(self.threads.map_or(1, usize::from)))
    }

    /// Adds the ONNX Runtime library to the files that are read.
    pub(super) fn with_libraries<'a>(&self, sources: Sources<'a>) -> Sources<'a> {
        sources.and("--ort-lib", self.ort_lib.as_ref()).and(LIBRARY_VARIABLE, std::env::var_os(LIBRARY_VARIABLE))
    }

    fn start_with(&self, threads: Option<usize>) -> Result<Engines> {
        let request = EngineRequest {
            choice: self.engine,
            device: self.device,
            ort_lib: self.ort_lib.clone(),
            offline: self.offline,
            threads,
        };
        let engines = engines(&request, &Places::of_this_process(self.ort_lib.as_deref()))?;
        if let Some(warning) = &engines.warning {
            super::say(&format!("warning: {warning}"));
        }
        Ok(engines)
    }
}

/// The synthetic inputs that models are compared on.
#[derive(Args, Debug)]
pub(super) struct SampleArguments {
    /// Number of inputs of the checks [default: 64; fewer, but at least 8, above 31 million multiply-accumulates]
    #[arg(long, value_name = "N", value_parser = whole(1..=100_000u32))]
    samples: Option<u32>,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = whole(0..=u64::MAX))]
    pub(super) seed: u64,
}

impl SampleArguments {
    /// Returns the requested number.
    ///
    /// # Errors
    /// Where the number does not fit into a `usize`.
    pub(super) fn samples(&self) -> anyhow::Result<Option<usize>> {
        Ok(self.samples.map(usize::try_from).transpose()?)
    }
}

/// Thresholds.
#[derive(Args, Debug)]
pub(super) struct ThresholdArguments {
    /// Exit with code 4 if top-1 agreement with the float model is below this share
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_agreement: Option<f64>,
    /// Exit with code 4 if the SQNR of an output against the float model is below this, in dB
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = limit)]
    min_sqnr: Option<f64>,
    /// Exit with code 4 if the target computes less than this share of the multiply-accumulates in integers
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_coverage: Option<f64>,
    /// Lowest verdict that exits with 0; below it, the file is written and the exit code is 4
    #[arg(long, value_name = "VERDICT", default_value = "doubtful")]
    accept: Verdict,
}

impl ThresholdArguments {
    /// Reports a verdict that is not accepted on stderr, and returns whether it is not.
    pub(super) fn refuses(&self, judgement: &Judgement) -> bool {
        let refuses = judgement.verdict < self.accept;
        if refuses {
            let word = judgement.verdict.word();
            super::say(&format!("missed: the verdict is {word}: {}; --accept {word} accepts it", judgement.reason));
        }
        refuses
    }

    /// Returns the thresholds.
    pub(super) fn thresholds(&self) -> Thresholds {
        let &Self { min_agreement, min_sqnr, min_coverage, .. } = self;
        Thresholds { min_agreement, min_sqnr, min_coverage }
    }
}

/// Parses a value by its `FromStr`, keeping its message.
pub(super) fn parse<T: FromStr<Err = crate::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: crate::Error| e.to_string())
}

/// Returns a parser of whole numbers in `range`.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text: &str| {
        let value = text.trim().parse::<T>().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Parses a finite number.
pub(super) fn number(text: &str) -> Result<f32, String> {
    let value = text.trim().parse::<f32>().ok().filter(|v| v.is_finite());
    value.ok_or_else(|| "expected a number".to_owned())
}

/// Parses a finite number as a limit.
pub(super) fn limit(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    value.ok_or_else(|| "expected a number".to_owned())
}

/// Parses a finite number above 0.
pub(super) fn positive(text: &str) -> Result<f32, String> {
    let value: f32 = text.trim().parse().map_err(|_| "expected a number".to_owned())?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err("expected a number above 0".to_owned()) }
}

/// Parses `name:1x3x224x224` or `name:1,3,224,224`; `?`, `-1` or `N` stands for a size that stays open.
pub(super) fn input_shape(text: &str) -> Result<GivenShape, String> {
    let refused = || "expected NAME:1x3x224x224, with ? for a size that stays open".to_owned();
    let (name, shape) = text.rsplit_once(':').ok_or_else(refused)?;
    let size = |size: &str| match size.trim() {
        "?" | "-1" | "N" | "n" => Some(None),
        number => number.parse::<usize>().ok().filter(|&n| n > 0).map(Some),
    };
    let sizes: Option<Vec<Option<usize>>> = shape.split(['x', ',']).map(size).collect();
    Ok((name.to_owned(), sizes.ok_or_else(refused)?))
}

/// Parses `NAME=VALUE`.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "expected NAME=VALUE, such as sr=16000".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses `LO:HI`.
pub(super) fn interval(text: &str) -> Result<(f64, f64), String> {
    let refused = || "expected LO:HI with LO below HI, such as 0:255".to_owned();
    let (lo, hi) = text.split_once(':').ok_or_else(refused)?;
    let (lo, hi): (f64, f64) = (lo.parse().map_err(|_| refused())?, hi.parse().map_err(|_| refused())?);
    if lo < hi && lo.is_finite() && hi.is_finite() { Ok((lo, hi)) } else { Err(refused()) }
}

/// Parses a share between 0 and 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|v| (0.0..=1.0).contains(v));
    value.ok_or_else(|| "expected a share between 0 and 1, such as 0.99".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_in_both_spellings() {
        let expected = Ok(("input:0".to_owned(), [1, 3, 8, 8].map(Some).to_vec()));
        assert_eq!(input_shape("input:0:1x3x8x8"), expected);
        assert_eq!(input_shape("input:0:1,3,8,8"), expected);
        let open = Ok(("x".to_owned(), vec![None, Some(3), None, None]));
        assert_eq!(input_shape("x:Nx3x?x-1"), open);
        for bad in ["x", "x:", "x:1x0", "x:1xM", "x:-2"] {
            assert!(input_shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_are_told_from_words_and_from_what_is_out_of_range() {
        let bits = whole(2..=8u32);
        assert_eq!(bits("4"), Ok(4));
        for bad in ["four", "4.0", "", "1", "9", "-4"] {
            assert_eq!(bits(bad), Err("expected a whole number from 2 to 8".to_owned()), "{bad}");
        }
    }

    #[test]
    fn intervals_must_rise() {
        assert_eq!(interval("-1:1.5"), Ok((-1.0, 1.5)));
        for bad in ["1", "1:1", "2:1", "a:b", "nan:1", "0:inf"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
