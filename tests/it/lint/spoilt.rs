//! Files that break one rule each, made from sound ones.

use dfq_onnx::ir::{Attr, DType, Graph, Node, Tensor, ValueId};
use dfq_onnx::plan::Target::{self, Onnx, OpenVino, OrtCpu, Portable, TensorRt};

/// A rule, the target of a sound file with weights of so many bits, how it is spoilt, and where that is found.
pub struct Case {
    pub rule: &'static str,
    pub target: Target,
    pub weight_bits: u32,
    pub spoil: fn(&mut Graph),
    pub place: &'static str,
}

fn case(rule: &'static str, target: Target, spoil: fn(&mut Graph), place: &'static str) -> Case {
    Case { rule, target, weight_bits: 8, spoil, place }
}

/// Returns at least one case per rule.
pub fn cases() -> Vec<Case> {
    let packed = |rule, target, spoil, place| Case { weight_bits: 4, ..case(rule, target, spoil, place) };
    vec![
        packed("operator-set", Onnx, |g| g.set_opset(20), "c2_w_dequantized"),
        case("operator-set", OrtCpu, |g| g.set_opset(12), "c2_w_dequantized"),
        case("operator-set", TensorRt, |g| node(g, "x_quantized").set("output_dtype", 3i64), "x_quantized"),
        case("zero-point-type", OrtCpu, |g| retype(g, "c2_w_zero_point", DType::U8), "c2_w_dequantized"),
        case("zero-point-type", OrtCpu, |g| put(g, "c2_w_zero_point", ints(DType::I8, &[], &[0])), "c2_w_dequantized"),
        case("scale-axis", OrtCpu, |g| drop(node(g, "c1_w_dequantized").attrs.remove("axis")), "c1_w_dequantized"),
        case("scale-value", OrtCpu, |g| put(g, "r1_scale", Tensor::from_f32(&[], &[0.0])), "r1_quantized"),
        case("bias-zero-point", OrtCpu, |g| give_zero_point(g, "c2_b_dequantized"), "c2_b_dequantized"),
        case("weight-axis", OrtCpu, |g| node(g, "c2_w_dequantized").set("axis", 1i64), "c2_w_dequantized"),
        case("bias-scale", OrtCpu, |g| scale_by(g, "c2_b_scale", 10.0), "c2"),
        case("packed-activations", OrtCpu, |g| retype_grid(g, "r1", DType::U4), "r1_quantized"),
        case("runs-in-float", OrtCpu, |g| retype_grid(g, "r1", DType::I8), "c2"),
        case("runs-in-float", OrtCpu, unsigned_weight_signed_input, "c2"),
        case("runs-in-float", OrtCpu, relu_before_a_grid_around_0, "c3_float"),
        case("runs-in-float", OrtCpu, |g| bypass(g, "r3"), "\"r3\""),
        case("runs-in-float", OrtCpu, |g| bypass(g, "c2"), "\"r2\""),
        case("runs-in-float", OrtCpu, |g| bypass(g, "r1"), "c2"),
        case("runs-in-float", OrtCpu, pack_weight, "c2"),
        case("runs-in-float", OpenVino, pack_weight, "c2"),
        case("runs-in-float", Portable, |g| retype_grid(g, "r1", DType::U16), "c2"),
        case("runs-in-float", OrtCpu, |g| bypass(g, "f"), "\"f\""),
        case("runs-in-float", OrtCpu, new_grid_behind_flatten, "\"f\""),
        case("blocked-scales", Portable, block_scales, "h_w_dequantized"),
        case("packed-tensor", Portable, pack_weight, "c2_w_dequantized"),
        case("wide-integers", Portable, |g| retype_grid(g, "r1", DType::U16), "r1_quantized"),
        case("implied-type", Portable, imply_type, "x_quantized"),
        case("mixed-signs", Portable, sign_behind_relu, "again_quantized"),
        case(
            "foreign-operator",
            Portable,
            |g| "com.microsoft".clone_into(&mut node(g, "x_quantized").domain),
            "x_quantized",
        ),
        case("half-scale", Portable, half_scale, "r1_quantized"),
        case("computed-scale", Portable, compute_scale, "r1_quantized"),
        case("blocked-axis", OpenVino, block_scales, "h_w_dequantized"),
        case("affine-weight", OpenVino, |g| shift(g, "h_w_zero_point"), "\"h\""),
        case("unsigned-integers", TensorRt, |g| retype_grid(g, "r1", DType::U8), "r1_quantized"),
        case("zero-point", TensorRt, |g| shift(g, "r1_zero_point"), "r1_quantized"),
        case("quantized-bias", TensorRt, quantize_bias, "c2"),
        case("packed-convolution", TensorRt, pack_weight, "c2"),
        packed("packed-product", TensorRt, quantize_input_of_product, "\"h\""),
        case("narrow-activations", TensorRt, clip_integers, "r1_quantized"),
        case("integer-operator", TensorRt, |g| "MatMulInteger".clone_into(&mut node(g, "c2").op_type), "c2"),
        case("old-operator-set", TensorRt, |g| g.set_opset(13), "quantize"),
        case("quantizer-before-sum", TensorRt, |g| quantize_before(g, "c2", "again"), "again_quantized"),
        case("quantizer-before-relu", TensorRt, |g| quantize_before(g, "c3", "again"), "again_quantized"),
        case("unequal-concat", TensorRt, |g| scale_own(g, "r3"), "\"j\""),
        case("slow-layer", TensorRt, narrow_product, "\"y\""),
        case("lowest-weight", TensorRt, lowest_weight, "c2_w_dequantized"),
    ]
}

fn id(graph: &Graph, name: &str) -> ValueId {
    graph.find(name).unwrap_or_else(|| panic!("no tensor {name}"))
}

/// The node that makes `output`.
fn node<'a>(graph: &'a mut Graph, output: &str) -> &'a mut Node {
    let id = id(graph, output);
    graph.nodes.iter_mut().find(|n| n.output(0) == Some(id)).unwrap_or_else(|| panic!("no node makes {output}"))
}

fn input_name(graph: &mut Graph, output: &str, input: usize) -> String {
    let id = node(graph, output).input(input).unwrap();
    graph.name_of(id).to_owned()
}

fn ints(dtype: DType, shape: &[usize], values: &[i32]) -> Tensor {
    Tensor::from_ints(dtype, shape, values).unwrap()
}

fn tensor(graph: &Graph, name: &str) -> Tensor {
    graph.constant_of(id(graph, name)).unwrap().clone()
}

fn put(graph: &mut Graph, name: &str, tensor: Tensor) {
    let id = id(graph, name);
    graph.value_mut(id).dtype = Some(tensor.dtype());
    graph.value_mut(id).constant = Some(tensor);
}

fn scale_by(graph: &mut Graph, name: &str, factor: f32) {
    let old = tensor(graph, name);
    let values: Vec<f32> = old.to_f32().unwrap().iter().map(|v| v * factor).collect();
    put(graph, name, Tensor::from_f32(old.shape(), &values));
}

/// Gives integers another type, saturated to it.
fn retype(graph: &mut Graph, name: &str, dtype: DType) {
    let old = tensor(graph, name);
    let (lo, hi) = dtype.int_range().unwrap();
    let values: Vec<i32> = old.to_i64().unwrap().iter().map(|&v| i32::try_from(v.clamp(lo, hi)).unwrap()).collect();
    put(graph, name, ints(dtype, old.shape(), &values));
}

/// Gives every quantizer on the grid of `name` another type.
fn retype_grid(graph: &mut Graph, name: &str, dtype: DType) {
    let zero = input_name(graph, &format!("{name}_quantized"), 2);
    retype(graph, &zero, dtype);
    for value in graph.value_ids().collect::<Vec<_>>() {
        if graph.name_of(value).ends_with("_quantized") && graph.constant_of(value).is_none() {
            graph.value_mut(value).dtype = None;
        }
    }
}

fn shift(graph: &mut Graph, zero_point: &str) {
    let old = tensor(graph, zero_point);
    let values: Vec<i32> = old.to_i64().unwrap().iter().map(|&v| i32::try_from(v + 3).unwrap()).collect();
    put(graph, zero_point, ints(old.dtype(), old.shape(), &values));
}

/// Lets readers of the dequantized `name` read the float tensor.
fn bypass(graph: &mut Graph, name: &str) {
    let (float, dequantized) = (id(graph, name), id(graph, &format!("{name}_dequantized")));
    graph.replace_uses(dequantized, float);
    graph.sweep();
}

fn give_zero_point(graph: &mut Graph, output: &str) {
    let scale = input_name(graph, output, 1);
    let scale = tensor(graph, &scale);
    let ones = ints(DType::I32, scale.shape(), &vec![1; scale.len()]);
    let zero = graph.add_constant("one", ones);
    node(graph, output).inputs.push(Some(zero));
}

fn unsigned_weight_signed_input(graph: &mut Graph) {
    retype_grid(graph, "r1", DType::I8);
    retype(graph, "c2_w_quantized", DType::U8);
    retype(graph, "c2_w_zero_point", DType::U8);
}

fn relu_before_a_grid_around_0(graph: &mut Graph) {
    let (c3, r3) = (id(graph, "c3_w_dequantized"), id(graph, "r3"));
    let conv = graph.nodes.iter().position(|n| n.is("Conv") && n.input(1) == Some(c3)).unwrap();
    let between = graph.add_value("c3_float");
    graph.nodes[conv].outputs[0] = Some(between);
    graph.nodes.insert(conv + 1, Node::new("Relu", [between], [r3], []));
    let zero = input_name(graph, "r3_quantized", 2);
    put(graph, &zero, ints(DType::U8, &[], &[100]));
}

fn pack_weight(graph: &mut Graph) {
    retype(graph, "c2_w_quantized", DType::I4);
    retype(graph, "c2_w_zero_point", DType::I4);
}

/// Gives `name` a scale that no other tensor has.
fn scale_own(graph: &mut Graph, name: &str) {
    let scale = graph.add_constant("own_scale", Tensor::from_f32(&[], &[0.123]));
    for output in [format!("{name}_quantized"), format!("{name}_dequantized")] {
        node(graph, &output).inputs[1] = Some(scale);
    }
}

fn new_grid_behind_flatten(graph: &mut Graph) {
    scale_own(graph, "f");
}

fn block_scales(graph: &mut Graph) {
    let stored = tensor(graph, "h_w_quantized");
    let shape = [stored.shape()[0], 2];
    let count = shape[0] * shape[1];
    put(graph, "h_w_scale", Tensor::from_f32(&shape, &vec![0.01; count]));
    put(graph, "h_w_zero_point", ints(stored.dtype(), &shape, &vec![0; count]));
    let block = i64::try_from(stored.shape()[1] / 2).unwrap();
    let dequantize = node(graph, "h_w_dequantized");
    dequantize.set("axis", 1i64);
    dequantize.set("block_size", block);
}

fn imply_type(graph: &mut Graph) {
    let quantize = node(graph, "x_quantized");
    quantize.inputs.truncate(2);
    quantize.set("output_dtype", Attr::Int(i64::from(DType::I8.code())));
}

/// Puts Q/DQ of its own between `name` and its readers.
fn quantize_before(graph: &mut Graph, name: &str, own: &str) {
    let float = id(graph, name);
    let readers: Vec<usize> =
        (0..graph.nodes.len()).filter(|&i| graph.nodes[i].inputs.contains(&Some(float))).collect();
    let scale = graph.add_constant(&format!("{own}_scale"), Tensor::from_f32(&[], &[0.05]));
    let zero = graph.add_constant(&format!("{own}_zero_point"), ints(DType::I8, &[], &[0]));
    let quantized = graph.add_value(&format!("{own}_quantized"));
    let dequantized = graph.add_value(&format!("{own}_dequantized"));
    for i in readers {
        graph.nodes[i].inputs.iter_mut().filter(|x| **x == Some(float)).for_each(|x| *x = Some(dequantized));
    }
    graph.nodes.push(Node::new("QuantizeLinear", [float, scale, zero], [quantized], []));
    graph.nodes.push(Node::new("DequantizeLinear", [quantized, scale, zero], [dequantized], []));
    graph.sort().unwrap();
}

fn sign_behind_relu(graph: &mut Graph) {
    let dequantized = id(graph, "r1_dequantized");
    let relu = graph.add_value("relu_again");
    graph.nodes.push(Node::new("Relu", [dequantized], [relu], []));
    graph.outputs.push(relu);
    graph.sort().unwrap();
    quantize_before(graph, "relu_again", "again");
    let output = id(graph, "again_dequantized");
    *graph.outputs.last_mut().unwrap() = output;
}

fn half_scale(graph: &mut Graph) {
    let scale = input_name(graph, "r1_quantized", 1);
    let values = tensor(graph, &scale).to_f32().unwrap();
    put(graph, &scale, Tensor::from_floats(DType::F16, &[], &values).unwrap());
}

fn compute_scale(graph: &mut Graph) {
    let old = node(graph, "r1_quantized").input(1).unwrap();
    let computed = graph.add_value("computed");
    graph.nodes.push(Node::new("Sqrt", [old], [computed], []));
    node(graph, "r1_quantized").inputs[1] = Some(computed);
    graph.sort().unwrap();
}

fn quantize_bias(graph: &mut Graph) {
    let stored = graph.add_constant("c2_b_integers", ints(DType::I32, &[16], &[1; 16]));
    let scale = graph.add_constant("c2_b_scale", Tensor::from_f32(&[], &[0.01]));
    let back = graph.add_value("c2_b_back");
    graph.nodes.push(Node::new("DequantizeLinear", [stored, scale], [back], []));
    node(graph, "c2").inputs[2] = Some(back);
    graph.sort().unwrap();
}

fn quantize_input_of_product(graph: &mut Graph) {
    quantize_before(graph, "f", "again");
}

fn clip_integers(graph: &mut Graph) {
    let quantized = id(graph, "r1_quantized");
    let [lo, hi] = [0, 15].map(|bound| graph.add_constant("bound", ints(DType::I8, &[], &[bound])));
    let clipped = graph.add_value("r1_clipped");
    graph.replace_uses(quantized, clipped);
    graph.nodes.push(Node::new("Clip", [quantized, lo, hi], [clipped], []));
    graph.sort().unwrap();
}

fn narrow_product(graph: &mut Graph) {
    quantize_before(graph, "r5", "again");
    let stored = graph.add_constant("y_w_integers", ints(DType::I8, &[5, 24], &[1; 120]));
    let scale = graph.add_constant("y_w_scale", Tensor::from_f32(&[], &[0.01]));
    let back = graph.add_value("y_w_back");
    graph.nodes.push(Node::new("DequantizeLinear", [stored, scale], [back], []));
    node(graph, "y").inputs[1] = Some(back);
    graph.sort().unwrap();
}

fn lowest_weight(graph: &mut Graph) {
    let old = tensor(graph, "c2_w_quantized");
    let mut values: Vec<i32> = old.to_i64().unwrap().iter().map(|&v| i32::try_from(v).unwrap()).collect();
    values[0] = -128;
    put(graph, "c2_w_quantized", ints(DType::I8, old.shape(), &values));
}
