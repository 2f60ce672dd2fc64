//! What a model is fed of the arrays of a file: for each of its inputs an array of its name, or images.

use std::ops::Range;

use super::images::Images;
use super::npz::{Array, Arrays, Member};
use super::preprocess::{Pixels, Preprocess};
use crate::error::{Error, Result};
use crate::ir::{DType, Graph, Shape, Tensor, ValueId};

/// Samples that the scale of inputs is judged by.
const JUDGED: usize = 256;

/// What a model is fed, sample by sample.
///
/// Arrays of the names of inputs are taken as they are, but bytes for an input of floats are pixels. The only input of a
/// model may be images under another name. Pixels become inputs by a [`Preprocess`].
#[derive(Clone, Debug)]
pub struct Feeds {
    place: String,
    feeds: Vec<Feed>,
}

/// What one input is fed.
#[derive(Clone, Debug)]
enum Feed {
    Array(Tensor),
    Images { images: Images, preprocess: Preprocess, name: String, shape: Shape, dtype: DType },
}

impl Feeds {
    /// Returns what `graph` is fed of `arrays`; of those with as many rows as the first of `rows` says, the first rows only, as
    /// many as the second says.
    ///
    /// # Errors
    /// When there is nothing for an input, or an array does not fit it.
    pub(super) fn new(
        (arrays, rows): (&Arrays, Option<(usize, usize)>),
        graph: &Graph,
        preprocess: &Preprocess,
    ) -> Result<Self> {
        let (ids, place) = (graph.fed_inputs(), arrays.place());
        let images = |id: ValueId, images: Images| Self::images(images, (graph, id), preprocess);
        let first_rows = |tensor: Tensor| match rows {
            Some((all, used)) if tensor.shape().first() == Some(&all) => tensor.rows(0..used),
            _ => Ok(tensor),
        };
        let feed = |id: ValueId, member: &Member| {
            let array = (member.name.clone(), first_rows(arrays.tensor(member)?)?);
            match holds_pixels(graph, id, &array) {
                true => images(id, Images { tensor: array.1, place: place.clone() }),
                false => fitting(&place, graph, id, &array).map(Feed::Array),
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

    fn images(images: Images, (graph, id): (&Graph, ValueId), preprocess: &Preprocess) -> Result<Feed> {
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

    /// Returns how many samples there are; nothing where first axes differ.
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
    /// When images do not fit the model, or mean and deviation their channels; when there are no such samples.
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

    /// Returns what pixels are fed; nothing where no images are.
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

    /// Returns the inputs of the first samples, as many as the scale of all is judged by.
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

/// Returns whether an array of the input's name holds bytes where the network is fed floats.
fn holds_pixels(graph: &Graph, id: ValueId, (_, tensor): &Array) -> bool {
    tensor.dtype() == DType::U8 && graph.value(id).dtype.is_some_and(DType::is_float)
}

/// Returns an array that is an input as it is.
fn fitting(place: &str, graph: &Graph, id: ValueId, (name, tensor): &Array) -> Result<Tensor> {
    let value = graph.value(id);
    let dims = value.shape.as_deref().unwrap_or_default();
    let pairs = || dims.iter().zip(tensor.shape()).skip(1);
    let same_rank = value.shape.is_none() || dims.len() == tensor.shape().len();
    if same_rank && pairs().all(|(dim, &n)| dim.known().is_none_or(|d| d == n)) && value.dtype == Some(tensor.dtype()) {
        return Ok(tensor.clone());
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
