//! Rounding ties, at which two runtimes may round to adjacent integers.

use super::grid::QdqGrid;
use super::limits;

/// One integer of a quantizer in two runtimes, and the value before rounding.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The element of the tensor.
    pub element: usize,
    /// The value before rounding.
    pub x: f32,
    /// The integers.
    pub integers: (i64, i64),
}

/// Returns whether `pair` is one step apart and `x / scale`, in double precision, lies no farther from the tie between
/// both integers than the arithmetic's error: [`limits::tie_steps`] and `error`, in units of `x`.
///
/// `inner` elements in a row share a scale (see [`QdqGrid::inner`]).
pub fn is_tie(grid: &QdqGrid, inner: usize, pair: Pair, error: f64) -> bool {
    let (low, high) = (pair.integers.0.min(pair.integers.1), pair.integers.0.max(pair.integers.1));
    if high - low != limits::LARGEST_STEP {
        return false;
    }
    let channel = (pair.element / inner) % grid.scale.len();
    let scale = f64::from(grid.scale[channel]);
    let steps = f64::from(pair.x) / scale;
    let tie = (low - grid.zero_point[channel]) as f64 + 0.5;
    (steps - tie).abs() <= limits::tie_steps(steps) + error / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DType;

    #[test]
    fn neighbours_are_a_tie_only_where_the_real_number_lies_between_them() {
        let grid =
            QdqGrid { scale: vec![0.5, 0.1], zero_point: vec![2, 0], axis: 0, dtype: DType::U8, low: 0, high: 255 };
        let cases = [
            ("exactly between", 0, 0.25, (2, 3), 0.0, true),
            ("in the other order", 0, 0.25, (3, 2), 0.0, true),
            ("within the arithmetic's error", 0, 0.2501, (2, 3), 0.0, true),
            ("a hundredth of a step beside it", 0, 0.255, (2, 3), 0.0, false),
            ("a hundredth of a step with a measured error", 0, 0.255, (2, 3), 0.006, true),
            ("between other neighbours", 0, 0.25, (3, 4), 0.0, false),
            ("two steps", 0, 0.25, (1, 3), 9.0, false),
            ("of the second channel", 1, 0.15, (1, 2), 0.0, true),
            ("not a number", 0, f32::NAN, (2, 3), 0.0, false),
        ];
        let wrong = cases.iter().filter(|&&(_, element, x, integers, error, expected)| {
            is_tie(&grid, 1, Pair { element, x, integers }, error) != expected
        });
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
