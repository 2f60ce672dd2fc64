//! The inputs of a model from the arrays of a file: for each input the array of its name, or images.

use std::ops::Range;

use super::images::Images;
use super::npz::{Arrays, Member};
use super::preprocess::{Pixels, Preprocess};
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Shape, Tensor, ValueId};

/// The most samples for checking the scale of inputs.
const JUDGED: usize = 256;

/// The inputs of a model, sample by sample.
///
/// An array with the name of an input is used unchanged, except that bytes for a float input are pixels. For the only
/// input of a model, images may have another name. A [`Preprocess`] turns pixels into inputs.
#[derive(Clone, Debug)]
pub struct Feeds {
    place: String,
    feeds: Vec<Feed>,
}

/// The data of one input.
#[derive(Clone, Debug)]
enum Feed {
    Array(Tensor),
    Images { images: Images, preprocess: Preprocess, name: String, shape: Shape, dtype: DType },
}

impl Feeds {
    /// Returns the inputs of `graph` among `arrays`. With `rows` `(all, used)`, arrays of `all` rows are cut to the
    /// first `used`.
    ///
    /// # Errors
    /// When an input has no array, or an array does not fit its input.
    pub(super) fn new(
        arrays: &Arrays,
        rows: Option<(usize, usize)>,
        graph: &Graph,
        preprocess: &Preprocess,
    ) -> Result<Self> {
        let (ids, place) = (graph.fed_inputs(), arrays.place());
        let images = |id: ValueId, images: Images| Self::images(images, graph, id, preprocess);
        let first_rows = |tensor: Tensor| match rows {
            Some((all, used)) if tensor.shape().first() == Some(&all) => tensor.rows(0..used),
            _ => Ok(tensor),
        };
        let feed = |id: ValueId, member: &Member| {
            let tensor = first_rows(arrays.tensor(member)?)?;
            match holds_pixels(graph, id, &tensor) {
                true => images(id, Images { tensor, place: place.clone() }),
                false => fitting(&place, graph, id, &member.name, tensor).map(Feed::Array),
            }
        };
        let found: Vec<&Member> = ids.iter().filter_map(|&id| arrays.find(&[graph.name_of(id)])).collect();
        let feeds = match ids.as_slice() {
            _ if found.len() == ids.len() => ids.iter().zip(found).map(|(&id, member)| feed(id, member)).collect(),
            &[id] => {
                let Images { tensor, place } = Images::find(arrays)?;
                images(id, Images { tensor: first_rows(tensor)?, place }).map(|feed| vec![feed])
            }
            _ => {
                let names: Vec<&str> = ids.iter().map(|&id| graph.name_of(id)).collect();
                let present: Vec<&str> = arrays.members().iter().map(|member| member.name.as_str()).collect();
                let (names, present) = (names.join(", "), present.join(", "));
                let message = format!("expected an array for each input ({names}), found {present}");
                Err(Error::malformed(&place, message))
            }
        };
        Ok(Self { place, feeds: feeds? })
    }

    fn images(images: Images, graph: &Graph, id: ValueId, preprocess: &Preprocess) -> Result<Feed> {
        let (value, name) = (graph.value(id), graph.name_of(id).to_owned());
        let undeclared = || Error::unsupported(format!("input \"{name}\""), "has no shape; give it with --input-shape");
        let shape = value.shape.clone().ok_or_else(undeclared)?;
        let dtype = value.dtype.unwrap_or(DType::F32);
        Ok(Feed::Images { images, preprocess: preprocess.to_type(dtype), name, shape, dtype })
    }

    /// Returns the file, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the number of samples; `None` where first axes differ.
    pub fn samples(&self) -> Option<usize> {
        let mut samples = self.feeds.iter().map(|feed| match feed {
            Feed::Array(tensor) => tensor.shape().first().copied(),
            Feed::Images { images, .. } => Some(images.len()),
        });
        let first = samples.next()?;
        first.filter(|_| samples.all(|other| other == first))
    }

    /// Returns the inputs of a range of samples, in the order of [`Graph::fed_inputs`].
    ///
    /// # Errors
    /// When images do not fit the model, mean and deviation do not fit their channels, or the range exceeds the
    /// samples.
    pub fn batch(&self, range: Range<usize>) -> Result<Vec<Tensor>> {
        let one = |feed: &Feed| match feed {
            Feed::Array(tensor) => tensor.rows(range.clone()),
            Feed::Images { images, preprocess, name, shape, dtype } => {
                preprocess.as_type(images.batch(range.clone(), preprocess, shape)?, *dtype, name)
            }
        };
        self.feeds.iter().map(one).collect()
    }

    /// Returns the inputs of all samples.
    ///
    /// # Errors
    /// As [`Feeds::batch`].
    pub fn all(&self) -> Result<Vec<Tensor>> {
        if let Some(samples) = self.samples() {
            return self.batch(0..samples);
        }
        let one = |feed: &Feed| match feed {
            Feed::Array(tensor) => Ok(tensor.clone()),
            Feed::Images { images, .. } => {
                let own = Self { place: self.place.clone(), feeds: vec![feed.clone()] };
                Ok(own.batch(0..images.len())?.remove(0))
            }
        };
        self.feeds.iter().map(one).collect()
    }

    /// Returns the kind of pixels; `None` without images.
    ///
    /// # Errors
    /// When their values cannot be read.
    pub fn pixels(&self) -> Result<Option<Pixels>> {
        let mut images = self.feeds.iter().filter_map(|feed| match feed {
            Feed::Images { images, .. } => Some(images),
            Feed::Array(_) => None,
        });
        images.next().map(Images::pixels).transpose()
    }

    /// Returns the inputs of the first samples, for checking their scale.
    ///
    /// # Errors
    /// As [`Feeds::batch`].
    pub fn judged(&self) -> Result<Vec<Tensor>> {
        match self.samples() {
            Some(samples) => self.batch(0..samples.min(JUDGED)),
            None => self.all(),
        }
    }
}

/// Returns whether an array holds bytes for a float input.
fn holds_pixels(graph: &Graph, id: ValueId, tensor: &Tensor) -> bool {
    tensor.dtype() == DType::U8 && graph.value(id).dtype.is_some_and(DType::is_float)
}

/// Returns an array that is used unchanged.
fn fitting(place: &str, graph: &Graph, id: ValueId, name: &str, tensor: Tensor) -> Result<Tensor> {
    let value = graph.value(id);
    let dims = value.shape.as_deref().unwrap_or_default();
    let pairs = || dims.iter().zip(tensor.shape()).skip(1);
    let same_rank = value.shape.is_none() || dims.len() == tensor.shape().len();
    if same_rank && pairs().all(|(dim, &n)| dim.known().is_none_or(|d| d == n)) && value.dtype == Some(tensor.dtype()) {
        return Ok(tensor);
    }
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    let message = format!(
        "expected {} [{}] in \"{name}\", as the model's input is, found {} {:?}",
        value.dtype.unwrap_or(DType::F32),
        dims.join(", "),
        tensor.dtype(),
        tensor.shape()
    );
    Err(Error::shape(place, message))
}
