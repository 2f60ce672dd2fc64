//! The user's preprocessing of pixels.

use crate::error::{Error, Result};
use crate::ir::{DType, Tensor};
use crate::stats::InputStatistics;

/// The position of the channel axis in an array of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Inferred from the model's input shape.
    #[default]
    Auto,
    /// Last.
    Nhwc,
    /// Second.
    Nchw,
}

/// Preprocessing of pixels: `(pixel * scale - mean) / std`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preprocess {
    /// One value, or one per channel; none means 0.
    pub mean: Vec<f32>,
    /// One value, or one per channel; none means 1.
    pub std: Vec<f32>,
    /// Factor on pixels; by default 1/255 for uint8 arrays and 1 for others.
    pub scale: Option<f32>,
    /// Layout of the array.
    pub layout: Layout,
}

/// The type of pixels, and the values of black and white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixels {
    /// The type of the array.
    pub dtype: DType,
    /// Black.
    pub black: f32,
    /// White.
    pub white: f32,
}

impl Default for Pixels {
    /// Returns bytes.
    fn default() -> Self {
        Self { dtype: DType::U8, black: 0.0, white: 255.0 }
    }
}

impl Pixels {
    /// Returns the scale of `values` of type `dtype`: 0 to 255 for bytes and values up to 255, 0 to 1 for values up to
    /// 1, and their own range for all others.
    pub fn of(dtype: DType, values: &[f32]) -> Self {
        let end = |of: fn(f32, f32) -> f32| values.iter().copied().reduce(of).unwrap_or(0.0);
        let (least, most) = (end(f32::min), end(f32::max));
        let (black, white) = match (dtype, least >= 0.0) {
            (DType::U8, _) => (0.0, 255.0),
            (_, true) if most <= 1.0 => (0.0, 1.0),
            (_, true) if most <= 255.0 => (0.0, 255.0),
            _ => (least, most),
        };
        Self { dtype, black, white }
    }
}

impl Preprocess {
    /// Returns whether the user specified any preprocessing.
    pub fn is_given(&self) -> bool {
        !self.mean.is_empty() || !self.std.is_empty() || self.scale.is_some()
    }

    /// Returns the factor on pixels of a type.
    pub fn scale_of(&self, pixels: DType) -> f32 {
        self.factor(pixels) as f32
    }

    fn factor(&self, pixels: DType) -> f64 {
        self.scale.map_or(if pixels == DType::U8 { 1.0 / 255.0 } else { 1.0 }, f64::from)
    }

    /// Returns the input statistics of a network with such pixels.
    pub fn statistics(&self, pixels: Pixels) -> InputStatistics {
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let scale = self.factor(pixels.dtype);
        let (black, white) = (f64::from(pixels.black), f64::from(pixels.white));
        let mean = if self.mean.is_empty() { vec![0.0] } else { wide(&self.mean) };
        let mean: Vec<f64> = mean.into_iter().map(|mean| mean - black * scale).collect();
        InputStatistics::of_preprocessing(&mean, &wide(&self.std), (white - black) / 255.0 * scale)
    }

    /// Returns the preprocessing for inputs of a type: integer inputs take pixels unchanged.
    pub(super) fn to_type(&self, dtype: DType) -> Self {
        let raw = !dtype.is_float() && self.scale.is_none();
        Self { scale: if raw { Some(1.0) } else { self.scale }, ..self.clone() }
    }

    /// Returns the preprocessed `inputs` as the type of the network's input `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] for values that the type does not hold.
    pub(super) fn as_type(&self, inputs: Tensor, dtype: DType, name: &str) -> Result<Tensor> {
        if inputs.dtype() == dtype {
            return Ok(inputs);
        }
        let holds = |(lo, hi): (i64, i64)| {
            let (lo, hi) = (lo as f32, hi as f32);
            move |v: &f32| (lo..=hi).contains(v) && v.fract() == 0.0
        };
        let wrong = dtype.int_range().map(|range| inputs.to_f32().map(|values| !values.iter().all(holds(range))));
        if wrong.transpose()?.unwrap_or(false) {
            return Err(Error::Usage(format!(
                "input \"{name}\" takes {dtype} pixels unchanged; leave out --mean, --std and --scale"
            )));
        }
        inputs.to_type(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_is_fed_follows_from_flags_and_pixels() {
        let flags =
            |mean: f32, std: f32, scale| Preprocess { mean: vec![mean], std: vec![std], scale, layout: Layout::Auto };
        let bytes = Pixels::default();
        let unit = Pixels::of(DType::F32, &[0.0, 0.4, 1.0]);
        let raw = Pixels::of(DType::F32, &[0.0, 3.0, 250.0]);
        let centred = Pixels::of(DType::F32, &[-2.0, 2.0]);
        let cases = [
            ("bytes", flags(0.5, 0.25, None), bytes, [-2.0, 2.0]),
            ("bytes by a factor", flags(127.5, 127.5, Some(1.0)), bytes, [-1.0, 1.0]),
            ("floats up to 1", flags(0.5, 0.25, None), unit, [-2.0, 2.0]),
            ("floats up to 1 by a factor", flags(0.5, 0.25, Some(1.0)), unit, [-2.0, 2.0]),
            ("floats up to 255", flags(127.5, 127.5, None), raw, [-1.0, 1.0]),
            ("floats up to 255 by a factor", flags(0.5, 0.5, Some(1.0 / 255.0)), raw, [-1.0, 1.0]),
            ("floats that were normalised", flags(0.0, 1.0, None), centred, [-2.0, 2.0]),
            ("a factor alone", Preprocess { scale: Some(1.0), ..Preprocess::default() }, bytes, [0.0, 255.0]),
        ];
        let found = cases.map(|(name, flags, pixels, expected)| (name, flags.statistics(pixels), expected));
        let wrong = found.iter().filter(|(_, s, [lo, hi])| (s.lo - lo).abs() > 1e-5 || (s.hi - hi).abs() > 1e-5);
        let wrong: Vec<_> = wrong.map(|(name, s, expected)| (name, s.lo, s.hi, expected)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn integers_that_the_network_does_not_take_are_usage_errors() {
        let plain = Preprocess::default();
        let bytes = Tensor::from_f32(&[3], &[0.0, 128.0, 255.0]);
        assert_eq!(plain.as_type(bytes.clone(), DType::U8, "x").unwrap().dtype(), DType::U8);
        let signed = Tensor::from_f32(&[2], &[-128.0, 127.0]);
        assert_eq!(plain.as_type(signed, DType::I8, "x").unwrap().to_i64().unwrap(), [-128, 127]);
        for values in [[0.5f32, 1.0], [-1.0, 0.0], [256.0, 0.0]] {
            let refused = plain.as_type(Tensor::from_f32(&[2], &values), DType::U8, "x").unwrap_err();
            assert!(refused.exit_code() == 2 && refused.to_string().contains("--mean"), "{refused}");
        }
        assert!(plain.as_type(bytes, DType::F16, "x").is_ok());
    }
}
