//! `ConvWeightGradient` against the gradient that differentiation makes of Conv.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::Builder;
use dfq_onnx::ir::{Attr, Attrs, DType, Graph, Node, OperatorSet};
use dfq_onnx::runtime::kernels::Instructions;

use super::{normal, run, run_alike, single, to_blocks};
use crate::support::relative_rms;

/// Sums of some thousand products in f32, in another order.
const TOLERANCE: f64 = 3e-6;

/// One convolution: sizes, window and layouts.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// Batch, channels, height and width.
    x: [usize; 4],
    filters: usize,
    kernel: [usize; 2],
    stride: usize,
    /// Above, left, below and right.
    pads: [usize; 4],
    dilation: usize,
    group: usize,
    /// Whether x and dy come in blocks.
    blocked: [bool; 2],
}

const PLAIN: Case = Case {
    name: "dense",
    x: [2, 16, 9, 10],
    filters: 16,
    kernel: [3, 3],
    stride: 1,
    pads: [1; 4],
    dilation: 1,
    group: 1,
    blocked: [true; 2],
};

fn cases() -> Vec<Case> {
    let depthwise =
        |name, channels| Case { name, x: [2, channels, 9, 10], filters: channels, group: channels, ..PLAIN };
    let few = Case { x: [2, 3, 12, 11], blocked: [false, true], ..PLAIN };
    let unblocked = Case { blocked: [false; 2], ..PLAIN };
    vec![
        PLAIN,
        Case { name: "one image", x: [1, 32, 16, 16], filters: 32, ..PLAIN },
        Case { name: "many pixels", x: [4, 16, 33, 32], ..PLAIN },
        Case { x: [4, 16, 33, 32], ..depthwise("depthwise, many pixels", 16) },
        Case { name: "images of many pixels", x: [4, 3, 33, 32], ..few },
        Case { name: "odd channels", x: [3, 21, 7, 7], filters: 35, ..PLAIN },
        Case { name: "fewer channels than a block", x: [2, 5, 7, 7], filters: 3, ..PLAIN },
        Case { name: "stride 2", stride: 2, x: [2, 16, 9, 12], filters: 32, ..PLAIN },
        Case { name: "stride 3 that stops short of the end", stride: 3, x: [2, 16, 11, 12], ..PLAIN },
        Case { name: "1x1", kernel: [1, 1], pads: [0; 4], x: [2, 64, 5, 6], filters: 40, ..PLAIN },
        Case { name: "1x1 with padding", kernel: [1, 1], pads: [1; 4], ..PLAIN },
        Case { name: "1x1, stride 2", kernel: [1, 1], stride: 2, pads: [0; 4], filters: 32, ..PLAIN },
        Case { name: "5x5", kernel: [5, 5], pads: [2; 4], ..PLAIN },
        Case { name: "7x7 larger than x", kernel: [7, 7], pads: [3; 4], x: [2, 16, 3, 3], ..PLAIN },
        Case { name: "1x4, no padding", kernel: [1, 4], pads: [0; 4], ..PLAIN },
        Case { name: "uneven padding", pads: [0, 2, 1, 0], ..PLAIN },
        Case { name: "dilation 2", dilation: 2, pads: [2; 4], ..PLAIN },
        Case { name: "dilation 2, stride 2", dilation: 2, stride: 2, ..PLAIN },
        Case { name: "long rows", x: [1, 8, 3, 600], filters: 8, ..PLAIN },
        Case { name: "groups of whole blocks", x: [2, 32, 9, 9], filters: 64, group: 2, ..PLAIN },
        depthwise("depthwise", 32),
        depthwise("depthwise, odd channels", 19),
        Case { stride: 2, ..depthwise("depthwise, stride 2", 16) },
        Case { kernel: [5, 4], pads: [2, 1, 2, 2], ..depthwise("depthwise 5x4", 16) },
        Case { dilation: 2, pads: [2; 4], ..depthwise("depthwise, dilation 2", 16) },
        Case { blocked: [false; 2], ..depthwise("depthwise in plain NCHW", 20) },
        Case { name: "image", ..few },
        Case { name: "image 7x7, stride 2", kernel: [7, 7], stride: 2, pads: [3; 4], filters: 24, ..few },
        Case { name: "image, dilation 2, uneven padding", dilation: 2, pads: [0, 2, 3, 0], filters: 7, ..few },
        Case { name: "many plain channels", x: [2, 40, 6, 6], ..few },
        Case { name: "plain NCHW", x: [2, 24, 9, 9], filters: 20, ..unblocked },
        Case { name: "groups of 4 in plain NCHW", x: [2, 12, 9, 9], filters: 18, group: 3, ..unblocked },
        Case { name: "groups of 20 in plain NCHW", x: [2, 40, 9, 9], filters: 60, group: 2, stride: 2, ..unblocked },
        Case { name: "two filters a channel", x: [2, 8, 9, 9], filters: 16, group: 8, ..unblocked },
        Case { name: "transposed sides", x: [2, 8, 5, 9], kernel: [2, 3], pads: [0, 1, 1, 1], ..unblocked },
    ]
}

impl Case {
    fn dy(&self) -> [usize; 4] {
        let out = |i: usize| {
            let all = self.x[i + 2] + self.pads[i] + self.pads[i + 2];
            (all - (self.kernel[i] - 1) * self.dilation - 1) / self.stride + 1
        };
        [self.x[0], self.filters, out(0), out(1)]
    }

    fn window(&self) -> Vec<(&'static str, Attr)> {
        let pair = |n: usize| Attr::Ints(vec![i64::try_from(n).unwrap(); 2]);
        let ints = |values: &[usize]| Attr::Ints(values.iter().map(|&n| i64::try_from(n).unwrap()).collect());
        vec![
            ("kernel_shape", ints(&self.kernel)),
            ("strides", pair(self.stride)),
            ("pads", ints(&self.pads)),
            ("dilations", pair(self.dilation)),
            ("group", Attr::Int(i64::try_from(self.group).unwrap())),
        ]
    }

    fn attrs(&self, block: usize) -> Attrs {
        let mut attrs = Attrs::default();
        let number = |n: usize| Attr::Int(i64::try_from(n).unwrap());
        let sizes = [("channels", self.x[1]), ("filters", self.filters), ("block", block)];
        let layouts = [("x_blocked", usize::from(self.blocked[0])), ("dy_blocked", usize::from(self.blocked[1]))];
        let numbers = sizes.into_iter().chain(layouts).map(|(name, n)| (name, number(n)));
        self.window().into_iter().chain(numbers).for_each(|(name, attr)| attrs.set(name, attr));
        attrs
    }

    /// Returns the gradient that differentiation makes, from x and dy.
    fn standard(&self) -> Graph {
        let builder = Builder::new(self.name);
        let [x, dy] = [self.x, self.dy()].map(|shape| builder.input("x", DType::F32, &shape));
        let weight = [self.filters, self.x[1] / self.group, self.kernel[0], self.kernel[1]];
        let w = builder.zeros(DType::F32, &weight);
        let mut attrs = Attrs::default();
        self.window().into_iter().for_each(|(name, attr)| attrs.set(name, attr));
        let y = builder.apply("Conv", &[x, w], attrs);
        assert_eq!(y.shape(), dy.shape(), "{}", self.name);
        let found = gradients((y * dy).sum(&[], false), &[w]).unwrap();
        builder.finish(&[("dw", found[0].unary("Identity"))]).unwrap()
    }
}

fn error(case: &Case, block: usize) -> Result<f64, String> {
    let plain = [normal(&case.x, 1), normal(&case.dy(), 2)];
    let expected = run(&case.standard(), &plain, 1)?;
    let layout = |i: usize| if case.blocked[i] { to_blocks(&plain[i], block) } else { plain[i].clone() };
    let inputs = [layout(0), layout(1)];
    let graph = single("ConvWeightGradient", &[inputs[0].shape(), inputs[1].shape()], 1, case.attrs(block));
    Ok(relative_rms(&run_alike(&graph, &inputs)?[0], &expected[0]))
}

#[test]
fn weight_gradients_are_those_of_the_standard_operators_with_any_number_of_threads() {
    let mut failed = Vec::new();
    for case in cases() {
        for block in [8, 16] {
            match error(&case, block) {
                Ok(error) if error <= TOLERANCE => {}
                Ok(error) => failed.push(format!("{}, blocks of {block}: off by {error:.1e}", case.name)),
                Err(message) => failed.push(format!("{}, blocks of {block}: {message}", case.name)),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Without wide vectors ONNX Runtime has no blocked layout.
#[test]
fn blocks_are_those_that_onnx_runtime_makes() {
    if Instructions::available().len() == 1 {
        eprintln!("skipped: no AVX2");
        return;
    }
    let block = Instructions::best().block();
    for channels in [16, 24, 64] {
        let case = Case { x: [2, channels, 6, 7], filters: 40, ..PLAIN };
        let plain = [normal(&case.x, 1), normal(&case.dy(), 2)];
        let mut graph = single("ConvWeightGradient", &[&case.x, &case.dy()], 1, case.attrs(block));
        let domain = "com.microsoft.nchwc";
        graph.opsets.push(OperatorSet { domain: Some(domain.to_owned()), version: 1 });
        for i in 0..2 {
            let blocked = graph.add_value(&format!("blocked{i}"));
            let reorder = Node::new("ReorderInput", [graph.inputs[i]], [blocked], Attrs::default());
            graph.nodes.insert(0, Node { domain: domain.to_owned(), ..reorder });
            graph.nodes.last_mut().unwrap().inputs[i] = Some(blocked);
        }
        let found = run(&graph, &plain, 1).unwrap();
        let error = relative_rms(&found[0], &run(&case.standard(), &plain, 1).unwrap()[0]);
        assert!(error <= TOLERANCE, "{channels} channels: off by {error:.1e}");
    }
}
