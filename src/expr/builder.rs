//! The graph behind expressions.

use std::cell::{Ref, RefCell};
use std::panic::Location;

use super::Expr;
use super::own::{self, OWN_DOMAIN};
use crate::error::{Error, Result};
use crate::ir::{Attrs, DType, Dim, Graph, Node, Tensor, ValueId};
use crate::shape::{self, Call, Fact};

/// The operator set of every built graph.
pub const OPSET: i64 = 21;
/// The IR version of that operator set.
const IR_VERSION: i64 = 10;

/// A graph under construction.
///
/// [`Builder::finish`] returns the first mistake with its place in the source. Expressions built after a mistake are
/// meaningless.
#[derive(Debug)]
pub struct Builder {
    pub(super) state: RefCell<State>,
    /// Replaces every result after the first mistake.
    mistaken: ValueId,
}

#[derive(Debug)]
pub(super) struct State {
    pub graph: Graph,
    pub facts: Vec<Fact>,
    pub error: Option<Error>,
    /// Optional results that were requested after their node was added.
    pub asked: Vec<ValueId>,
}

impl Builder {
    /// Returns an empty graph.
    pub fn new(name: &str) -> Self {
        let mut graph = Graph::default();
        (graph.name, graph.ir_version) = (name.to_owned(), IR_VERSION);
        graph.set_opset(OPSET);
        let mistaken = graph.add_value("mistaken");
        let facts = vec![Fact::of_shape(DType::F32, &[])];
        Self { state: RefCell::new(State { graph, facts, error: None, asked: Vec::new() }), mistaken }
    }

    /// Returns a new input of the graph.
    pub fn input(&self, name: &str, dtype: DType, shape: &[usize]) -> Expr<'_> {
        let mut state = self.state.borrow_mut();
        let id = state.add(name, Fact::of_shape(dtype, shape));
        state.graph.inputs.push(id);
        Expr { builder: self, id }
    }

    /// Returns a constant.
    pub fn constant(&self, name: &str, tensor: Tensor) -> Expr<'_> {
        let mut state = self.state.borrow_mut();
        let id = state.add(name, Fact::of_tensor(&tensor));
        state.graph.value_mut(id).constant = Some(tensor);
        Expr { builder: self, id }
    }

    /// Returns a constant of rank 0.
    pub fn scalar(&self, value: f32) -> Expr<'_> {
        self.constant("scalar", Tensor::from_f32(&[], &[value]))
    }

    /// Returns a constant of rank 0 of a floating-point type; any other type is a mistake.
    #[track_caller]
    pub fn number(&self, dtype: DType, value: f32) -> Expr<'_> {
        match Tensor::from_floats(dtype, &[], &[value]) {
            Ok(tensor) => self.constant("scalar", tensor),
            Err(_) => {
                self.fail(Error::shape(
                    format!("number at {}", Location::caller()),
                    format!("{value} with a tensor of type {dtype}, expected a floating-point type"),
                ));
                self.mistaken()
            }
        }
    }

    /// Returns zeros.
    #[track_caller]
    pub fn zeros(&self, dtype: DType, shape: &[usize]) -> Expr<'_> {
        self.scalar(0.0).cast(dtype).expand(shape)
    }

    /// Returns a constant list of integers.
    pub fn ints(&self, values: &[i64]) -> Expr<'_> {
        self.constant("ints", Tensor::from_i64(&[values.len()], values))
    }

    /// Returns the only result of an operator.
    #[track_caller]
    pub fn apply<'b>(&'b self, op_type: &str, inputs: &[Expr<'b>], attrs: impl Into<Attrs>) -> Expr<'b> {
        let inputs: Vec<Option<Expr<'b>>> = inputs.iter().copied().map(Some).collect();
        self.call(op_type, &inputs, attrs, 1)[0]
    }

    /// Returns the results of an operator of the default domain; inputs may be left out.
    #[track_caller]
    pub fn call<'b>(
        &'b self,
        op_type: &str,
        inputs: &[Option<Expr<'b>>],
        attrs: impl Into<Attrs>,
        outputs: usize,
    ) -> Vec<Expr<'b>> {
        let place = format!("{op_type} at {}", Location::caller());
        let node = Node { op_type: op_type.to_owned(), attrs: attrs.into(), ..Node::default() };
        self.call_at(&place, node, inputs, outputs)
    }

    /// Returns the results of an operator of our own domain (see [`super::OWN_DOMAIN`]).
    #[track_caller]
    pub fn own<'b>(
        &'b self,
        op_type: &str,
        inputs: &[Expr<'b>],
        attrs: impl Into<Attrs>,
        outputs: usize,
    ) -> Vec<Expr<'b>> {
        let place = format!("{op_type} at {}", Location::caller());
        let inputs: Vec<Option<Expr<'b>>> = inputs.iter().copied().map(Some).collect();
        self.call_at(&place, own::own(op_type, attrs), &inputs, outputs)
    }

    /// Returns the results of an operator of another domain, of the types and shapes in `facts`; its inputs and outputs
    /// are still empty.
    pub(super) fn foreign<'b>(&'b self, node: Node, inputs: &[Option<Expr<'b>>], facts: Vec<Fact>) -> Vec<Expr<'b>> {
        let mut state = self.state.borrow_mut();
        state.graph.import(&node.domain, 1);
        let results = state.push(node, inputs, facts);
        results.into_iter().map(|id| Expr { builder: self, id }).collect()
    }

    /// Adds `node`, whose inputs and outputs are still empty; `place` names it in errors.
    pub(super) fn call_at<'b>(
        &'b self,
        place: &str,
        node: Node,
        inputs: &[Option<Expr<'b>>],
        outputs: usize,
    ) -> Vec<Expr<'b>> {
        if inputs.iter().flatten().any(|e| !std::ptr::eq(e.builder, self)) {
            self.fail(Error::shape(place, "an operand belongs to another graph"));
        }
        let mut state = self.state.borrow_mut();
        let facts = match &state.error {
            Some(_) => Err(None),
            None => state.infer(place, &node, inputs, outputs).map_err(Some),
        };
        let facts = match facts {
            Ok(facts) => facts,
            Err(error) => {
                state.error = state.error.take().or(error);
                return vec![self.mistaken(); outputs];
            }
        };
        let results = state.push(node, inputs, facts);
        results.into_iter().map(|id| Expr { builder: self, id }).collect()
    }

    /// Adds a node of a model as [`Builder::call_at`]. A shape that cannot be inferred or does not fit is an
    /// unsupported model, not a mistake of the caller.
    pub(super) fn call_of_model<'b>(
        &'b self,
        place: &str,
        node: Node,
        inputs: &[Option<Expr<'b>>],
        outputs: usize,
    ) -> Vec<Expr<'b>> {
        let was_sound = self.state.borrow().error.is_none();
        let results = self.call_at(place, node, inputs, outputs);
        let mut state = self.state.borrow_mut();
        state.error = match state.error.take() {
            Some(Error::Shape { place, message }) if was_sound => Some(Error::unsupported(place, message)),
            other => other,
        };
        results
    }

    /// Returns result `i` of the operator that produces `made`, adding it if it was omitted. [`Builder::finish`]
    /// removes it again if nothing reads it.
    ///
    /// # Panics
    /// When no operator produces `made`.
    #[track_caller]
    pub fn result_beside<'b>(&'b self, made: Expr<'b>, i: usize) -> Expr<'b> {
        let mut state = self.state.borrow_mut();
        let at = state.graph.nodes.iter().position(|node| node.outputs.contains(&Some(made.id)));
        let at = at.expect("an operator makes it");
        let node = state.graph.nodes[at].clone();
        if let Some(id) = node.output(i) {
            return self.expr(id);
        }
        let place = format!("{} at {}", node.op_type, Location::caller());
        let inputs: Vec<Option<Expr>> = node.inputs.iter().map(|id| id.map(|id| self.expr(id))).collect();
        match state.infer(&place, &node, &inputs, i + 1) {
            Ok(mut facts) => {
                let id = state.add(&node.op_type.to_lowercase(), facts.swap_remove(i));
                let outputs = &mut state.graph.nodes[at].outputs;
                outputs.resize(outputs.len().max(i + 1), None);
                outputs[i] = Some(id);
                state.asked.push(id);
                self.expr(id)
            }
            Err(error) => {
                state.error.get_or_insert(error);
                self.mistaken()
            }
        }
    }

    /// Records `error` if it is the first.
    pub(crate) fn fail(&self, error: Error) {
        self.state.borrow_mut().error.get_or_insert(error);
    }

    /// Returns the result that replaces those after a mistake.
    pub(crate) fn mistaken(&self) -> Expr<'_> {
        Expr { builder: self, id: self.mistaken }
    }

    /// Returns the handle of a value of this graph.
    pub(crate) fn expr(&self, id: ValueId) -> Expr<'_> {
        Expr { builder: self, id }
    }

    /// Returns the graph as it stands, mistakes included.
    pub(crate) fn graph(&self) -> Ref<'_, Graph> {
        Ref::map(self.state.borrow(), |state| &state.graph)
    }

    /// Returns the fact of a value.
    pub(super) fn fact(&self, id: ValueId) -> Ref<'_, Fact> {
        Ref::map(self.state.borrow(), |state| &state.facts[id.index()])
    }
}

impl State {
    fn add(&mut self, name: &str, fact: Fact) -> ValueId {
        let id = self.graph.add_value(name);
        self.facts.push(fact);
        id
    }

    /// Adds a node whose results have these `facts`.
    fn push(&mut self, mut node: Node, inputs: &[Option<Expr>], facts: Vec<Fact>) -> Vec<ValueId> {
        let name = if node.name.is_empty() { node.op_type.to_lowercase() } else { node.name.clone() };
        let results: Vec<ValueId> = facts.into_iter().map(|fact| self.add(&name, fact)).collect();
        // A network may be inlined twice, and no two nodes may have one name.
        node.name = results.first().map_or(name, |&id| self.graph.name_of(id).to_owned());
        node.inputs = inputs.iter().map(|input| input.map(|e| e.id)).collect();
        node.outputs = results.iter().copied().map(Some).collect();
        self.graph.nodes.push(node);
        results
    }

    fn infer(&self, place: &str, node: &Node, inputs: &[Option<Expr>], outputs: usize) -> Result<Vec<Fact>> {
        let inputs: Vec<Option<&Fact>> = inputs.iter().map(|e| e.map(|e| &self.facts[e.id.index()])).collect();
        let (op_type, attrs) = (node.op_type.as_str(), &node.attrs);
        let call = Call { place, op_type, attrs, inputs: &inputs, outputs, opset: OPSET };
        let facts = if node.domain == OWN_DOMAIN { own::facts(&call) } else { shape::apply(&call)? };
        let known = |fact: &Fact| fact.dtype.is_some() && fact.static_shape().is_some();
        if facts.len() < outputs || !facts[..outputs].iter().all(known) {
            let message = "its output shape cannot be inferred; all sizes must be static here";
            return Err(Error::shape(place, message));
        }
        Ok(facts.into_iter().take(outputs).collect())
    }
}

/// Returns dimensions as numbers.
pub(super) fn numbers(fact: &Fact) -> Vec<usize> {
    fact.shape.iter().flatten().map(|dim| Dim::known(dim).unwrap_or(0)).collect()
}
