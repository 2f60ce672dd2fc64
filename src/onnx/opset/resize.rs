//! Upsample and Resize.

use super::site::Site;
use crate::error::Result;
use crate::ir::{Tensor, ValueId};

/// Upsample 10: the operator is called Resize; same inputs and attributes.
pub(super) fn upsample(site: &mut Site) -> Result<()> {
    site.node_mut().op_type = "Resize".to_owned();
    Ok(())
}

/// Resize 11: regions of interest come second, and what version 10 meant must be said: source coordinates are plain
/// quotients, and nearest rounds down where it enlarges and up where it shrinks (the specification of version 10 is
/// silent; this is what ONNX Runtime does). Scales of both kinds, or unknown ones, take two nodes.
pub(super) fn coordinates(site: &mut Site) -> Result<()> {
    let scales = site.input(1)?;
    let roi = site.constant("roi", Tensor::from_f32(&[0], &[]));
    site.node_mut().set("coordinate_transformation_mode", "asymmetric");
    site.node_mut().inputs.truncate(1);
    site.set_input(1, roi);
    site.set_input(2, scales);
    if site.node().attrs.string("mode").unwrap_or("nearest") != "nearest" {
        return Ok(());
    }
    match known_scales(site, scales)? {
        Some(known) if known.iter().all(|&scale| scale >= 1.0) => site.node_mut().set("nearest_mode", "floor"),
        Some(known) if known.iter().all(|&scale| scale <= 1.0) => site.node_mut().set("nearest_mode", "ceil"),
        _ => enlarge_then_shrink(site, roi, scales)?,
    }
    Ok(())
}

fn known_scales(site: &Site, scales: ValueId) -> Result<Option<Vec<f32>>> {
    site.graph.constant_of(scales).map(Tensor::to_f32).transpose()
}

fn enlarge_then_shrink(site: &mut Site, roi: ValueId, scales: ValueId) -> Result<()> {
    let x = site.input(0)?;
    let one = site.constant("one", Tensor::from_f32(&[1], &[1.0]));
    let larger = site.before("enlarging_scales", "Max", [scales, one], []);
    let smaller = site.before("shrinking_scales", "Min", [scales, one], []);
    let mut attrs = site.node().attrs.clone();
    attrs.set("nearest_mode", "floor");
    let enlarged = site.before("enlarged", "Resize", [x, roi, larger], attrs);
    site.set_input(0, enlarged);
    site.set_input(2, smaller);
    site.node_mut().set("nearest_mode", "ceil");
    Ok(())
}

/// Resize 13: `scales` is left out where `sizes` is given; before, it had to be empty.
pub(super) fn sizes_or_scales(site: &mut Site) -> Result<()> {
    if site.node().input(3).is_some() {
        site.drop_input(2);
    }
    Ok(())
}

/// Resize 18: `tf_half_pixel_for_nn` is gone. With floor it is half_pixel whose halves round up; else it is refused.
pub(super) fn half_pixel_for_nn(site: &mut Site) -> Result<()> {
    let attrs = &site.node().attrs;
    if attrs.string("coordinate_transformation_mode") != Some("tf_half_pixel_for_nn") {
        return Ok(());
    }
    let nearest = attrs.string("mode").unwrap_or("nearest") == "nearest";
    if !nearest || attrs.string("nearest_mode") != Some("floor") {
        return Err(site.refuse(
            "coordinate_transformation_mode tf_half_pixel_for_nn no longer exists; export the model again with \
             half_pixel",
        ));
    }
    site.node_mut().set("coordinate_transformation_mode", "half_pixel");
    site.node_mut().set("nearest_mode", "round_prefer_ceil");
    Ok(())
}
