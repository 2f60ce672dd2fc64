//! How far a student is from its teacher: which tensors are compared, and how.

use super::losses::{kl_logits, relative_square};
use crate::error::{Error, Result};
use crate::expr::{Expr, Inlined};
use crate::ir::{DType, Graph, ValueId};
use crate::outputs::{compared_tensors, may_hold_scores};

/// A tensor that the student is to make as the teacher does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The tensor's name, in the float network and the student alike.
    pub tensor: String,
    /// Whether it holds logits of classes, `[N, classes]` or `[N, classes, 1, 1]`.
    pub holds_scores: bool,
}

/// Returns what stands for the outputs of a network: logits before a trailing Softmax, scores before a decision such as
/// ArgMax, else the outputs themselves; in float32 where a Cast makes another type of it.
pub fn targets(graph: &Graph) -> Vec<Target> {
    let float = compared_tensors(graph).into_iter().filter(|(_, dtype)| dtype.is_float());
    let target = |(tensor, _): (ValueId, DType)| {
        let tensor = before_casts(graph, tensor);
        let shape = graph.value(tensor).shape.as_deref().unwrap_or_default();
        let (sizes, behind) = shape.split_at(shape.len().min(2));
        let classes = sizes.get(1).and_then(|dim| dim.known()).unwrap_or(0);
        let is_vector = matches!(behind.len(), 0 | 2) && behind.iter().all(|dim| dim.known() == Some(1));
        Target {
            tensor: graph.name_of(tensor).to_owned(),
            holds_scores: classes > 1 && is_vector && may_hold_scores(graph, tensor),
        }
    };
    float.map(target).collect()
}

fn before_casts(graph: &Graph, tensor: ValueId) -> ValueId {
    let mut at = tensor;
    while graph.value(at).dtype != Some(DType::F32)
        && let Some(cast) = graph.maker(graph.name_of(at)).filter(|node| node.is("Cast"))
        && let Some(input) = cast.input(0).filter(|&id| graph.value(id).dtype.is_some_and(DType::is_float))
    {
        at = input;
    }
    at
}

/// A network as expressions.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a, 'b> {
    /// The graph that it was.
    pub graph: &'a Graph,
    /// What that became.
    pub inlined: &'a Inlined<'b>,
}

impl<'b> Network<'_, 'b> {
    /// Returns a tensor by name.
    ///
    /// # Errors
    /// When the network computes none of this name.
    pub fn tensor(&self, name: &str) -> Result<Expr<'b>> {
        let found = self.graph.find(name).and_then(|id| self.inlined.tensors.get(&id).copied());
        found.ok_or_else(|| Error::Plan(format!("tensor \"{name}\" is computed by one network and not by the other")))
    }
}

/// Returns the distance to descend: over all targets, the divergence of class probabilities at `temperature`
/// ([`kl_logits`]), and of what holds no class scores the squared error relative to the teacher's squares.
///
/// # Errors
/// When one of them does not compute a target; without targets.
pub fn distance<'b>(
    targets: &[Target],
    (teacher, student): (Network<'_, 'b>, Network<'_, 'b>),
    temperature: f32,
) -> Result<Expr<'b>> {
    let one = |target: &Target| -> Result<Expr<'b>> {
        let tensor = |network: Network<'_, 'b>| Ok::<_, Error>(network.tensor(&target.tensor)?.cast(DType::F32));
        let (teacher, student) = (tensor(teacher)?, tensor(student)?);
        if !target.holds_scores {
            return Ok(relative_square(teacher, student));
        }
        let flat: Vec<usize> = teacher.shape().into_iter().take(2).collect();
        Ok(kl_logits(teacher.reshape(&flat), student.reshape(&flat), temperature))
    };
    let each = targets.iter().map(one).collect::<Result<Vec<_>>>()?;
    each.into_iter().reduce(|sum, next| sum + next).ok_or_else(|| {
        Error::unsupported(
            "model",
            "has no output of floating-point numbers to train for; use a recipe without training",
        )
    })
}
