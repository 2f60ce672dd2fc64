//! Signal-to-noise ratio of a tensor's variation between samples.

/// Tensors whose variance is below this share of their square carry no signal.
const NO_SIGNAL: f64 = 1e-12;
/// The ratio of equal tensors, in dB (the true value is infinite, which JSON cannot hold).
pub const EQUAL_DB: f64 = 300.0;

/// Sums over pairs of samples, reference first.
///
/// The signal is the variance of each element between samples, not its square: a constant part says nothing of how a
/// network responds to its input.
#[derive(Clone, Debug, Default)]
pub struct CenteredNoise {
    samples: usize,
    /// Per element of a sample: sum of the reference's values and of their squares.
    sums: Vec<[f64; 2]>,
    noise: f64,
}

impl CenteredNoise {
    /// Adds a sample; a sample of another length than the reference counts as NaN.
    pub fn add(&mut self, reference: &[f64], found: &[f64]) {
        if reference.len() != found.len() {
            self.noise = f64::NAN;
        }
        self.sums.resize(self.sums.len().max(reference.len()), [0.0; 2]);
        self.samples += 1;
        for ((sums, &a), &b) in self.sums.iter_mut().zip(reference).zip(found) {
            // Equal infinities (masks) differ by nothing, and say nothing.
            let difference = if a == b { 0.0 } else { a - b };
            self.noise += difference * difference;
            if a.is_finite() {
                *sums = [sums[0] + a, sums[1] + a * a];
            }
        }
    }

    /// Returns the ratio in dB, 300 where both are equal and -300 where a value is not a number; none where the
    /// reference does not vary, or nothing was added.
    pub fn sqnr_db(&self) -> Option<f64> {
        let n = self.samples as f64;
        let squares = self.squares();
        let signal = match self.samples {
            0 => 0.0,
            // One sample varies within itself alone.
            1 => squares - self.sums.iter().map(|[sum, _]| sum).sum::<f64>().powi(2) / self.sums.len() as f64,
            _ => self.sums.iter().map(|[sum, square]| (square - sum * sum / n).max(0.0)).sum(),
        };
        self.ratio_db(signal, NO_SIGNAL * squares)
    }

    /// Returns the same ratio with the reference's squares as signal, its constant part included.
    pub fn plain_sqnr_db(&self) -> Option<f64> {
        self.ratio_db(self.squares(), f64::NEG_INFINITY)
    }

    fn squares(&self) -> f64 {
        self.sums.iter().map(|[_, square]| square).sum()
    }

    /// Returns a signal over the noise in dB; none for a signal of at most `none`.
    fn ratio_db(&self, signal: f64, none: f64) -> Option<f64> {
        match () {
            () if self.noise.is_nan() => Some(-EQUAL_DB),
            () if self.samples == 0 => None,
            () if self.noise == 0.0 => Some(EQUAL_DB),
            () if signal <= none => None,
            () => Some((10.0 * (signal / self.noise).log10()).clamp(-EQUAL_DB, EQUAL_DB)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(pairs: &[(&[f64], &[f64])]) -> Option<f64> {
        let mut noise = CenteredNoise::default();
        pairs.iter().for_each(|(reference, found)| noise.add(reference, found));
        noise.sqnr_db()
    }

    #[test]
    fn a_constant_part_is_no_signal() {
        let plain = ratio(&[(&[1.0, -1.0], &[1.1, -1.0]), (&[-1.0, 1.0], &[-1.0, 1.0])]);
        let shifted = ratio(&[(&[101.0, 99.0], &[101.1, 99.0]), (&[99.0, 101.0], &[99.0, 101.0])]);
        let [plain, shifted] = [plain, shifted].map(|db| db.unwrap());
        assert!((plain - 26.0).abs() < 0.1 && (shifted - plain).abs() < 1e-6, "{plain} {shifted}");
    }

    #[test]
    fn what_has_no_ratio_says_so() {
        let cases = [
            ("nothing", ratio(&[]), None),
            ("equal", ratio(&[(&[1.0], &[1.0]), (&[2.0], &[2.0])]), Some(EQUAL_DB)),
            ("no signal", ratio(&[(&[1.0], &[1.0]), (&[1.0], &[1.5])]), None),
            ("not a number", ratio(&[(&[1.0], &[f64::NAN]), (&[2.0], &[2.0])]), Some(-EQUAL_DB)),
            ("another length", ratio(&[(&[1.0, 2.0], &[1.0])]), Some(-EQUAL_DB)),
            ("equal infinities", ratio(&[(&[f64::NEG_INFINITY, 1.0], &[f64::NEG_INFINITY, 1.0])]), Some(EQUAL_DB)),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
