//! The changes of operators between versions, one row per operator and change. Operators without a row and not under
//! [`NEVER_CHANGED`] are refused.

use super::site::Site;
use super::{attributes, attributes_to_inputs, normalization, resize, softmax};
use crate::error::Result;

/// The effect of a version change on a node.
#[derive(Clone, Copy)]
pub(super) enum Adapter {
    /// Types, shapes or optional attributes were added; a node of the version before means the same.
    Unchanged,
    /// The node is rewritten.
    Rewrite(fn(&mut Site) -> Result<()>),
    /// A node of the version before has no counterpart, for this reason.
    Refuse(&'static str),
}

/// An operator, the opsets of a change, and its effect on nodes.
pub(super) struct Row {
    pub(super) op: &'static str,
    pub(super) versions: &'static [i64],
    pub(super) adapter: Adapter,
}

const fn unchanged(op: &'static str, versions: &'static [i64]) -> Row {
    Row { op, versions, adapter: Adapter::Unchanged }
}

const fn rewrite(op: &'static str, versions: &'static [i64], adapter: fn(&mut Site) -> Result<()>) -> Row {
    Row { op, versions, adapter: Adapter::Rewrite(adapter) }
}

const fn refuse(op: &'static str, versions: &'static [i64], reason: &'static str) -> Row {
    Row { op, versions, adapter: Adapter::Refuse(reason) }
}

/// Every change of an operator from opset 8 to 24.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    unchanged("Abs", &[13]),
    unchanged("Acos", &[22]),
    unchanged("Acosh", &[22]),
    unchanged("Add", &[13, 14]),
    unchanged("ArgMax", &[11, 12, 13]),
    unchanged("ArgMin", &[11, 12, 13]),
    unchanged("Asin", &[22]),
    unchanged("Asinh", &[22]),
    unchanged("Atan", &[22]),
    unchanged("Atanh", &[22]),
    unchanged("Attention", &[24]),
    unchanged("AveragePool", &[10, 11, 19, 22]),
    unchanged("BatchNormalization", &[15]),
    rewrite("BatchNormalization", &[9], normalization::batch_normalization_spatial),
    rewrite("BatchNormalization", &[14], normalization::batch_normalization_training),
    unchanged("Bernoulli", &[22]),
    unchanged("Cast", &[9, 13, 19, 21, 23, 24]),
    unchanged("CastLike", &[19, 21, 23, 24]),
    unchanged("Ceil", &[13]),
    unchanged("Clip", &[12, 13]),
    rewrite("Clip", &[11], attributes_to_inputs::clip),
    unchanged("Compress", &[11]),
    unchanged("Concat", &[11, 13]),
    unchanged("Constant", &[9, 11, 12, 13, 19, 21, 23, 24]),
    unchanged("ConstantOfShape", &[20, 21, 23, 24]),
    unchanged("Conv", &[11, 22]),
    // The text of version 1 swaps SAME_UPPER and SAME_LOWER; ONNX Runtime reads it as 11.
    unchanged("ConvTranspose", &[11, 22]),
    unchanged("Cos", &[22]),
    unchanged("Cosh", &[22]),
    unchanged("CumSum", &[14]),
    rewrite("DFT", &[20], attributes_to_inputs::dft),
    unchanged("DeformConv", &[22]),
    unchanged("DepthToSpace", &[11, 13]),
    unchanged("DequantizeLinear", &[13, 19, 21, 23, 24]),
    unchanged("Det", &[22]),
    unchanged("Div", &[13, 14]),
    unchanged("Dropout", &[13, 22]),
    rewrite("Dropout", &[10], attributes_to_inputs::dropout_mask),
    rewrite("Dropout", &[12], attributes_to_inputs::dropout),
    unchanged("Elu", &[22]),
    unchanged("Equal", &[11, 13, 19]),
    unchanged("Erf", &[13]),
    unchanged("Exp", &[13]),
    unchanged("Expand", &[13]),
    unchanged("EyeLike", &[22]),
    unchanged("Flatten", &[9, 11, 13, 21, 23, 24]),
    unchanged("Floor", &[13]),
    unchanged("GRU", &[14, 22]),
    unchanged("Gather", &[11, 13]),
    unchanged("GatherElements", &[13]),
    unchanged("GatherND", &[12, 13]),
    unchanged("Gemm", &[9, 11, 13]),
    unchanged("GlobalAveragePool", &[22]),
    unchanged("GlobalLpPool", &[22]),
    unchanged("GlobalMaxPool", &[22]),
    unchanged("Greater", &[9, 13]),
    unchanged("GreaterOrEqual", &[16]),
    unchanged("GridSample", &[22]),
    rewrite("GridSample", &[20], attributes::grid_sample),
    rewrite("GroupNormalization", &[21], normalization::group_normalization),
    unchanged("HardSigmoid", &[22]),
    unchanged("HardSwish", &[22]),
    unchanged("Hardmax", &[11]),
    rewrite("Hardmax", &[13], softmax::unflatten),
    unchanged("Identity", &[13, 14, 16, 19, 21, 23, 24]),
    unchanged("InstanceNormalization", &[22]),
    unchanged("If", &[11, 13, 16, 19, 21, 23, 24]),
    unchanged("IsInf", &[20]),
    unchanged("IsNaN", &[13, 20]),
    unchanged("LRN", &[13]),
    unchanged("LSTM", &[14, 22]),
    unchanged("LeakyRelu", &[16]),
    unchanged("Less", &[9, 13]),
    unchanged("LessOrEqual", &[16]),
    unchanged("Log", &[13]),
    unchanged("LogSoftmax", &[11]),
    rewrite("LogSoftmax", &[13], softmax::unflatten),
    unchanged("Loop", &[11, 13, 16, 19, 21, 23, 24]),
    unchanged("LpNormalization", &[22]),
    unchanged("LpPool", &[11, 18, 22]),
    unchanged("MatMul", &[9, 13]),
    unchanged("Max", &[8, 12, 13]),
    unchanged("MaxPool", &[8, 10, 11, 12, 22]),
    unchanged("MaxRoiPool", &[22]),
    unchanged("MaxUnpool", &[11, 22]),
    unchanged("Mean", &[8, 13]),
    unchanged("MeanVarianceNormalization", &[13]),
    unchanged("Min", &[8, 12, 13]),
    unchanged("Mish", &[22]),
    unchanged("Mod", &[13]),
    unchanged("Mul", &[13, 14]),
    unchanged("Multinomial", &[22]),
    unchanged("Neg", &[13]),
    unchanged("NegativeLogLikelihoodLoss", &[13, 22]),
    unchanged("NonMaxSuppression", &[11]),
    unchanged("NonZero", &[13]),
    // Version 11 wraps negative indices, which 9 excluded; ONNX Runtime wraps them in both.
    unchanged("OneHot", &[11]),
    unchanged("PRelu", &[9, 16]),
    unchanged("Pad", &[13, 18, 19, 21, 23, 24]),
    rewrite("Pad", &[11], attributes_to_inputs::pad),
    unchanged("Pow", &[12, 13, 15]),
    unchanged("QLinearMatMul", &[21]),
    unchanged("QuantizeLinear", &[13, 19, 21, 23, 24]),
    unchanged("RNN", &[14, 22]),
    unchanged("RandomNormal", &[22]),
    unchanged("RandomNormalLike", &[22]),
    unchanged("RandomUniform", &[22]),
    unchanged("RandomUniformLike", &[22]),
    unchanged("Reciprocal", &[13]),
    unchanged("ReduceL1", &[11, 13]),
    rewrite("ReduceL1", &[18], attributes_to_inputs::axes),
    unchanged("ReduceL2", &[11, 13]),
    rewrite("ReduceL2", &[18], attributes_to_inputs::axes),
    unchanged("ReduceLogSum", &[11, 13]),
    rewrite("ReduceLogSum", &[18], attributes_to_inputs::axes),
    unchanged("ReduceLogSumExp", &[11, 13]),
    rewrite("ReduceLogSumExp", &[18], attributes_to_inputs::axes),
    unchanged("ReduceMax", &[11, 12, 13, 20]),
    rewrite("ReduceMax", &[18], attributes_to_inputs::axes),
    unchanged("ReduceMean", &[11, 13]),
    rewrite("ReduceMean", &[18], attributes_to_inputs::axes),
    unchanged("ReduceMin", &[11, 12, 13, 20]),
    rewrite("ReduceMin", &[18], attributes_to_inputs::axes),
    unchanged("ReduceProd", &[11, 13]),
    rewrite("ReduceProd", &[18], attributes_to_inputs::axes),
    unchanged("ReduceSum", &[11]),
    rewrite("ReduceSum", &[13], attributes_to_inputs::axes),
    unchanged("ReduceSumSquare", &[11, 13]),
    rewrite("ReduceSumSquare", &[18], attributes_to_inputs::axes),
    unchanged("Relu", &[13, 14]),
    unchanged("Reshape", &[13, 14, 19, 21, 23, 24]),
    unchanged("Resize", &[19]),
    rewrite("Resize", &[11], resize::coordinates),
    rewrite("Resize", &[13], resize::sizes_or_scales),
    rewrite("Resize", &[18], resize::half_pixel_for_nn),
    unchanged("RoiAlign", &[22]),
    rewrite("RoiAlign", &[16], attributes::roi_align),
    unchanged("Round", &[22]),
    unchanged("Scan", &[11, 16, 19, 21, 23, 24]),
    refuse("Scan", &[9], "Scan no longer has a batch axis; export the model again"),
    rewrite("Scatter", &[11], attributes::scatter),
    unchanged("ScatterElements", &[13, 16, 18]),
    unchanged("ScatterND", &[13, 16, 18]),
    unchanged("Selu", &[22]),
    unchanged("Shape", &[13, 15, 19, 21, 23, 24]),
    unchanged("Sigmoid", &[13]),
    unchanged("Sign", &[13]),
    unchanged("Sin", &[22]),
    unchanged("Sinh", &[22]),
    unchanged("Size", &[13, 19, 21, 23, 24]),
    unchanged("Slice", &[11, 13]),
    rewrite("Slice", &[10], attributes_to_inputs::slice),
    unchanged("Softmax", &[11]),
    rewrite("Softmax", &[13], softmax::unflatten),
    unchanged("SoftmaxCrossEntropyLoss", &[13]),
    unchanged("Softplus", &[22]),
    unchanged("Softsign", &[22]),
    unchanged("SpaceToDepth", &[13]),
    unchanged("Split", &[11]),
    rewrite("Split", &[13], attributes_to_inputs::split),
    rewrite("Split", &[18], attributes::split),
    unchanged("Sqrt", &[13]),
    unchanged("Squeeze", &[11, 21, 23, 24]),
    rewrite("Squeeze", &[13], attributes_to_inputs::axes),
    unchanged("Sub", &[13, 14]),
    unchanged("Sum", &[8, 13]),
    unchanged("Tan", &[22]),
    unchanged("Tanh", &[13]),
    unchanged("ThresholdedRelu", &[22]),
    unchanged("Tile", &[13]),
    unchanged("TopK", &[11, 24]),
    rewrite("TopK", &[10], attributes_to_inputs::top_k),
    unchanged("Transpose", &[13, 21, 23, 24]),
    unchanged("Unsqueeze", &[11, 21, 23, 24]),
    rewrite("Unsqueeze", &[13], attributes_to_inputs::unsqueeze),
    rewrite("Upsample", &[9], attributes_to_inputs::upsample),
    rewrite("Upsample", &[10], resize::upsample),
    unchanged("Where", &[16]),
];

/// Operators of the default domain that kept their first version, or their version of opset 7, up to opset 24.
#[rustfmt::skip]
pub(super) const NEVER_CHANGED: &[&str] = &[
    "AffineGrid", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BlackmanWindow",
    "Celu", "CenterCropPad", "Col2Im", "ConcatFromSequence", "ConvInteger", "DynamicQuantizeLinear", "Einsum",
    "Gelu", "HammingWindow", "HannWindow", "ImageDecoder", "LayerNormalization", "MatMulInteger", "MelWeightMatrix",
    "Not", "Optional", "Or", "QLinearConv", "RMSNormalization", "Range", "RegexFullMatch", "ReverseSequence",
    "RotaryEmbedding", "STFT", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SequenceMap", "Shrink", "StringConcat", "StringNormalizer", "StringSplit",
    "Swish", "TensorScatter", "TfIdfVectorizer", "Trilu", "Unique", "Xor",
];

#[cfg(test)]
mod tests {
    use super::super::history;
    use super::*;

    /// Operators of sequences or optionals, which a graph cannot hold.
    const REFUSED: &[&str] = &["OptionalGetElement", "OptionalHasElement", "SplitToSequence"];

    #[test]
    fn the_table_covers_exactly_the_changes_in_the_specification() {
        let mut failed = Vec::new();
        for (op, versions) in history::operators() {
            let mut expected: Vec<i64> = versions.skip(1).filter(|&v| v > 7).collect();
            let mut found: Vec<i64> =
                TABLE.iter().filter(|row| row.op == op).flat_map(|row| row.versions).copied().collect();
            found.sort_unstable();
            if REFUSED.contains(&op) {
                expected.clear();
            }
            if NEVER_CHANGED.contains(&op) != (expected.is_empty() && !REFUSED.contains(&op)) || found != expected {
                failed.push(format!("{op}: changed at {expected:?}, the table has {found:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn the_table_names_only_operators_of_the_specification() {
        let named = TABLE.iter().map(|row| row.op).chain(NEVER_CHANGED.iter().copied());
        let failed: Vec<_> = named.filter(|op| history::operators().all(|known| known.0 != *op)).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}
