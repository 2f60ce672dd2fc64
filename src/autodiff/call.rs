//! The argument of a gradient rule: one operator call and the gradients of its outputs.

use crate::error::{Error, Result};
use crate::expr::{Builder, Expr};
use crate::ir::{Attrs, front_axis};
use crate::shape::ConvWindow;

/// The gradient of each input, in order; `None` where there is none.
pub type Gradients<'b> = Result<Vec<Option<Expr<'b>>>>;

/// A gradient rule: returns the gradient of each input, in order. Where an input was broadcast, its gradient may have
/// the shape of the output.
pub type Rule = for<'b> fn(&BackwardCall<'_, 'b>) -> Gradients<'b>;

/// One operator call in the backward pass.
#[derive(Debug)]
pub struct BackwardCall<'a, 'b> {
    /// The name of the node in messages.
    pub place: &'a str,
    /// The operator.
    pub op_type: &'a str,
    /// Its attributes.
    pub attrs: &'a Attrs,
    /// Its inputs; `None` where an optional one is left out.
    pub inputs: &'a [Option<Expr<'b>>],
    /// Its outputs.
    pub outputs: &'a [Option<Expr<'b>>],
    /// The gradient of each output; `None` where the loss does not depend on it.
    pub grads: &'a [Option<Expr<'b>>],
    /// Whether the gradient of each input is wanted; others may be left out.
    pub wanted: &'a [bool],
}

impl<'b> BackwardCall<'_, 'b> {
    /// Returns input `i`.
    ///
    /// # Errors
    /// When it is left out.
    pub fn x(&self, i: usize) -> Result<Expr<'b>> {
        let found = self.inputs.get(i).copied().flatten();
        found.ok_or_else(|| self.error(format!("input {i} is missing")))
    }

    /// Returns the first output.
    ///
    /// # Errors
    /// When it is left out.
    pub fn y(&self) -> Result<Expr<'b>> {
        let found = self.outputs.first().copied().flatten();
        found.ok_or_else(|| self.error("its first output is missing"))
    }

    /// Returns the gradient of the first output.
    ///
    /// # Errors
    /// Where the loss depends on another output.
    pub fn dy(&self) -> Result<Expr<'b>> {
        let found = self.grads.first().copied().flatten();
        let alone = self.grads.iter().skip(1).all(Option::is_none);
        found.filter(|_| alone).ok_or_else(|| self.error("only its first output has a gradient"))
    }

    /// Returns `axis` of input 0 counted from the front.
    ///
    /// # Errors
    /// When it lies outside.
    pub fn front(&self, axis: i64) -> Result<usize> {
        let rank = self.x(0)?.rank();
        let front = front_axis(axis, rank).filter(|&front| front < rank);
        front.ok_or_else(|| self.error(format!("axis {axis} lies outside of rank {rank}")))
    }

    /// Returns the attribute `axis` counted from the front.
    ///
    /// # Errors
    /// As [`BackwardCall::front`].
    pub fn axis(&self, default: i64) -> Result<usize> {
        self.front(self.attrs.int("axis", default))
    }

    /// Returns the window of the call; see [`ConvWindow::read`].
    ///
    /// # Errors
    /// When its attributes are not supported.
    pub fn window(&self, kernel: &[usize], large: &[usize], small: &[usize]) -> Result<ConvWindow> {
        ConvWindow::read(self.attrs, kernel, large, small).map_err(|message| self.error(message))
    }

    /// Returns whether the gradient of input `i` is wanted.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// Returns the builder of the graph.
    pub fn builder(&self) -> &'b Builder {
        let any = self.inputs.iter().chain(self.outputs).flatten().next();
        any.expect("an operator has an output").builder()
    }

    /// Returns an error at this node.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::unsupported(self.place, format!("{}; use a recipe that does not train", message.into()))
    }
}
