//! Top-1 and top-5 accuracy of a model on labeled images.

use serde::Serialize;

use super::{Dataset, Preprocess};
use crate::error::{Error, Result};
use crate::ir::{Graph, Tensor};
use crate::runtime::{Engine, SessionOptions};

/// The fewest classes for which top-5 is counted.
const TOP5_FROM: usize = 10;

/// The number of images that a model classified correctly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Images.
    pub n: usize,
    /// Images whose highest score is their label's.
    pub correct: usize,
    /// Images whose label is among the five highest scores; none below ten classes.
    pub correct_top5: Option<usize>,
    /// The class with the highest score, per image.
    pub predictions: Vec<usize>,
}

impl Evaluation {
    /// Returns the share of correct images, between 0 and 1.
    pub fn top1(&self) -> f64 {
        self.correct as f64 / self.n.max(1) as f64
    }
}

/// Returns the scores of `output` as `(rows, classes, values)` where it is `[n, classes]` or `[n, classes, 1, 1]`.
pub fn class_scores(output: &Tensor) -> Option<(usize, usize, Vec<f32>)> {
    let (n, classes) = match *output.shape() {
        [n, classes] | [n, classes, 1, 1] if classes > 1 => (n, classes),
        _ => return None,
    };
    Some((n, classes, output.to_f32().ok()?))
}

/// Returns the position of the highest score; the first one on a tie.
pub(crate) fn argmax(scores: &[f32]) -> usize {
    scores.iter().enumerate().fold(0, |best, (i, v)| if *v > scores[best] { i } else { best })
}

/// Returns the number of samples of `data` that `graph` classifies correctly, run in batches of `batch` (a fixed batch
/// of the model takes precedence). The class scores are the first output of shape `[n, classes]` or `[n, classes, 1,
/// 1]`.
///
/// # Errors
/// Without labels or class scores, with labels beyond the classes, or when inputs do not fit or the engine fails.
pub fn evaluate(
    engine: &dyn Engine,
    graph: &Graph,
    data: &Dataset,
    preprocess: &Preprocess,
    batch: usize,
) -> Result<Evaluation> {
    let (feeds, labels) = data.labelled(graph, preprocess)?;
    let fixed = graph.fixed_batch();
    if let Some(batch) = fixed.filter(|&batch| batch > labels.len()) {
        let message = format!("holds {} samples, the model takes {batch} at once; give more", labels.len());
        return Err(Error::malformed(data.place(), message));
    }
    let batch = fixed.unwrap_or(batch).max(1);
    let mut session = engine.load(graph, &SessionOptions { prepacking: true, ..SessionOptions::default() })?;
    let mut result = Evaluation { n: labels.len(), correct: 0, correct_top5: None, predictions: Vec::new() };
    for start in (0..labels.len()).step_by(batch) {
        // A fixed batch is filled up with images before these, and their results are dropped.
        let end = (start + batch).min(labels.len());
        let first = if fixed.is_some() { end.saturating_sub(batch) } else { start };
        let outputs = session.run(&feeds.batch(first..end)?)?;
        let (rows, classes, scores) = outputs.iter().find_map(class_scores).ok_or_else(|| {
            let shapes: Vec<&[usize]> = outputs.iter().map(Tensor::shape).collect();
            Error::unsupported("model", format!("no output holds class scores [n, classes]; found {shapes:?}"))
        })?;
        if rows != end - first {
            return Err(Error::shape("class output", format!("{} images in, {rows} rows out", end - first)));
        }
        for (row, &label) in scores.chunks(classes).zip(&labels[first..end]).skip(start - first) {
            count(&mut result, row, label, data.place())?;
        }
    }
    Ok(result)
}

fn count(result: &mut Evaluation, scores: &[f32], label: usize, place: &str) -> Result<()> {
    let Some(&score) = scores.get(label) else {
        return Err(Error::malformed(place, format!("label {label}, the model has {} classes", scores.len())));
    };
    let predicted = argmax(scores);
    result.predictions.push(predicted);
    result.correct += usize::from(predicted == label);
    if scores.len() >= TOP5_FROM {
        let above = scores.iter().enumerate().filter(|&(i, v)| *v > score || (*v == score && i < label)).count();
        *result.correct_top5.get_or_insert(0) += usize::from(above < 5);
    }
    Ok(())
}
