//! Learning rates over the steps of a run.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// A smaller change of the learning rate is none (`eps` of `ReduceLROnPlateau`).
const SMALLEST_CHANGE: f64 = 1e-8;

/// How the learning rate moves from its initial value. Rates are absolute, steps count from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine from the initial rate down to `floor` over `steps` steps (Loshchilov & Hutter 2017, eq. 5;
    /// `CosineAnnealingLR`), and `floor` behind them. The first `warmup` of them rise linearly instead.
    Cosine {
        /// Steps of the run, warm-up included.
        steps: u64,
        /// The last rate.
        floor: f64,
        /// Steps before the initial rate is reached: step `s` has `(s + 1) / (warmup + 1)` of it.
        #[serde(default)]
        warmup: u64,
    },
    /// Times `gamma` after every so many steps (`StepLR`).
    Every {
        /// Steps from one change to the next.
        steps: NonZeroU64,
        /// The factor of each change.
        gamma: f64,
    },
    /// Times `gamma` at certain steps (`MultiStepLR`).
    Milestones {
        /// The steps that begin with another rate.
        at: Vec<u64>,
        /// The factor of each change.
        gamma: f64,
    },
    /// Times `factor` when more than `patience` losses in a row were not smaller than the best one by a part of
    /// `threshold` (`ReduceLROnPlateau`, mode `min`, relative threshold, no cooldown). See [`LearningRate::tell`].
    Plateau {
        /// The factor of each change.
        factor: f64,
        /// Losses without progress that change nothing.
        patience: u64,
        /// The part of the best loss that counts as progress.
        threshold: f64,
        /// The smallest rate.
        minimum: f64,
    },
}

/// What [`Schedule::Plateau`] remembers of the losses; nothing under the other schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The best loss so far.
    pub best: Option<f32>,
    /// Losses in a row without progress.
    pub waited: u64,
    /// How often the rate was changed.
    pub reductions: u32,
}

/// A schedule at work.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRate {
    initial: f64,
    schedule: Schedule,
    plateau: Plateau,
}

impl LearningRate {
    /// Returns a schedule from its beginning.
    pub fn new(initial: f64, schedule: Schedule) -> Self {
        Self { initial, schedule, plateau: Plateau::default() }
    }

    /// Returns the schedule as it stood when [`LearningRate::state`] was taken.
    #[must_use]
    pub fn resumed(self, plateau: Plateau) -> Self {
        Self { plateau, ..self }
    }

    /// Returns what a resumed run has to know besides the number of the step.
    pub fn state(&self) -> Plateau {
        self.plateau
    }

    /// Returns the learning rate of `step`.
    pub fn at(&self, step: u64) -> f64 {
        let powers = |gamma: f64, count: u64| self.initial * libm::pow(gamma, float(count));
        match &self.schedule {
            Schedule::Constant => self.initial,
            Schedule::Cosine { warmup, .. } if step < *warmup => {
                self.initial * (float(step) + 1.0) / (float(*warmup) + 1.0)
            }
            Schedule::Cosine { steps, floor, .. } if step >= *steps => *floor,
            Schedule::Cosine { steps, floor, warmup } => {
                let part = float(step - warmup) / float(steps - warmup);
                floor + (self.initial - floor) * (1.0 + libm::cos(std::f64::consts::PI * part)) / 2.0
            }
            Schedule::Every { steps, gamma } => powers(*gamma, step / steps.get()),
            Schedule::Milestones { at, gamma } => {
                powers(*gamma, at.iter().filter(|&&milestone| milestone <= step).map(|_| 1).sum())
            }
            Schedule::Plateau { factor, minimum, .. } => {
                (0..self.plateau.reductions).fold(self.initial, |rate, _| (rate * factor).max(*minimum))
            }
        }
    }

    /// Hears a loss, of a step or the mean of several: always of as many, since patience counts them. Only
    /// [`Schedule::Plateau`] listens. A loss that is no number is no progress.
    pub fn observe_loss(&mut self, loss: f32) {
        let Schedule::Plateau { factor, patience, threshold, minimum } = self.schedule else { return };
        let bound = self.plateau.best.map_or(f64::INFINITY, |best| f64::from(best) * (1.0 - threshold));
        if loss.is_finite() && f64::from(loss) < bound {
            (self.plateau.best, self.plateau.waited) = (Some(loss), 0);
        } else {
            self.plateau.waited += 1;
        }
        if self.plateau.waited > patience {
            self.plateau.waited = 0;
            let rate = self.at(0);
            if rate - (rate * factor).max(minimum) > SMALLEST_CHANGE {
                self.plateau.reductions += 1;
            }
        }
    }
}

fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Powers against repeated products, and two cosines.
    const TOLERANCE: f64 = 1e-13;

    #[derive(Deserialize)]
    struct Stored {
        initial_rate: f64,
        schedules: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        schedule: Schedule,
        #[serde(default)]
        losses: Vec<Option<f32>>,
        rates: Vec<f64>,
    }

    #[test]
    fn rates_are_those_of_pytorch() {
        let stored: Stored = serde_json::from_str(include_str!("../../fixtures/torch_optimisers.json")).unwrap();
        let mut failed = Vec::new();
        for case in &stored.schedules {
            let mut rate = LearningRate::new(stored.initial_rate, case.schedule.clone());
            for (step, &expected) in case.rates.iter().enumerate() {
                let found = rate.at(step as u64);
                if (found - expected).abs() > TOLERANCE * expected {
                    failed.push(format!("{}, step {step}: {found} for {expected}", case.name));
                }
                if let Some(loss) = case.losses.get(step) {
                    rate.observe_loss(loss.unwrap_or(f32::NAN));
                    // What is written and read again goes on alike.
                    let state = serde_json::to_string(&rate.state()).unwrap();
                    rate = LearningRate::new(stored.initial_rate, case.schedule.clone())
                        .resumed(serde_json::from_str(&state).unwrap());
                }
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
        assert_eq!(stored.schedules.len(), 7);
    }

    #[test]
    fn the_floor_stays_behind_the_last_step() {
        let cosine = |steps, warmup| LearningRate::new(1.0, Schedule::Cosine { steps, floor: 0.25, warmup });
        let cases = [
            ("behind the run", cosine(10, 2).at(10), 0.25),
            ("far behind it", cosine(10, 2).at(u64::MAX), 0.25),
            ("no steps", cosine(0, 0).at(0), 0.25),
            ("warm-up alone", cosine(3, 3).at(2), 0.75),
            ("behind warm-up alone", cosine(3, 3).at(3), 0.25),
            ("a run that ends while it warms up", cosine(1, 3).at(2), 0.75),
        ];
        let failed: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
