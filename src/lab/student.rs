//! Quantized students: the network as it will be emitted, with weights, biases and scales that are trained.

use super::{GamePlan, Lab, TeacherOutputs};
use crate::error::Result;
use crate::expr::{Expr, Inlined};
use crate::ir::{Graph, Tensor};
use crate::solution::Solved;
use crate::train::{
    Distillation, Learner, Network, Played, Scope, StageReport, Student, TrainedVector, adversarial_distance, distance,
    read_out,
};

/// A student by name.
#[derive(Debug)]
pub struct QuantizedStudent {
    name: String,
    student: Student,
}

/// The forward pass of a student on a batch.
pub struct StudentOutputs<'a, 'b> {
    student: &'a Student,
    inlined: Inlined<'b>,
}

impl Lab<'_> {
    /// Returns a student that starts as `solved`.
    ///
    /// # Errors
    /// As [`Student::new`] and [`Distillation::new`].
    pub fn student(&self, name: &str, solved: &Solved) -> Result<QuantizedStudent> {
        let student = Student::new(&solved.float, &solved.plan, &solved.solution)?;
        Ok(QuantizedStudent::new(name, Distillation::new(self.float, student)?.student().clone()))
    }

    /// Plays a game, writes its result for the first of `students` into `solved` unless it made no step, and returns
    /// the report of the stage.
    ///
    /// # Errors
    /// As [`Lab::play`] and [`read_out`].
    pub fn train(
        &mut self,
        plan: &GamePlan,
        students: &[QuantizedStudent],
        solved: &mut Solved,
    ) -> Result<StageReport> {
        let (played, mut descent) = self.play(plan, solved)?;
        if let Some(first) = students.first().filter(|_| descent.steps > 0) {
            solved.apply_trained(read_out(&first.student, self.context.engine, &first.vectors_of(&played)?)?)?;
            descent.disagreement = self.disagreement(students, &played)?;
        }
        let samples = if plan.draws_batches { self.samples() } else { 0 };
        Ok(StageReport { descents: vec![descent], ..self.report(plan.name, samples) })
    }
}

impl QuantizedStudent {
    /// Returns a student under a name that no other learner of the game has.
    pub fn new(name: &str, student: Student) -> Self {
        Self { name: name.to_owned(), student }
    }

    fn names(&self) -> [String; 2] {
        ["weights", "scales"].map(|part| format!("{}/{part}", self.name))
    }

    /// Returns its vectors at the end of a game: weights `[n]` and scales `[m]`.
    pub(super) fn vectors_of(&self, played: &Played) -> Result<[Tensor; 2]> {
        let [weights, scales] = self.names().map(|name| played.tensor(&name));
        Ok([weights?, scales?])
    }

    /// Returns the graph of the tensor `to` of the student ([`Student::part_graph`]).
    pub(super) fn part_graph(&self, to: &str, batch: usize) -> Result<Graph> {
        self.student.part_graph(None, to, batch)
    }

    /// Returns its vectors in a phase: weights `[n]` and scales `[m]`.
    pub fn vectors_in<'b>(&self, scope: &Scope<'b>) -> [Expr<'b>; 2] {
        let [weights, scales] = self.names();
        [scope.vector(&weights, &self.student.weights), scope.vector(&scales, &self.student.scales)]
    }

    /// Returns the student's forward pass.
    ///
    /// # Errors
    /// An operator that cannot be part of a training step, by node.
    pub fn forward<'b>(&self, scope: &Scope<'b>, inputs: &[Expr<'b>]) -> Result<StudentOutputs<'_, 'b>> {
        let [weights, scales] = self.vectors_in(scope);
        let inlined = self.student.forward(inputs, weights, scales)?;
        Ok(StudentOutputs { student: &self.student, inlined })
    }
}

impl Learner for QuantizedStudent {
    fn vectors(&self) -> Vec<(String, &TrainedVector)> {
        let [weights, scales] = self.names();
        vec![(weights, &self.student.weights), (scales, &self.student.scales)]
    }
}

impl<'b> StudentOutputs<'_, 'b> {
    /// Returns the distance of the student from the teacher: the KL divergence of class probabilities at `temperature`
    /// where there are logits, else the relative squared error of the outputs. No gradient passes the teacher.
    ///
    /// # Errors
    /// Where the networks have no common output.
    pub fn distance(&self, teacher: &TeacherOutputs<'_, 'b>, temperature: f32) -> Result<Expr<'b>> {
        distance(teacher.targets(), teacher.network(), self.network(), temperature)
    }

    /// Returns [`StudentOutputs::distance`] with gradients through the teacher too, for images on which both differ.
    ///
    /// # Errors
    /// As [`StudentOutputs::distance`].
    pub fn adversarial_distance(&self, teacher: &TeacherOutputs<'_, 'b>, temperature: f32) -> Result<Expr<'b>> {
        adversarial_distance(teacher.targets(), teacher.network(), self.network(), temperature)
    }

    /// Returns the logits, `[N, classes]`.
    ///
    /// # Errors
    /// Where the networks have no common class scores.
    pub fn logits(&self, teacher: &TeacherOutputs<'_, 'b>) -> Result<Expr<'b>> {
        let found = teacher.targets().iter().find(|target| target.is_logits);
        found.map_or_else(|| teacher.logits(), |target| self.network().logits(target))
    }

    fn network(&self) -> Network<'_, 'b> {
        Network { graph: self.student.graph(), inlined: &self.inlined }
    }
}
