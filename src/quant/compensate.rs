//! Rounding that minimizes the error of a layer's output, not of its weights: `(q - w)ᵀ H (q - w)` per output channel,
//! `H` being the covariance of the layer's inputs.
//!
//! Errors are first propagated from element to element along a Cholesky factor (Frantar et al. 2022, "GPTQ"; the
//! nearest plane of Babai 1986), then single integers are changed while that reduces the error.

/// The most sweeps of single changes; a few usually suffice.
const SWEEPS: usize = 8;

/// A symmetric positive definite matrix with its factor `H = L D Lᵀ`.
#[derive(Clone, Debug)]
pub struct Metric {
    n: usize,
    /// Row-major.
    h: Vec<f32>,
    /// Row `j` holds `L[i][j]` at column `i`.
    factor: Vec<f32>,
}

impl Metric {
    /// Returns the metric of a row-major symmetric matrix of `n` rows, or `None` where it is not positive definite.
    pub fn new(n: usize, h: Vec<f32>) -> Option<Self> {
        let mut factor = h.clone();
        for j in 0..n {
            let pivot = factor[j * n + j];
            if !pivot.is_finite() || pivot <= 0.0 {
                return None;
            }
            let (head, tail) = factor.split_at_mut((j + 1) * n);
            let row = &mut head[j * n + j + 1..];
            for (i, below) in (j + 1..n).zip(tail.chunks_mut(n)) {
                let share = row[i - j - 1] / pivot;
                below[i..].iter_mut().zip(&row[i - j - 1..]).for_each(|(b, r)| *b -= share * r);
            }
            row.iter_mut().for_each(|r| *r /= pivot);
        }
        Some(Self { n, h, factor })
    }

    /// Returns `H⁻¹ e`.
    pub fn solve(&self, e: &[f32]) -> Vec<f32> {
        let n = self.n;
        let mut x = e.to_vec();
        for j in 0..n {
            let (head, tail) = x.split_at_mut(j + 1);
            let row = &self.factor[j * n + j + 1..(j + 1) * n];
            tail.iter_mut().zip(row).for_each(|(x, l)| *x -= l * head[j]);
        }
        for j in (0..n).rev() {
            let row = &self.factor[j * n + j + 1..(j + 1) * n];
            x[j] = x[j] / self.factor[j * n + j] - dot(row, &x[j + 1..]);
        }
        x
    }

    /// Returns `H e`.
    pub fn times(&self, e: &[f32]) -> Vec<f32> {
        self.h.chunks(self.n).map(|row| dot(row, e)).collect()
    }
}

/// One output channel's grid: `w ≈ scale · q` with `q` in `range`, the zero point taken off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowGrid {
    /// The scale.
    pub scale: f32,
    /// Smallest and largest integer minus the zero point.
    pub range: (f32, f32),
}

impl RowGrid {
    fn round(&self, w: f32) -> f32 {
        (w / self.scale).round_ties_even().clamp(self.range.0, self.range.1)
    }
}

/// A row on its grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Compensated {
    /// Integers, the zero point taken off.
    pub integers: Vec<f32>,
    /// What rounding left: `w - scale·q`.
    pub error: Vec<f32>,
    /// `H` times that.
    pub gradient: Vec<f32>,
}

impl Compensated {
    /// Returns `eᵀ H e`.
    pub fn loss(&self) -> f64 {
        f64::from(dot(&self.error, &self.gradient))
    }
}

/// Returns `weights` on `grid` so that the error is small in `metric`.
pub fn compensate(weights: &[f32], grid: RowGrid, metric: &Metric) -> Compensated {
    let n = weights.len();
    let mut q = vec![0.0f32; n];
    let mut error = vec![0.0f32; n];
    for j in (0..n).rev() {
        let carried = dot(&metric.factor[j * n + j + 1..(j + 1) * n], &error[j + 1..]);
        q[j] = grid.round(weights[j] + carried);
        error[j] = weights[j] - grid.scale * q[j];
    }
    let mut gradient = metric.times(&error);
    for _ in 0..SWEEPS {
        let mut moved = false;
        for j in 0..n {
            let row = &metric.h[j * n..(j + 1) * n];
            let wanted = (q[j] + gradient[j] / (row[j] * grid.scale)).round_ties_even();
            let step = wanted.clamp(grid.range.0, grid.range.1) - q[j];
            if step != 0.0 {
                q[j] += step;
                error[j] -= step * grid.scale;
                gradient.iter_mut().zip(row).for_each(|(g, h)| *g -= step * grid.scale * h);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    Compensated { integers: q, error, gradient }
}

/// Returns `wᵀHq` and `qᵀHq`, whose quotient is the scale with which `q` is nearest to `w`; `image` is `H w`, `scale`
/// the one that `rounded` was made with.
pub fn scale_terms(weights: &[f32], image: &[f32], scale: f32, rounded: &Compensated) -> (f64, f64) {
    let hq: Vec<f32> = image.iter().zip(&rounded.gradient).map(|(w, g)| (w - g) / scale).collect();
    (f64::from(dot(weights, &hq)), f64::from(dot(&rounded.integers, &hq)))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (x, y))| *lane += x * y);
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: RowGrid = RowGrid { scale: 1.0, range: (-8.0, 7.0) };

    /// Inputs that always come together only see the sum of their weights: 0.4 + 0.4 is about 1, not 0.
    #[test]
    fn errors_of_correlated_inputs_cancel_and_those_of_independent_ones_do_not() {
        let alike = Metric::new(2, vec![1.0, 0.95, 0.95, 1.0]).unwrap();
        let apart = Metric::new(2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(compensate(&[0.4, 0.4], GRID, &alike).integers.iter().sum::<f32>(), 1.0);
        assert_eq!(compensate(&[0.4, 0.4], GRID, &apart).integers, [0.0, 0.0]);
    }

    #[test]
    fn rounding_comes_near_the_best_of_all_choices_and_beats_nearest_on_the_whole() {
        let (mut failed, mut sums) = (Vec::new(), (0.0, 0.0));
        for seed in 0..20u16 {
            let n = 4;
            let at = |i: usize| f32::from((u16::try_from(i).unwrap() * 37 + seed * 91) % 101) / 50.0 - 1.0;
            let roots: Vec<f32> = (0..n * n).map(at).collect();
            let entry = |i: usize, j: usize| dot(&roots[i * n..(i + 1) * n], &roots[j * n..(j + 1) * n]);
            let h = (0..n * n).map(|k| entry(k / n, k % n) + if k / n == k % n { 0.1 } else { 0.0 }).collect();
            let metric = Metric::new(n, h).unwrap();
            let weights: Vec<f32> = (0..n).map(|i| 3.0 * at(i + 50)).collect();
            let error = |q: &[f32]| {
                let e: Vec<f32> = weights.iter().zip(q).map(|(w, q)| w - q).collect();
                f64::from(dot(&metric.times(&e), &e))
            };
            let found = error(&compensate(&weights, GRID, &metric).integers);
            let nearest: Vec<f32> = weights.iter().map(|w| w.round_ties_even()).collect();
            let choices = (0..81u32).map(|k| {
                (0..4u32).map(|i| nearest[i as usize] + (k / 3u32.pow(i) % 3) as f32 - 1.0).collect::<Vec<f32>>()
            });
            let best = choices.map(|q| error(&q)).fold(f64::INFINITY, f64::min);
            sums = (sums.0 + found, sums.1 + error(&nearest));
            if found > 3.0 * best + 1e-3 {
                failed.push((seed, found, error(&nearest), best));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
        assert!(sums.0 < 0.9 * sums.1, "{sums:?}");
    }

    #[test]
    fn the_best_scale_of_exact_multiples_is_their_factor() {
        let metric = Metric::new(2, vec![2.0, 0.5, 0.5, 1.0]).unwrap();
        let weights = [0.75, -0.5];
        let rounded = compensate(&weights, RowGrid { scale: 0.24, ..GRID }, &metric);
        assert_eq!(rounded.integers, [3.0, -2.0]);
        let (wq, qq) = scale_terms(&weights, &metric.times(&weights), 0.24, &rounded);
        assert!((wq / qq - 0.25).abs() < 1e-6, "{wq} {qq}");
    }
}
