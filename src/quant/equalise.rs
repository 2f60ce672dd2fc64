//! Factors of cross-layer equalization (Nagel et al. 2019, equation 11).

/// Total factors are clipped to this range: beyond it, a channel is nearly dead.
const LARGEST: f64 = 1e6;
/// The most that activations may widen in favor of weights: one bit. Chosen among 1, 2, 4 and 16 on a MobileNet
/// with one scale per weight.
const HEADROOM: f64 = 2.0;

/// Returns `s` per channel so that ranges become equal: `first / s = second · s = sqrt(first · second)`.
///
/// Channels that are dead on either side (range 0), or whose range is not a finite number, keep factor 1. `total` is
/// what channels were divided by before.
pub fn equalising_factors(first: &[f64], second: &[f64], total: &[f64]) -> Vec<f64> {
    let alive = |r: f64| r.is_finite() && r > 0.0;
    let factor = |((&r1, &r2), &t): ((&f64, &f64), &f64)| match alive(r1) && alive(r2) {
        true => (t * (r1 / r2).sqrt()).clamp(1.0 / LARGEST, LARGEST) / t,
        false => 1.0,
    };
    first.iter().zip(second).zip(total).map(factor).collect()
}

/// Returns `factors` changed so that no channel goes further from 0 than [`HEADROOM`] times the widest one does now,
/// the factor that channels have in common (their median) left out; `total` is what channels were divided by before,
/// `reach` how far they went from 0 before that.
///
/// A channel of tiny weights beside an ordinary bias would otherwise be scaled up until it has the whole activation
/// grid to itself.
pub fn within_reach(factors: &[f64], total: &[f64], reach: &[f64]) -> Vec<f64> {
    let product: Vec<f64> = factors.iter().zip(total).map(|(f, t)| f * t).collect();
    let mut sorted = product.clone();
    sorted.sort_by(f64::total_cmp);
    let common = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
    let widest = HEADROOM * reach.iter().copied().fold(0.0, f64::max);
    if widest <= 0.0 || !widest.is_finite() {
        return factors.to_vec();
    }
    let limited = |((p, t), r): ((&f64, &f64), &f64)| p.max(common * r / widest) / t;
    product.iter().zip(total).zip(reach).map(limited).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_in_their_geometric_mean_and_dead_channels_are_left_alone() {
        let cases: [(&str, f64, f64, f64); 6] = [
            ("wide before narrow", 8.0, 2.0, 2.0),
            ("narrow before wide", 1.0, 9.0, 1.0 / 3.0),
            ("dead before", 0.0, 3.0, 1.0),
            ("dead behind", 3.0, 0.0, 1.0),
            ("infinite", f64::INFINITY, 1.0, 1.0),
            ("no number", f64::NAN, 1.0, 1.0),
        ];
        let mut failed = Vec::new();
        for (name, r1, r2, expected) in cases {
            let s = equalising_factors(&[r1], &[r2], &[1.0])[0];
            if (s - expected).abs() > 1e-12 {
                failed.push((name, s, expected));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(equalising_factors(&[1e30], &[1e-30], &[1.0]), [LARGEST]);
        assert_eq!(equalising_factors(&[1e30], &[1e-30], &[LARGEST]), [1.0]);
    }

    #[test]
    fn no_channel_becomes_wider_than_headroom_allows() {
        type Three = [f64; 3];
        let cases: [(&str, Three, Three, Three, Three); 5] = [
            ("within", [2.0, 1.0, 0.5], [1.0; 3], [1.0; 3], [2.0, 1.0, 0.5]),
            ("a channel that would grow too far", [4.0, 1.0, 0.25], [1.0; 3], [1.0; 3], [4.0, 1.0, 0.5]),
            ("a common factor makes nothing wider", [0.4, 0.1, 0.025], [1.0; 3], [1.0; 3], [0.4, 0.1, 0.05]),
            ("the same after an earlier step", [2.0, 1.0, 0.5], [2.0, 1.0, 0.5], [1.0; 3], [2.0, 1.0, 1.0]),
            ("dead activations set no limit", [4.0, 1.0, 0.25], [1.0; 3], [0.0; 3], [4.0, 1.0, 0.25]),
        ];
        let mut failed = Vec::new();
        for (name, factors, total, reach, expected) in cases {
            let found = within_reach(&factors, &total, &reach);
            if found.iter().zip(&expected).any(|(f, e)| (f - e).abs() > 1e-12) {
                failed.push((name, found, expected));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
