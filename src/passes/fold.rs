//! The ordered list of passes that fold operators into adjacent layers and rewrite layers and pools for integer
//! kernels.

use super::{conv_to_gemm, fold_batch_norm, fuse_pad, part_pool_indices};
use crate::error::Result;
use crate::ir::Graph;

type Fold = fn(&mut Graph) -> Result<usize>;

const FOLD: &[(&str, Fold)] = &[
    // First: a Pad makes a normalization before it unfoldable, so it must still be seen where it is.
    ("fold_batch_norm", fold_batch_norm),
    ("fuse_pad", fuse_pad),
    // Behind the first: a normalization behind the Conv must be in its weight.
    ("conv_to_gemm", conv_to_gemm),
    ("part_pool_indices", part_pool_indices),
];

/// Runs the passes and returns each with its number of changes. BatchNorm statistics must be read before.
///
/// # Errors
/// Those of the passes.
pub fn fold(graph: &mut Graph) -> Result<Vec<(&'static str, usize)>> {
    FOLD.iter().map(|(name, pass)| Ok((*name, pass(graph)?))).collect()
}
