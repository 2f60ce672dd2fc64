//! Step graphs to run: a network that learns, and small ones whose numbers are known.

use dfq_onnx::autodiff::gradients;
use dfq_onnx::expr::{Builder, Expr};
use dfq_onnx::ir::{DType, Graph, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// A step graph, where it starts, and what it is fed.
pub struct Case {
    pub name: &'static str,
    pub graph: Graph,
    /// Entries by name.
    pub state: Vec<(String, Tensor)>,
    pub feeds: fn(u64) -> Vec<Tensor>,
}

pub fn cases() -> Vec<Case> {
    vec![network(), exchange(), early_write()]
}

const BATCH: usize = 8;
const CLASSES: usize = 5;
/// The network's parameters: two convolutions and a matrix.
const PARAMETERS: [(&str, &[usize]); 4] =
    [("w1", &[12, 3, 3, 3]), ("b1", &[12]), ("w2", &[16, 12, 3, 3]), ("w3", &[16, CLASSES])];

/// Returns a classifier trained by SGD with momentum. Its state is parameters and momenta, and besides the last loss
/// (which no step reads), a number of steps in rank 0, and an entry without elements.
pub fn network() -> Case {
    let builder = Builder::new("network");
    let named = |prefix: &str| -> Vec<Expr> {
        PARAMETERS.map(|(name, shape)| builder.input(&format!("{prefix}{name}"), DType::F32, shape)).to_vec()
    };
    let (parameters, momenta) = (named(""), named("momentum_"));
    let _loss = builder.input("loss", DType::F32, &[]);
    let steps = builder.input("steps", DType::I64, &[]);
    let nothing = builder.input("nothing", DType::F32, &[0, 3]);
    let x = builder.input("x", DType::F32, &[BATCH, 3, 10, 10]);
    let target = builder.input("target", DType::F32, &[BATCH, CLASSES]);
    let rate = builder.input("rate", DType::F32, &[]);
    let loss = loss(x, target, &parameters);
    let mut outputs = Vec::new();
    for ((&w, m), gradient) in parameters.iter().zip(momenta).zip(gradients(loss, &parameters).unwrap()) {
        let m = m * 0.9 + gradient;
        outputs.push((w - rate * m, m));
    }
    let (parameters, momenta): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
    let one = builder.constant("one", Tensor::from_i64(&[], &[1]));
    let rest = [loss, steps + one, nothing.unary("Identity")];
    let outputs: Vec<Expr> = parameters.into_iter().chain(momenta).chain(rest).collect();
    let names: Vec<String> = start().iter().map(|(name, _)| format!("{name}.next")).collect();
    let named: Vec<(&str, Expr)> = names.iter().map(String::as_str).zip(outputs).collect();
    Case { name: "network", graph: builder.finish(&named).unwrap(), state: start(), feeds }
}

fn loss<'b>(x: Expr<'b>, target: Expr<'b>, parameters: &[Expr<'b>]) -> Expr<'b> {
    let [w1, b1, w2, w3] = *parameters else { unreachable!() };
    let pads = || [("pads", vec![1i64; 4].into())];
    let h = x.builder().apply("Conv", &[x, w1, b1], pads()).relu();
    let h = x.builder().apply("Conv", &[h, w2], pads()).relu().mean(&[2, 3], false);
    let logits = h.matmul(w3).log_softmax(1);
    -(logits * target).sum(&[1], false).mean(&[], false)
}

fn normal(rng: &mut ChaCha8Rng, shape: &[usize], scale: f32) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect();
    Tensor::from_f32(shape, &values)
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::from_f32(shape, &vec![0.0; shape.iter().product()])
}

fn start() -> Vec<(String, Tensor)> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let parameters = PARAMETERS.map(|(name, shape)| (name.to_owned(), normal(&mut rng, shape, 0.2)));
    let momenta = PARAMETERS.map(|(name, shape)| (format!("momentum_{name}"), zeros(shape)));
    let rest = [("loss", zeros(&[])), ("steps", Tensor::from_i64(&[], &[0])), ("nothing", zeros(&[0, 3]))];
    let rest = rest.map(|(name, start)| (name.to_owned(), start));
    parameters.into_iter().chain(momenta).chain(rest).collect()
}

fn named<const N: usize>(entries: [(&str, Tensor); N]) -> Vec<(String, Tensor)> {
    entries.map(|(name, start)| (name.to_owned(), start)).to_vec()
}

/// Images that are brighter in one channel or another, by class.
fn feeds(step: u64) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(step);
    let classes: Vec<usize> = (0..BATCH).map(|_| rng.random_range(0..CLASSES)).collect();
    let noise = normal(&mut rng, &[BATCH, 3, 10, 10], 0.5).to_f32().unwrap();
    let brighter = |i: usize| if classes[i / 300] == (i / 100) % 3 { 1.0 } else { 0.0 };
    let x: Vec<f32> = noise.iter().enumerate().map(|(i, n)| n + brighter(i)).collect();
    let target: Vec<f32> =
        classes.iter().flat_map(|&class| (0..CLASSES).map(move |c| f32::from(u8::from(c == class)))).collect();
    vec![
        Tensor::from_f32(&[BATCH, 3, 10, 10], &x),
        Tensor::from_f32(&[BATCH, CLASSES], &target),
        // Slow enough that no Relu's input comes so near to zero that engines differ about its sign.
        Tensor::from_f32(&[], &[0.02]),
    ]
}

/// Returns two entries that take each other's place, and nothing that is fed.
pub fn exchange() -> Case {
    let builder = Builder::new("exchange");
    let [a, b] = ["a", "b"].map(|name| builder.input(name, DType::F32, &[2]));
    let outputs = [("a.next", b.unary("Identity")), ("b.next", a.unary("Identity"))];
    let graph = builder.finish(&outputs).unwrap();
    let state = named([("a", Tensor::from_f32(&[2], &[1.0, 2.0])), ("b", Tensor::from_f32(&[2], &[3.0, 4.0]))]);
    Case { name: "exchange", graph, state, feeds: |_| Vec::new() }
}

/// Returns a graph that makes the new weight before it reads the old one for the last time: `weight` is raised by 1,
/// `total` by the old weight.
pub fn early_write() -> Case {
    let builder = Builder::new("early write");
    let weight = builder.input("weight", DType::F32, &[4]);
    let total = builder.input("total", DType::F32, &[4]);
    let raised = weight + 1.0;
    // The old weight is read last in the order of the file and in that of the longest path.
    let late = (raised.exp().tanh().sign().relu() * 0.0).abs() + weight;
    let graph = builder.finish(&[("weight.next", raised), ("total.next", total + late)]).unwrap();
    let state = named([("weight", zeros(&[4])), ("total", zeros(&[4]))]);
    Case { name: "early write", graph, state, feeds: |_| Vec::new() }
}

/// Returns a graph that adds what `index` picks out of three numbers.
pub fn picking() -> Case {
    let builder = Builder::new("picking");
    let total = builder.input("total", DType::F32, &[1]);
    let index = builder.input("index", DType::I64, &[1]);
    let numbers = builder.constant("numbers", Tensor::from_f32(&[3], &[1.0, 10.0, 100.0]));
    let graph = builder.finish(&[("total.next", total + numbers.gather(index, 0))]).unwrap();
    Case {
        name: "picking",
        graph,
        state: named([("total", zeros(&[1]))]),
        feeds: |_| vec![Tensor::from_i64(&[1], &[1])],
    }
}

/// Returns two phases over `a`, `b` and `c`: the first adds what is fed and `b` to `a`, the second doubles `b` and sets `c`
/// to `a`; so each reads what the other updates.
pub fn phases() -> ([Graph; 2], Vec<(String, Tensor)>) {
    let first = Builder::new("first");
    let [a, b] = ["a", "b"].map(|name| first.input(name, DType::F32, &[1]));
    let x = first.input("x", DType::F32, &[1]);
    let first = first.finish(&[("a.next", a + b + x)]).unwrap();
    let second = Builder::new("second");
    let [b, a] = ["b", "a"].map(|name| second.input(name, DType::F32, &[1]));
    let second = second.finish(&[("c.next", a.unary("Identity")), ("b.next", b * 2.0)]).unwrap();
    let number = |value: f32| Tensor::from_f32(&[1], &[value]);
    ([first, second], named([("a", number(0.0)), ("b", number(1.0)), ("c", number(0.0))]))
}
