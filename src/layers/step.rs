//! What a recipe did to single layers, for the report.

use serde::Serialize;

/// One step of a recipe at one layer: applied, or not and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerStep {
    /// The step, such as `equalise`.
    pub step: &'static str,
    /// The layer.
    pub layer: String,
    /// Why it was not applied; none where it was.
    pub refused: Option<String>,
    /// What is not exact about it, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl LayerStep {
    /// Returns a step that was applied where `refused` is none.
    pub fn new(step: &'static str, layer: String, refused: Option<String>) -> Self {
        Self { step, layer, refused, note: None }
    }
}
