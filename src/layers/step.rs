//! The steps of a recipe at single layers, for the report.

use serde::Serialize;

/// One step of a recipe at one layer: applied, or refused for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerStep {
    /// The step, such as `equalise`.
    pub step: &'static str,
    /// The layer.
    pub layer: String,
    /// Why it was not applied; `None` if it was.
    pub refused: Option<String>,
    /// Why it is only approximate, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl LayerStep {
    /// Returns a step that was applied if `refused` is `None`.
    pub fn new(step: &'static str, layer: String, refused: Option<String>) -> Self {
        Self { step, layer, refused, note: None }
    }
}
