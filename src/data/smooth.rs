//! Smooth random patterns with a spectrum like that of photographs, and their random numbers.
//! Logarithm and cosine come from `libm`, so that one seed gives the same values on every machine.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Weight of each neighbor in a row or column when a plane is softened.
const BLUR: f32 = 0.15;

/// Returns one `h` x `w` pattern of mean 0 and variance 1: noise at halving resolutions, upsampled and added up, each
/// octave twice as strong as the next finer one (amplitude about 1/frequency).
pub(super) fn pattern(h: usize, w: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut sum = vec![0f32; h * w];
    for (cell, rows, columns) in octaves(h, w) {
        let noise: Vec<f32> = (0..rows * columns).map(|_| normal(rng)).collect();
        add_upsampled(&mut sum, w, &noise, columns, cell);
    }
    standardise(&mut sum);
    sum
}

/// Softens the edges of an `h` x `w` plane: every pixel becomes the mean of itself and its neighbors, by (0.15, 0.7,
/// 0.15) along its row and then along its column. At the border, the pixel itself replaces the missing neighbor.
pub(super) fn soften(plane: &mut [f32], h: usize, w: usize) {
    if plane.is_empty() {
        return;
    }
    let rows = (0..h).map(|y| (y * w, 1, w));
    let columns = (0..w).map(|x| (x, w, h));
    for (start, stride, length) in rows.chain(columns) {
        let mut before = plane[start];
        for i in 0..length {
            let at = start + i * stride;
            let now = plane[at];
            let after = if i + 1 < length { plane[at + stride] } else { now };
            plane[at] = BLUR * (before + after) + (1.0 - 2.0 * BLUR) * now;
            before = now;
        }
    }
}

/// Advances `rng` past `count` patterns of `h` x `w`.
pub(super) fn skip_patterns(rng: &mut ChaCha8Rng, h: usize, w: usize, count: usize) {
    let normals: usize = octaves(h, w).map(|(_, rows, columns)| rows * columns).sum();
    // Two words a normal number.
    let words = u128::try_from(2 * normals * count).expect("lengths in memory fit 128 bits");
    rng.set_word_pos(rng.get_word_pos() + words);
}

/// Returns the cell of each octave, and the rows and columns of its noise.
fn octaves(h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let cells = std::iter::successors(Some(1usize), |cell| Some(cell * 2));
    let cells = cells.take_while(move |&cell| cell <= h.min(w).max(1));
    cells.map(move |cell| (cell, h.div_ceil(cell) + 1, w.div_ceil(cell) + 1))
}

fn add_upsampled(sum: &mut [f32], w: usize, noise: &[f32], columns: usize, cell: usize) {
    let amplitude = cell as f32;
    let fractions: Vec<f32> = (0..cell).map(|i| i as f32 / amplitude).collect();
    for (y, row) in sum.chunks_mut(w.max(1)).enumerate() {
        let fy = fractions[y % cell];
        let corners = &noise[y / cell * columns..];
        for (i, values) in row.chunks_mut(cell).enumerate() {
            let [a, b, c, d] = [corners[i], corners[i + 1], corners[columns + i], corners[columns + i + 1]];
            for (value, fx) in values.iter_mut().zip(&fractions) {
                let top = a * (1.0 - fx) + b * fx;
                let bottom = c * (1.0 - fx) + d * fx;
                *value += amplitude * (top * (1.0 - fy) + bottom * fy);
            }
        }
    }
}

fn standardise(values: &mut [f32]) {
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let scale = if variance > 0.0 { 1.0 / variance.sqrt() } else { 0.0 };
    for value in values {
        *value = (*value - mean) * scale;
    }
}

/// Returns a number in [0, 1).
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / 16_777_216.0
}

/// Returns a standard normal number (Box and Muller 1958).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * libm::log(f64::from(1.0 - uniform(rng)))).sqrt();
    (radius * libm::cos(std::f64::consts::TAU * f64::from(uniform(rng)))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_softened_along_both_sides_and_flat_areas_stay() {
        type Case = (&'static str, (usize, usize), &'static [f32], &'static [f32]);
        let cases: &[Case] = &[
            ("flat", (2, 3), &[2.0; 6], &[2.0; 6]),
            ("a row", (1, 4), &[0.0, 0.0, 1.0, 1.0], &[0.0, 0.15, 0.85, 1.0]),
            ("a column", (4, 1), &[0.0, 0.0, 1.0, 1.0], &[0.0, 0.15, 0.85, 1.0]),
            (
                "a point",
                (3, 3),
                &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
                &[0.0225, 0.105, 0.0225, 0.105, 0.49, 0.105, 0.0225, 0.105, 0.0225],
            ),
            ("nothing", (3, 0), &[], &[]),
        ];
        let mut failed = Vec::new();
        for (name, (h, w), before, expected) in cases {
            let mut plane = before.to_vec();
            soften(&mut plane, *h, *w);
            if plane.iter().zip(*expected).any(|(found, expected)| (found - expected).abs() > 1e-6) {
                failed.push(format!("{name}: {plane:?}, expected {expected:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
