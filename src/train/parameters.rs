//! The parameters of one role (student weights, scales, generator) as one flat float vector, and its layout.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::expr::{Builder, Expr};
use crate::ir::{DType, Tensor, element_count};

/// One tensor of a flat vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, unique in the vector.
    pub name: String,
    /// Its dimensions; empty for a scalar.
    pub shape: Vec<usize>,
}

/// The layout of a flat vector: named tensors in sequence, each in row-major order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Parameters {
    entries: Vec<Entry>,
    sizes: Vec<usize>,
}

impl Parameters {
    /// Appends a tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] for a name that is taken, a tensor without elements, or more elements than fit in memory.
    pub fn add(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        let refuse = |message: &str| Err(Error::shape(format!("parameter \"{name}\""), message));
        if self.entries.iter().any(|entry| entry.name == name) {
            return refuse("the name is taken; each tensor is trained once");
        }
        let Some(size) = element_count(shape) else { return refuse("has more elements than memory holds") };
        if size == 0 {
            return refuse(&format!("expected elements, found none in the shape {shape:?}; leave it out"));
        }
        if self.len().checked_add(size).and_then(|n| DType::F32.byte_len(n)).is_none() {
            return refuse("with it the vector has more elements than memory holds");
        }
        self.entries.push(Entry { name: name.to_owned(), shape: shape.to_vec() });
        self.sizes.push(size);
        Ok(())
    }

    /// Returns the tensors in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the number of elements of the vector.
    pub fn len(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Returns whether there is nothing to train.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns float tensors, in order, as one vector `[n]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when their number, a shape or a type differs from the layout's.
    pub fn flatten(&self, tensors: &[Tensor]) -> Result<Tensor> {
        if tensors.len() != self.entries.len() {
            let message = format!("expected {} tensors, found {}", self.entries.len(), tensors.len());
            return Err(Error::shape("parameters", message));
        }
        let mut bytes = Vec::with_capacity(4 * self.len());
        for (entry, tensor) in self.entries.iter().zip(tensors) {
            expect(&format!("parameter \"{}\"", entry.name), &entry.shape, tensor)?;
            bytes.extend_from_slice(tensor.bytes());
        }
        Tensor::new(DType::F32, vec![self.len()], bytes.into())
    }

    /// Returns the tensors of a vector `[n]` by name, in order, without copying.
    ///
    /// # Errors
    /// [`Error::Shape`] when the vector's length differs from the layout's.
    pub fn tensors(&self, vector: &Tensor) -> Result<Vec<(String, Tensor)>> {
        expect("parameters", &[self.len()], vector)?;
        let mut start = 0;
        let tensor = |(entry, size): (&Entry, &usize)| {
            let bytes = vector.bytes().slice(4 * start..4 * (start + size));
            start += size;
            Ok((entry.name.clone(), Tensor::new(DType::F32, entry.shape.clone(), bytes)?))
        };
        self.entries.iter().zip(&self.sizes).map(tensor).collect()
    }

    /// Returns a vector `[n]` that holds one value per tensor, such as a learning-rate mask.
    pub fn fill(&self, mut value: impl FnMut(&Entry) -> f32) -> Tensor {
        let values = self.entries.iter().zip(&self.sizes).flat_map(|(e, &size)| std::iter::repeat_n(value(e), size));
        Tensor::from_f32(&[self.len()], &values.collect::<Vec<_>>())
    }

    /// Returns the tensors of a vector `[n]` in order: one Split, and one Reshape each.
    #[track_caller]
    pub fn split<'b>(&self, vector: Expr<'b>) -> Vec<Expr<'b>> {
        if vector.shape() != [self.len()] {
            let message = format!("expected a vector of {}, found the shape {:?}", self.len(), vector.shape());
            return vec![vector.fail("parameters", message); self.entries.len()];
        }
        let pieces = match self.sizes.as_slice() {
            [] => Vec::new(),
            [_] => vec![vector],
            sizes => vector.split(0, sizes),
        };
        pieces.into_iter().zip(&self.entries).map(|(piece, entry)| piece.reshape(&entry.shape)).collect()
    }

    /// Returns tensors such as gradients, in order, as one vector `[n]`: one Reshape each, and one Concat.
    #[track_caller]
    pub fn join<'b>(&self, builder: &'b Builder, tensors: &[Expr<'b>]) -> Expr<'b> {
        let flat: Vec<Expr> = tensors.iter().map(|tensor| tensor.reshape(&[tensor.len()])).collect();
        let shapes: Vec<Vec<usize>> = tensors.iter().map(|tensor| tensor.shape()).collect();
        match flat.as_slice() {
            _ if !shapes.iter().eq(self.entries.iter().map(|entry| &entry.shape)) => {
                let expected: Vec<&Vec<usize>> = self.entries.iter().map(|entry| &entry.shape).collect();
                builder.zeros(DType::F32, &[]).fail("parameters", format!("expected {expected:?}, found {shapes:?}"))
            }
            [] => builder.constant("none", Tensor::from_f32(&[0], &[])),
            [one] => *one,
            [first, others @ ..] => first.concat(others, 0),
        }
    }
}

impl TryFrom<Vec<Entry>> for Parameters {
    type Error = Error;

    fn try_from(entries: Vec<Entry>) -> Result<Self> {
        let mut parameters = Self::default();
        entries.iter().try_for_each(|entry| parameters.add(&entry.name, &entry.shape))?;
        Ok(parameters)
    }
}

impl From<Parameters> for Vec<Entry> {
    fn from(parameters: Parameters) -> Self {
        parameters.entries
    }
}

fn expect(place: &str, shape: &[usize], tensor: &Tensor) -> Result<()> {
    if tensor.dtype() == DType::F32 && tensor.shape() == shape {
        return Ok(());
    }
    let message = format!("expected float32 {shape:?}, found {} {:?}", tensor.dtype(), tensor.shape());
    Err(Error::shape(place, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Parameters {
        let mut parameters = Parameters::default();
        for (name, shape) in [("w", vec![2, 3]), ("scale", vec![]), ("b", vec![2])] {
            parameters.add(name, &shape).unwrap();
        }
        parameters
    }

    fn tensors() -> Vec<Tensor> {
        let w = Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        vec![w, Tensor::from_f32(&[], &[7.0]), Tensor::from_f32(&[2], &[8.0, 9.0])]
    }

    #[test]
    fn tensors_come_back_from_the_vector() {
        let vector = layout().flatten(&tensors()).unwrap();
        assert_eq!(vector.to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let (names, found): (Vec<String>, Vec<Tensor>) = layout().tensors(&vector).unwrap().into_iter().unzip();
        assert_eq!(names, ["w", "scale", "b"]);
        assert_eq!(found, tensors());
        let empty = Parameters::default().flatten(&[]).unwrap();
        assert_eq!((empty.shape(), Parameters::default().tensors(&empty).unwrap().len()), (&[0][..], 0));
    }

    #[test]
    fn values_per_tensor_lie_as_its_elements_do() {
        let mask = layout().fill(|entry| if entry.name == "b" { 0.0 } else { 0.5 });
        assert_eq!(mask.to_f32().unwrap(), [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn the_layout_survives_json() {
        let text = serde_json::to_string(&layout()).unwrap();
        assert_eq!(serde_json::from_str::<Parameters>(&text).unwrap(), layout());
        let twice = r#"[{"name":"w","shape":[1]},{"name":"w","shape":[2]}]"#;
        assert!(serde_json::from_str::<Parameters>(twice).unwrap_err().to_string().contains("the name is taken"));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut parameters = layout();
        let cases = [
            ("a name twice", parameters.add("w", &[1]).err()),
            ("no elements", parameters.add("none", &[3, 0]).err()),
            ("a shape beyond memory", parameters.add("huge", &[usize::MAX, 2]).err()),
            ("a sum beyond memory", parameters.add("large", &[usize::MAX - 3]).err()),
            ("a tensor too few", layout().flatten(&tensors()[1..]).err()),
            ("tensors in another order", layout().flatten(&[2, 1, 0].map(|i| tensors()[i].clone())).err()),
            ("a longer vector", layout().tensors(&Tensor::from_f32(&[10], &[0.0; 10])).err()),
            ("integers", layout().tensors(&Tensor::from_i64(&[9], &[0; 9])).err()),
        ];
        let passed: Vec<&str> = cases.iter().filter(|(_, e)| e.is_none()).map(|(name, _)| *name).collect();
        assert!(passed.is_empty(), "not refused: {passed:?}");
        assert_eq!(parameters, layout(), "a refused tensor leaves no trace");
    }

    #[test]
    fn refuses_expressions_of_other_shapes() {
        let builder = Builder::new("wrong");
        let x = builder.input("x", DType::F32, &[8]);
        layout().split(x);
        assert!(builder.finish(&[]).unwrap_err().to_string().contains("expected a vector of 9"));
        layout().join(&builder, &[x]);
        assert!(builder.finish(&[]).unwrap_err().to_string().contains("found [[8]]"));
    }
}
