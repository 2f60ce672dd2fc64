//! The operators that choose pixels.

use ort::operator::{ComputeContext, KernelContext};
use ort::value::{TensorElementType, ValueRef};

use super::{Custom, F32, execute, input, number, output, tensor};
use crate::expr::{SELECT, SELECT_GRADIENT};
use crate::runtime::kernels::{Selection, select, select_gradient};

/// `y = Select(x, rows, columns)`: `y[n, c, i, j] = x[n, c, rows[i], columns[j]]`.
///
/// Attribute: `block` (1), 8 or 16 for tensors in blocks.
pub(super) struct Select {
    block: usize,
}

impl Custom for Select {
    const NAME: &str = SELECT;
    const INPUTS: &[TensorElementType] = &[F32, TensorElementType::Int64, TensorElementType::Int64];
    const OUTPUTS: usize = 1;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        Ok(Self { block: number(node, "block", Some(1))? })
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (x, rows, columns) = (input(run, 0)?, input(run, 1)?, input(run, 2)?);
        let ((mut shape, x), rows, columns) = (tensor(&x)?, indices(&rows)?, indices(&columns)?);
        let selection = Selection::new(&shape, rows, columns, self.block).map_err(ort::Error::new)?;
        shape[2..].copy_from_slice(&[rows.len(), columns.len()]);
        let mut y = output(run, 0, &shape)?;
        let y = y.try_extract_tensor_mut::<f32>()?.1;
        execute(run, |execution| select(x, &selection, y, execution.spread))
    }
}

/// `dx = SelectGradient(dy, rows, columns)`: each element of dy added where [`Select`] took it from.
///
/// Attributes: `height` and `width` of dx; `block` as that of [`Select`].
pub(super) struct SelectGradient {
    size: [usize; 2],
    block: usize,
}

impl Custom for SelectGradient {
    const NAME: &str = SELECT_GRADIENT;
    const INPUTS: &[TensorElementType] = Select::INPUTS;
    const OUTPUTS: usize = 1;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        let size = [number(node, "height", None)?, number(node, "width", None)?];
        Ok(Self { size, block: number(node, "block", Some(1))? })
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (dy, rows, columns) = (input(run, 0)?, input(run, 1)?, input(run, 2)?);
        let ((mut shape, dy), rows, columns) = (tensor(&dy)?, indices(&rows)?, indices(&columns)?);
        if shape.get(2..) != Some(&[rows.len(), columns.len()]) {
            let (rows, columns) = (rows.len(), columns.len());
            return Err(ort::Error::new(format!("expected {rows} rows and {columns} columns, found {shape:?}")));
        }
        shape[2..].copy_from_slice(&self.size);
        let selection = Selection::new(&shape, rows, columns, self.block).map_err(ort::Error::new)?;
        let mut dx = output(run, 0, &shape)?;
        let dx = dx.try_extract_tensor_mut::<f32>()?.1;
        execute(run, |execution| select_gradient(dy, &selection, dx, execution.spread))
    }
}

fn indices<'a>(value: &'a ValueRef) -> ort::Result<&'a [i64]> {
    Ok(value.try_extract_tensor::<i64>()?.1)
}
