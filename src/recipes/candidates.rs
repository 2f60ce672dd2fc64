//! The float networks that a recipe chooses from, and the plan for all of them.

use super::Recipe;
use crate::calibrate::CalibrationContext;
use crate::error::Result;
use crate::ir::Graph;
use crate::layers::{LayerStep, Scope, absorb, equalise};
use crate::plan::{Plan, Policy, plan_with_split_residuals};
use crate::solution::{Solution, Solved};
use crate::stats::{BatchNorm, propagate};
use crate::{onnx, shape};

/// A float network with the outputs of the model.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The network.
    pub graph: Graph,
    /// The batch-normalization statistics of its tensors.
    pub norms: Vec<BatchNorm>,
    /// The steps that led to it from the model, applied and rejected ones.
    pub steps: Vec<LayerStep>,
}

/// The plan and the float networks for it, whose tensors have the same names.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// The assignment of tensors to grids.
    pub plan: Plan,
    /// The network with the weights of the model.
    pub plain: Candidate,
    /// The network with equalized and absorbed channels, where the recipe wants one.
    pub equalized: Option<Candidate>,
}

/// Returns the candidates of `recipe` for `float`: plans with split residual grids, raises the operator set to that of
/// the plan, then equalizes and absorbs the channels of the links that the recipe names.
///
/// # Errors
/// As [`plan_with_split_residuals`]; weights or biases that cannot be read.
pub fn prepare(recipe: &Recipe, float: &Graph, policy: &Policy, context: &CalibrationContext) -> Result<Candidates> {
    let mut graph = float.clone();
    let plan = plan_with_split_residuals(&mut graph, policy)?;
    onnx::upgrade(&mut graph, plan.opset())?;
    shape::infer(&mut graph)?;
    let plain = Candidate { graph, norms: context.norms.to_vec(), steps: Vec::new() };
    let has_shared_scales = plan.weights.iter().any(|weight| weight.scheme.axis.is_none());
    let scope = recipe.equalized.filter(|&scope| scope == Scope::All || has_shared_scales);
    let equalized = scope.map(|scope| plain.equalized(&plan, scope, context)).transpose()?;
    Ok(Candidates { plan, plain, equalized })
}

impl Candidate {
    fn equalized(&self, plan: &Plan, scope: Scope, context: &CalibrationContext) -> Result<Self> {
        let Self { mut graph, mut norms, mut steps } = self.clone();
        let moments = propagate(&graph, &norms, &context.input.moments());
        steps.extend(equalise(&mut graph, plan, &mut norms, scope, &moments)?);
        steps.extend(absorb(&mut graph, plan, &mut norms)?);
        Ok(Self { graph, norms, steps })
    }

    /// Returns `context` with the statistics of this network.
    pub fn context<'a>(&'a self, context: &CalibrationContext<'a>) -> CalibrationContext<'a> {
        CalibrationContext { norms: &self.norms, ..*context }
    }

    /// Returns this network with a solution for it.
    pub fn solved(&self, plan: &Plan, solution: Solution) -> Solved {
        Solved { float: self.graph.clone(), plan: plan.clone(), solution, norms: self.norms.clone() }
    }
}

impl Candidates {
    /// Returns the equalized network where there is one, else the plain one.
    pub fn preferred(&self) -> &Candidate {
        self.equalized.as_ref().unwrap_or(&self.plain)
    }
}
