//! The ONNX Runtime library: found, fetched where there is none, examined and loaded.

mod file;
pub(super) mod load;
pub(super) mod provision;
pub(super) mod search;

pub use load::TELEMETRY_SWITCH;
pub use search::{Found, LIBRARY_VARIABLE, Origin, Places, locate};
