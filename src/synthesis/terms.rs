//! The loss terms of image synthesis. One term = one row of [`TERMS`].

use crate::error::{Error, Result};
use crate::expr::Expr;
use crate::ir::nearest_names;
use crate::train::losses::{
    ChannelMoments, ChannelNormal, Distance, activation_norm, argmax_one_hot, batch_entropy, cross_entropy,
    focal_cross_entropy, gaussian_divergence, image_statistics, instance_entropy, moment_distance, total_variation,
};

/// The focusing exponent of `focal` in [`TERMS`].
const FOCUS: f32 = 2.0;

/// The moments of a tensor, its batch-normalization statistics, and the slack of means and standard deviations.
pub type Compared<'a, 'b> = (ChannelMoments<'b>, &'a ChannelNormal, [f32; 2]);

/// The inputs of the loss terms.
pub struct LossInputs<'a, 'b> {
    /// Images `[N, C, H, W]`, standardized; none where the network takes vectors.
    pub images: Option<Expr<'b>>,
    /// Each tensor with batch-normalization statistics.
    pub moments: Vec<Compared<'a, 'b>>,
    /// Logits `[N, classes]`.
    pub logits: Option<Expr<'b>>,
    /// The one-hot classes of conditional images, `[N, classes]`; without them, the teacher's predictions are used.
    pub labels: Option<Expr<'b>>,
    /// The input of the layer that computes the logits.
    pub features: Option<Expr<'b>>,
}

impl<'b> LossInputs<'_, 'b> {
    fn over_layers(&self, one: impl Fn(ChannelMoments<'b>, &ChannelNormal, [f32; 2]) -> Expr<'b>) -> Option<Expr<'b>> {
        self.moments.iter().map(|(found, expected, slack)| one(*found, expected, *slack)).reduce(|sum, next| sum + next)
    }

    fn with_labels(&self, loss: impl Fn(Expr<'b>, Expr<'b>) -> Expr<'b>) -> Option<Expr<'b>> {
        let logits = self.logits?;
        Some(loss(logits, self.labels.unwrap_or_else(|| argmax_one_hot(logits))))
    }
}

/// One loss term.
pub struct Term {
    /// The name on the command line.
    pub name: &'static str,
    /// A one-line summary.
    pub summary: &'static str,
    /// Its default weight with and without batch-normalization statistics.
    pub weights: [f64; 2],
    loss: for<'b> fn(&LossInputs<'_, 'b>) -> Option<Expr<'b>>,
}

/// Every term.
pub const TERMS: &[Term] = &[
    Term {
        name: "bn",
        summary: "distance of mean and standard deviation to the batch-normalization statistics, over layers (Genie, ZeroQ)",
        weights: [1.0, 0.0],
        loss: |s| s.over_layers(|x, normal, _| moment_distance(x, normal, Distance::BeforeNormalisation, [0.0; 2])),
    },
    Term {
        name: "bn-relative",
        summary: "the same in units of each channel's standard deviation",
        weights: [0.0, 0.0],
        loss: |s| s.over_layers(|x, normal, _| moment_distance(x, normal, Distance::Deviations, [0.0; 2])),
    },
    Term {
        name: "bn-kl",
        summary: "the same as KL divergence of normal distributions (Choi et al. 2020)",
        weights: [0.0, 0.0],
        loss: |s| s.over_layers(|x, normal, _| gaussian_divergence(x, normal)),
    },
    Term {
        name: "bn-slack",
        summary: "the same beyond a slack: the distance that nine of ten channels stay within on noise (DSG)",
        weights: [0.0, 0.0],
        loss: |s| s.over_layers(|x, normal, slack| moment_distance(x, normal, Distance::BeforeNormalisation, slack)),
    },
    Term {
        name: "one-hot",
        summary: "cross-entropy with the class of each image (DAFL, GDFQ)",
        weights: [0.3, 1.0],
        loss: |s| s.with_labels(cross_entropy),
    },
    Term {
        name: "focal",
        summary: "the same weighted by (1 - p)^2, so that hard images count more (HAST)",
        weights: [0.0, 0.0],
        loss: |s| s.with_labels(|logits, labels| focal_cross_entropy(logits, labels, FOCUS)),
    },
    Term {
        name: "instance-entropy",
        summary: "entropy of the predicted classes of each image (Choi et al. 2020)",
        weights: [0.0, 0.0],
        loss: |s| Some(instance_entropy(s.logits?)),
    },
    Term {
        name: "batch-entropy",
        summary: "KL divergence of the mean prediction from uniform classes (Choi et al. 2020, DAFL)",
        weights: [0.0, 1.0],
        loss: |s| Some(batch_entropy(s.logits?)),
    },
    Term {
        name: "activation-norm",
        summary: "negative mean magnitude of the last layer's input (DAFL)",
        weights: [0.0, 0.1],
        loss: |s| Some(activation_norm(s.features?)),
    },
    Term {
        name: "tv",
        summary: "total variation of images in units of their standard deviation",
        weights: [0.0, 0.1],
        loss: |s| Some(total_variation(s.images?)),
    },
    Term {
        name: "input",
        summary: "distance of each image's mean and standard deviation to those of the input (Genie, ZeroQ)",
        weights: [0.0, 0.1],
        loss: |s| Some(image_statistics(s.images?)),
    },
];

/// Weights of loss terms by name.
pub type Weights = Vec<(&'static str, f64)>;

/// Returns the nonzero weights of all terms: those in `given`, else the defaults of the table.
///
/// # Errors
/// [`Error::Usage`] for a name that is not in the table, with the nearest names that are.
pub fn weights(given: &[(String, f64)], has_statistics: bool) -> Result<Weights> {
    if let Some((name, _)) = given.iter().find(|(name, _)| !TERMS.iter().any(|term| term.name == name)) {
        let near = nearest_names(name, TERMS.iter().map(|term| term.name));
        return Err(Error::Usage(format!("there is no term \"{name}\" of the loss; the nearest are {near}")));
    }
    let default = |term: &Term| term.weights[usize::from(!has_statistics)];
    let weight = |term: &Term| given.iter().rev().find(|(name, _)| name == term.name).map_or(default(term), |g| g.1);
    Ok(TERMS.iter().map(|term| (term.name, weight(term))).filter(|(_, weight)| *weight != 0.0).collect())
}

/// Returns the loss, the weighted sum of the terms in `weights` that `scene` supports, and those terms by name,
/// unweighted.
///
/// # Errors
/// [`Error::Usage`] where no term is left.
pub fn loss<'b>(
    loss_inputs: &LossInputs<'_, 'b>,
    weights: &Weights,
) -> Result<(Expr<'b>, Vec<(&'static str, Expr<'b>)>)> {
    let term = |&(name, weight): &(&'static str, f64)| {
        let row = TERMS.iter().find(|term| term.name == name)?;
        Some((name, (row.loss)(loss_inputs)?, weight as f32))
    };
    let terms: Vec<(&'static str, Expr, f32)> = weights.iter().filter_map(term).collect();
    let sum = terms.iter().map(|&(_, term, weight)| term * weight).reduce(|sum, next| sum + next);
    let nothing =
        || Error::Usage("no term of the loss is left for this model; give one with --loss NAME=WEIGHT".to_owned());
    Ok((sum.ok_or_else(nothing)?, terms.into_iter().map(|(name, term, _)| (name, term)).collect()))
}
