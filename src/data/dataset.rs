//! The arrays of a file, as inputs of a model.

use std::path::Path;

use super::images::Images;
use super::npz::{Arrays, Member};
use super::{Feeds, Preprocess};
use crate::error::{Error, Result};
use crate::ir::Graph;

/// Names of label arrays, in order of preference.
const LABEL_NAMES: &[&str] = &["labels", "label", "y", "y_test", "targets"];

/// The arrays of a file, with its labels if any. Arrays are read only when a model needs them.
#[derive(Clone, Debug)]
pub struct Dataset {
    arrays: Arrays,
    pub(crate) labels: Option<Vec<usize>>,
    /// Rows of the file, and the number of those used; none if all are used.
    rows: Option<(usize, usize)>,
    place: String,
}

impl Dataset {
    /// Returns the arrays of an `.npz` or `.npy` file; labels that are not class indices are ignored.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let (arrays, place) = (Arrays::open(path)?, path.display().to_string());
        let labels = arrays.find(LABEL_NAMES).and_then(|labels| class_indices(&arrays, labels).ok());
        Ok(Self { arrays, labels, rows: None, place })
    }

    /// Returns the arrays of a file that must have labels: one class index per sample, named `labels`, `y` or similar.
    ///
    /// # Errors
    /// As [`Dataset::read`]; when labels are missing or not class indices.
    pub fn read_labelled(path: &Path) -> Result<Self> {
        let data = Self::read(path)?;
        match (data.arrays.find(LABEL_NAMES), &data.labels) {
            (None, _) => {
                Images::find(&data.arrays)?;
                Err(data.no_labels())
            }
            (Some(labels), None) => Err(class_indices(&data.arrays, labels).err().unwrap_or_else(|| data.no_labels())),
            (_, Some(labels)) if labels.is_empty() => Err(Error::malformed(data.place, "holds no image")),
            _ => Ok(data),
        }
    }

    /// Returns the first `n` labels and the first `n` rows of every array with one row per label.
    #[must_use]
    pub fn first(self, n: usize) -> Self {
        let Some(mut labels) = self.labels else { return self };
        let rows = Some((labels.len(), n.min(labels.len())));
        labels.truncate(n);
        Self { labels: Some(labels), rows, ..self }
    }

    /// Returns the file, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the inputs of `graph` among these arrays (see [`Feeds`]).
    ///
    /// # Errors
    /// When an input has no array, or an array does not fit its input.
    pub fn feeds(&self, graph: &Graph, preprocess: &Preprocess) -> Result<Feeds> {
        Feeds::new(&self.arrays, self.rows, graph, preprocess)
    }

    /// Returns the inputs of `graph` and the label of each sample.
    ///
    /// # Errors
    /// As [`Dataset::feeds`], and where there are not as many labels as samples.
    pub fn labelled(&self, graph: &Graph, preprocess: &Preprocess) -> Result<(Feeds, &[usize])> {
        let feeds = self.feeds(graph, preprocess)?;
        let labels = self.labels.as_deref().ok_or_else(|| self.no_labels())?;
        match feeds.samples() {
            Some(samples) if samples == labels.len() => Ok((feeds, labels)),
            Some(samples) => Err(Error::malformed(&self.place, format!("{samples} images, {} labels", labels.len()))),
            None => {
                let message = "its arrays have different numbers of samples along their first axes";
                Err(Error::malformed(&self.place, message))
            }
        }
    }

    fn no_labels(&self) -> Error {
        Error::malformed(&self.place, "holds no array \"labels\"; save one class index per sample beside the inputs")
    }
}

fn class_indices(arrays: &Arrays, labels: &Member) -> Result<Vec<usize>> {
    let labels = arrays.tensor(labels)?;
    let refused = |found: String| {
        let message = format!("labels: expected one class index of 0 or more per image, found {found}");
        Error::malformed(arrays.place(), message)
    };
    let values = labels.to_i64().map_err(|_| refused(format!("{} {:?}", labels.dtype(), labels.shape())))?;
    values.into_iter().map(|v| usize::try_from(v).map_err(|_| refused(v.to_string()))).collect()
}
