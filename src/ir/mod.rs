//! The structural graph: nodes with operator names, values with handles, tensors. It knows no operator's meaning.

mod attr;
mod check;
mod dtype;
mod graph;
mod tensor;
mod text;

pub use attr::{Attr, Attrs};
pub use check::check;
pub use dtype::DType;
pub use graph::{Dim, Graph, Metadata, Node, OperatorSet, Shape, Uses, Value, ValueId};
pub use tensor::{Tensor, element_count};
pub use text::text;
