//! How much of a bias may move to the next layer (Nagel et al. 2019, section 4.1.3).

/// Standard deviations below the mean that a normal distribution stays above with probability 0.99865.
const DEVIATIONS: f64 = 3.0;

/// Returns `max(0, mean - 3·deviation)` per channel.
pub fn absorbed(mean: &[f32], std: &[f64]) -> Vec<f64> {
    let channel = |(&m, &d): (&f32, &f64)| (f64::from(m) - DEVIATIONS * d).max(0.0);
    mean.iter().zip(std).map(channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_channels_that_stay_above_zero_lose_what_they_exceed() {
        assert_eq!(absorbed(&[5.0, 2.0, -4.0, 5.0], &[1.0, 1.0, 1.0, 1.5]), [2.0, 0.0, 0.0, 0.5]);
    }
}
