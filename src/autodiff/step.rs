//! What a rule is given: one operator call and the gradient of its results.

use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Window};
use crate::ir::{Attrs, front_axis};

/// The gradient of each input, in order; `None` where there is none.
pub type Gradients<'b> = Result<Vec<Option<Expr<'b>>>>;

/// Returns the gradient of each input, in order; `None` where there is none. Gradients may have the shape of the
/// result where the input was broadcast to it.
pub type Rule = for<'b> fn(&Step<'_, 'b>) -> Gradients<'b>;

/// One operator call on the way back.
#[derive(Debug)]
pub struct Step<'a, 'b> {
    /// How a message names the node.
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

impl<'b> Step<'_, 'b> {
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
    /// As [`Step::front`].
    pub fn axis(&self, default: i64) -> Result<usize> {
        self.front(self.attrs.int("axis", default))
    }

    /// Returns its window; see [`Window::read`].
    ///
    /// # Errors
    /// When its attributes are of a form that is not handled.
    pub fn window(&self, kernel: &[usize], large: &[usize], small: &[usize]) -> Result<Window> {
        Window::read(self.attrs, kernel, large, small).map_err(|message| self.error(message))
    }

    /// Returns whether the gradient of input `i` is wanted.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// Returns what is being built.
    pub fn builder(&self) -> &'b Builder {
        let any = self.inputs.iter().chain(self.outputs).flatten().next();
        any.expect("an operator has an output").builder()
    }

    /// Returns an error at this node.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::unsupported(self.place, format!("{}; use a recipe that does not train", message.into()))
    }
}
