//! Handles of tensors in a graph under construction.

use std::panic::Location;

use super::Builder;
use super::builder::numbers;
use crate::error::Error;
use crate::ir::{DType, ValueId};

/// A tensor of a graph under construction; see the [module](super).
#[derive(Clone, Copy)]
pub struct Expr<'b> {
    pub(super) builder: &'b Builder,
    pub(super) id: ValueId,
}

impl<'b> Expr<'b> {
    /// Returns the builder that it belongs to.
    pub fn builder(self) -> &'b Builder {
        self.builder
    }

    /// Returns the value in the builder's graph.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// Returns the name in the builder's graph.
    pub fn name(self) -> String {
        self.builder.graph().name_of(self.id).to_owned()
    }

    /// Returns the element type.
    pub fn dtype(self) -> DType {
        self.builder.fact(self.id).dtype.unwrap_or(DType::F32)
    }

    /// Returns the dimensions.
    pub fn shape(self) -> Vec<usize> {
        numbers(&self.builder.fact(self.id))
    }

    /// Returns the number of dimensions.
    pub fn rank(self) -> usize {
        self.builder.fact(self.id).rank().unwrap_or(0)
    }

    /// Returns the number of elements.
    pub fn len(self) -> usize {
        self.shape().iter().product()
    }

    /// Returns whether it has no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the dimensions of a tensor of rank `N`; any other rank is a mistake.
    #[track_caller]
    pub fn dims<const N: usize>(self) -> [usize; N] {
        let shape = self.shape();
        <[usize; N]>::try_from(shape.as_slice()).unwrap_or_else(|_| {
            self.fail("rank", format!("expected rank {N}, found the shape {shape:?}"));
            [1; N]
        })
    }

    /// Returns the integers of a small constant; `None` for other tensors.
    pub fn constant_ints(self) -> Option<Vec<i64>> {
        self.builder.fact(self.id).ints()
    }

    /// Returns the elements of a floating-point constant.
    pub fn constant_floats(self) -> Option<Vec<f32>> {
        self.builder.fact(self.id).floats()
    }

    /// Records a mistake with the place of the caller, if it is the first.
    #[track_caller]
    pub(crate) fn fail(self, what: &str, message: String) -> Self {
        self.builder.fail(Error::shape(format!("{what} at {}", Location::caller()), message));
        self.builder.mistaken()
    }
}

impl std::fmt::Debug for Expr<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.builder.graph().name_of(self.id), self.dtype(), self.shape())
    }
}
