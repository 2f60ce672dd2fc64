//! Axes as ONNX writes them.

/// Returns `axis` counted from the front, a negative one from the end of `rank`; `None` if it lies before the first
/// axis. The caller checks that it lies before `rank`.
pub fn front_axis(axis: i64, rank: usize) -> Option<usize> {
    let front = if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(i64::MAX)) } else { axis };
    usize::try_from(front).ok()
}
