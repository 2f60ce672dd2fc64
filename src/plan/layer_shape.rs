//! Layers that TensorRT computes more slowly in integers than in float, by their dimensions alone; those of ONNX
//! Runtime are in [`super::slow_in_integers`].
//!
//! The limits are those that TensorRT's own quantizer (Model Optimizer) applies: its int8 kernels need 16 input and
//! output channels, and matrix products of 16 by 16 or more.

use crate::ir::{Dim, Graph, Node, ValueId};

/// The fewest channels, and rows and columns of a product, for which integer kernels are faster.
const FEW: usize = 16;
/// Channel counts that tensor cores process in one piece.
const PIECE: usize = 8;

/// The dimensions that determine the speed of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerShape {
    /// The operator.
    pub op_type: String,
    /// Dimensions of the weight, or of the second operand; none where unknown.
    pub weight: Vec<Option<usize>>,
    /// Whether the second operand is a constant.
    pub has_weight: bool,
    /// Groups of a convolution.
    pub group: i64,
    /// Whether the weight of a Gemm is stored transposed.
    pub transposed: bool,
    /// Whether it reads an input of the network.
    pub is_first: bool,
    /// Dimensions of the result; none where unknown.
    pub output: Vec<Option<usize>>,
}

/// Why a layer of this shape stays float, if so.
pub type FloatRule = fn(&LayerShape) -> Option<String>;

impl LayerShape {
    /// Returns the shape of `node`, whose operands before any quantizer are `input` and `weight`.
    pub fn of(graph: &Graph, node: &Node, input: ValueId, weight: ValueId) -> Self {
        let known = |id: ValueId| match graph.constant_of(id) {
            Some(tensor) => tensor.shape().iter().map(|&n| Some(n)).collect(),
            None => graph.value(id).shape.iter().flatten().map(Dim::known).collect(),
        };
        Self {
            op_type: node.op_type.clone(),
            weight: known(weight),
            has_weight: graph.constant_of(weight).is_some(),
            group: node.attrs.int("group", 1),
            transposed: node.attrs.int("transB", 0) != 0,
            is_first: graph.inputs.contains(&input),
            output: node.output(0).map_or(Vec::new(), known),
        }
    }
}

/// Returns why a convolution with few channels stays float.
pub fn few_channels(layer: &LayerShape) -> Option<String> {
    let [Some(outputs), Some(inputs), kernel @ ..] = &layer.weight[..] else { return None };
    let (outputs, inputs) = (*outputs, *inputs);
    if layer.op_type != "Conv" || (outputs >= FEW && inputs >= FEW) {
        return None;
    }
    let square = kernel.windows(2).all(|pair| pair[0] == pair[1]);
    let in_pieces = outputs.is_multiple_of(PIECE) || inputs.is_multiple_of(PIECE);
    let wide = layer.is_first || outputs >= FEW || inputs >= FEW;
    let plain = layer.group == 1 && in_pieces && wide && square;
    let large = kernel.iter().flatten().all(|&side| side >= 3);
    let grouped = layer.group > 1 && outputs.is_multiple_of(PIECE) && large;
    let channels = format!("{inputs} to {outputs} channels per group, fewer than {FEW}");
    (!plain && !grouped).then(|| format!("{channels}: slower in int8 than in float"))
}

/// Returns why a matrix product of few rows or columns stays float.
pub fn small_product(layer: &LayerShape) -> Option<String> {
    if layer.op_type != "Gemm" && layer.op_type != "MatMul" {
        return None;
    }
    let rank = layer.weight.len();
    let (k, n) = if layer.transposed { (rank.checked_sub(1)?, 0) } else { (rank.checked_sub(2)?, rank - 1) };
    let small = |axis: usize, name: &str| {
        let size = layer.weight[axis].filter(|&size| size < FEW)?;
        Some(format!("a matrix product with {name} = {size}, below {FEW}: slower in int8 than in float"))
    };
    small(k, "K").or_else(|| small(n, "N"))
}

/// Returns why the product of a matrix and a single vector stays float.
pub fn one_vector(layer: &LayerShape) -> Option<String> {
    if layer.op_type != "Gemm" && layer.op_type != "MatMul" {
        return None;
    }
    let ends = match layer.has_weight {
        true if layer.output.len() > 2 => &[],
        true => &layer.output[..],
        false => &layer.output[layer.output.len().saturating_sub(2)..],
    };
    ends.contains(&Some(1)).then(|| "a matrix times one vector: slower in int8 than in float".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(weight: &[usize], group: i64, is_first: bool) -> LayerShape {
        LayerShape {
            op_type: "Conv".to_owned(),
            weight: weight.iter().map(|&n| Some(n)).collect(),
            has_weight: true,
            group,
            transposed: false,
            is_first,
            output: vec![None; 4],
        }
    }

    fn product(weight: [usize; 2], transposed: bool, output: [Option<usize>; 2]) -> LayerShape {
        let op_type = "Gemm".to_owned();
        LayerShape { op_type, transposed, output: output.to_vec(), ..conv(&weight, 1, false) }
    }

    #[test]
    fn few_channels_stay_float_but_for_the_shapes_that_have_kernels() {
        let cases = [
            ("16 by 16", conv(&[16, 16, 3, 3], 1, false), false),
            ("8 by 16 has a kernel", conv(&[8, 16, 3, 3], 1, false), false),
            ("8 by 8 inside", conv(&[8, 8, 3, 3], 1, false), true),
            ("8 by 8 of the image", conv(&[8, 8, 3, 3], 1, true), false),
            ("3 by 16 of the image", conv(&[16, 3, 3, 3], 1, true), false),
            ("no square kernel", conv(&[8, 16, 3, 1], 1, false), true),
            ("odd channels", conv(&[10, 17, 3, 3], 1, false), true),
            ("depthwise in pieces of 8", conv(&[32, 1, 3, 3], 32, false), false),
            ("depthwise of 12", conv(&[12, 1, 3, 3], 12, false), true),
            ("grouped 1x1", conv(&[32, 8, 1, 1], 2, false), true),
            ("a product", product([4, 4], false, [None; 2]), false),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, layer, stays)| few_channels(layer).is_some() != *stays).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn small_products_and_vectors_stay_float() {
        let cases = [
            ("64 by 16", product([64, 16], false, [None, Some(16)]), [false, false]),
            ("N of 10", product([64, 10], false, [None, Some(10)]), [true, false]),
            ("N of 10, transposed", product([10, 64], true, [None, Some(10)]), [true, false]),
            ("K of 8", product([8, 64], false, [None, Some(64)]), [true, false]),
            ("one sample", product([64, 64], false, [Some(1), Some(64)]), [false, true]),
            ("a Conv", conv(&[4, 4, 1, 1], 1, false), [false, false]),
        ];
        let found = |layer: &LayerShape| [small_product(layer).is_some(), one_vector(layer).is_some()];
        let wrong: Vec<_> = cases.iter().filter(|(_, layer, expected)| found(layer) != *expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
