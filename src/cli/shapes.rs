//! `--input-shape` for commands that run models and write none.

use clap::Args;

use super::arguments::input_shape;
use crate::error::Result;
use crate::ir::Graph;
use crate::passes::fix_shapes;

/// Sizes that a model leaves open.
#[derive(Args, Debug)]
pub(super) struct ShapeArguments {
    /// Sizes of an input's axes that the model leaves open (repeatable)
    #[arg(long, value_name = "NAME:1x3x224x224", value_parser = input_shape)]
    input_shape: Vec<(String, Vec<usize>)>,
}

impl ShapeArguments {
    /// Returns `graph` with these sizes, for making its inputs; what runs keeps its open axes.
    ///
    /// # Errors
    /// Those of [`fix_shapes`].
    pub(super) fn described(&self, graph: &Graph) -> Result<Graph> {
        let mut described = graph.clone();
        fix_shapes(&mut described, &self.input_shape)?;
        Ok(described)
    }
}
