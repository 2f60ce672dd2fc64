//! `--input-shape` for commands that run models and write none.

use clap::Args;

use super::arguments::{input_shape, setting};
use crate::error::Result;
use crate::ir::Graph;
use crate::passes::{GivenShape, fix_shapes, set_inputs, settle_batch};

/// Sizes of open axes.
#[derive(Args, Debug)]
pub(super) struct ShapeArguments {
    /// Sizes of an input's open axes, `?` for one that stays open (repeatable)
    #[arg(long, value_name = "NAME:1x3x224x224", value_parser = input_shape)]
    input_shape: Vec<GivenShape>,
    /// Replace an input of the float model by a constant, as in quantize (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set_input: Vec<(String, String)>,
}

impl ShapeArguments {
    /// Makes constants of inputs of a float model.
    ///
    /// # Errors
    /// Those of [`set_inputs`].
    pub(super) fn set(&self, graph: &mut Graph) -> Result<()> {
        set_inputs(graph, &self.set_input).map(drop)
    }

    /// Makes constants of those inputs that `graph`, one of several models, still has.
    ///
    /// # Errors
    /// Those of [`set_inputs`].
    pub(super) fn set_where_present(&self, graph: &mut Graph) -> Result<()> {
        let has = |name: &str| graph.fed_inputs().iter().any(|&id| graph.name_of(id) == name);
        let present: Vec<_> = self.set_input.iter().filter(|(name, _)| has(name)).cloned().collect();
        set_inputs(graph, &present).map(drop)
    }

    /// Returns `graph` with these sizes, for making its inputs; what runs keeps its open axes.
    ///
    /// # Errors
    /// Those of [`fix_shapes`].
    pub(super) fn described(&self, graph: &Graph) -> Result<Graph> {
        let mut described = graph.clone();
        fix_shapes(&mut described, &self.input_shape)?;
        settle_batch(&mut described);
        Ok(described)
    }
}
