//! The user's options for synthesis.

use serde::Serialize;

/// The default total number of images.
const IMAGES: usize = 256;
/// The default number of steps per generator.
const STEPS: u64 = 200;
/// The default initial learning rate of a generator's weights; that of its latents is ten times as high.
const LEARNING_RATE: f64 = 0.01;

/// Options of image synthesis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// The total number of images.
    pub images: usize,
    /// Steps per generator.
    pub steps: u64,
    /// The initial learning rate of generator weights.
    pub learning_rate: f64,
    /// Weights of loss terms that replace the defaults, by name (see [`super::TERMS`]).
    pub loss: Vec<(String, f64)>,
    /// Whether images are class-conditional; by default where the network has logits.
    pub conditional: Option<bool>,
    /// Whether the inputs of strided convolutions are shifted by up to a pixel.
    pub swing: bool,
    /// Whether images are flipped and shifted.
    pub augment: bool,
    /// The standard deviation in pixels of the Gaussian low-pass filter, 0 for none.
    pub low_pass: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            images: IMAGES,
            steps: STEPS,
            learning_rate: LEARNING_RATE,
            loss: Vec::new(),
            conditional: None,
            swing: true,
            augment: true,
            low_pass: 0.0,
        }
    }
}
