//! Model files; the only module that uses protobuf types.

mod draft;
mod foreign;
mod load;
pub mod opset;
mod optional_outputs;
mod reader;
mod save;
mod tensor;
mod writer;

pub use draft::Draft;
pub use foreign::{Foreign, kind_of};
pub use load::{decode, files_of, files_read, load, stored_bytes};
pub use opset::upgrade;
pub use optional_outputs::drop_unread_outputs;
pub use save::{INLINE_LIMIT, Saved, constant_bytes, encode, encode_split, save};
pub use tensor::release_pages;

/// Generated from `proto/onnx.proto` by the program beside it.
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod proto;

/// The newest supported IR version; newer files may have fields that a rewrite would lose.
pub const NEWEST_IR_VERSION: i64 = 14;
