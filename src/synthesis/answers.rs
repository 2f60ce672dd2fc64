//! The teacher's predictions on synthetic images: classes, confidence and diversity of features. None of them is
//! accuracy.

use serde::Serialize;

use super::teacher::SynthesisTeacher;
use crate::data::argmax;
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::runtime::{Engine, SessionOptions, run_in_batches};

/// The teacher's predictions on images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answers {
    /// The most probable class of each image.
    pub classes: Vec<usize>,
    /// The number of images predicted as each class.
    pub histogram: Vec<usize>,
    /// The mean probability of the predicted class.
    pub confidence: f64,
    /// The mean cosine distance between the last layer's inputs of two images: 0 where all are equal.
    pub spread: Option<f64>,
}

/// Returns the predictions of `subject` on the inputs `fed`; none without logits.
///
/// # Errors
/// When the engine fails.
pub fn answers(teacher: &SynthesisTeacher, fed: &[Tensor], engine: &dyn Engine) -> Result<Option<Answers>> {
    let Some((logits, count)) = &teacher.logits else { return Ok(None) };
    let mut graph = teacher.graph.clone();
    let names: Vec<&str> = std::iter::once(logits.as_str()).chain(teacher.features.as_deref()).collect();
    graph.cut(&names);
    let outputs = run_in_batches(engine.load(&graph, &SessionOptions::default())?.as_mut(), &graph, fed)?;
    let values = outputs.first().map(Tensor::to_f32).transpose()?.unwrap_or_default();
    let mut found = Answers { classes: Vec::new(), histogram: vec![0; *count], confidence: 0.0, spread: None };
    for row in values.chunks(*count) {
        let class = argmax(row);
        found.classes.push(class);
        found.histogram[class] += 1;
        found.confidence += 1.0 / row.iter().map(|v| libm::exp(f64::from(v - row[class]))).sum::<f64>();
    }
    let images = found.classes.len();
    if images == 0 {
        return Err(Error::unsupported("logits", "hold no row for each image"));
    }
    let n = images as f64;
    found.confidence /= n;
    found.spread = outputs.get(1).map(|features| spread(features, images)).transpose()?;
    Ok(Some(found))
}

/// Returns the mean of `1 - cos` over all pairs of rows.
fn spread(features: &Tensor, rows: usize) -> Result<f64> {
    let values = features.to_f32()?;
    let width = values.len() / rows.max(1);
    let mut sum = vec![0.0f64; width];
    for row in values.chunks(width.max(1)) {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        sum.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v) / norm);
    }
    let n = rows as f64;
    let cosines = (sum.iter().map(|s| s * s).sum::<f64>() - n) / (n * (n - 1.0)).max(1.0);
    Ok(1.0 - cosines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_mean_cosine_distance_of_pairs() {
        // By hand: pairs at 90, 90 and 180 degrees have distances 1, 1 and 2.
        let features = Tensor::from_f32(&[3, 2], &[2.0, 0.0, 0.0, 3.0, -1.0, 0.0]);
        assert!((spread(&features, 3).unwrap() - 4.0 / 3.0).abs() < 1e-12);
        let alike = Tensor::from_f32(&[2, 1, 2], &[1.0, 1.0, 2.0, 2.0]);
        assert!(spread(&alike, 2).unwrap().abs() < 1e-12);
    }
}
