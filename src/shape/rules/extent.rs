//! Operators that change the length of axes: Pad, Slice, Expand, Tile, Resize.

use ndarray::Axis;

use crate::error::Result;
use crate::ir::{Dim, Shape};
use crate::shape::dims::{self, broadcast, plus, times};
use crate::shape::fact::of_rank;
use crate::shape::{Axes, Call, Contents, Fact, Item};

/// Pad: sizes by attribute before operator set 11; `axes` is input 3 from operator set 18 on.
pub fn pad(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None)]) };
    let unknown = call.shaped(Some(vec![Dim::Unknown; x.len()]));
    let (Axes::Given(pads), Some(axes)) = (call.axes("pads", 1, 11), chosen(call, call.axes("axes", 3, 18), x.len())?)
    else {
        return Ok(vec![unknown]);
    };
    if pads.len() != 2 * axes.len() {
        return Err(call.error(format!("{} pads for {} axes, expected two for each", pads.len(), axes.len())));
    }
    let mut y = x.clone();
    for (i, &axis) in axes.iter().enumerate() {
        let by = pads[i].saturating_add(pads[i + axes.len()]);
        y[axis] = plus(call, &x[axis], by)?
            .ok_or_else(|| call.error(format!("pads of {by} leave nothing of axis {axis} of size {}", x[axis])))?;
    }
    Ok(vec![call.shaped(Some(y))])
}

fn chosen(call: &Call, axes: Axes, rank: usize) -> Result<Option<Vec<usize>>> {
    Ok(match axes {
        Axes::Unknown => None,
        Axes::Absent => Some((0..rank).collect()),
        Axes::Given(axes) => Some(axes.iter().map(|&a| call.axis(a, rank)).collect::<Result<_>>()?),
    })
}

/// Slice: attributes before operator set 10, inputs from then on.
pub fn slice(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None)]) };
    let items = |name: &str, i: usize| match call.opset < 10 {
        true => call.attrs.ints(name).map(|v| v.iter().copied().map(Item::Int).collect::<Vec<_>>()),
        false => call.items(i),
    };
    let count = items("starts", 1).map(|s| s.len());
    let axes = match (call.axes("axes", 3, 10), count) {
        (Axes::Absent, Some(n)) => Some((0..n.min(x.len())).collect()),
        (Axes::Absent, None) => None,
        (axes, _) => chosen(call, axes, x.len())?,
    };
    let Some(axes) = axes else { return Ok(vec![call.shaped(Some(vec![Dim::Unknown; x.len()]))]) };
    let (starts, ends) = (items("starts", 1), items("ends", 2));
    let steps = match call.opset < 10 || call.input(4).is_none() {
        true => Some(vec![Item::Int(1); axes.len()]),
        false => call.items(4),
    };
    let mut y = x.clone();
    let mut contents = call.input(0).and_then(|f| f.contents.clone());
    for (i, &axis) in axes.iter().enumerate() {
        let at = |items: &Option<Vec<Item>>| items.as_ref().and_then(|v| v.get(i)).cloned().unwrap_or(Item::Unknown);
        let cut = Cut { start: at(&starts), end: at(&ends), step: at(&steps) };
        if cut.step == Item::Int(0) {
            return Err(call.error("a step of 0"));
        }
        y[axis] = cut.size(&x[axis]);
        contents = contents.and_then(|c| cut.apply(c, axis));
    }
    Ok(vec![call.shaped(Some(y)).with_contents(contents)])
}

struct Cut {
    start: Item,
    end: Item,
    step: Item,
}

impl Cut {
    /// First position, the position after the last, and step, within an axis of size `n`.
    fn range(&self, n: i64) -> Option<(i64, i64, i64)> {
        let [start, end, step] = [self.start.int()?, self.end.int()?, self.step.int()?];
        let from_front = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        Some(match step > 0 {
            true => (from_front(start).clamp(0, n), from_front(end).clamp(0, n), step),
            false => (from_front(start).clamp(-1, n - 1), from_front(end).clamp(-1, n - 1), step),
        })
    }

    fn size(&self, dim: &Dim) -> Dim {
        let Some(n) = dim.known().and_then(|n| i64::try_from(n).ok()) else {
            let whole = self.start == Item::Int(0)
                && self.step == Item::Int(1)
                && (matches!(self.end, Item::Int(end) if end >= i64::from(i32::MAX)) || self.end == Item::from(dim));
            return if whole { dim.clone() } else { Dim::Unknown };
        };
        let Some((start, end, step)) = self.range(n) else { return Dim::Unknown };
        let reach = if step > 0 { end - start } else { start - end };
        Dim::Known(
            usize::try_from(reach).unwrap_or(0).div_ceil(usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX)),
        )
    }

    fn apply(&self, contents: Contents, axis: usize) -> Option<Contents> {
        let (start, end, step) = self.range(i64::try_from(contents.shape()[axis]).ok()?)?;
        let mut positions = Vec::new();
        let mut at = start;
        while (step > 0 && at < end) || (step < 0 && at > end) {
            positions.push(usize::try_from(at).ok()?);
            at = at.saturating_add(step);
        }
        Some(contents.select(Axis(axis), &positions))
    }
}

/// Expand: input and target shape broadcast both ways.
pub fn expand(call: &Call) -> Result<Vec<Fact>> {
    let target: Option<Shape> = match (call.items(1), call.shape(1).map(Vec::as_slice)) {
        (Some(items), _) => Some(items.iter().map(Item::dim).collect()),
        (None, Some([n])) => n.known().and_then(of_rank),
        _ => None,
    };
    let shape = match (call.shape(0), target) {
        (Some(x), Some(target)) => Some(broadcast(call, x, &target)?),
        _ => None,
    };
    let fact = call.shaped(shape);
    let contents = || call.input(0)?.contents.as_ref()?.broadcast(fact.followed_shape()?).map(|c| c.to_owned());
    let contents = contents();
    Ok(vec![fact.with_contents(contents)])
}

/// Tile: every axis repeated; the operator set 1 form (`tiles`, `axis`) is not supported.
pub fn tile(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None)]) };
    let repeats = call.items(1).filter(|_| call.opset >= 6);
    let Some(repeats) = repeats else { return Ok(vec![call.shaped(Some(vec![Dim::Unknown; x.len()]))]) };
    if repeats.len() != x.len() {
        return Err(call.error(format!("{} repeats for an input of rank {}", repeats.len(), x.len())));
    }
    let tiled: Result<Shape> = x.iter().zip(&repeats).map(|(d, r)| times(call, d, &r.dim())).collect();
    Ok(vec![call.shaped(Some(tiled?))])
}

/// Resize and Upsample: by scales, or by sizes.
pub fn resize(call: &Call) -> Result<Vec<Fact>> {
    let Some(x) = call.shape(0) else { return Ok(vec![call.shaped(None)]) };
    let axes = call.attrs.ints("axes").map_or(Axes::Absent, |a| Axes::Given(a.to_vec()));
    let axes = chosen(call, axes, x.len())?.unwrap_or_default();
    let by_input = call.op_type == "Resize" && call.opset >= 11;
    let scales = match (call.attrs.get("scales"), by_input) {
        (Some(crate::ir::Attr::Floats(scales)), _) if call.op_type == "Upsample" => Some(scales.clone()),
        (_, true) => call.input(2).and_then(Fact::floats),
        (_, false) => call.input(1).and_then(Fact::floats),
    };
    let sizes = call.items(3).filter(|s| by_input && !s.is_empty());
    // Other policies pick one scale for all axes; with tf_crop_and_resize the region of interest scales too.
    let plain = call.attrs.string("keep_aspect_ratio_policy").unwrap_or("stretch") == "stretch"
        && call.attrs.string("coordinate_transformation_mode") != Some("tf_crop_and_resize");
    let mut y = x.clone();
    for (i, &axis) in axes.iter().enumerate() {
        y[axis] = match (&sizes, &scales) {
            (Some(sizes), _) if plain => sizes.get(i).map_or(Dim::Unknown, Item::dim),
            (None, Some(scales)) if plain => match scales.get(i) {
                Some(&scale) => scaled(call, &x[axis], scale)?,
                None => Dim::Unknown,
            },
            _ => Dim::Unknown,
        };
    }
    Ok(vec![call.shaped(Some(y))])
}

/// Rounds down in `f32`, as ONNX Runtime does.
fn scaled(call: &Call, dim: &Dim, scale: f32) -> Result<Dim> {
    match dim.known() {
        Some(n) => {
            let size = (n as f32 * scale).floor();
            // A float beyond the range of the integer becomes its largest value.
            if size >= 0.0 { dims::size(call, Some(size as usize)) } else { Ok(Dim::Unknown) }
        }
        None if (scale - 1.0).abs() < f32::EPSILON => Ok(dim.clone()),
        None => Ok(Dim::Unknown),
    }
}
