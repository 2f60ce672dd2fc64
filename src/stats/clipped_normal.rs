//! A normal distribution clipped to an interval, and its moments.

/// Points of the quadrature over a normal distribution, and its reach in standard deviations.
const QUADRATURE: (usize, f64) = (129, 6.0);

/// One channel: `clip(N(mean, std²), lo, hi)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClippedNormal {
    /// Mean before clipping.
    pub mean: f64,
    /// Standard deviation before clipping.
    pub std: f64,
    /// Lower bound, possibly `-inf`.
    pub lo: f64,
    /// Upper bound, possibly `inf`.
    pub hi: f64,
}

impl ClippedNormal {
    /// Returns an unclipped normal distribution.
    pub fn new(mean: f64, std: f64) -> Self {
        Self { mean, std, lo: f64::NEG_INFINITY, hi: f64::INFINITY }
    }

    /// Returns the same distribution clipped further.
    pub fn clip(self, lo: f64, hi: f64) -> Self {
        let lo_new = self.lo.max(lo).min(hi);
        Self { lo: lo_new, hi: self.hi.min(hi).max(lo_new), ..self }
    }

    /// Returns the probability mass below `x`, clipping included.
    pub fn cdf(&self, x: f64) -> f64 {
        if x < self.lo {
            0.0
        } else if x >= self.hi {
            1.0
        } else if self.std <= 0.0 {
            f64::from(u8::from(x >= self.mean))
        } else {
            0.5 * libm::erfc((self.mean - x) / (self.std * std::f64::consts::SQRT_2))
        }
    }

    /// Returns mean and variance after clipping and after `f`, by quadrature.
    pub fn moments_of(&self, f: impl Fn(f64) -> f64) -> (f64, f64) {
        let (points, reach) = QUADRATURE;
        let (mut weight, mut first, mut second) = (0.0, 0.0, 0.0);
        for i in 0..points {
            let z = reach * (2.0 * i as f64 / (points - 1) as f64 - 1.0);
            let p = (-0.5 * z * z).exp();
            let y = f((self.mean + self.std * z).clamp(self.lo, self.hi));
            weight += p;
            first += p * y;
            second += p * y * y;
        }
        let mean = first / weight;
        (mean, (second / weight - mean * mean).max(0.0))
    }

    /// Returns mean and variance after clipping.
    pub fn moments(&self) -> (f64, f64) {
        if self.lo == f64::NEG_INFINITY && self.hi == f64::INFINITY {
            return (self.mean, self.std * self.std);
        }
        self.moments_of(|x| x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E and Var of ReLU(N(beta, gamma²)) from Nagel et al. 2019, equations 18 and 19 of appendix C.
    #[test]
    fn moments_of_rectified_normals_match_the_closed_form() {
        let mut failed = Vec::new();
        for (beta, gamma) in [(0.0, 1.0), (1.5, 0.5), (-1.0, 2.0), (-3.0, 1.0)] {
            let z: f64 = beta / gamma;
            let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let above = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
            let mean = gamma * density + beta * above;
            let variance = (beta * beta + gamma * gamma) * above + beta * gamma * density - mean * mean;
            let (m, v) = ClippedNormal::new(beta, gamma).clip(0.0, f64::INFINITY).moments();
            if (m - mean).abs() > 2e-3 * gamma || (v - variance).abs() > 4e-3 * gamma * gamma {
                failed.push((beta, gamma, m, mean, v, variance));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
