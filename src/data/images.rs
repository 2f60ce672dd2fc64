//! Arrays of images, converted to float NCHW batches and normalized.

use std::ops::Range;

use super::kind::image_channels;
use super::npz::{Arrays, Member};
use super::preprocess::{Layout, Pixels, Preprocess};
use crate::error::{Error, Result};
use crate::ir::{DType, Dim, Shape, Tensor};

/// Names of image arrays, in order of preference.
const IMAGE_NAMES: &[&str] = &["images", "image", "x", "x_test", "data", "inputs", "input"];

/// Images.
#[derive(Clone, Debug)]
pub(super) struct Images {
    /// `[n, h, w, c]`, `[n, c, h, w]` or `[n, h, w]`, of any number type.
    pub tensor: Tensor,
    /// The file, for messages.
    pub place: String,
}

impl Images {
    /// Returns the array of `arrays` that is called `images`, `x`, `data` or the like, else the only one of rank 3 or
    /// more.
    ///
    /// # Errors
    /// When images are not found.
    pub fn find(arrays: &Arrays) -> Result<Self> {
        let image_like = |member: &&Member| member.rank().is_some_and(|rank| rank >= 3);
        // What is called so and cannot be read is what was meant.
        let may_be_image = |member: &&Member| member.form.is_none() || image_like(member);
        let named = IMAGE_NAMES.iter().find_map(|name| arrays.find(&[name]).filter(may_be_image));
        let mut unnamed = arrays.members().iter().filter(image_like);
        match (named, unnamed.next(), unnamed.next()) {
            (Some(member), _, _) | (None, Some(member), None) => {
                Ok(Self { tensor: arrays.tensor(member)?, place: arrays.place() })
            }
            _ => {
                let shape =
                    |member: &Member| member.form.as_ref().map_or(String::new(), |(_, shape)| format!(" {shape:?}"));
                let present: Vec<String> =
                    arrays.members().iter().map(|member| format!("{}{}", member.name, shape(member))).collect();
                let found = present.join(", ");
                let message = format!("expected images under the name \"images\" (rank 3 or 4), found {found}");
                Err(Error::malformed(arrays.place(), message))
            }
        }
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.tensor.shape().first().copied().unwrap_or(0)
    }

    /// Returns the kind of these pixels.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub fn pixels(&self) -> Result<Pixels> {
        match self.tensor.dtype() {
            DType::U8 => Ok(Pixels::default()),
            dtype => Ok(Pixels::of(dtype, &as_floats(&self.tensor)?)),
        }
    }

    /// Returns the images of `range` as float32 `[n, c, h, w]`, or `[n, h, w, c]` where `expected`, the shape of the
    /// model's input, has its channels last.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images do not fit `expected`, or mean and std the channels.
    pub fn batch(&self, range: Range<usize>, preprocess: &Preprocess, expected: &Shape) -> Result<Tensor> {
        let wants_last = image_channels(expected) == Some(3);
        let channels_first = |s: &Shape| vec![s[0].clone(), s[3].clone(), s[1].clone(), s[2].clone()];
        let planes = if wants_last { &channels_first(expected) } else { expected };
        let [c, h, w, channels_last] = self.dimensions(preprocess.layout, planes)?;
        let pixels = self.values(range.clone())?;
        let scale = preprocess.scale_of(self.tensor.dtype());
        let mean = per_channel(&self.place, "mean", &preprocess.mean, c, 0.0)?;
        let std = per_channel(&self.place, "std", &preprocess.std, c, 1.0)?;
        if std.contains(&0.0) {
            return Err(Error::Usage("a standard deviation must not be 0; use 1 for such a channel".to_owned()));
        }
        let mut values = Vec::with_capacity(pixels.len());
        for image in 0..range.len() {
            for channel in 0..c {
                let start = image * c * h * w;
                let value = |p: usize| match channels_last {
                    0 => pixels[start + channel * h * w + p],
                    _ => pixels[start + p * c + channel],
                };
                values.extend((0..h * w).map(|p| (value(p) * scale - mean[channel]) / std[channel]));
            }
        }
        let n = range.len();
        if !wants_last {
            return Ok(Tensor::from_f32(&[n, c, h, w], &values));
        }
        let at = |i: usize| i / (c * h * w) * c * h * w + i % c * h * w + i % (c * h * w) / c;
        let values: Vec<f32> = (0..values.len()).map(|i| values[at(i)]).collect();
        Ok(Tensor::from_f32(&[n, h, w, c], &values))
    }

    fn values(&self, range: Range<usize>) -> Result<Vec<f32>> {
        if range.end > self.len() {
            return Err(Error::shape(&self.place, format!("holds {} images, requested {range:?}", self.len())));
        }
        let per_image: usize = self.tensor.shape()[1..].iter().product();
        let width = self.tensor.dtype().bits() / 8 * per_image;
        let mut shape = self.tensor.shape().to_vec();
        shape[0] = range.len();
        let bytes = self.tensor.bytes().slice(range.start * width..range.end * width);
        as_floats(&Tensor::new(self.tensor.dtype(), shape, bytes)?)
    }

    /// Returns channels, height, width, and 1 where channels come last in the array (else 0).
    fn dimensions(&self, layout: Layout, expected: &Shape) -> Result<[usize; 4]> {
        let fits = |c: usize, h: usize, w: usize| {
            let fit = |dim: &Dim, n: usize| dim.known().is_none_or(|d| d == n);
            expected.len() == 4 && fit(&expected[1], c) && fit(&expected[2], h) && fit(&expected[3], w)
        };
        let candidates: Vec<[usize; 4]> = match *self.tensor.shape() {
            [_, h, w] => vec![[1, h, w, 0]],
            [_, a, b, c] => match layout {
                Layout::Nhwc => vec![[c, a, b, 1]],
                Layout::Nchw => vec![[a, b, c, 0]],
                Layout::Auto if c < a => vec![[c, a, b, 1], [a, b, c, 0]],
                Layout::Auto => vec![[a, b, c, 0], [c, a, b, 1]],
            },
            _ => Vec::new(),
        };
        candidates.into_iter().find(|&[c, h, w, _]| fits(c, h, w)).ok_or_else(|| {
            let dims: Vec<String> = expected.iter().map(ToString::to_string).collect();
            Error::shape(
                &self.place,
                format!(
                    "the model expects images [{}] (n, c, h, w), found {:?}; resize or transpose the array",
                    dims.join(", "),
                    self.tensor.shape()
                ),
            )
        })
    }
}

fn per_channel(place: &str, what: &str, values: &[f32], channels: usize, default: f32) -> Result<Vec<f32>> {
    match values.len() {
        0 => Ok(vec![default; channels]),
        1 => Ok(vec![values[0]; channels]),
        n if n == channels => Ok(values.to_vec()),
        n => Err(Error::Usage(format!(
            "{what}: {n} values, the images of {place} have {channels} channel(s); give one value or one per channel"
        ))),
    }
}

/// Returns the values of any number type as floats.
fn as_floats(tensor: &Tensor) -> Result<Vec<f32>> {
    match tensor.dtype().is_float() {
        true => tensor.to_f32(),
        false => Ok(tensor.to_i64()?.into_iter().map(|v| v as f32).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;

    fn known(shape: &[usize]) -> Shape {
        shape.iter().map(|&d| Dim::Known(d)).collect()
    }

    fn images(dtype: DType, shape: &[usize], values: &[i32]) -> Images {
        Images { tensor: Tensor::from_ints(dtype, shape, values).unwrap(), place: "x.npz".to_owned() }
    }

    #[test]
    fn channels_last_become_channels_first_and_normalised() {
        let data = images(DType::U8, &[2, 1, 2, 3], &[0, 51, 102, 153, 204, 255, 255, 255, 255, 0, 0, 0]);
        let options = Preprocess { mean: vec![0.0, 0.2, 0.4], std: vec![1.0, 1.0, 2.0], ..Preprocess::default() };
        let batch = data.batch(0..1, &options, &known(&[1, 3, 1, 2])).unwrap();
        let expected = [0.0, 0.6, 0.0, 0.6, 0.0, 0.3];
        let close = batch.to_f32().unwrap().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close, "{:?}", batch.to_f32());
        assert_eq!(batch.shape(), [1, 3, 1, 2]);
        let second = data.batch(1..2, &Preprocess::default(), &known(&[1, 3, 1, 2])).unwrap();
        assert_eq!(second.to_f32().unwrap(), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn channels_stay_last_where_the_model_takes_them_so() {
        let pixels: Vec<i32> = (0..2 * 5 * 6 * 3).collect();
        let options = Preprocess { scale: Some(1.0), ..Preprocess::default() };
        let data = images(DType::I16, &[2, 5, 6, 3], &pixels);
        let batch = data.batch(0..2, &options, &known(&[2, 5, 6, 3])).unwrap();
        assert_eq!(batch.shape(), [2, 5, 6, 3]);
        assert_eq!(batch.to_f32().unwrap(), (0u8..180).map(f32::from).collect::<Vec<f32>>());
    }

    #[test]
    fn one_channel_images_need_no_channel_axis() {
        let data = images(DType::I16, &[1, 2, 2], &[1, 2, 3, 4]);
        let batch = data.batch(0..1, &Preprocess::default(), &known(&[1, 1, 2, 2])).unwrap();
        assert_eq!(batch.to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn errors_name_expected_and_found_shapes() {
        let data = images(DType::U8, &[1, 2, 2], &[1, 2, 3, 4]);
        let error = data.batch(0..1, &Preprocess::default(), &known(&[1, 3, 2, 2])).unwrap_err().to_string();
        assert!(error.contains("[1, 3, 2, 2]") && error.contains("[1, 2, 2]"), "{error}");
    }
}
