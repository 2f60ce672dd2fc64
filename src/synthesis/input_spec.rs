//! The form of a network's input: images with channels first or last, or vectors.

use crate::data::{image_channels, input_shape};
use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::ir::{DType, Graph, Tensor, ValueId};
use crate::stats::is_network_input;

/// The form of synthetic inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// The input's name.
    pub name: String,
    /// Whether it takes bytes, which a Cast converts to floats.
    pub is_bytes: bool,
    dtype: DType,
    channels: usize,
    /// Height and width; none for vectors.
    size: Option<[usize; 2]>,
    channels_last: bool,
}

impl InputSpec {
    /// Returns the form of the input of `graph` to synthesize: its image, else its float vector.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it has neither.
    pub fn of(graph: &Graph) -> Result<Self> {
        let described = |id: &ValueId| is_network_input(graph, *id);
        let Some(id) = graph.fed_inputs().into_iter().find(described) else {
            return Err(Error::unsupported("model", "has no image or vector input to synthesize"));
        };
        let value = graph.value(id);
        let (name, shape) = (value.name().to_owned(), input_shape(graph, id, 1)?);
        let dtype = value.dtype.unwrap_or(DType::F32);
        let is_bytes = dtype == DType::U8;
        let channels_last = value.shape.as_deref().and_then(image_channels) == Some(3);
        let (channels, size) = match shape[..] {
            [_, channels, height, width] if !channels_last => (channels, Some([height, width])),
            [_, height, width, channels] => (channels, Some([height, width])),
            [_, features] => (features, None),
            _ => {
                let message = format!(
                    "its shape {shape:?} is neither that of images nor of vectors; synthetic inputs \
                                       are made for those"
                );
                return Err(Error::unsupported(format!("input \"{name}\""), message));
            }
        };
        Ok(Self { name, is_bytes, dtype, channels, size, channels_last })
    }

    /// Returns the channels of images, or the length of a vector.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Returns height and width of images.
    pub fn size(&self) -> Option<[usize; 2]> {
        self.size
    }

    /// Returns the number of doublings from a feature map of side `first` or less to the image, at least `least` unless
    /// the image is tiny.
    pub(super) fn doublings(&self, first: usize, least: u32) -> Option<u32> {
        let [height, width] = self.size?;
        let side = height.max(width);
        let needed = (0..usize::BITS).find(|&n| side.div_ceil(1 << n) <= first).unwrap_or(0);
        Some(needed.max(least.min(side.ilog2())).max(1))
    }

    /// Returns the sides of a feature map that covers the image after this many doublings.
    pub(super) fn first_map(&self, doublings: u32) -> [usize; 2] {
        self.size.unwrap_or([1, 1]).map(|side| side.div_ceil(1 << doublings))
    }

    /// Returns feature maps of at least the image's size, cropped to it.
    #[track_caller]
    pub(super) fn cut<'b>(&self, maps: Expr<'b>) -> Expr<'b> {
        let Some([height, width]) = self.size else { return maps };
        let [_, _, rows, columns] = maps.dims();
        let cut = |maps: Expr<'b>, axis, all, size| if all > size { maps.slice(axis, 0..size) } else { maps };
        cut(cut(maps, 2, rows, height), 3, columns, width)
    }

    /// Returns images in the network's layout.
    #[track_caller]
    pub(super) fn as_fed<'b>(&self, images: Expr<'b>) -> Expr<'b> {
        if self.channels_last { images.transpose(&[0, 2, 3, 1]) } else { images }
    }

    /// Returns the shape of a batch with channels first.
    pub(super) fn shape(&self, batch: usize) -> Vec<usize> {
        [batch, self.channels].into_iter().chain(self.size.into_iter().flatten()).collect()
    }

    /// Returns valid images: rounded to whole numbers where the network takes bytes.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub(super) fn as_pixels(&self, images: Tensor) -> Result<Tensor> {
        if !self.is_bytes {
            return Ok(images);
        }
        let pixels: Vec<f32> = images.to_f32()?.into_iter().map(|v| v.round_ties_even().clamp(0.0, 255.0)).collect();
        Ok(Tensor::from_f32(images.shape(), &pixels))
    }

    /// Returns float images in the network's layout.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub(super) fn as_fed_floats(&self, images: &Tensor) -> Result<Tensor> {
        if !self.channels_last {
            return Ok(images.clone());
        }
        let last = images.to_array()?.permuted_axes(vec![0, 2, 3, 1]);
        Ok(Tensor::from_f32(last.shape(), &last.iter().copied().collect::<Vec<f32>>()))
    }

    /// Returns images in the network's layout and input type.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub(super) fn as_fed_tensor(&self, images: &Tensor) -> Result<Tensor> {
        self.as_fed_floats(images)?.to_type(self.dtype)
    }
}
