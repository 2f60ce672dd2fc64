//! The operator that keeps elements where a condition holds.

use ort::operator::{ComputeContext, KernelContext};
use ort::value::TensorElementType;

use super::{Custom, F32, execute, input, output, tensor};
use crate::expr::KEEP_WHERE;
use crate::runtime::kernels::keep_where;

/// `y = KeepWhere(condition, x)`: Where of the condition, x and 0, all of one shape.
pub(super) struct KeepWhere;

impl Custom for KeepWhere {
    const NAME: &str = KEEP_WHERE;
    const INPUTS: &[TensorElementType] = &[TensorElementType::Bool, F32];
    const OUTPUTS: usize = 1;

    fn read(_: &KernelContext) -> ort::Result<Self> {
        Ok(Self)
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (condition, x) = (input(run, 0)?, input(run, 1)?);
        let condition = condition.try_extract_tensor::<bool>()?.1;
        let (shape, x) = tensor(&x)?;
        let mut y = output(run, 0, &shape)?;
        let y = y.try_extract_tensor_mut::<f32>()?.1;
        execute(run, |execution| keep_where(condition, x, y, execution))
    }
}
