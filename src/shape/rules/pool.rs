//! Pools over spatial axes.

use super::window::{SlidingWindow, sizes};
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
            y.extend(SlidingWindow::read(call, &kernel)?.slide(&x[2..])?);
            Some(y)
        }
        None => None,
    };
    Ok(vec![call.shaped(shape.clone()), Fact::new(Some(DType::I64), shape)])
}

/// Returns the elements of the input with its padding, which kernels may unpack.
pub fn unpacked(call: &Call) -> Option<usize> {
    let kernel = sizes(call, "kernel_shape", call.attrs.ints("kernel_shape")?).ok()?;
    let kernel: Shape = kernel.into_iter().map(Dim::Known).collect();
    let x = call.shape(0).filter(|x| x.len() == kernel.len() + 2)?;
    let spatial = SlidingWindow::read(call, &kernel).ok()?.padded(&x[2..]);
    let first = x[..2].iter().map(|dim| dim.known().unwrap_or(1));
    Some(first.chain(spatial).fold(1, usize::saturating_mul))
}

/// Global pools: every spatial axis becomes 1.
pub fn global_pool(call: &Call) -> Result<Vec<Fact>> {
    let one = |(i, d): (usize, &Dim)| if i < 2 { d.clone() } else { Dim::Known(1) };
    let shape = call.shape(0).map(|x| x.iter().enumerate().map(one).collect());
    Ok(vec![call.shaped(shape)])
}
