//! Conv, Gemm and MatMul.

use super::{eight_bits, one_type, required_result};
use crate::audit::view::{KernelGrid, View};
use crate::audit::{Reason, Runs};
use crate::ir::{DType, Node, ValueId, is_dequantize, is_quantize};

/// How far a bias's scale may be from the input's scale times the weight's, relatively.
pub const BIAS_SCALE_TOLERANCE: f32 = 1e-4;

/// Conv becomes QLinearConv.
pub(super) fn conv(view: &View, node: &Node) -> Result<Runs, Reason> {
    let call = Call::of(view, node)?;
    let result = required_result(view, node)?;
    let weight = call.weight(true)?;
    call.bias(weight.as_ref(), true)?;
    eight_bits(view, &[(call.x, call.input.dtype), (call.w, weight.map_or(DType::I8, |w| w.dtype))])?;
    if call.input.dtype == DType::I8 {
        return Err(Reason::SignedActivation { tensor: view.name(call.x) });
    }
    one_type(&[call.input.dtype, result.dtype])?;
    Ok(Runs::Integer)
}

/// Gemm becomes QGemm, with or without a quantized result.
pub(super) fn gemm(view: &View, node: &Node) -> Result<Runs, Reason> {
    let call = Call::of(view, node)?;
    let result = optional_result(view, node)?;
    let weight = call.weight(result.is_some())?;
    call.bias(weight.as_ref(), result.is_some())?;
    if node.input(2).is_some() && node.attrs.float("beta", 1.0) != 1.0 {
        return Err(Reason::CallForm { what: "Gemm with beta other than 1".to_owned() });
    }
    let weight = weight.map_or(DType::I8, |w| w.dtype);
    eight_bits(view, &[(call.x, call.input.dtype), (call.w, weight)])?;
    if call.input.dtype == DType::I8 {
        one_type(&[call.input.dtype, weight])?;
    }
    one_type(&[call.input.dtype, result.map_or(call.input.dtype, |y| y.dtype)])?;
    Ok(Runs::Integer)
}

/// MatMul becomes QLinearMatMul, or MatMulIntegerToFloat where its result is not quantized.
pub(super) fn matmul(view: &View, node: &Node) -> Result<Runs, Reason> {
    let call = Call::of(view, node)?;
    let weight = call.weight(false)?;
    let result = optional_result(view, node)?;
    eight_bits(view, &[(call.x, call.input.dtype), (call.w, weight.map_or(DType::I8, |w| w.dtype))])?;
    if call.input.dtype == DType::I8 {
        return Err(Reason::SignedActivation { tensor: view.name(call.x) });
    }
    one_type(&[call.input.dtype, result.map_or(call.input.dtype, |y| y.dtype)])?;
    Ok(Runs::Integer)
}

/// Returns the quantizer after a result that may also stay float; `None` where nothing quantizes it.
fn optional_result(view: &View, node: &Node) -> Result<Option<KernelGrid>, Reason> {
    let output = node.output(0).ok_or(Reason::NotQuantized)?;
    let behind = view.behind_activation(output)?;
    match view.result(behind) {
        Ok(grid) => Ok(Some(grid)),
        Err(Reason::FloatResult { .. } | Reason::GraphOutput { .. }) => Ok(None),
        Err(Reason::BranchedResult { .. }) if !view.readers(behind).any(is_quantize) => Ok(None),
        Err(reason) => Err(reason),
    }
}

/// A call with its dequantized input.
struct Call<'a> {
    view: &'a View<'a>,
    node: &'a Node,
    x: ValueId,
    w: ValueId,
    input: KernelGrid,
}

impl<'a> Call<'a> {
    fn of(view: &'a View, node: &'a Node) -> Result<Self, Reason> {
        let (Some(x), Some(w)) = (node.input(0), node.input(1)) else { return Err(Reason::NotQuantized) };
        match (view.operand(x), view.operand(w)) {
            (Some(input), _) => Ok(Self { view, node, x, w, input }),
            (None, Some(_)) if view.is_stored(w) => Err(Reason::WeightOnly),
            (None, Some(_)) => Err(Reason::FloatOperand { tensor: view.name(x) }),
            (None, None) => Err(Reason::NotQuantized),
        }
    }

    /// The weight's grid; none for a float constant that ONNX Runtime quantizes by itself, per tensor.
    fn weight(&self, quantized_by_runtime: bool) -> Result<Option<KernelGrid>, Reason> {
        let name = || self.view.name(self.w);
        match (self.view.operand(self.w), self.view.graph.constant_of(self.w)) {
            (Some(grid), _) => Ok(Some(grid)),
            (None, Some(tensor)) if quantized_by_runtime && tensor.dtype() == DType::F32 && self.input.is_scalar() => {
                Ok(None)
            }
            (None, Some(_)) => Err(Reason::FloatWeight { tensor: name() }),
            (None, None) => Err(Reason::FloatOperand { tensor: name() }),
        }
    }

    fn bias(&self, weight: Option<&KernelGrid>, quantized_by_runtime: bool) -> Result<(), Reason> {
        let Some(bias) = self.node.input(2) else { return Ok(()) };
        let view = self.view;
        let Some(maker) = view.maker(bias).filter(|n| is_dequantize(n)) else {
            let vector = view.graph.constant_of(bias).is_some_and(|t| t.shape().len() == 1);
            return match vector && quantized_by_runtime && self.input.is_scalar() {
                true => Ok(()),
                false => Err(Reason::FloatBias { tensor: view.name(bias) }),
            };
        };
        let integers = maker.input(0).and_then(|id| view.graph.value(id).dtype);
        let fits = weight.is_none_or(|w| self.is_product(maker, w));
        match integers == Some(DType::I32) && fits {
            true => Ok(()),
            false => Err(Reason::BiasGrid { tensor: view.name(bias) }),
        }
    }

    /// Whether the bias's scale is `input scale times weight scale` where all three are constants.
    fn is_product(&self, maker: &Node, weight: &KernelGrid) -> bool {
        let floats = |tensor: Option<&crate::ir::Tensor>| tensor.and_then(|t| t.to_f32().ok());
        let scale = floats(maker.input(1).and_then(|id| self.view.graph.constant_of(id)));
        let (Some(b), Some(x), Some(w)) = (scale, floats(self.input.scale.as_ref()), floats(weight.scale.as_ref()))
        else {
            return false;
        };
        let at = |values: &[f32], i: usize| if values.len() == 1 { values[0] } else { values[i] };
        let n = b.len().max(w.len());
        let lengths = [b.len(), w.len()].iter().all(|&len| len == 1 || len == n);
        lengths
            && x.len() == 1
            && (0..n).all(|i| {
                let product = x[0] * at(&w, i);
                (at(&b, i) - product).abs() <= BIAS_SCALE_TOLERANCE * product.abs()
            })
    }
}
