//! What class scores of a teacher say of images that were made up. `scores` are logits `[N, classes]` in all of them.

use super::{log_softmax, small};
use crate::expr::Expr;

/// Returns the mean of `-log p` of each image's class, where `labels: [N, classes]` holds a one in that class (one-hot
/// loss; Chen et al. 2019, equation 3; Xu et al. 2020, equation 2).
#[track_caller]
pub fn cross_entropy<'b>(scores: Expr<'b>, labels: Expr<'b>) -> Expr<'b> {
    let [batch, _] = scores.dims();
    -(labels * log_softmax(scores)).sum(&[], false) / small(batch)
}

/// Returns the mean of `-(1 - p)^gamma · log p` of each image's class: hard images count more (Li et al. 2023, HAST,
/// equation 8, after Lin et al. 2017); see [`cross_entropy`].
#[track_caller]
pub fn focal_cross_entropy<'b>(scores: Expr<'b>, labels: Expr<'b>, gamma: f32) -> Expr<'b> {
    let [batch, _] = scores.dims();
    let logarithms = (labels * log_softmax(scores)).sum(&[1], false);
    // A certain class leaves nothing, and its power no gradient of its own.
    let hardness = (1.0 - logarithms.exp()).max(scores.number(1e-6)).powf(gamma);
    -(hardness * logarithms).sum(&[], false) / small(batch)
}

/// Returns ones in the class that each row of `scores` is surest of, `[N, classes]`, which no gradient passes.
#[track_caller]
pub fn sure_labels(scores: Expr) -> Expr {
    let scores = scores.stop_gradient();
    let largest = scores.equal(scores.largest(&[1], true)).cast(scores.dtype());
    // Several on a tie share the one.
    largest / largest.sum(&[1], true)
}

/// Returns the mean entropy of the class probabilities of each image, in nats: low where the teacher is sure of each
/// (Choi et al. 2020, `L_inst`).
#[track_caller]
pub fn instance_entropy(scores: Expr) -> Expr {
    let [batch, _] = scores.dims();
    let logarithms = log_softmax(scores);
    -(logarithms.exp() * logarithms).sum(&[], false) / small(batch)
}

/// Returns how much the entropy of the mean class probabilities over the batch lacks of `log classes`, in nats: low where
/// all classes are as frequent (Choi et al. 2020, `L_batch`; Chen et al. 2019, equation 5).
#[track_caller]
pub fn batch_entropy(scores: Expr) -> Expr {
    let [_, classes] = scores.dims();
    let mean = log_softmax(scores).exp().mean(&[0], false);
    let entropy = -(mean * (mean + 1e-12).log()).sum(&[], false);
    small(classes).ln() - entropy
}
