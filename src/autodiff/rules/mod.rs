//! Gradient rules, one function per operator, and their table.

mod activation;
mod channels;
mod conv;
mod elementwise;
mod matmul;
mod movement;
mod normalisation;
mod pool;
mod quantize;
mod reduce;
mod resize;

use super::Rule;
use crate::expr::{CHANNEL_AFFINE, CHANNEL_MOMENTS, FAKE_QUANTIZE, SELECT};

/// The rules of our own operators.
pub const OWN_RULES: &[(&str, Rule)] = &[
    (FAKE_QUANTIZE, quantize::fake_quantize),
    (CHANNEL_MOMENTS, channels::channel_moments),
    (CHANNEL_AFFINE, channels::channel_affine),
    (SELECT, channels::select),
];

/// The rules of ONNX operators.
pub const RULES: &[(&str, Rule)] = &[
    ("Add", elementwise::add),
    ("Sub", elementwise::sub),
    ("Mul", elementwise::mul),
    ("Div", elementwise::div),
    ("Pow", elementwise::pow),
    ("Sum", elementwise::sum),
    ("Min", elementwise::extreme),
    ("Max", elementwise::extreme),
    ("Where", elementwise::choose),
    ("Neg", elementwise::neg),
    ("Abs", elementwise::abs),
    ("Exp", elementwise::exp),
    ("Log", elementwise::log),
    ("Sqrt", elementwise::sqrt),
    ("Reciprocal", elementwise::reciprocal),
    ("Identity", elementwise::identity),
    ("Cast", elementwise::cast),
    ("Relu", activation::relu),
    ("LeakyRelu", activation::leaky_relu),
    ("PRelu", activation::prelu),
    ("Elu", activation::elu),
    ("Mish", activation::mish),
    ("Clip", activation::clip),
    ("Sigmoid", activation::sigmoid),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::hard_swish),
    ("Tanh", activation::tanh),
    ("Erf", activation::erf),
    ("Gelu", activation::gelu),
    ("Softplus", activation::softplus),
    ("MatMul", matmul::matmul),
    ("Gemm", matmul::gemm),
    ("Conv", conv::conv),
    ("ConvTranspose", conv::conv_transpose),
    ("MaxPool", pool::max_pool),
    ("AveragePool", pool::average_pool),
    ("GlobalAveragePool", pool::global_average_pool),
    ("GlobalMaxPool", pool::global_max_pool),
    ("BatchNormalization", normalisation::batch_normalization),
    ("LayerNormalization", normalisation::layer_normalization),
    ("InstanceNormalization", normalisation::instance_normalization),
    ("GroupNormalization", normalisation::group_normalization),
    ("ReduceSum", reduce::sum),
    ("ReduceMean", reduce::mean),
    ("ReduceMax", reduce::extreme),
    ("ReduceMin", reduce::extreme),
    ("Softmax", reduce::softmax),
    ("LogSoftmax", reduce::log_softmax),
    ("Reshape", movement::reshape),
    ("Flatten", movement::reshape),
    ("Squeeze", movement::reshape),
    ("Unsqueeze", movement::reshape),
    ("Expand", movement::expand),
    ("Transpose", movement::transpose),
    ("DepthToSpace", movement::depth_to_space),
    ("SpaceToDepth", movement::space_to_depth),
    ("Concat", movement::concat),
    ("Split", movement::split),
    ("Slice", movement::slice),
    ("Pad", movement::pad),
    ("Gather", movement::gather),
    ("Resize", resize::resize),
];
