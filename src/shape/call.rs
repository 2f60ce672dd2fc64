//! The argument of a shape rule: one operator call, independent of a graph.

use crate::error::{Error, Result};
use crate::ir::{Attrs, DType, Dim, Shape, front_axis};

use super::{Fact, Item};

/// One operator call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The name of the node in messages.
    pub place: &'a str,
    /// The operator.
    pub op_type: &'a str,
    /// Its attributes.
    pub attrs: &'a Attrs,
    /// Its inputs; `None` where an optional one is left out.
    pub inputs: &'a [Option<&'a Fact>],
    /// The number of requested outputs.
    pub outputs: usize,
    /// The version of the default operator set.
    pub opset: i64,
}

/// The axes of a call, from an attribute or an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axes {
    /// None are given.
    Absent,
    /// These, as written (negative ones count from the end).
    Given(Vec<i64>),
    /// They are computed at run time.
    Unknown,
}

impl<'a> Call<'a> {
    /// Returns input `i` where it is given.
    pub fn input(&self, i: usize) -> Option<&'a Fact> {
        self.inputs.get(i).copied().flatten()
    }

    /// Returns the element type of input `i`.
    pub fn dtype(&self, i: usize) -> Option<DType> {
        self.input(i)?.dtype
    }

    /// Returns the shape of input `i`.
    pub fn shape(&self, i: usize) -> Option<&'a Shape> {
        self.input(i)?.shape.as_ref()
    }

    /// Returns the elements of integer input `i`.
    pub fn items(&self, i: usize) -> Option<Vec<Item>> {
        self.input(i)?.items()
    }

    /// Returns a fact with the element type and shape of input 0.
    pub fn same(&self) -> Fact {
        Fact::new(self.dtype(0), self.shape(0).cloned())
    }

    /// Returns a fact of the element type of input 0 with another shape.
    pub fn shaped(&self, shape: Option<Shape>) -> Fact {
        Fact::new(self.dtype(0), shape)
    }

    /// Returns an error at this node.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::shape(self.place, message)
    }

    /// Returns `axis` counted from the front.
    ///
    /// # Errors
    /// When it lies outside of `rank`.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        front_axis(axis, rank)
            .filter(|&a| a < rank)
            .ok_or_else(|| self.error(format!("axis {axis} lies outside of an input of rank {rank}")))
    }

    /// Returns the attribute `name`, or the contents of input `i` from operator set `since` on.
    pub fn axes(&self, name: &str, i: usize, since: i64) -> Axes {
        if self.opset < since {
            return self.attrs.ints(name).map_or(Axes::Absent, |axes| Axes::Given(axes.to_vec()));
        }
        match self.input(i) {
            None => Axes::Absent,
            Some(fact) => fact.ints().map_or(Axes::Unknown, Axes::Given),
        }
    }

    /// Returns an error unless `expected` and `found` can be the same size.
    ///
    /// # Errors
    /// [`Error::Shape`] where both are numbers that differ.
    pub fn expect_dim(&self, what: &str, expected: &Dim, found: &Dim) -> Result<()> {
        match (expected.known(), found.known()) {
            (Some(a), Some(b)) if a != b => Err(self.error(format!("{what}: expected {a}, found {b}"))),
            _ => Ok(()),
        }
    }
}
