//! The operators on channels.

use ort::operator::{ComputeContext, KernelContext};
use ort::value::TensorElementType;

use super::{Custom, F32, execute, input, number, output, tensor};
use crate::expr::{CHANNEL_AFFINE, CHANNEL_AFFINE_GRADIENT, CHANNEL_MOMENTS};
use crate::runtime::kernels::{
    Affine, AffineGradient, Channels, channel_affine, channel_affine_gradient, channel_moments,
};

/// The attributes of all of them: `channels`, the number that counts; `block` (1), 8 or 16 for tensors in blocks.
struct Layout {
    channels: usize,
    block: usize,
}

impl Layout {
    fn read(node: &KernelContext) -> ort::Result<Self> {
        Ok(Self { channels: number(node, "channels", None)?, block: number(node, "block", Some(1))? })
    }

    fn of(&self, shape: &[usize]) -> ort::Result<Channels> {
        Channels::new(shape, self.channels, self.block).map_err(ort::Error::new)
    }
}

/// `mean, variance = ChannelMoments(x)`, both `[channels]`, the variance biased.
pub(super) struct ChannelMoments(Layout);

impl Custom for ChannelMoments {
    const NAME: &str = CHANNEL_MOMENTS;
    const INPUTS: &[TensorElementType] = &[F32];
    const OUTPUTS: usize = 2;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        Layout::read(node).map(Self)
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let x = input(run, 0)?;
        let (shape, x) = tensor(&x)?;
        let channels = self.0.of(&shape)?;
        let [mut mean, mut variance] = [output(run, 0, &[self.0.channels])?, output(run, 1, &[self.0.channels])?];
        let mean = mean.try_extract_tensor_mut::<f32>()?.1;
        let variance = variance.try_extract_tensor_mut::<f32>()?.1;
        execute(run, |execution| channel_moments(x, &channels, mean, variance, execution))
    }
}

/// `y = ChannelAffine(x, a, b)`: `a·x + b`, the bits of Mul and Add; a and b are `[channels]`.
pub(super) struct ChannelAffine(Layout);

impl Custom for ChannelAffine {
    const NAME: &str = CHANNEL_AFFINE;
    const INPUTS: &[TensorElementType] = &[F32; 3];
    const OUTPUTS: usize = 1;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        Layout::read(node).map(Self)
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (x, a, b) = (input(run, 0)?, input(run, 1)?, input(run, 2)?);
        let ((shape, x), (_, a), (_, b)) = (tensor(&x)?, tensor(&a)?, tensor(&b)?);
        let channels = self.0.of(&shape)?;
        let mut y = output(run, 0, &shape)?;
        let y = y.try_extract_tensor_mut::<f32>()?.1;
        execute(run, |execution| channel_affine(x, Affine { a, b }, &channels, y, execution))
    }
}

/// `dx, da, db = ChannelAffineGradient(x, a, dy)`: `a·dy`, and for each channel the sums of `dy·x` and of `dy`.
pub(super) struct ChannelAffineGradient(Layout);

impl Custom for ChannelAffineGradient {
    const NAME: &str = CHANNEL_AFFINE_GRADIENT;
    const INPUTS: &[TensorElementType] = &[F32; 3];
    const OUTPUTS: usize = 3;

    fn read(node: &KernelContext) -> ort::Result<Self> {
        Layout::read(node).map(Self)
    }

    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        let (x, a, dy) = (input(run, 0)?, input(run, 1)?, input(run, 2)?);
        let ((shape, x), (_, a), (_, dy)) = (tensor(&x)?, tensor(&a)?, tensor(&dy)?);
        let channels = self.0.of(&shape)?;
        let mut dx = output(run, 0, &shape)?;
        let [mut da, mut db] = [output(run, 1, &[self.0.channels])?, output(run, 2, &[self.0.channels])?];
        let dx = dx.try_extract_tensor_mut::<f32>()?.1;
        let (da, db) = (da.try_extract_tensor_mut::<f32>()?.1, db.try_extract_tensor_mut::<f32>()?.1);
        let tensors = AffineGradient { x, a, dy, dx, da, db };
        execute(run, |execution| channel_affine_gradient(tensors, &channels, execution))
    }
}
