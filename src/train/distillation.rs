//! A student that learns to compute what its teacher does: the loss and the training step as graphs.

use super::{Network, Optimiser, Student, Targets, TrainedVector, TrainingStep, distance, targets, training_step};
use crate::error::Result;
use crate::expr::{Builder, Expr, Lowering, OPSET, inline};
use crate::ir::{DType, Graph};
use crate::{data, onnx, shape};

/// A student, a teacher whose weights are constants, and how one is trained on the other.
#[derive(Clone, Debug)]
pub struct Distillation {
    student: Student,
    /// The float network at the operator set of expressions.
    teacher: Graph,
    targets: Targets,
    /// Of the class probabilities that are compared.
    pub temperature: f32,
    /// The update rule.
    pub optimiser: Optimiser,
    /// Losses that the state keeps.
    pub losses: usize,
}

impl Distillation {
    /// Returns the training of `student` on the float network `teacher` by Adam, without a temperature.
    ///
    /// # Errors
    /// When the operator set of the teacher cannot be raised.
    pub fn new(teacher: &Graph, mut student: Student) -> Result<Self> {
        let mut teacher = teacher.clone();
        onnx::upgrade(&mut teacher, OPSET)?;
        shape::infer(&mut teacher)?;
        let targets = targets(&teacher);
        // What lies behind them, suppression of boxes say, is not trained and need not be of fixed shape.
        let names: Vec<&str> = targets.tensors.iter().map(|target| target.tensor.as_str()).collect();
        teacher.cut(&names);
        student.graph.cut(&names);
        // Messages name the nodes of the step graph, in which those of the student keep their names.
        let names: Vec<String> = teacher.nodes.iter().map(|n| format!("teacher/{}", teacher.label(n))).collect();
        teacher.nodes.iter_mut().zip(names).for_each(|(node, name)| node.name = name);
        let optimiser =
            Optimiser::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decoupled: false };
        Ok(Self { student, teacher, targets, temperature: 1.0, optimiser, losses: 20 })
    }

    /// Returns what is trained for.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Returns the student.
    pub fn student(&self) -> &Student {
        &self.student
    }

    /// Returns the float network that is the teacher.
    pub fn teacher(&self) -> &Graph {
        &self.teacher
    }

    /// Returns the graph of the loss alone: inputs `weights`, `scales` and the network's on `batch` samples, output
    /// `loss`.
    ///
    /// # Errors
    /// As [`Distillation::step`].
    pub fn loss_graph(&self, batch: usize) -> Result<Graph> {
        let builder = Builder::new("loss");
        let (loss, _) = self.loss(&builder, batch)?;
        builder.finish(&[("loss", loss)])
    }

    /// Returns the training step on `batch` samples as one graph, as `lowering` writes it.
    ///
    /// # Errors
    /// An operator that cannot be differentiated or whose shape is not known, by node; an input without known shape.
    pub fn step(&self, batch: usize, lowering: &Lowering) -> Result<TrainingStep> {
        let builder = Builder::new("training_step");
        let (loss, vectors) = self.loss(&builder, batch)?;
        training_step(loss, &[], &vectors, (self.optimiser, self.losses), lowering)
    }

    fn loss<'b>(&self, builder: &'b Builder, batch: usize) -> Result<(Expr<'b>, [(Expr<'b>, &TrainedVector); 2])> {
        let (weights, scales) = (&self.student.weights, &self.student.scales);
        let input = |name: &str, vector: &TrainedVector| builder.input(name, DType::F32, &[vector.layout.len()]);
        let vectors = [(input("weights", weights), weights), (input("scales", scales), scales)];
        let inputs = self.inputs(builder, batch)?;
        let teacher = inline(builder, &self.teacher, &inputs, &mut |_, tensor| tensor)?;
        let student = self.student.forward(builder, &inputs, (vectors[0].0, vectors[1].0))?;
        let networks = (
            Network { graph: &self.teacher, inlined: &teacher },
            Network { graph: self.student.graph(), inlined: &student },
        );
        Ok((distance(&self.targets.tensors, networks, self.temperature)?, vectors))
    }

    /// Returns the inputs of the network on `batch` samples.
    fn inputs<'b>(&self, builder: &'b Builder, batch: usize) -> Result<Vec<Expr<'b>>> {
        let graph = &self.teacher;
        let input = |id| {
            let shape = data::input_shape(graph, id, batch)?;
            Ok(builder.input(graph.name_of(id), graph.value(id).dtype.unwrap_or(DType::F32), &shape))
        };
        graph.fed_inputs().into_iter().map(input).collect()
    }
}
