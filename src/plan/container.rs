//! Containers: the element type that holds weights of 4 bits and below.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Policy, Weight};
use crate::error::{Error, Result};

/// The container of weights of 4 bits and below; wider weights always take a byte each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// The best one for the target.
    #[default]
    Auto,
    /// A byte per weight, which integer kernels read.
    Int8,
    /// Two weights per byte, for a small file.
    Int4,
}

/// Returns whether a weight of `bits` bits of an `op_type` is stored two per byte.
pub(super) fn is_packed(policy: &Policy, op_type: &str, bits: u32) -> bool {
    let choices = policy.target.choices();
    let wanted = match policy.container {
        Container::Auto => choices.packs_by_default.0,
        Container::Int8 => false,
        Container::Int4 => true,
    };
    wanted && bits <= 4 && choices.packs.contains(&op_type)
}

/// Checks that the requested container holds at least one weight.
///
/// # Errors
/// [`Error::Usage`] saying why it holds none and what to type instead.
pub(super) fn refuse_unused(policy: &Policy, weights: &[Weight]) -> Result<()> {
    if policy.container != Container::Int4 || weights.iter().any(|w| w.packed) {
        return Ok(());
    }
    let name = policy.target.name();
    Err(Error::Usage(match weights.iter().any(|w| w.scheme.bits <= 4) {
        false => "--container int4: no weight has 4 bits or fewer; add --bits 4 or --precision w4a8, and --all-layers \
                  if the network has only a first and a last layer"
            .to_owned(),
        true => format!(
            "--container int4: --target {name} stores only weights of {} in 4 bits, and none of those has 4 bits; use \
             int8, or --target onnx",
            policy.target.choices().packs.join(" and ")
        ),
    }))
}

/// The containers of the weights, and the reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContainerChoice {
    /// The requested container.
    pub asked: Container,
    /// The number of weights of 4 bits and below stored two per byte.
    pub packed: usize,
    /// The number of weights of 4 bits and below stored in a byte each.
    pub unpacked: usize,
    /// Why.
    pub reason: String,
    /// Bytes of all quantized weights as stored.
    pub bytes: usize,
    /// Bytes with one byte per weight.
    pub bytes_int8: usize,
    /// Bytes with weights of 4 bits and below two per byte, if the target supports that; else `bytes_int8`.
    pub bytes_int4: usize,
}

/// Returns the containers of the weights of a plan; `elements` are the sizes of [`super::Plan::weights`], `packable`
/// says which of them the target can store two per byte.
pub fn container_choice(policy: &Policy, weights: &[Weight], elements: &[usize], packable: &[bool]) -> ContainerChoice {
    let few = |w: &&Weight| w.scheme.bits <= 4;
    let packed = weights.iter().filter(few).filter(|w| w.packed).count();
    let unpacked = weights.iter().filter(few).count() - packed;
    let bytes = |is_packed: &dyn Fn(usize) -> bool| -> usize {
        elements.iter().enumerate().map(|(i, &n)| if is_packed(i) { n.div_ceil(2) } else { n }).sum()
    };
    let choices = policy.target.choices();
    let reason = match policy.container {
        _ if packed + unpacked == 0 => "no weight has 4 bits or fewer".to_owned(),
        Container::Auto => format!("--target {}: {}", policy.target.name(), choices.packs_by_default.1),
        Container::Int8 | Container::Int4 => "asked for".to_owned(),
    };
    ContainerChoice {
        asked: policy.container,
        packed,
        unpacked,
        reason,
        bytes: bytes(&|i| weights[i].packed),
        bytes_int8: bytes(&|_| false),
        bytes_int4: bytes(&|i| packable[i]),
    }
}
