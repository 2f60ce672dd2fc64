//! Inputs of other kinds than the training inputs: what holds on training images alone does not generalize to real
//! ones.

use super::batch_sampler::planes;
use crate::data::image_channels;
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor};
use crate::stats::InputStatistics;

/// Inputs per kind, within [`BYTES`].
const SAMPLES: usize = 96;
/// The most bytes for the inputs of a kind.
const BYTES: usize = 64 << 20;
/// Separates these inputs from the training inputs.
const SEED: u64 = 0x7072_6f62_6573;

/// Inputs of one kind.
pub struct Probe {
    /// The kind.
    pub kind: &'static str,
    /// One tensor per network input, samples first.
    pub inputs: Vec<Tensor>,
}

/// Returns dead-leaves images of strong contrast, enlarged ones, and blends of two, for a network with float image
/// inputs; empty for others.
///
/// # Errors
/// When inputs cannot be generated.
pub fn probes(float: &Graph, input: &InputStatistics, seed: u64, threads: usize) -> Result<Vec<Probe>> {
    let is_image = |id| {
        let value = float.value(id);
        value.dtype.is_none_or(|dtype| dtype == DType::F32) && value.shape.as_deref().and_then(image_channels).is_some()
    };
    let fed = float.fed_inputs();
    if !fed.iter().any(|&id| is_image(id)) {
        return Ok(Vec::new());
    }
    let bytes: usize = fed.iter().map(|&id| 4 * float.value(id).sample_len()).sum();
    let samples = SAMPLES.min(BYTES / bytes.max(1)).max(2).next_multiple_of(float.fixed_batch().unwrap_or(1));
    let vivid = input.of_strong_contrast();
    let plain = input.synthetic(float, samples, seed ^ SEED, threads)?;
    let of = |kind, change: fn(&Tensor, [usize; 4]) -> Result<Tensor>| -> Result<Probe> {
        let changed =
            plain.iter().map(|tensor| match planes(tensor.shape()).filter(|_| tensor.dtype() == DType::F32) {
                Some(planes) => change(tensor, planes),
                None => Ok(tensor.clone()),
            });
        Ok(Probe { kind, inputs: changed.collect::<Result<_>>()? })
    };
    let strong = Probe { kind: "strong contrast", inputs: vivid.synthetic(float, samples, seed ^ !SEED, threads)? };
    Ok(vec![strong, of("enlarged", enlarged)?, of("blended", blended)?])
}

/// Returns the middle half of each image at twice its size.
fn enlarged(images: &Tensor, [_, height, width, depth]: [usize; 4]) -> Result<Tensor> {
    let values = images.to_f32()?;
    let middle = |size: usize| (0..size).map(move |at| size / 4 + at / 2).collect::<Vec<_>>();
    let (rows, columns) = (middle(height), middle(width));
    let mut changed = Vec::with_capacity(values.len());
    for plane in values.chunks(height * width * depth) {
        for &row in &rows {
            let row = &plane[row * width * depth..][..width * depth];
            columns.iter().for_each(|&column| changed.extend_from_slice(&row[column * depth..][..depth]));
        }
    }
    Ok(Tensor::from_f32(images.shape(), &changed))
}

/// Returns the mean of each image and the image half the batch further on.
fn blended(images: &Tensor, _: [usize; 4]) -> Result<Tensor> {
    let values = images.to_f32()?;
    let samples = images.shape()[0];
    let half = samples / 2 * (values.len() / samples.max(1));
    let other = |place: usize| values[(place + half) % values.len()];
    let changed: Vec<f32> = values.iter().enumerate().map(|(place, &value)| 0.5 * (value + other(place))).collect();
    Ok(Tensor::from_f32(images.shape(), &changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_enlarged_from_their_middle_and_blended_with_another() {
        let values: Vec<f32> = (0u8..128).map(f32::from).collect();
        let images = Tensor::from_f32(&[2, 1, 8, 8], &values);
        let enlarged = enlarged(&images, [1, 8, 8, 1]).unwrap().to_f32().unwrap();
        assert_eq!(enlarged[..4], [18.0, 18.0, 19.0, 19.0]);
        assert_eq!(enlarged[8..10], [18.0, 18.0]);
        let blended = blended(&images, [1, 8, 8, 1]).unwrap().to_f32().unwrap();
        assert_eq!((blended[0], blended[64]), (32.0, 32.0));
    }
}
