//! Moments of every tensor that follow from batch-normalization statistics (Nagel et al. 2019, section 4.2, appendix
//! C).
//!
//! Each channel is a normal distribution clipped to an interval. Normalized tensors are normal around `beta`; ReLU and
//! Clip narrow the interval; sums add moments as if independent; other operators go through their first two moments.
//! Tensors without a rule have no moments; their ranges come from running inputs.

use std::collections::HashMap;

use super::bounds::clip_bounds;
use super::channels::{concat, padded, rearranged};
use super::{BatchNorm, ClippedNormal, is_network_input};
use crate::ir::{Dim, Graph, Node, ValueId};

/// Correlation assumed between neighbouring pixels of one channel, where a rule sums or averages over them.
const SPATIAL_CORRELATION: f64 = 0.5;
/// The distribution of a tensor: one entry per channel, or a single one for all.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments(pub Vec<ClippedNormal>);

impl Moments {
    fn map(&self, f: impl Fn(&ClippedNormal) -> ClippedNormal) -> Self {
        Self(self.0.iter().map(f).collect())
    }

    /// Returns the moments of channel `i`.
    pub fn channel(&self, i: usize) -> &ClippedNormal {
        if self.0.len() == 1 { &self.0[0] } else { &self.0[i] }
    }

    fn zip(&self, other: &Self, f: impl Fn(&ClippedNormal, &ClippedNormal) -> ClippedNormal) -> Option<Self> {
        let n = self.0.len().max(other.0.len());
        let fits = |m: &Self| m.0.len() == n || m.0.len() == 1;
        (fits(self) && fits(other)).then(|| Self((0..n).map(|i| f(self.channel(i), other.channel(i))).collect()))
    }
}

/// Returns the known moments of tensors, by name.
///
/// `graph` may have its normalisations folded: their statistics are matched by the name of their result.
/// `input` describes the graph's inputs. Shapes must have been inferred.
pub fn propagate(graph: &Graph, norms: &[BatchNorm], input: &Moments) -> HashMap<ValueId, Moments> {
    let by_output: HashMap<&str, &BatchNorm> = norms.iter().map(|n| (n.output.as_str(), n)).collect();
    let mut known: HashMap<ValueId, Moments> = graph
        .fed_inputs()
        .into_iter()
        .filter(|&id| is_network_input(graph, id))
        .map(|id| (id, input.clone()))
        .collect();
    for node in &graph.nodes {
        let Some(output) = node.output(0) else { continue };
        let moments = match by_output.get(graph.name_of(output)) {
            Some(norm) => Some(normalised(norm)),
            None => rule(graph, node, &known),
        };
        if let Some(moments) = moments {
            known.insert(output, moments);
        }
    }
    known
}

fn normalised(norm: &BatchNorm) -> Moments {
    let std = norm.std();
    Moments(norm.beta.iter().zip(std).map(|(&beta, std)| ClippedNormal::new(f64::from(beta), std)).collect())
}

fn rule(graph: &Graph, node: &Node, known: &HashMap<ValueId, Moments>) -> Option<Moments> {
    if !node.domain.is_empty() {
        return None;
    }
    let x = || known.get(&node.input(0)?);
    match node.op_type.as_str() {
        "Relu" => Some(x()?.map(|c| c.clip(0.0, f64::INFINITY))),
        "Clip" => clip(graph, node, x()?),
        "Min" => capped(graph, node, x()?),
        "Add" | "Sub" | "Mul" | "Div" => binary(graph, node, known),
        "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => weighted(graph, node, x()?),
        "AveragePool" | "GlobalAveragePool" => average(graph, node, x()?),
        "ReduceMean" if keeps_channels(graph, node) => average(graph, node, x()?),
        "MaxPool" | "Identity" | "Cast" | "Dropout" | "Resize" | "GlobalMaxPool" => Some(x()?.clone()),
        "Slice" | "Transpose" | "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => rearranged(graph, node, x()?),
        "Pad" => padded(graph, node, x()?),
        "Concat" => concat(graph, node, known),
        _ => Some(elementwise(x()?, unary(node)?)),
    }
}

fn clip(graph: &Graph, node: &Node, x: &Moments) -> Option<Moments> {
    let [lo, hi] = clip_bounds(graph, node)?.map(f64::from);
    Some(x.map(|c| c.clip(lo, hi)))
}

/// `Min(x, caps)` with constant caps, one per channel or one for all.
fn capped(graph: &Graph, node: &Node, x: &Moments) -> Option<Moments> {
    let caps = node.input(1).filter(|&id| graph.constant_of(id).is_some())?;
    let caps = operand(graph, node, caps, &HashMap::new())?;
    (node.inputs.len() == 2).then_some(())?;
    x.zip(&caps, |c, cap| c.clip(f64::NEG_INFINITY, cap.mean))
}

/// Constants of one value, or one value per channel (`[C, 1, 1]`, `[1, C, 1, 1]`, `[C]` where channels come last), are
/// taken; others are not.
fn operand(graph: &Graph, node: &Node, id: ValueId, known: &HashMap<ValueId, Moments>) -> Option<Moments> {
    let Some(tensor) = graph.constant_of(id) else { return known.get(&id).cloned() };
    let values = tensor.to_f32().ok().filter(|v| !v.is_empty())?;
    let long: Vec<usize> = (0..tensor.shape().len()).filter(|&axis| tensor.shape()[axis] != 1).collect();
    let per_channel = match long[..] {
        [] => true,
        [axis] => {
            let result = graph.value(node.output(0)?).shape.as_ref()?;
            let axis = (result.len() + axis).checked_sub(tensor.shape().len())?;
            axis == 1 || axis + 1 == result.len() && result.get(1)?.known() != Some(values.len())
        }
        _ => false,
    };
    if !per_channel {
        return None;
    }
    Some(Moments(values.iter().map(|&v| ClippedNormal::new(f64::from(v), 0.0)).collect()))
}

fn binary(graph: &Graph, node: &Node, known: &HashMap<ValueId, Moments>) -> Option<Moments> {
    let (a, b) = (operand(graph, node, node.input(0)?, known)?, operand(graph, node, node.input(1)?, known)?);
    let op = node.op_type.as_str();
    if op == "Div" && b.0.iter().any(|c| c.std != 0.0 || c.mean == 0.0) {
        return None;
    }
    a.zip(&b, |a, b| {
        let ((ma, va), (mb, vb)) = (a.moments(), b.moments());
        let (mean, variance) = match op {
            "Add" => (ma + mb, va + vb),
            "Sub" => (ma - mb, va + vb),
            "Mul" => (ma * mb, va * vb + va * mb * mb + vb * ma * ma),
            _ => (ma / mb, va / (mb * mb)),
        };
        let bounded = ClippedNormal::new(mean, variance.sqrt());
        if op == "Add" { bounded.clip(a.lo + b.lo, a.hi + b.hi) } else { bounded }
    })
}

/// Returns the share of its taps that an output of a layer uses: below 1 for a strided ConvTranspose.
pub fn share_of_taps(node: &Node) -> f64 {
    match node.ints("strides").filter(|_| node.is("ConvTranspose")) {
        Some(strides) => 1.0 / strides.iter().map(|&stride| stride as f64).product::<f64>().max(1.0),
        None => 1.0,
    }
}

/// `mean = W·mean + b`; the variance takes the taps of one input channel as correlated by [`SPATIAL_CORRELATION`].
fn weighted(graph: &Graph, node: &Node, x: &Moments) -> Option<Moments> {
    let weight = graph.constant_of(node.input(1)?)?;
    let values = weight.to_f32().ok()?;
    let shape = weight.shape();
    let group = usize::try_from(node.attrs.int("group", 1)).ok().filter(|&g| g > 0)?;
    let transposed = match node.op_type.as_str() {
        "Conv" => true,
        "Gemm" => node.attrs.int("transB", 0) != 0,
        _ => false,
    };
    if shape.len() < 2 || group > 1 && !transposed {
        return None;
    }
    let inner: usize = shape[2..].iter().product();
    let (outputs, inputs) = if transposed { (shape[0], shape[1]) } else { (shape[1], shape[0]) };
    let bias = match node.input(2) {
        Some(id) => graph.constant_of(id)?.to_f32().ok()?,
        None => vec![0.0],
    };
    let channels = inputs * group;
    if x.0.len() != 1 && x.0.len() != channels || bias.len() != 1 && bias.len() != outputs {
        return None;
    }
    let moments: Vec<(f64, f64)> = x.0.iter().map(ClippedNormal::moments).collect();
    let seen = share_of_taps(node);
    let output = |o: usize| {
        let (mut mean, mut variance) = (f64::from(bias[if bias.len() == 1 { 0 } else { o }]), 0.0);
        for i in 0..inputs {
            let start = if transposed { (o * inputs + i) * inner } else { (i * outputs + o) * inner };
            let taps = values[start..start + inner].iter().map(|&w| f64::from(w));
            let (sum, squares) = taps.fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
            let channel = o / (outputs / group).max(1) * inputs + i;
            let (m, v) = moments[if moments.len() == 1 { 0 } else { channel }];
            let (sum, squares) = (seen * sum, seen * squares);
            mean += sum * m;
            variance += v * ((1.0 - SPATIAL_CORRELATION) * squares + SPATIAL_CORRELATION * sum * sum);
        }
        ClippedNormal::new(mean, variance.sqrt())
    };
    Some(Moments((0..outputs).map(output).collect()))
}

/// Returns whether a reduction keeps batch and channels.
fn keeps_channels(graph: &Graph, node: &Node) -> bool {
    let rank = node.input(0).and_then(|id| graph.value(id).shape.as_ref()).map(Vec::len);
    let axes = match node.input(1) {
        Some(id) => graph.constant_of(id).and_then(|t| t.to_i64().ok()),
        None => node.ints("axes").map(<[i64]>::to_vec),
    };
    let Some((rank, axes)) = rank.and_then(|rank| i64::try_from(rank).ok()).zip(axes) else { return false };
    !axes.is_empty() && axes.iter().all(|&axis| axis >= 2 || axis < 0 && axis + rank >= 2)
}

fn average(graph: &Graph, node: &Node, x: &Moments) -> Option<Moments> {
    let window: f64 = match node.ints("kernel_shape") {
        Some(kernel) => kernel.iter().map(|&size| size as f64).product(),
        None => {
            let shape = graph.value(node.input(0)?).shape.as_ref()?;
            let spatial = shape.get(2..)?.iter().map(Dim::known).collect::<Option<Vec<_>>>()?;
            spatial.iter().map(|&size| size as f64).product()
        }
    };
    let kept = SPATIAL_CORRELATION + (1.0 - SPATIAL_CORRELATION) / window.max(1.0);
    Some(x.map(|c| {
        let (mean, variance) = c.moments();
        ClippedNormal { mean, std: (variance * kept).sqrt(), ..*c }
    }))
}

fn elementwise(x: &Moments, f: impl Fn(f64) -> f64) -> Moments {
    x.map(|c| {
        let (mean, variance) = c.moments_of(&f);
        ClippedNormal::new(mean, variance.sqrt())
    })
}

type Unary = Box<dyn Fn(f64) -> f64>;

fn unary(node: &Node) -> Option<Unary> {
    let alpha = |default: f32| f64::from(node.attrs.float("alpha", default));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let gate = |x: f64, slope: f64, offset: f64| (slope * x + offset).clamp(0.0, 1.0);
    Some(match node.op_type.as_str() {
        "LeakyRelu" => {
            let slope = alpha(0.01);
            Box::new(move |x| if x < 0.0 { slope * x } else { x })
        }
        "Elu" => {
            let slope = alpha(1.0);
            Box::new(move |x| if x < 0.0 { slope * x.exp_m1() } else { x })
        }
        "HardSigmoid" => {
            let (slope, offset) = (alpha(0.2), f64::from(node.attrs.float("beta", 0.5)));
            Box::new(move |x| gate(x, slope, offset))
        }
        "HardSwish" => Box::new(move |x| x * gate(x, 1.0 / 6.0, 0.5)),
        "Sigmoid" => Box::new(sigmoid),
        "Tanh" => Box::new(f64::tanh),
        "Softplus" => Box::new(softplus),
        "Gelu" => Box::new(|x: f64| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))),
        "Mish" => Box::new(|x: f64| x * softplus(x).tanh()),
        "Neg" => Box::new(|x: f64| -x),
        "Abs" => Box::new(f64::abs),
        _ => return None,
    })
}

/// Returns `ln(1 + exp x)`, finite for every finite `x`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Attr, DType, Tensor};

    #[test]
    fn a_sum_of_rectified_tensors_stays_above_zero() {
        let relu = ClippedNormal::new(0.2, 1.0).clip(0.0, f64::INFINITY);
        let sum = Moments(vec![relu]).zip(&Moments(vec![relu; 3]), |a, b| {
            ClippedNormal::new(a.moments().0 + b.moments().0, 1.0).clip(a.lo + b.lo, a.hi + b.hi)
        });
        let sum = sum.unwrap();
        assert_eq!((sum.0.len(), sum.0[0].lo), (3, 0.0));
    }

    /// Returns the moments of the result of one node on `x[N, 2, 4, 2]`, whose channels are N(1, 1) and N(3, 4).
    fn result(op: &str, constant: Option<(&[usize], &[f32])>, attrs: &[(&'static str, Attr)]) -> Option<Vec<[f64; 2]>> {
        let mut graph = Graph::default();
        graph.set_opset(13);
        let (x, y) = (graph.add_value("x"), graph.add_value("y"));
        graph.value_mut(x).dtype = Some(DType::F32);
        graph.value_mut(x).shape = Some([8, 2, 4, 2].map(Dim::Known).to_vec());
        graph.inputs.push(x);
        let other = constant.map(|(shape, values)| graph.add_constant("c", Tensor::from_f32(shape, values)));
        let mut node = Node::new(op, [x].into_iter().chain(other), [y], []);
        attrs.iter().for_each(|(name, attr)| node.set(name, attr.clone()));
        graph.nodes.push(node);
        crate::shape::infer(&mut graph).unwrap();
        let input = Moments(vec![ClippedNormal::new(1.0, 1.0), ClippedNormal::new(3.0, 2.0)]);
        let found = propagate(&graph, &[], &input).remove(&y)?;
        Some(found.0.iter().map(|c| [c.moments().0, c.moments().1]).collect())
    }

    #[test]
    fn activations_of_large_numbers_are_finite() {
        for (op, x, y) in
            [("Softplus", 1000.0, 1000.0), ("Softplus", -1000.0, 0.0), ("Mish", 1000.0, 1000.0), ("Mish", -1e3, 0.0)]
        {
            let found = unary(&Node::new(op, [], [], [])).unwrap()(x);
            assert!((found - y).abs() < 1e-9, "{op} of {x}: {found}");
        }
        assert!((softplus(0.3) - 0.3f64.exp().ln_1p()).abs() < 1e-15);
    }

    /// By hand.
    #[test]
    fn constants_and_reductions_count_by_the_axis_that_they_lie_on() {
        type Case = (&'static str, Option<Vec<[f64; 2]>>, Option<Vec<[f64; 2]>>);
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        let shifted = Some(vec![[11.0, 1.0], [23.0, 4.0]]);
        let two: &[f32] = &[10.0, 20.0];
        let cases: Vec<Case> = vec![
            ("one a channel", result("Add", Some((&[2, 1, 1], two)), &[]), shifted.clone()),
            ("one a channel, and the batch", result("Add", Some((&[1, 2, 1, 1], two)), &[]), shifted),
            ("one a column, as many as channels", result("Add", Some((&[2], two)), &[]), None),
            ("one a row", result("Add", Some((&[4, 1], &[1.0; 4])), &[]), None),
            ("one for all", result("Mul", Some((&[1], &[2.0])), &[]), Some(vec![[2.0, 4.0], [6.0, 16.0]])),
            ("a mean of channels", result("ReduceMean", None, &[("axes", ints(&[1]))]), None),
            ("a mean of all", result("ReduceMean", None, &[]), None),
            (
                "a mean of pixels",
                result("ReduceMean", None, &[("axes", ints(&[2, -1]))]),
                // Half of the variance is common to all pixels of a channel, half of it is averaged over eight.
                Some(vec![[1.0, 0.5 + 0.5 / 8.0], [3.0, 4.0 * (0.5 + 0.5 / 8.0)]]),
            ),
            (
                "each result sees one tap of four",
                result("ConvTranspose", Some((&[2, 1, 2, 2], &[1.0; 8])), &[("strides", ints(&[2, 2]))]),
                Some(vec![[1.0 + 3.0, 1.0 + 4.0]]),
            ),
        ];
        let close = |a: &[f64; 2], b: &[f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        let mut failed = Vec::new();
        for (name, found, expected) in cases {
            let same = match (&found, &expected) {
                (Some(f), Some(e)) => f.len() == e.len() && f.iter().zip(e).all(|(f, e)| close(f, e)),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            if !same {
                failed.push((name, found, expected));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
