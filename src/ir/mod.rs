//! The structural graph: nodes with operator names, values with handles, tensors. It is independent of operator
//! semantics.

mod attr;
mod axis;
mod body;
mod check;
mod dtype;
mod graph;
mod live;
mod nearest;
mod node;
mod node_names;
mod order;
mod part;
mod qdq;
mod tensor;
mod text;
mod value;

pub use attr::{Attr, Attrs};
pub use axis::front_axis;
pub use body::Body;
pub use check::check;
pub use dtype::DType;
pub use graph::{Graph, Metadata, OperatorSet};
pub use live::peak_bytes;
pub use nearest::nearest_names;
pub use node::Node;
pub use node_names::NodeNames;
pub use order::Uses;
pub use qdq::{is_dequantize, is_quantize, is_quantized, quantized_type, stated_type};
pub use tensor::{Tensor, element_count};
pub use text::text;
pub use value::{Dim, Shape, Value, ValueId};
