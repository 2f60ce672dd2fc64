//! The operator that keeps elements where a condition holds.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::{FLOATS, floats, input, output, spreading, tensor};
use crate::expr::KEEP_WHERE;
use crate::runtime::kernels::{Instructions, keep_where};

const TRUTH_VALUES: OperatorInput = OperatorInput::required(TensorElementType::Bool);

/// `y = KeepWhere(condition, x)`: Where of the condition, x and 0, all of one shape.
pub(super) struct KeepWhere;

impl Operator for KeepWhere {
    type Kernel<'a> = KeepWhereKernel;

    fn name(&self) -> &str {
        KEEP_WHERE
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TRUTH_VALUES, FLOATS]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        floats::<1>()
    }

    fn create_kernel<'a>(&self, _: &KernelContext<'a>) -> ort::Result<Self::Kernel<'a>> {
        Ok(KeepWhereKernel)
    }
}

pub(super) struct KeepWhereKernel;

impl Kernel for KeepWhereKernel {
    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (condition, x) = (input(run, 0)?, input(run, 1)?);
        let condition = condition.try_extract_tensor::<bool>()?.1;
        let (shape, x) = tensor(&x)?;
        let mut y = output(run, 0, &shape)?;
        let y = y.try_extract_tensor_mut::<f32>()?.1;
        spreading(run, |spread| keep_where(condition, x, y, (Instructions::best(), spread)))
    }
}
