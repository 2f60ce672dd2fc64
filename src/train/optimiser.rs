//! Optimizers over a flat vector: elementwise updates within the step graph that match PyTorch's exactly.
//!
//! The graph does not count steps: values that change from step to step are fed, see [`Optimiser::rates`].

use serde::{Deserialize, Serialize};

use crate::expr::Expr;

/// An update rule and its hyperparameters. In all rules `p` are the parameters, `g` the gradient, `γ` the learning rate
/// times the element's factor in the mask, `λ` the weight decay and `t` the number of steps, this one included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimiser {
    /// Stochastic gradient descent (`torch.optim.SGD`, dampening 0):
    /// `g ← g + λp`, `b ← μb + g`, `g ← g + μb` with Nesterov, else `g ← b`; `p ← p − γg`.
    Sgd {
        /// `μ`; 0 for no momentum and no state.
        momentum: f64,
        /// Whether to use Nesterov momentum.
        nesterov: bool,
        /// `λ`, an L2 penalty.
        weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2015, algorithm 1; `torch.optim.Adam`), or AdamW (Loshchilov & Hutter 2019, algorithm 2;
    /// `torch.optim.AdamW`) where the decay is decoupled:
    /// `g ← g + λp`, or decoupled `p ← p − γλp`; `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`;
    /// `p ← p − γ/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)`.
    Adam {
        /// `β₁`.
        beta1: f64,
        /// `β₂`.
        beta2: f64,
        /// `ε`.
        epsilon: f64,
        /// `λ`.
        weight_decay: f64,
        /// Whether the decay acts on the parameters and not on the gradient.
        decoupled: bool,
    },
}

impl Optimiser {
    /// Adam with its authors' defaults (Kingma and Ba 2015), without weight decay.
    pub const ADAM: Self = Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decoupled: false };

    /// Adam as it is used for generators (Radford et al. 2016, section 3).
    pub const ADAM_OF_GENERATORS: Self =
        Self::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decoupled: false };

    /// Returns the number of state vectors, each as long as the parameters and zero before the first step.
    pub fn moments(&self) -> usize {
        match *self {
            Self::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Self::Adam { .. } => 2,
        }
    }

    /// Returns the length of the vector that [`Optimiser::rates`] returns.
    pub fn rate_count(&self) -> usize {
        match *self {
            Self::Sgd { .. } => 1,
            Self::Adam { weight_decay, decoupled, .. } => 2 + usize::from(decoupled && weight_decay != 0.0),
        }
    }

    /// Returns the rates of a step, [`Optimiser::rate_count`] of them, rounded once from f64: the learning rate, for Adam
    /// divided by `1−β₁ᵗ` and followed by `√(1−β₂ᵗ)` and, with decoupled decay, by the learning rate times `λ`. The first
    /// step is 0.
    pub fn rates(&self, learning_rate: f64, step: u64) -> Vec<f32> {
        let rates = match *self {
            Self::Sgd { .. } => vec![learning_rate],
            Self::Adam { beta1, beta2, weight_decay, .. } => {
                let t = step as f64 + 1.0;
                let correction = |beta: f64| 1.0 - libm::pow(beta, t);
                vec![learning_rate / correction(beta1), correction(beta2).sqrt(), learning_rate * weight_decay]
            }
        };
        rates.into_iter().take(self.rate_count()).map(single).collect()
    }

    /// Returns parameters and moments after one step.
    ///
    /// `parameters`, `gradient` and each of `moments`: `[n]`; `rates`: `[rate_count]`; `mask`: `[n]` or a scalar,
    /// factors on the learning rate like the parameter groups of PyTorch. Where the factor is 0 and the gradient
    /// finite, an element keeps its value bit for bit, with or without decay; its moments still follow the gradient.
    #[track_caller]
    pub fn update<'b>(
        &self,
        parameters: Expr<'b>,
        gradient: Expr<'b>,
        moments: &[Expr<'b>],
        rates: Expr<'b>,
        mask: Expr<'b>,
    ) -> (Expr<'b>, Vec<Expr<'b>>) {
        if let Some(message) = self.misfit(parameters, gradient, moments, rates, mask) {
            let mistaken = parameters.fail("optimiser", message);
            return (mistaken, vec![mistaken; moments.len()]);
        }
        match *self {
            Self::Sgd { momentum, nesterov, weight_decay } => {
                let g = decayed(gradient, parameters, weight_decay);
                let next: Vec<Expr> = moments.iter().map(|b| *b * single(momentum) + g).collect();
                let direction = match next.first() {
                    Some(&b) if nesterov => g + b * single(momentum),
                    Some(&b) => b,
                    None => g,
                };
                (parameters - mask * rates * direction, next)
            }
            Self::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                let g = decayed(gradient, parameters, if decoupled { 0.0 } else { weight_decay });
                let m = moments[0] + (g - moments[0]) * single(1.0 - beta1);
                let v = moments[1] * single(beta2) + g * g * single(1.0 - beta2);
                let rates = rates.split(0, &vec![1; self.rate_count()]);
                let direction = rates[0] * m / (v.sqrt() / rates[1] + single(epsilon));
                let step = rates.get(2).map_or(direction, |&decay| direction + decay * parameters);
                (parameters - mask * step, vec![m, v])
            }
        }
    }

    fn misfit(&self, p: Expr, gradient: Expr, moments: &[Expr], rates: Expr, mask: Expr) -> Option<String> {
        let n = p.shape();
        if moments.len() != self.moments() {
            return Some(format!("expected {} vectors of state, found {}", self.moments(), moments.len()));
        }
        if rates.shape() != [self.rate_count()] {
            return Some(format!("expected {} rates, found the shape {:?}", self.rate_count(), rates.shape()));
        }
        let vectors = moments.iter().chain([&gradient]).chain((mask.len() != 1).then_some(&mask));
        let mut others = vectors.map(|e| e.shape()).filter(|shape| *shape != n);
        others.next().map(|other| format!("the parameters are {n:?}, another vector is {other:?}"))
    }
}

fn decayed<'b>(gradient: Expr<'b>, parameters: Expr<'b>, weight_decay: f64) -> Expr<'b> {
    if weight_decay == 0.0 { gradient } else { gradient + parameters * single(weight_decay) }
}

fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Builder;
    use crate::ir::DType;

    const ADAM: Optimiser =
        Optimiser::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, decoupled: true };

    #[test]
    fn rates_hold_the_bias_corrections_of_the_step() {
        let found = ADAM.rates(0.5, 1);
        // 1 - 0.9² and √(1 - 0.999²), by hand.
        for (found, expected) in found.iter().zip([0.5 / 0.19, 0.044_710_177, 0.05]) {
            assert!((found - expected).abs() < 1e-6 * expected, "{found} for {expected}");
        }
        assert_eq!(found.len(), ADAM.rate_count());
        let late = ADAM.rates(0.5, u64::MAX);
        assert_eq!(late, [0.5, 1.0, 0.05]);
    }

    #[test]
    fn refuses_vectors_that_do_not_fit() {
        let sizes = [("gradient", [3, 4, 4, 3, 4]), ("moment", [4, 3, 4, 3, 4]), ("rates", [4, 4, 4, 2, 4])];
        for (what, [g, m, v, r, mask]) in sizes.into_iter().chain([("mask", [4, 4, 4, 3, 3])]) {
            let builder = Builder::new(what);
            let vector = |n| builder.input("x", DType::F32, &[n]);
            ADAM.update(vector(4), vector(g), &[vector(m), vector(v)], vector(r), vector(mask));
            assert!(builder.finish(&[]).is_err(), "{what} passes");
        }
        let builder = Builder::new("fits");
        let vector = |n| builder.input("x", DType::F32, &[n]);
        ADAM.update(vector(4), vector(4), &[vector(4), vector(4)], vector(3), builder.scalar(1.0));
        assert!(builder.finish(&[]).is_ok());
    }
}
