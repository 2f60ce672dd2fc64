//! Flip rounding: integers near the nearest ones whose errors add up to about nothing over each kernel and each output
//! channel (Guo et al. 2022, "SQuant", algorithm 1).

/// How a row of a weight is cut into kernels, and which integers there are.
#[derive(Clone, Copy, Debug)]
pub struct FlipLayout {
    /// Elements of one kernel; 1 skips the kernel step.
    pub taps: usize,
    /// Smallest and largest integer.
    pub range: (i32, i32),
}

/// Flips elements of one output channel to their other neighbor until the errors of each kernel, then of the channel,
/// add up to half a step at most, as far as the range lets them.
///
/// `targets` are the weights in steps, zero point included; `integers` are their nearest integers.
pub fn flip(targets: &[f32], integers: &mut [i32], layout: FlipLayout) {
    let mut row = Row {
        errors: integers.iter().zip(targets).map(|(&q, &t)| f64::from(q) - f64::from(t)).collect(),
        integers,
        range: layout.range,
    };
    let all: Vec<usize> = (0..targets.len()).collect();
    let candidates = match layout.taps {
        0 | 1 => all,
        taps => all.chunks(taps).filter_map(|kernel| row.flip_among(kernel, row.sum(kernel))).collect(),
    };
    let total = row.errors.iter().sum();
    row.flip_among(&candidates, total);
}

struct Row<'a> {
    integers: &'a mut [i32],
    /// Integer minus target, in steps.
    errors: Vec<f64>,
    range: (i32, i32),
}

impl Row<'_> {
    fn sum(&self, indices: &[usize]) -> f64 {
        indices.iter().map(|&i| self.errors[i]).sum()
    }

    /// Flips as many of `among` against `total` as it has steps, those with the largest error first, and returns the
    /// element that the channel may flip next: the last one back where the sum overshot, else the next one.
    fn flip_among(&mut self, among: &[usize], total: f64) -> Option<usize> {
        let wanted = total.abs().round_ties_even();
        let step = if total > 0.0 { -1 } else { 1 };
        let mut able: Vec<usize> = among
            .iter()
            .copied()
            .filter(|&i| self.errors[i] * f64::from(step) < 0.0)
            .filter(|&i| (self.range.0..=self.range.1).contains(&(self.integers[i] + step)))
            .collect();
        able.sort_by(|&a, &b| self.errors[b].abs().total_cmp(&self.errors[a].abs()));
        let count = (wanted as usize).min(able.len());
        for &i in &able[..count] {
            self.integers[i] += step;
            self.errors[i] += f64::from(step);
        }
        if wanted > total.abs() && count > 0 { Some(able[count - 1]) } else { able.get(count).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand from the algorithm's text.
    #[test]
    fn errors_of_kernels_and_channels_add_up_to_half_a_step_at_most() {
        type Case = (&'static str, usize, (i32, i32), &'static [f32], &'static [i32]);
        let cases: [Case; 6] = [
            ("one kernel rounds down too much", 3, (-8, 7), &[0.4, 0.45, 0.3], &[0, 1, 0]),
            ("balanced errors stay", 3, (-8, 7), &[0.4, 0.6, 2.0], &[0, 1, 2]),
            ("single taps share one sum", 1, (-8, 7), &[0.3, 0.4, 0.45, 0.2], &[0, 0, 1, 0]),
            ("kernels within their limit, the channel beyond", 2, (-8, 7), &[0.4, 0.0, 0.45, 0.0], &[0, 0, 1, 0]),
            ("an overshot kernel gives its flip back", 2, (-8, 7), &[0.3, 0.3, 0.7, 0.9], &[0, 0, 1, 1]),
            ("no flip leaves the range", 2, (-8, 0), &[0.4, 0.45], &[0, 0]),
        ];
        let mut failed = Vec::new();
        for (name, taps, range, targets, expected) in cases {
            let mut found: Vec<i32> = targets.iter().map(|t| t.round_ties_even() as i32).collect();
            found.iter_mut().for_each(|q| *q = (*q).clamp(range.0, range.1));
            flip(targets, &mut found, FlipLayout { taps, range });
            if found != expected {
                failed.push((name, found, expected));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
