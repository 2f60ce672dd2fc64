//! Pools over spatial axes.

use super::window::{Window, sizes};
use crate::error::Result;
use crate::ir::{DType, Dim, Shape};
use crate::shape::{Call, Fact};

/// MaxPool (with indices), AveragePool, LpPool.
pub fn pool(call: &Call) -> Result<Vec<Fact>> {
    let kernel = call.attrs.ints("kernel_shape").ok_or_else(|| call.error("has no kernel_shape"))?;
    let kernel: Shape = sizes(call, "kernel_shape", kernel)?.into_iter().map(Dim::Known).collect();
    let shape = match call.shape(0) {
        Some(x) if x.len() != kernel.len() + 2 => {
            return Err(call.error(format!("kernel of {} axes for an input of rank {}", kernel.len(), x.len())));
        }
        Some(x) => {
            let mut y = x[..2].to_vec();
            y.extend(Window::read(call, &kernel)?.slide(&x[2..])?);
            Some(y)
        }
        None => None,
    };
    Ok(vec![call.shaped(shape.clone()), Fact::new(Some(DType::I64), shape)])
}

/// Global pools: every spatial axis becomes 1.
pub fn global_pool(call: &Call) -> Result<Vec<Fact>> {
    let one = |(i, d): (usize, &Dim)| if i < 2 { d.clone() } else { Dim::Known(1) };
    let shape = call.shape(0).map(|x| x.iter().enumerate().map(one).collect());
    Ok(vec![call.shaped(shape)])
}
