//! Axes as ONNX writes them.

/// Returns `axis` of a tensor of `rank` counted from the front, where negative ones count from the end; `None` where that
/// lies before the first. Whether there is such an axis is the caller's to check.
pub fn front_axis(axis: i64, rank: usize) -> Option<usize> {
    let front = if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(i64::MAX)) } else { axis };
    usize::try_from(front).ok()
}
