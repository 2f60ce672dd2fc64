//! Operators whose attributes became inputs. An absent optional attribute stays an absent input.

use super::site::Site;
use crate::error::Result;
use crate::ir::{Attr, Tensor};

/// Clip 11: `min`, `max`. The attributes' defaults are the limits of float32, which is what an absent input means.
pub(super) fn clip(site: &mut Site) -> Result<()> {
    for (i, name) in ["min", "max"].into_iter().enumerate() {
        if let Some(limit) = site.take_float(name)?.filter(|limit| limit.abs() < f32::MAX) {
            let limit = site.scalar_like_input(limit)?;
            let limit = site.constant(name, limit);
            site.set_input(i + 1, limit);
        }
    }
    Ok(())
}

/// Pad 11: `pads`, and `value` where it is not 0.
pub(super) fn pad(site: &mut Site) -> Result<()> {
    required_ints(site, "pads", 1)?;
    if let Some(value) = site.take_float("value")?.filter(|&value| value != 0.0) {
        let value = site.scalar_like_input(value)?;
        let value = site.constant("value", value);
        site.set_input(2, value);
    }
    Ok(())
}

/// Slice 10: `starts`, `ends`, `axes`.
pub(super) fn slice(site: &mut Site) -> Result<()> {
    required_ints(site, "starts", 1)?;
    required_ints(site, "ends", 2)?;
    optional_ints(site, "axes", 3)
}

/// Dropout 10: the mask became boolean; one without readers is dropped.
pub(super) fn dropout_mask(site: &mut Site) -> Result<()> {
    let Some(mask) = site.node().output(1) else { return Ok(()) };
    if site.is_read(mask) {
        return Err(
            site.refuse("its mask is read and becomes boolean; export the model in inference mode, without the mask")
        );
    }
    site.graph.value_mut(mask).declared = false;
    site.node_mut().outputs.truncate(1);
    Ok(())
}

/// Dropout 12: `ratio`.
pub(super) fn dropout(site: &mut Site) -> Result<()> {
    if let Some(ratio) = site.take_float("ratio")? {
        let ratio = site.constant("ratio", Tensor::from_f32(&[], &[ratio]));
        site.set_input(1, ratio);
    }
    Ok(())
}

/// TopK 10: `k`.
pub(super) fn top_k(site: &mut Site) -> Result<()> {
    let Some(Attr::Int(k)) = site.node_mut().attrs.remove("k") else {
        return Err(site.malformed("attribute \"k\" is missing or no integer"));
    };
    let k = site.constant("k", Tensor::from_i64(&[1], &[k]));
    site.set_input(1, k);
    Ok(())
}

/// Upsample 9: `scales`.
pub(super) fn upsample(site: &mut Site) -> Result<()> {
    let Some(Attr::Floats(scales)) = site.node_mut().attrs.remove("scales") else {
        return Err(site.malformed("attribute \"scales\" is missing or no list of floats"));
    };
    let scales = site.constant("scales", Tensor::from_f32(&[scales.len()], &scales));
    site.set_input(1, scales);
    Ok(())
}

/// Squeeze and ReduceSum 13, the other reductions 18: `axes`.
pub(super) fn axes(site: &mut Site) -> Result<()> {
    optional_ints(site, "axes", 1)
}

/// Unsqueeze 13: `axes`, which it needs.
pub(super) fn unsqueeze(site: &mut Site) -> Result<()> {
    required_ints(site, "axes", 1)
}

/// Split 13: `split`.
pub(super) fn split(site: &mut Site) -> Result<()> {
    optional_ints(site, "split", 1)
}

/// DFT 20: `axis`, whose default was 1 and is -2.
pub(super) fn dft(site: &mut Site) -> Result<()> {
    let axis = site.node().attrs.int("axis", 1);
    site.node_mut().attrs.remove("axis");
    let axis = site.constant("axis", Tensor::from_i64(&[], &[axis]));
    site.set_input(2, axis);
    Ok(())
}

fn optional_ints(site: &mut Site, name: &str, input: usize) -> Result<()> {
    if let Some(values) = site.take_ints(name)? {
        let values = site.constant(name, Tensor::from_i64(&[values.len()], &values));
        site.set_input(input, values);
    }
    Ok(())
}

fn required_ints(site: &mut Site, name: &str, input: usize) -> Result<()> {
    if site.node().ints(name).is_none() {
        return Err(site.malformed(format!("attribute \"{name}\" is missing or no list of integers")));
    }
    optional_ints(site, name, input)
}
