//! The distance between two float tensors, accumulated over batches.

use crate::data::{argmax, class_scores};
use crate::ir::Tensor;

pub use crate::data::EQUAL_DB;

/// Sums over pairs of values, reference first.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    count: usize,
    signal: f64,
    other: f64,
    product: f64,
    noise: f64,
    max_abs: f64,
    peak: f64,
}

impl Comparison {
    /// Returns the comparison of two slices of one length.
    pub fn of(reference: &[f32], found: &[f32]) -> Self {
        let mut comparison = Self::default();
        comparison.add(reference, found);
        comparison
    }

    /// Adds further pairs; a difference in length counts as NaN.
    pub fn add(&mut self, reference: &[f32], found: &[f32]) {
        if reference.len() != found.len() {
            self.noise = f64::NAN;
        }
        for (&a, &b) in reference.iter().zip(found) {
            let (a, b) = (f64::from(a), f64::from(b));
            // Equal infinities (masks) differ by nothing.
            let difference = if a == b { 0.0 } else { a - b };
            self.count += 1;
            self.noise += difference * difference;
            if a.is_finite() && b.is_finite() {
                self.peak = self.peak.max(a.abs());
                self.signal += a * a;
                self.other += b * b;
                self.product += a * b;
            }
            self.max_abs = if difference.is_nan() { f64::NAN } else { self.max_abs.max(difference.abs()) };
        }
    }

    /// Returns the root mean square of the reference.
    pub fn reference_rms(&self) -> f64 {
        (self.signal / self.count.max(1) as f64).sqrt()
    }

    /// Returns whether any value of the reference reaches `smallest`.
    pub fn has_signal(&self, smallest: f64) -> bool {
        self.peak >= smallest
    }

    /// Returns the root mean square of the difference.
    pub fn noise_rms(&self) -> f64 {
        (self.noise / self.count.max(1) as f64).sqrt()
    }

    /// Returns the RMS of the difference over the RMS of the reference; 0 where both are equal.
    pub fn relative_rms(&self) -> f64 {
        self.relative_rms_above(0.0)
    }

    /// Returns the same with the RMS of the reference raised to at least `smallest`.
    pub fn relative_rms_above(&self, smallest: f64) -> f64 {
        if self.noise == 0.0 { 0.0 } else { self.noise_rms() / self.reference_rms().max(smallest) }
    }

    /// Returns the signal-to-noise ratio in dB, [`EQUAL_DB`] where both are equal, and its negative for NaN values.
    pub fn sqnr_db(&self) -> f64 {
        self.sqnr_db_above(0.0)
    }

    /// Returns the ratio with the RMS of the reference raised to at least `smallest`.
    pub fn sqnr_db_above(&self, smallest: f64) -> f64 {
        let ratio = -20.0 * self.relative_rms_above(smallest).log10();
        match (self.noise == 0.0, ratio.is_nan()) {
            (true, _) => EQUAL_DB,
            (_, true) => -EQUAL_DB,
            _ => ratio.clamp(-EQUAL_DB, EQUAL_DB),
        }
    }

    /// Returns the cosine of the angle between both: 1 where both are equal, 0 where one of them is zero.
    pub fn cosine(&self) -> f64 {
        match (self.noise == 0.0, self.signal * self.other) {
            (true, _) => 1.0,
            (_, 0.0) => 0.0,
            (_, squares) => self.product / squares.sqrt(),
        }
    }

    /// Returns the largest difference.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }
}

/// A comparison per sample.
#[derive(Clone, Debug, Default)]
pub struct PerSample {
    /// All samples together.
    pub pooled: Comparison,
    samples: Vec<Comparison>,
}

impl PerSample {
    /// Adds a batch: one entry per row if the first axis is the batch of `samples`, else one for all.
    pub fn add(&mut self, reference: &Tensor, found: &Tensor, samples: usize) {
        let (a, b) = (numbers(reference), numbers(found));
        self.pooled.add(&a, &b);
        let is_batch = reference.shape().first() == Some(&samples) && reference.shape() == found.shape();
        match if is_batch { a.len() / samples.max(1) } else { 0 } {
            0 => self.samples.push(Comparison::of(&a, &b)),
            row => self.samples.extend(a.chunks(row).zip(b.chunks(row)).map(|(a, b)| Comparison::of(a, b))),
        }
    }

    /// Returns the median RMS error of samples, relative to the RMS of the reference over all samples (at least
    /// `smallest`); NaN if any value is NaN.
    pub fn middle_relative_rms(&self, smallest: f64) -> f64 {
        if self.pooled.noise == 0.0 || self.pooled.noise.is_nan() {
            return self.pooled.relative_rms();
        }
        let mut noise: Vec<f64> = self.samples.iter().map(Comparison::noise_rms).collect();
        noise.sort_unstable_by(f64::total_cmp);
        match noise[noise.len() / 2] {
            0.0 => 0.0,
            middle => middle / self.pooled.reference_rms().max(smallest),
        }
    }
}

/// Top-1 agreement, image by image.
#[derive(Clone, Debug, Default)]
pub struct Top1 {
    /// Images compared.
    pub images: usize,
    /// For each image with another top class, the margin of the reference's class over the other one.
    pub margins: Vec<f64>,
}

impl Top1 {
    /// Adds the rows of two outputs that hold class scores, or the labels of two that hold integers; others are left
    /// out.
    pub fn add(&mut self, reference: &Tensor, found: &Tensor) {
        if let (Ok(a), Ok(b)) = (reference.to_i64(), found.to_i64())
            && a.len() == b.len()
        {
            self.images += a.len();
            self.margins.extend(a.iter().zip(&b).filter(|(a, b)| a != b).map(|_| f64::INFINITY));
            return;
        }
        let (Some((rows, classes, a)), Some((_, _, b))) = (class_scores(reference), class_scores(found)) else {
            return;
        };
        if a.len() != b.len() {
            return;
        }
        self.images += rows;
        for (a, b) in a.chunks(classes).zip(b.chunks(classes)) {
            let (own, other) = (argmax(a), argmax(b));
            if own != other {
                self.margins.push(f64::from(a[own]) - f64::from(a[other]));
            }
        }
    }

    /// Returns the share of images with the same top class; `None` without images.
    pub fn agreement(&self) -> Option<f64> {
        (self.images > 0).then(|| 1.0 - self.margins.len() as f64 / self.images as f64)
    }

    /// Returns the number of images that disagree with a margin above `explained`.
    pub fn decided_disagreements(&self, explained: f64) -> usize {
        let within = self.margins.iter().filter(|&&margin| margin <= explained).count();
        self.margins.len() - within
    }
}

/// Returns the values of a tensor of any number type as floats, empty for other types.
pub fn numbers(tensor: &Tensor) -> Vec<f32> {
    let integers = || tensor.to_i64().map(|values| values.into_iter().map(|v| v as f32).collect());
    tensor.to_f32().or_else(|_| integers()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_hold_on_small_vectors() {
        let c = Comparison::of(&[3.0, 4.0], &[3.0, 3.5]);
        assert!((c.relative_rms() - 0.1).abs() < 1e-12);
        assert!((c.sqnr_db() - 20.0).abs() < 1e-9);
        assert!((c.max_abs() - 0.5).abs() < 1e-12);
        assert!((c.cosine() - 23.0 / (25.0f64 * 21.25).sqrt()).abs() < 1e-12);
        let equal = Comparison::of(&[0.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]);
        assert_eq!((equal.relative_rms(), equal.sqnr_db(), equal.cosine()), (0.0, EQUAL_DB, 1.0));
    }

    #[test]
    fn a_reference_of_zero_has_finite_figures_above_what_says_nothing() {
        let c = Comparison::of(&[0.0, 0.0], &[3e-7, 4e-7]);
        assert!((c.relative_rms_above(1e-3) - c.noise_rms() / 1e-3).abs() < 1e-12);
        assert!((60.0..80.0).contains(&c.sqnr_db_above(1e-3)), "{}", c.sqnr_db_above(1e-3));
        assert_eq!((c.relative_rms(), c.sqnr_db(), c.cosine()), (f64::INFINITY, -EQUAL_DB, 0.0));
    }

    #[test]
    fn one_sample_of_many_does_not_move_the_middle_one() {
        let reference = Tensor::from_f32(&[4, 2], &[1.0; 8]);
        let found = |off: &[f32]| Tensor::from_f32(&[4, 2], &off.iter().map(|o| 1.0 + o).collect::<Vec<_>>());
        let cases = [
            ("one sample is off", found(&[0.0, 0.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0]), 4, 0.0),
            ("all are off", found(&[0.1; 8]), 4, 0.1),
            ("no batch axis", found(&[0.0, 0.0, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0]), 1, 0.1),
            ("not a number in one", found(&[f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), 4, f64::NAN),
        ];
        let wrong = cases.into_iter().filter_map(|(name, found, samples, expected)| {
            let mut per_sample = PerSample::default();
            per_sample.add(&reference, &found, samples);
            let middle = per_sample.middle_relative_rms(0.0);
            let holds = (middle - expected).abs() < 1e-6 || (middle.is_nan() && expected.is_nan());
            (!holds).then(|| format!("{name}: {middle}, expected {expected}"))
        });
        let wrong: Vec<String> = wrong.collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn what_is_not_a_number_is_never_within_a_limit() {
        for (a, b) in [(&[1.0f32][..], &[f32::NAN][..]), (&[1.0], &[]), (&[0.0], &[1.0])] {
            let within = Comparison::of(a, b).relative_rms() <= 0.5;
            assert!(!within, "{a:?} {b:?}");
        }
    }

    #[test]
    fn near_ties_are_told_from_decided_disagreements() {
        let a = Tensor::from_f32(&[3, 2], &[1.0, 0.0, 0.5, 0.49, 0.0, 1.0]);
        let b = Tensor::from_f32(&[3, 2], &[0.0, 1.0, 0.49, 0.5, 0.0, 1.0]);
        let mut top1 = Top1::default();
        top1.add(&a, &b);
        assert_eq!((top1.images, top1.margins.len()), (3, 2));
        assert_eq!((top1.decided_disagreements(0.02), top1.decided_disagreements(2.0)), (1, 0));
    }
}
