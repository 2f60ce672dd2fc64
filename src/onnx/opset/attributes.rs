//! Operators whose name, attribute names or attribute defaults changed.

use super::site::Site;
use crate::error::Result;

/// Scatter 11: the operator is called ScatterElements.
pub(super) fn scatter(site: &mut Site) -> Result<()> {
    site.node_mut().op_type = "ScatterElements".to_owned();
    Ok(())
}

/// RoiAlign 16: coordinates are shifted by half a pixel unless the attribute says otherwise.
pub(super) fn roi_align(site: &mut Site) -> Result<()> {
    site.node_mut().set("coordinate_transformation_mode", "output_half_pixel");
    Ok(())
}

/// Split 18: without `split`, the number of parts is an attribute.
pub(super) fn split(site: &mut Site) -> Result<()> {
    if site.node().input(1).is_none() {
        let parts = i64::try_from(site.node().outputs.len()).expect("a node's outputs fit an i64");
        site.node_mut().set("num_outputs", parts);
    }
    Ok(())
}

/// GridSample 20: interpolation modes lost their dimension.
pub(super) fn grid_sample(site: &mut Site) -> Result<()> {
    let mode = match site.node().attrs.string("mode") {
        Some("bilinear") => "linear",
        Some("bicubic") => "cubic",
        _ => return Ok(()),
    };
    site.node_mut().set("mode", mode);
    Ok(())
}
