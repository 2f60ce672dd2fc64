//! Distillation of a student from its teacher: the loss and the training step as graphs.

use super::blocks::inputs_on;
use super::losses::relative_mse;
use super::{
    Network, Optimiser, Player, StepParts, Student, Target, Targets, TrainingStep, distance, targets, training_step,
};
use crate::error::Result;
use crate::expr::{Builder, Expr, Lowering, OPSET, inline};
use crate::ir::{DType, Graph};
use crate::plan::is_layer;
use crate::{onnx, shape};

/// The terms of the distillation loss and their weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// The temperature of the compared class probabilities ([`distance()`], with weight 1).
    pub temperature: f32,
    /// The weight of the squared error of logits, averaged over classes and inputs.
    pub logits: f32,
    /// The weight of the squared error of intermediate tensors, relative to the teacher's squares and averaged over
    /// tensors.
    pub features: f32,
}

impl Default for Objective {
    fn default() -> Self {
        Self { temperature: 1.0, logits: 0.0, features: 0.0 }
    }
}

/// A student, a teacher whose weights are constants, and the distillation settings.
#[derive(Clone, Debug)]
pub struct Distillation {
    student: Student,
    /// The float network at the opset of expressions.
    teacher: Graph,
    targets: Targets,
    /// The loss terms.
    pub objective: Objective,
    /// The compared intermediate tensors, by the names they have in both networks.
    pub features: Vec<String>,
    /// The update rule.
    pub optimiser: Optimiser,
    /// The number of steps whose losses the state keeps.
    pub losses: usize,
}

impl Distillation {
    /// Returns the distillation of `student` from the float network `teacher` with Adam, at temperature 1 and on the
    /// outputs alone.
    ///
    /// # Errors
    /// When the opset of the teacher cannot be raised.
    pub fn new(teacher: &Graph, mut student: Student) -> Result<Self> {
        let mut teacher = teacher.clone();
        onnx::upgrade(&mut teacher, OPSET)?;
        shape::infer(&mut teacher)?;
        let targets = targets(&teacher);
        // Operators behind the targets, such as non-maximum suppression, are not trained and need no fixed shapes.
        let names: Vec<&str> = targets.tensors.iter().map(|target| target.tensor.as_str()).collect();
        teacher.cut(&names);
        student.graph.cut(&names);
        // Error messages name the nodes of the step graph, where the student's nodes keep their names.
        let names: Vec<String> = teacher.nodes.iter().map(|n| format!("teacher/{}", teacher.label(n))).collect();
        teacher.nodes.iter_mut().zip(names).for_each(|(node, name)| node.name = name);
        Ok(Self {
            student,
            teacher,
            targets,
            objective: Objective::default(),
            features: Vec::new(),
            optimiser: Optimiser::ADAM,
            losses: 20,
        })
    }

    /// Returns the training targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Returns the names of the inputs of the last layers before the targets, where other layers compute them.
    pub fn last_features(&self) -> Vec<String> {
        let uses = self.teacher.uses();
        let before = |target: &Target| {
            let (mut at, mut last) = (self.teacher.find(&target.tensor)?, None);
            while let Some(node) = uses.producer(at).map(|place| &self.teacher.nodes[place]) {
                at = node.input(0)?;
                match last {
                    None if is_layer(node) => last = Some(at),
                    Some(found) if is_layer(node) => return Some(self.teacher.name_of(found).to_owned()),
                    _ => (),
                }
            }
            None
        };
        let mut names: Vec<String> = self.targets.tensors.iter().filter_map(before).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the student.
    pub fn student(&self) -> &Student {
        &self.student
    }

    /// Returns the float network used as teacher.
    pub fn teacher(&self) -> &Graph {
        &self.teacher
    }

    /// Returns the graph of the loss alone: inputs `weights`, `scales` and the network's inputs for `batch` samples,
    /// output `loss`.
    ///
    /// # Errors
    /// As [`Distillation::step`].
    pub fn loss_graph(&self, batch: usize) -> Result<Graph> {
        let builder = Builder::new("loss");
        let (inputs, vectors) = self.inputs_on(&builder, batch)?;
        builder.finish(&[("loss", self.compared(&inputs, vectors)?.loss)])
    }

    /// Returns the graph of both networks' outputs: inputs as those of [`Distillation::loss_graph`]; outputs `loss`,
    /// the teacher's and the student's logits `[N, classes]` for each target of logits, and the teacher's and the
    /// student's tensor for each of [`Distillation::last_features`].
    ///
    /// # Errors
    /// As [`Distillation::step`].
    pub fn answers(&self, batch: usize) -> Result<Graph> {
        let builder = Builder::new("answers");
        let (inputs, vectors) = self.inputs_on(&builder, batch)?;
        let compared = self.compared(&inputs, vectors)?;
        let mut outputs = vec![("loss".to_owned(), compared.loss)];
        for (number, pair) in compared.logits.into_iter().chain(compared.last_features).enumerate() {
            let names = ["teacher", "student"].map(|whose| format!("{whose}_{number}"));
            outputs.extend(names.into_iter().zip(pair));
        }
        let outputs: Vec<(&str, Expr)> = outputs.iter().map(|(name, e)| (name.as_str(), *e)).collect();
        builder.finish(&outputs)
    }

    /// Returns the training step on `batch` samples as one graph, lowered by `lowering`.
    ///
    /// # Errors
    /// An operator that is not differentiable or whose shape is unknown, by node; an input of unknown shape.
    pub fn step(&self, batch: usize, lowering: &Lowering) -> Result<TrainingStep> {
        let builder = Builder::new("training_step");
        let (inputs, inputs_of_vectors) = self.inputs_on(&builder, batch)?;
        let Compared { loss, terms, .. } = self.compared(&inputs, inputs_of_vectors)?;
        let [weights, scales] = inputs_of_vectors;
        let vectors = [(weights, &self.student.weights), (scales, &self.student.scales)];
        let player = Player { loss, vectors: &vectors, optimiser: self.optimiser };
        training_step(&StepParts { losses: self.losses, ..StepParts::of(&[player], loss, &terms) }, lowering)
    }

    /// Returns new inputs of `builder`: those of the network for `batch` samples, and the student's weights and scales.
    fn inputs_on<'b>(&self, builder: &'b Builder, batch: usize) -> Result<(Vec<Expr<'b>>, [Expr<'b>; 2])> {
        let vectors = [("weights", &self.student.weights), ("scales", &self.student.scales)];
        let vectors = vectors.map(|(name, vector)| builder.input(name, DType::F32, &[vector.layout.len()]));
        Ok((inputs_on(builder, &self.teacher, batch)?, vectors))
    }

    /// Returns the loss terms of the student, of `weights: [n]` and `scales: [m]`, against the teacher on the network's
    /// inputs.
    ///
    /// # Errors
    /// As [`Distillation::step`].
    pub fn compared<'b>(&self, inputs: &[Expr<'b>], [weights, scales]: [Expr<'b>; 2]) -> Result<Compared<'b>> {
        let builder = weights.builder();
        let teacher = inline(builder, &self.teacher, inputs, &mut |_, tensor| tensor)?;
        let student = self.student.forward(inputs, weights, scales)?;
        let teacher = Network { graph: &self.teacher, inlined: &teacher };
        let student = Network { graph: self.student.graph(), inlined: &student };
        let Objective { temperature, logits: of_logits, features: of_features } = self.objective;
        let answers = distance(&self.targets.tensors, teacher, student, temperature)?;
        let logits = self.targets.tensors.iter().filter(|target| target.is_logits);
        let logits = logits.map(|target| Ok([teacher.logits(target)?, student.logits(target)?]));
        let logits: Vec<[Expr<'b>; 2]> = logits.collect::<Result<_>>()?;
        let of_both = |name: &String| Some([teacher.tensor(name).ok()?, student.tensor(name).ok()?]);
        let last_features = self.last_features().iter().filter_map(of_both).collect();
        let (mut loss, mut terms) = (answers, vec![("answers", answers)]);
        let squares =
            logits.iter().map(|[teacher, student]| (*student - teacher.stop_gradient()).square().mean(&[], false));
        if let Some(squares) = squares.reduce(|sum, next| sum + next).filter(|_| of_logits > 0.0) {
            loss = loss + squares * of_logits;
            terms.push(("logits", squares));
        }
        if of_features > 0.0 && !self.features.is_empty() {
            let one = |name: &String| Ok(relative_mse(teacher.tensor(name)?, student.tensor(name)?));
            let each = self.features.iter().map(one).collect::<Result<Vec<_>>>()?;
            let share = 1.0 / each.len() as f32;
            if let Some(sum) = each.into_iter().reduce(|sum, next| sum + next) {
                loss = loss + sum * (share * of_features);
                terms.push(("features", sum * share));
            }
        }
        Ok(Compared { loss, terms, logits, last_features })
    }
}

/// A student and its teacher as expressions.
#[derive(Debug)]
pub struct Compared<'b> {
    /// The loss.
    pub loss: Expr<'b>,
    /// Its terms.
    pub terms: Vec<(&'static str, Expr<'b>)>,
    /// Logits `[N, classes]` of the teacher and of the student.
    pub logits: Vec<[Expr<'b>; 2]>,
    /// The input of the last layer before each target, of the teacher and of the student.
    pub last_features: Vec<[Expr<'b>; 2]>,
}
