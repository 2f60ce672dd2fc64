//! Normalization operators.

use super::site::Site;
use crate::error::Result;
use crate::ir::{Attrs, Dim, Tensor, ValueId};

/// BatchNormalization 9: `spatial` is gone and always 1. Statistics per activation (0) become arithmetic:
/// `(x - mean) / sqrt(var + epsilon) · gamma + beta`.
pub(super) fn batch_normalization_spatial(site: &mut Site) -> Result<()> {
    if site.node().attrs.int("spatial", 1) != 0 {
        site.node_mut().attrs.remove("spatial");
        return Ok(());
    }
    let [x, gamma, beta, mean, variance] =
        [site.input(0)?, site.input(1)?, site.input(2)?, site.input(3)?, site.input(4)?];
    let epsilon = site.scalar_like_input(site.node().attrs.float("epsilon", 1e-5))?;
    let epsilon = site.constant("epsilon", epsilon);
    let centred = site.before("centred", "Sub", [x, mean], []);
    let variance = site.before("variance", "Add", [variance, epsilon], []);
    let std = site.before("deviation", "Sqrt", [variance], []);
    let normalised = site.before("normalised", "Div", [centred, std], []);
    let scaled = site.before("scaled", "Mul", [normalised, gamma], []);
    let node = site.node_mut();
    (node.op_type, node.attrs) = ("Add".to_owned(), Attrs::default());
    node.inputs = vec![Some(scaled), Some(beta)];
    node.outputs.truncate(1);
    Ok(())
}

/// BatchNormalization 14: an attribute, and no longer the number of outputs, tells training from inference.
pub(super) fn batch_normalization_training(site: &mut Site) -> Result<()> {
    if site.node().outputs.iter().skip(1).any(Option::is_some) {
        return Err(site.refuse(
            "it also gives running statistics, which means training mode; export the model in inference mode (model.eval())",
        ));
    }
    site.node_mut().outputs.truncate(1);
    Ok(())
}

/// GroupNormalization 21: one scale and bias per channel, no longer per group.
pub(super) fn group_normalization(site: &mut Site) -> Result<()> {
    let groups = site.node().attrs.int("num_groups", 0);
    if groups < 1 {
        return Err(site.malformed(format!("expected num_groups of at least 1, found {groups}")));
    }
    let expanded = expanded_shape(site, groups)?;
    let column = site.constant("column", Tensor::from_i64(&[2], &[groups, 1]));
    let flat = site.constant("per_channel", Tensor::from_i64(&[1], &[-1]));
    for (i, role) in [(1, "scale"), (2, "bias")] {
        let per_group = site.input(i)?;
        let per_group = site.before(&format!("{role}_column"), "Reshape", [per_group, column], []);
        let per_channel = site.before(&format!("{role}_expanded"), "Expand", [per_group, expanded], []);
        let per_channel = site.before(role, "Reshape", [per_channel, flat], []);
        site.set_input(i, per_channel);
    }
    Ok(())
}

/// Returns the value `[groups, channels / groups]`, computed at run time where the channels are not declared.
fn expanded_shape(site: &mut Site, groups: i64) -> Result<ValueId> {
    let x = site.input(0)?;
    let channels = site.graph.value(x).shape.as_ref().and_then(|shape| shape.get(1)).and_then(Dim::known);
    if let Some(channels) = channels.and_then(|n| i64::try_from(n).ok()) {
        let shape = Tensor::from_i64(&[2], &[groups, channels / groups]);
        return Ok(site.constant("groups_and_size", shape));
    }
    let groups = site.constant("groups", Tensor::from_i64(&[1], &[groups]));
    let channels = site.before("channels", "Shape", [x], [("start", 1.into()), ("end", 2.into())]);
    let size = site.before("group_size", "Div", [channels, groups], []);
    Ok(site.before("groups_and_size", "Concat", [groups, size], [("axis", 0.into())]))
}
