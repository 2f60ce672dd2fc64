//! Edges of the graph: names, types, shapes, contents.

use super::{DType, Tensor};

/// One dimension of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A name such as `N`; equal names are equal sizes.
    Symbol(String),
    /// Unknown.
    Unknown,
}

impl Dim {
    /// Returns the number, if known.
    pub fn known(&self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(*n),
            _ => None,
        }
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// The dimensions of a value whose rank is known.
pub type Shape = Vec<Dim>;

/// A handle of a value in the arena of its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(super) usize);

impl ValueId {
    /// Returns the index in the arena, for tables by value.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One edge of the graph: an input, an initializer, or the output of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Value {
    pub(super) name: String,
    /// The element type, where declared or inferred.
    pub dtype: Option<DType>,
    /// The shape, where its rank is declared or inferred.
    pub shape: Option<Shape>,
    /// The contents, for initializers.
    pub constant: Option<Tensor>,
    /// Whether the file declares the value under `value_info`.
    pub declared: bool,
    /// `doc_string` of the declaration or of the initializer.
    pub doc: String,
}

impl Value {
    /// Returns the name, unique in its graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the dimensions as numbers, where all are known.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        if let Some(constant) = &self.constant {
            return Some(constant.shape().to_vec());
        }
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }

    /// Returns the elements of one sample (all axes but the first): 0 where the rank is unknown; unknown sizes count as
    /// 1.
    pub fn sample_len(&self) -> usize {
        self.shape
            .as_ref()
            .map_or(0, |shape| shape.iter().skip(1).filter_map(Dim::known).fold(1, usize::saturating_mul))
    }
}
