//! The arrays of a file, and what a model is fed of them.

use std::path::Path;

use super::images::Images;
use super::npz::{Arrays, Member};
use super::{Feeds, Preprocess};
use crate::error::{Error, Result};
use crate::ir::Graph;

/// Names under which labels are looked for, in this order.
const LABEL_NAMES: &[&str] = &["labels", "label", "y", "y_test", "targets"];

/// The arrays of a file, with labels where it has any. Of the others those alone are read that a model is fed.
#[derive(Clone, Debug)]
pub struct Dataset {
    arrays: Arrays,
    pub(crate) labels: Option<Vec<usize>>,
    /// Rows of the file, and how many of them are used, where not all are.
    rows: Option<(usize, usize)>,
    place: String,
}

impl Dataset {
    /// Returns the arrays of an `.npz` or `.npy` file; labels that are no class indices are none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let (arrays, place) = (Arrays::open(path)?, path.display().to_string());
        let labels = arrays.find(LABEL_NAMES).and_then(|labels| class_indices(&arrays, labels).ok());
        Ok(Self { arrays, labels, rows: None, place })
    }

    /// Returns [`Dataset::read`] of a file that must have labels: one class index a sample under the name `labels`, `y` or
    /// the like.
    ///
    /// # Errors
    /// As [`Dataset::read`], and where there are no labels, or none that are class indices.
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

    /// Returns the first `n` labels and as many rows of every array that has one for each label, or all where there are
    /// fewer.
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

    /// Returns what `graph` is fed of these arrays (see [`Feeds`]).
    ///
    /// # Errors
    /// When there is nothing for an input, or an array does not fit its input.
    pub fn feeds(&self, graph: &Graph, preprocess: &Preprocess) -> Result<Feeds> {
        Feeds::new((&self.arrays, self.rows), graph, preprocess)
    }

    /// Returns the same with the label of each sample.
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
