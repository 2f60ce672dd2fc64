//! The interface of ONNX Runtime's custom operators.

use std::marker::PhantomData;

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

/// An operator; a value holds the attributes of one node.
pub(super) trait Custom: Send + Sized + 'static {
    /// Its name in the domain.
    const NAME: &str;
    /// The element type of each input.
    const INPUTS: &[TensorElementType];
    /// The number of outputs, all float32.
    const OUTPUTS: usize;

    /// Returns the operator with the attributes of `node`.
    fn read(node: &KernelContext) -> ort::Result<Self>;

    /// Computes the outputs from the inputs.
    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()>;
}

/// `C` as ONNX Runtime registers it.
pub(super) struct Registered<C>(PhantomData<fn() -> C>);

impl<C> Default for Registered<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Custom> Operator for Registered<C> {
    type Kernel<'a> = Running<C>;

    fn name(&self) -> &str {
        C::NAME
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        C::INPUTS.iter().copied().map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..C::OUTPUTS).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'a>(&self, node: &KernelContext<'a>) -> ort::Result<Self::Kernel<'a>> {
        C::read(node).map(Running)
    }
}

/// One node.
pub(super) struct Running<C>(C);

impl<C: Custom> Kernel for Running<C> {
    fn compute(&mut self, run: &ComputeContext) -> ort::Result<()> {
        self.0.compute(run)
    }
}
