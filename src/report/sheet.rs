//! A sheet of images to be looked at, as a PNG file.

use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::stats::InputStatistics;

/// Images on a sheet at most.
const IMAGES: usize = 64;
/// Pixels of a side at least; smaller images are enlarged by whole factors.
const SIDE: usize = 64;
/// Pixels between images.
const GAP: usize = 2;
/// Mean and deviation of photographs, on a scale of 0 to 1, that stand for those of the network's input.
const PHOTOGRAPH: (f64, f64) = (0.45, 0.25);

/// Returns a PNG file of the first images of `images: [N, C, H, W]`, by rows, as what the network is fed is made of pixels
/// (`input`): one channel or more than three are grey, of the first one.
///
/// # Errors
/// [`Error::Shape`] for anything but images.
pub fn sheet(images: &Tensor, input: &InputStatistics) -> Result<Vec<u8>> {
    let &[count, channels, height, width] = images.shape() else {
        return Err(Error::shape("images", format!("expected [N, C, H, W], found {:?}", images.shape())));
    };
    let shown = count.min(IMAGES);
    let columns = (1..=shown).find(|n| n * n >= shown).unwrap_or(1);
    let rows = shown.div_ceil(columns);
    let factor = SIDE.div_ceil(height.max(width).max(1)).max(1);
    let (tall, wide) = (height * factor + GAP, width * factor + GAP);
    let size = [columns * wide + GAP, rows * tall + GAP];
    let mut pixels = vec![255u8; 3 * size[0] * size[1]];
    let values = images.to_f32()?;
    for image in 0..shown {
        let corner = [GAP + image / columns * tall, GAP + image % columns * wide];
        for y in 0..height * factor {
            for x in 0..width * factor {
                let at = 3 * ((corner[0] + y) * size[0] + corner[1] + x);
                for colour in 0..3 {
                    let channel = if channels == 3 { colour } else { 0 };
                    let place = ((image * channels + channel) * height + y / factor) * width + x / factor;
                    pixels[at + colour] = pixel(values[place], input, channel);
                }
            }
        }
    }
    encode(size, &pixels).map_err(|e| Error::malformed("sheet of images", e.to_string()))
}

/// Returns the pixel behind a value that the network is fed.
fn pixel(value: f32, input: &InputStatistics, channel: usize) -> u8 {
    let (mean, std) = input.channel(channel);
    let share = PHOTOGRAPH.0 + PHOTOGRAPH.1 * (f64::from(value) - mean) / std;
    (255.0 * share).round().clamp(0.0, 255.0) as u8
}

fn encode(size: [usize; 2], pixels: &[u8]) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, u32::try_from(size[0])?, u32::try_from(size[1])?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_those_that_the_network_is_fed_of() {
        let pixels = InputStatistics::of_preprocessing(&[0.5, 0.4, 0.3], &[0.2, 0.3, 0.4], 1.0 / 255.0);
        let bytes = InputStatistics::of_interval(0.0, 255.0);
        for byte in [0u8, 1, 77, 128, 254, 255] {
            let unit = f32::from(byte) / 255.0;
            for (channel, (mean, std)) in [(0.5f32, 0.2f32), (0.4, 0.3), (0.3, 0.4)].into_iter().enumerate() {
                assert_eq!(pixel((unit - mean) / std, &pixels, channel), byte, "channel {channel}");
            }
            assert_eq!(pixel(f32::from(byte), &bytes, 0), byte);
        }
    }

    #[test]
    fn a_sheet_holds_the_images_side_by_side() {
        let black_and_white = Tensor::from_f32(&[2, 1, 1, 1], &[0.0, 255.0]);
        let file = sheet(&black_and_white, &InputStatistics::of_interval(0.0, 255.0)).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (2 * 66 + 2, 66 + 2));
        let row = 3 * 134 * 34;
        assert_eq!([pixels[row + 3 * 2], pixels[row + 3 * 65]], [0, 0]);
        assert_eq!([pixels[row], pixels[row + 3 * 70]], [255, 255]);
    }

    #[test]
    fn vectors_are_no_images() {
        assert!(sheet(&Tensor::from_f32(&[2, 3], &[0.0; 6]), &InputStatistics::assumed()).is_err());
    }
}
