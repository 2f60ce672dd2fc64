//! Node attributes, in the order of the file.

use super::{Body, Tensor};

/// The value of one attribute. Sparse tensors, types and lists of graphs are refused at loading.
///
/// Floats are equal where their bits are: a NaN that went through a file is the same attribute.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Attr {
    Int(i64),
    Float(f32),
    String(Vec<u8>),
    Tensor(Tensor),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<Vec<u8>>),
    Tensors(Vec<Tensor>),
    Graph(Box<Body>),
}

impl PartialEq for Attr {
    fn eq(&self, other: &Self) -> bool {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Tensor(a), Self::Tensor(b)) => a == b,
            (Self::Ints(a), Self::Ints(b)) => a == b,
            (Self::Floats(a), Self::Floats(b)) => bits(a) == bits(b),
            (Self::Strings(a), Self::Strings(b)) => a == b,
            (Self::Tensors(a), Self::Tensors(b)) => a == b,
            (Self::Graph(a), Self::Graph(b)) => a == b,
            _ => false,
        }
    }
}

impl From<i64> for Attr {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for Attr {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Attr {
    fn from(value: &str) -> Self {
        Self::String(value.as_bytes().to_vec())
    }
}

impl From<Vec<i64>> for Attr {
    fn from(value: Vec<i64>) -> Self {
        Self::Ints(value)
    }
}

impl From<Tensor> for Attr {
    fn from(value: Tensor) -> Self {
        Self::Tensor(value)
    }
}

/// The attributes of a node by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs(Vec<(String, Attr)>);

impl Attrs {
    /// Returns the attribute called `name`.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }

    /// Sets `name`, in place where it exists, else at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Attr>) {
        let value = value.into();
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes and returns `name`.
    pub fn remove(&mut self, name: &str) -> Option<Attr> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    /// Returns the attributes in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attr)> {
        self.0.iter().map(|(n, a)| (n.as_str(), a))
    }

    /// Returns the attributes in order for changes of their values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Attr)> {
        self.0.iter_mut().map(|(n, a)| (n.as_str(), a))
    }

    /// Returns an integer attribute, `default` where it is absent or of another kind.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.get(name) {
            Some(Attr::Int(v)) => *v,
            _ => default,
        }
    }

    /// Returns a float attribute, `default` where it is absent or of another kind.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.get(name) {
            Some(Attr::Float(v)) => *v,
            _ => default,
        }
    }

    /// Returns an integer list attribute.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.get(name) {
            Some(Attr::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// Returns a float list attribute.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.get(name) {
            Some(Attr::Floats(v)) => Some(v),
            _ => None,
        }
    }

    /// Returns a string attribute where it is UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Attr::String(v)) => std::str::from_utf8(v).ok(),
            _ => None,
        }
    }
}

impl From<Body> for Attr {
    fn from(value: Body) -> Self {
        Self::Graph(Box::new(value))
    }
}

impl<const N: usize> From<[(&str, Attr); N]> for Attrs {
    fn from(pairs: [(&str, Attr); N]) -> Self {
        Self(pairs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_compared_by_their_bits() {
        let nan = f32::from_bits(0x7fc0_0001);
        let cases = [
            ("NaN", Attr::Float(nan), Attr::Float(nan), true),
            ("another NaN", Attr::Float(nan), Attr::Float(f32::NAN), false),
            ("NaN in a list", Attr::Floats(vec![1.0, nan]), Attr::Floats(vec![1.0, nan]), true),
            ("both zeros", Attr::Float(0.0), Attr::Float(-0.0), false),
            ("another kind", Attr::Float(1.0), Attr::Int(1), false),
        ];
        let wrong: Vec<&str> = cases.iter().filter(|(_, a, b, same)| (a == b) != *same).map(|case| case.0).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
