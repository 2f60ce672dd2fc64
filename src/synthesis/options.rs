//! What the user says of images to be made.

use serde::Serialize;

/// Images in all where the user gives no number.
const IMAGES: usize = 256;
/// Steps of each generator.
const STEPS: u64 = 200;
/// The initial learning rate of a generator's weights; that of its latents is ten times as much.
const LEARNING_RATE: f64 = 0.01;

/// How images are made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// Images in all.
    pub images: usize,
    /// Steps of each generator.
    pub steps: u64,
    /// The initial learning rate of its weights.
    pub learning_rate: f64,
    /// Weights of terms of the loss in place of the default ones, by name (see [`super::TERMS`]).
    pub loss: Vec<(String, f64)>,
    /// Whether a class is chosen for each image; where the network has logits, if nothing is said.
    pub conditional: Option<bool>,
    /// Whether convolutions with strides see their input shifted by up to a pixel.
    pub swing: bool,
    /// Whether images are mirrored and shifted.
    pub augment: bool,
    /// The deviation in pixels of the Gaussian that images are smoothed by, 0 for none.
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
