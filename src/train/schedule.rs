//! Learning-rate schedules.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// Smaller changes of the learning rate are ignored (`eps` of `ReduceLROnPlateau`).
const SMALLEST_CHANGE: f64 = 1e-8;

/// A schedule of the learning rate from its initial value. Rates are absolute, steps count from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// The initial rate at every step.
    Constant,
    /// Half a cosine from the initial rate down to `floor` over `steps` steps (Loshchilov & Hutter 2017, eq. 5;
    /// `CosineAnnealingLR`), and `floor` afterwards. The first `warmup` steps rise linearly instead.
    Cosine {
        /// Steps of the run, warmup included.
        steps: u64,
        /// The final rate.
        floor: f64,
        /// Steps before the initial rate is reached: step `s` has the fraction `(s + 1) / (warmup + 1)` of it.
        #[serde(default)]
        warmup: u64,
    },
    /// A factor of `gamma` after every `steps` steps (`StepLR`).
    Every {
        /// Steps between two changes.
        steps: NonZeroU64,
        /// The factor of each change.
        gamma: f64,
    },
    /// A factor of `gamma` at given steps (`MultiStepLR`).
    Milestones {
        /// The first steps at each new rate.
        at: Vec<u64>,
        /// The factor of each change.
        gamma: f64,
    },
    /// A factor of `factor` after more than `patience` losses in a row that did not improve on the best one by the
    /// fraction `threshold` (`ReduceLROnPlateau`, mode `min`, relative threshold, no cooldown). See
    /// [`LearningRate::observe_loss`].
    Plateau {
        /// The factor of each change.
        factor: f64,
        /// Losses without improvement that are tolerated.
        patience: u64,
        /// The least relative improvement of the best loss.
        threshold: f64,
        /// The lower bound of the rate.
        minimum: f64,
    },
}

/// The state of [`Schedule::Plateau`]; unused by the other schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The best loss so far.
    pub best: Option<f32>,
    /// Losses in a row without improvement.
    pub waited: u64,
    /// The number of reductions of the rate.
    pub reductions: u32,
}

/// A schedule with its state.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRate {
    initial: f64,
    schedule: Schedule,
    plateau: Plateau,
}

impl LearningRate {
    /// Returns a schedule at its beginning.
    pub fn new(initial: f64, schedule: Schedule) -> Self {
        Self { initial, schedule, plateau: Plateau::default() }
    }

    /// Returns a rate that stays as it is.
    pub fn constant(rate: f64) -> Self {
        Self::new(rate, Schedule::Constant)
    }

    /// Returns a rate that falls to 0 over `steps` steps, by half a cosine.
    pub fn cosine(initial: f64, steps: u64) -> Self {
        Self::new(initial, Schedule::Cosine { steps, floor: 0.0, warmup: 0 })
    }

    /// Returns the schedule restored to the state that [`LearningRate::state`] returned.
    #[must_use]
    pub fn resumed(self, plateau: Plateau) -> Self {
        Self { plateau, ..self }
    }

    /// Returns the state that a resumed run needs besides the step number.
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

    /// Updates the schedule with a loss of one step, or the mean loss of several: always of equally many, since
    /// patience counts calls. Only [`Schedule::Plateau`] uses it. A NaN loss is no improvement.
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

    /// Powers against repeated products, and two cosine implementations.
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
                    // The state survives serialization.
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
