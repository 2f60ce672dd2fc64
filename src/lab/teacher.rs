//! The float network as teacher: its outputs on images, and the distance of their statistics to those of its training.

use std::rc::Rc;

use super::{GeneratedImages, Lab};
use crate::error::{Error, Result};
use crate::expr::{Builder, Expr, Inlined};
use crate::synthesis::{ImageSynthesis, LossInputs, Options, SynthesisContext};
use crate::train::losses::{ChannelMoments, ChannelNormal};
use crate::train::{Network, Scope, Target, targets};

/// The float network, with its batch-normalization statistics.
#[derive(Debug)]
pub struct Teacher {
    synthesis: ImageSynthesis,
    targets: Vec<Target>,
}

/// The forward pass of the teacher on a batch of images.
pub struct TeacherOutputs<'a, 'b> {
    /// The network's inputs that hold the images, in the order of [`Graph::fed_inputs`](crate::ir::Graph::fed_inputs).
    pub inputs: Vec<Expr<'b>>,
    teacher: &'a Teacher,
    builder: &'b Builder,
    inlined: Inlined<'b>,
    losses: LossInputs<'a, 'b>,
}

impl Lab<'_> {
    /// Returns the float network as teacher of images that a generator makes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for networks with several inputs, and those without statistics and class scores.
    pub fn teacher(&self) -> Result<Rc<Teacher>> {
        if let Some(known) = self.teacher.get() {
            return Ok(Rc::clone(known));
        }
        if self.float.fed_inputs().len() > 1 {
            return Err(Error::unsupported("model", "has several inputs, and a generator makes only one of them"));
        }
        let context = &self.context;
        let source = SynthesisContext {
            float: self.float,
            norms: context.norms,
            input: context.input,
            threads: context.threads,
        };
        let teacher = Rc::new(Teacher::new(ImageSynthesis::new(&source, &Options::default())?));
        Ok(Rc::clone(self.teacher.get_or_init(|| teacher)))
    }
}

impl Teacher {
    /// Returns the network of `synthesis` as teacher.
    pub fn new(synthesis: ImageSynthesis) -> Self {
        let targets = targets(&synthesis.teacher.graph).tensors;
        Self { synthesis, targets }
    }

    /// Returns the image synthesis of the network.
    pub fn synthesis(&self) -> &ImageSynthesis {
        &self.synthesis
    }

    /// Returns the tensors that a student is trained to match.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Returns the number of classes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network without class scores.
    pub fn classes(&self) -> Result<usize> {
        let logits = self.synthesis.teacher.logits.as_ref();
        logits.map(|(_, classes)| *classes).ok_or_else(without_logits)
    }

    /// Returns the forward pass on images.
    ///
    /// # Errors
    /// An operator that cannot be part of a training step, by node.
    pub fn forward<'b>(&self, scope: &Scope<'b>, images: GeneratedImages<'b>) -> Result<TeacherOutputs<'_, 'b>> {
        let GeneratedImages { pixels, labels } = images;
        let inputs = self.synthesis.inputs(scope.builder(), pixels);
        let inlined = self.synthesis.network(scope.builder(), &inputs, false)?;
        let losses = self.synthesis.loss_inputs(pixels, labels, &inlined);
        Ok(TeacherOutputs { teacher: self, builder: scope.builder(), inputs, inlined, losses })
    }
}

impl<'b> TeacherOutputs<'_, 'b> {
    /// Returns the logits, `[N, classes]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a network without class scores.
    pub fn logits(&self) -> Result<Expr<'b>> {
        self.losses.logits.ok_or_else(without_logits)
    }

    /// Returns the sum of `distance` over all tensors with batch-normalization statistics; 0 without any.
    pub fn statistics(&self, distance: impl Fn(ChannelMoments<'b>, &ChannelNormal) -> Expr<'b>) -> Expr<'b> {
        let each = self.losses.moments.iter().map(|(found, expected, _)| distance(*found, expected));
        each.reduce(|sum, next| sum + next).unwrap_or_else(|| self.builder.scalar(0.0))
    }

    /// Returns the loss of image synthesis ([`crate::synthesis::TERMS`], by the weights of this teacher's synthesis).
    ///
    /// # Errors
    /// [`Error::Usage`] where the network supports none of its terms.
    pub fn prior(&self) -> Result<Expr<'b>> {
        Ok(crate::synthesis::loss(&self.losses, &self.teacher.synthesis.weights)?.0)
    }

    /// Returns the network that is compared with a student.
    pub(super) fn network(&self) -> Network<'_, 'b> {
        Network { graph: &self.teacher.synthesis.teacher.graph, inlined: &self.inlined }
    }

    pub(super) fn targets(&self) -> &[Target] {
        &self.teacher.targets
    }
}

fn without_logits() -> Error {
    Error::unsupported("model", "has no class scores; use a recipe that needs none")
}
