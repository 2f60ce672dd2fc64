//! Losses on the teacher's logits `[N, classes]` for synthetic images.

use super::{log_softmax, small};
use crate::expr::Expr;

/// Returns the mean of `-log p` of each image's class, with one-hot `labels: [N, classes]` (one-hot loss; Chen et al.
/// 2019, equation 3; Xu et al. 2020, equation 2).
#[track_caller]
pub fn cross_entropy<'b>(logits: Expr<'b>, labels: Expr<'b>) -> Expr<'b> {
    let [batch, _] = logits.dims();
    -(labels * log_softmax(logits)).sum(&[], false) / small(batch)
}

/// Returns the mean of `-(1 - p)^gamma · log p` of each image's class, which weights hard images more (Li et al. 2023,
/// HAST, equation 8, after Lin et al. 2017); see [`cross_entropy`].
#[track_caller]
pub fn focal_cross_entropy<'b>(logits: Expr<'b>, labels: Expr<'b>, gamma: f32) -> Expr<'b> {
    let [batch, _] = logits.dims();
    let logarithms = (labels * log_softmax(logits)).sum(&[1], false);
    // The power has no gradient at 0, where the class is certain.
    let hardness = (1.0 - logarithms.exp()).max(logits.number(1e-6)).powf(gamma);
    -(hardness * logarithms).sum(&[], false) / small(batch)
}

/// Returns one-hot labels `[N, classes]` of the most probable class in each row of `logits`, without gradient.
#[track_caller]
pub fn argmax_one_hot(logits: Expr) -> Expr {
    let logits = logits.stop_gradient();
    let largest = logits.equal(logits.largest(&[1], true)).cast(logits.dtype());
    // Ties share the one.
    largest / largest.sum(&[1], true)
}

/// Returns the mean entropy of the class probabilities of each image, in nats: low where the teacher is confident (Choi
/// et al. 2020, `L_inst`).
#[track_caller]
pub fn instance_entropy(logits: Expr) -> Expr {
    let [batch, _] = logits.dims();
    let logarithms = log_softmax(logits);
    -(logarithms.exp() * logarithms).sum(&[], false) / small(batch)
}

/// Returns `log classes` minus the entropy of the mean class probabilities over the batch, in nats: low where all
/// classes are equally frequent (Choi et al. 2020, `L_batch`; Chen et al. 2019, equation 5).
#[track_caller]
pub fn batch_entropy(logits: Expr) -> Expr {
    let [_, classes] = logits.dims();
    let mean = log_softmax(logits).exp().mean(&[0], false);
    let entropy = -(mean * (mean + 1e-12).log()).sum(&[], false);
    small(classes).ln() - entropy
}
