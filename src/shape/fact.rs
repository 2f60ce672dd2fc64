//! Facts: the known element type, shape, and small integer contents of a value.

use ndarray::{ArrayD, IxDyn};

use crate::ir::{DType, Dim, Shape, Tensor, element_count};

/// The most elements of integer tensors whose contents are tracked.
pub const CONTENTS_MAX: usize = 1024;

/// Ranks above this count as unknown, since a file can declare more sizes than it holds.
const RANK_MAX: usize = 64;

/// Returns a shape of known rank and unknown sizes.
pub fn of_rank(rank: usize) -> Option<Shape> {
    (rank <= RANK_MAX).then(|| vec![Dim::Unknown; rank])
}

/// One element of an integer tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A number.
    Int(i64),
    /// The size of the [`Dim::Symbol`] of the same name.
    Symbol(String),
    /// Unknown.
    Unknown,
}

impl Item {
    /// Returns the number, if known.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// Returns the item as a dimension; unknown where it is negative.
    pub fn dim(&self) -> Dim {
        match self {
            Self::Int(v) => usize::try_from(*v).map_or(Dim::Unknown, Dim::Known),
            Self::Symbol(name) => Dim::Symbol(name.clone()),
            Self::Unknown => Dim::Unknown,
        }
    }
}

impl From<&Dim> for Item {
    fn from(dim: &Dim) -> Self {
        match dim {
            Dim::Known(n) => i64::try_from(*n).map_or(Self::Unknown, Self::Int),
            Dim::Symbol(name) => Self::Symbol(name.clone()),
            Dim::Unknown => Self::Unknown,
        }
    }
}

/// The elements of an integer tensor, in its shape.
pub type Contents = ArrayD<Item>;

/// The known properties of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fact {
    /// The element type.
    pub dtype: Option<DType>,
    /// The shape, where the rank is known.
    pub shape: Option<Shape>,
    /// The elements, for integer and boolean tensors of at most [`CONTENTS_MAX`] elements.
    pub contents: Option<Contents>,
    /// The tensor itself, where the value is a constant.
    pub constant: Option<Tensor>,
}

impl Fact {
    /// Returns a fact without contents.
    pub fn new(dtype: Option<DType>, shape: Option<Shape>) -> Self {
        Self { dtype, shape, ..Self::default() }
    }

    /// Returns a fact with a shape of numbers.
    pub fn of_shape(dtype: DType, shape: &[usize]) -> Self {
        Self::new(Some(dtype), Some(shape.iter().copied().map(Dim::Known).collect()))
    }

    /// Returns the fact of a constant.
    pub fn of_tensor(tensor: &Tensor) -> Self {
        let mut fact = Self::of_shape(tensor.dtype(), tensor.shape());
        if tensor.len() <= CONTENTS_MAX
            && let Ok(values) = tensor.to_i64()
        {
            let items = values.into_iter().map(Item::Int).collect();
            fact.contents = ArrayD::from_shape_vec(IxDyn(tensor.shape()), items).ok();
        }
        fact.constant = Some(tensor.clone());
        fact
    }

    /// Returns the fact of an integer tensor with these contents.
    pub fn of_contents(dtype: Option<DType>, contents: Contents) -> Self {
        let shape = contents.shape().iter().copied().map(Dim::Known).collect();
        let contents = (contents.len() <= CONTENTS_MAX).then_some(contents);
        Self { dtype, shape: Some(shape), contents, constant: None }
    }

    /// Returns the fact with `contents` if they have its shape and are few enough.
    pub fn with_contents(mut self, contents: Option<Contents>) -> Self {
        let shape = self.static_shape();
        self.contents = contents.filter(|c| c.len() <= CONTENTS_MAX && shape.as_deref() == Some(c.shape()));
        self
    }

    /// Returns the number of dimensions.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// Returns the dimensions as numbers, where all are known.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }

    /// Returns the dimensions as numbers, where all are known and the elements are few enough to be tracked.
    pub fn followed_shape(&self) -> Option<Vec<usize>> {
        self.static_shape().filter(|shape| element_count(shape).is_some_and(|elements| elements <= CONTENTS_MAX))
    }

    /// Returns the elements in order.
    pub fn items(&self) -> Option<Vec<Item>> {
        Some(self.contents.as_ref()?.iter().cloned().collect())
    }

    /// Returns the elements as numbers, where all are known.
    pub fn ints(&self) -> Option<Vec<i64>> {
        self.contents.as_ref()?.iter().map(Item::int).collect()
    }

    /// Returns the elements of a floating-point constant.
    pub fn floats(&self) -> Option<Vec<f32>> {
        self.constant.as_ref()?.to_f32().ok()
    }
}
