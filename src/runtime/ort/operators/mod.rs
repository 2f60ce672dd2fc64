//! The custom operators of [`kernels::DOMAIN`], which call the kernels.

mod channels;
mod keep_where;
mod operator;
mod select;

use std::cell::Cell;

use ort::operator::{ComputeContext, KernelContext, OperatorDomain};
use ort::value::{TensorElementType, ValueRef, ValueRefMut};

use crate::expr::{CONV_WEIGHT_GRADIENT, FAKE_QUANTIZE, FAKE_QUANTIZE_GRADIENT};
use crate::runtime::kernels::{
    self, ConvAttributes, Convolution, Execution, Instructions, QuantizerGradient, Rounding, WeightGradient,
    fake_quantize, fake_quantize_gradient, weight_gradient,
};
use operator::{Custom, Registered};

/// Returns the operators for registration with one session.
pub(super) fn operators() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(kernels::DOMAIN)?
        .add(Registered::<ConvWeightGradient>::default())?
        .add(Registered::<FakeQuantize>::default())?
        .add(Registered::<FakeQuantizeGradient>::default())?
        .add(Registered::<channels::ChannelMoments>::default())?
        .add(Registered::<channels::ChannelAffine>::default())?
        .add(Registered::<channels::ChannelAffineGradient>::default())?
        .add(Registered::<select::Select>::default())?
        .add(Registered::<select::SelectGradient>::default())?
        .add(Registered::<keep_where::KeepWhere>::default())
}

const F32: TensorElementType = TensorElementType::Float32;

/// `dw = ConvWeightGradient(x, dy)`: dw is plain `[O, C/group, kh, kw]`.
///
/// Attributes: `kernel_shape`, `strides` (1), `pads` (0), `dilations` (1), `group` (1) as those of the Conv;
/// `channels` and `filters`, C and O without padding; `block`, 8 or 16; `x_blocked` (1) and `dy_blocked` (1), 0 for a
/// tensor in plain NCHW. Blocked tensors have the shape that `com.microsoft.nchwc` gives them, channels padded to a
/// multiple of `block`. With groups that are neither single channels nor whole blocks both tensors come in plain NCHW;
/// x in blocks with dy in plain NCHW is refused.
struct ConvWeightGradient {
    window: ConvAttributes,
    scratch: [Vec<f32>; 3],
}

impl Custom for ConvWeightGradient {
    const NAME: &str = CONV_WEIGHT_GRADIENT;
    const INPUTS: &[TensorElementType] = &[F32; 2];
    const OUTPUTS: usize = 1;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        let window = ConvAttributes {
            kernel: list(node, "kernel_shape", None)?,
            strides: list(node, "strides", Some([1, 1]))?,
            pads: list(node, "pads", Some([0; 4]))?,
            dilations: list(node, "dilations", Some([1, 1]))?,
            group: number(node, "group", Some(1))?,
            channels: number(node, "channels", None)?,
            filters: number(node, "filters", None)?,
            block: number(node, "block", None)?,
            x_blocked: number(node, "x_blocked", Some(1))? != 0,
            dy_blocked: number(node, "dy_blocked", Some(1))? != 0,
        };
        let window = window.checked().map_err(|message| refused(node, &message))?;
        Ok(Self { window, scratch: [Vec::new(), Vec::new(), Vec::new()] })
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (x, dy) = (input(run, 0)?, input(run, 1)?);
        let ((x_shape, x), (dy_shape, dy)) = (tensor(&x)?, tensor(&dy)?);
        let convolution = Convolution::new(&self.window, &x_shape, &dy_shape).map_err(ort::Error::new)?;
        let mut dw = output(run, 0, &self.window.gradient_shape())?;
        let dw = dw.try_extract_tensor_mut::<f32>()?.1;
        let tensors = WeightGradient { x, dy, dw };
        execute(run, |execution| weight_gradient(&convolution, tensors, &mut self.scratch, execution))
    }
}

/// The attributes of both quantizing operators.
struct Levels {
    levels: [f32; 2],
    axis: Option<usize>,
}

impl Levels {
    fn read(node: &KernelContext) -> ort::Result<Self> {
        let axis = match node.get::<i64>("axis").unwrap_or(-1) {
            -1 => None,
            axis => Some(usize::try_from(axis).map_err(|_| refused(node, &format!("axis {axis}")))?),
        };
        Ok(Self { levels: [float(node, "lo")?, float(node, "hi")?], axis })
    }
}

/// `y = FakeQuantize(x, scale)`: `scale · round(clip(x / scale, lo, hi))`, bit-equal to Div, Clip, Round and Mul.
///
/// Attributes: `lo` and `hi`, the levels at the ends in scales; `axis` (-1), that of the scales, -1 for a single one.
struct FakeQuantize(Levels);

impl Custom for FakeQuantize {
    const NAME: &str = FAKE_QUANTIZE;
    const INPUTS: &[TensorElementType] = &[F32; 2];
    const OUTPUTS: usize = 1;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        Levels::read(node).map(Self)
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (x, scales) = (input(run, 0)?, input(run, 1)?);
        let ((shape, x), (_, scales)) = (tensor(&x)?, tensor(&scales)?);
        let rounding = Rounding::new(scales, self.0.levels, &shape, self.0.axis).map_err(ort::Error::new)?;
        let mut y = output(run, 0, &shape)?;
        let y = y.try_extract_tensor_mut::<f32>()?.1;
        execute(run, |execution| fake_quantize(x, &rounding, y, execution))
    }
}

/// `dx, dscale = FakeQuantizeGradient(x, scale, dy)`, with the attributes of [`FakeQuantize`]; dscale has the shape of
/// scale.
struct FakeQuantizeGradient(Levels);

impl Custom for FakeQuantizeGradient {
    const NAME: &str = FAKE_QUANTIZE_GRADIENT;
    const INPUTS: &[TensorElementType] = &[F32; 3];
    const OUTPUTS: usize = 2;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        Levels::read(node).map(Self)
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (x, scales, dy) = (input(run, 0)?, input(run, 1)?, input(run, 2)?);
        let ((shape, x), (scales_shape, scales), (_, dy)) = (tensor(&x)?, tensor(&scales)?, tensor(&dy)?);
        let rounding = Rounding::new(scales, self.0.levels, &shape, self.0.axis).map_err(ort::Error::new)?;
        let (mut dx, mut dscale) = (output(run, 0, &shape)?, output(run, 1, &scales_shape)?);
        let dx = dx.try_extract_tensor_mut::<f32>()?.1;
        let dscale = dscale.try_extract_tensor_mut::<f32>()?.1;
        let tensors = QuantizerGradient { x, dy, dx, dscale };
        execute(run, |execution| fake_quantize_gradient(tensors, &rounding, execution))
    }
}

/// Runs a kernel on the threads of the session.
fn execute(run: &ComputeContext, kernel: impl FnOnce(Execution) -> Result<(), String>) -> ort::Result<()> {
    let failed = Cell::new(None);
    let spread = |pieces: usize, work: &(dyn Fn(usize) + Sync)| {
        if pieces < 2 {
            (0..pieces).for_each(work);
        } else if let Err(error) = run.par_for(pieces, 0, work) {
            failed.set(Some(error));
        }
    };
    let done = kernel(Execution { instructions: Instructions::best(), spread: &spread });
    match failed.take() {
        Some(error) => Err(error),
        None => done.map_err(ort::Error::new),
    }
}

fn refused(node: &KernelContext, message: &str) -> ort::Error {
    let name = node.node_name().unwrap_or_default();
    ort::Error::new(format!("node \"{name}\": {message}"))
}

fn float(node: &KernelContext, name: &str) -> ort::Result<f32> {
    node.get(name).ok_or_else(|| refused(node, &format!("expected the attribute {name}, a float")))
}

fn number(node: &KernelContext, name: &str, default: Option<usize>) -> ort::Result<usize> {
    let found = node.get::<i64>(name);
    let number = found.map_or(default, |n| usize::try_from(n).ok());
    number.ok_or_else(|| refused(node, &format!("expected the attribute {name}, not negative, found {found:?}")))
}

fn list<const N: usize>(node: &KernelContext, name: &str, default: Option<[usize; N]>) -> ort::Result<[usize; N]> {
    let Some(found) = node.get::<Vec<i64>>(name) else {
        return default.ok_or_else(|| refused(node, &format!("expected the attribute {name}")));
    };
    let numbers = found.iter().filter_map(|&n| usize::try_from(n).ok()).collect::<Vec<_>>();
    let wrong = |_| refused(node, &format!("{name}: expected {N} numbers, not negative, found {found:?}"));
    <[usize; N]>::try_from(numbers).map_err(wrong)
}

fn input(run: &ComputeContext, i: usize) -> ort::Result<ValueRef<'_>> {
    run.input(i)?.ok_or_else(|| ort::Error::new(format!("input {i} is left out")))
}

fn tensor<'a>(value: &'a ValueRef) -> ort::Result<(Vec<usize>, &'a [f32])> {
    let (shape, values) = value.try_extract_tensor::<f32>()?;
    let shape = shape.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
    Ok((shape, values))
}

fn output<'a>(run: &'a ComputeContext, i: usize, shape: &[usize]) -> ort::Result<ValueRefMut<'a>> {
    run.output(i, shape)?.ok_or_else(|| ort::Error::new(format!("output {i} is left out")))
}
