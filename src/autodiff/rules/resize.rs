//! Resize by nearest and linear sampling: along each axis y = M x with a constant M, made here as ONNX Runtime samples.

use crate::autodiff::{BackwardCall, Gradients};
use crate::error::Result;
use crate::expr::{Expr, indices};
use crate::ir::{Attr, Tensor};

/// The two elements of x that one element of y interpolates, and their weights.
type Sample = [(usize, f32); 2];

/// How one axis is sampled.
struct Axis<'a> {
    from: usize,
    to: usize,
    /// Not always `to / from`: it is rounded down to a size where it is given.
    scale: f32,
    coordinates: &'a str,
    /// How coordinates are rounded; linear where there is none.
    nearest: Option<&'a str>,
}

/// y = M x along each resized axis: Mᵀ dy. Scales are constants, or follow from the sizes.
pub fn resize<'b>(s: &BackwardCall<'_, 'b>) -> Gradients<'b> {
    let (x, mut dx) = (s.x(0)?, s.dy()?);
    let shape = x.shape();
    let mut runs = vec![1; shape.len()];
    let mut products = Vec::new();
    for (axis, sampling) in resized(s)? {
        let samples: Vec<Sample> = (0..sampling.to).map(|j| sampling.sample(j)).collect();
        match run(&samples, sampling.from) {
            Some(k) if axis >= 2 => runs[axis] = k,
            Some(1) => {}
            _ => products.push((axis, samples)),
        }
    }
    dx = summed(dx, &runs);
    for (axis, samples) in products {
        dx = product(dx, axis, shape[axis], &samples);
    }
    Ok(vec![Some(dx), None, None, None])
}

/// Returns how each axis is sampled.
fn resized<'a>(s: &BackwardCall<'a, '_>) -> Result<Vec<(usize, Axis<'a>)>> {
    let text = |name: &str, default: &'static str| s.attrs.string(name).unwrap_or(default);
    let (mode, nearest) = (text("mode", "nearest"), text("nearest_mode", "round_prefer_floor"));
    let coordinates = text("coordinate_transformation_mode", "half_pixel");
    let policy = text("keep_aspect_ratio_policy", "stretch");
    let antialias = s.attrs.int("antialias", 0) != 0;
    let refused = [
        ("mode", mode, !matches!(mode, "nearest" | "linear")),
        ("nearest_mode", nearest, !matches!(nearest, "floor" | "ceil" | "round_prefer_floor" | "round_prefer_ceil")),
        ("coordinate_transformation_mode", coordinates, !COORDINATES.contains(&coordinates)),
        ("keep_aspect_ratio_policy", policy, policy != "stretch"),
        ("antialias", "1", antialias),
    ];
    if let Some((name, value, _)) = refused.iter().find(|row| row.2) {
        return Err(s.error(format!("the gradient of a Resize with {name} {value} is not handled")));
    }
    let (from, to) = (s.x(0)?.shape(), s.dy()?.shape());
    let axes: Vec<usize> = match s.attrs.ints("axes") {
        Some(axes) => axes.iter().map(|&axis| s.front(axis)).collect::<Result<_>>()?,
        None => (0..from.len()).collect(),
    };
    let scales = match s.inputs.get(2).copied().flatten() {
        Some(scales) => scales.constant_floats().ok_or_else(|| s.error("its scales are computed at run time"))?,
        None => Vec::new(),
    };
    let nearest = (mode == "nearest").then_some(nearest);
    let one = |(i, &axis): (usize, &usize)| {
        let (from, to) = (from[axis], to[axis]);
        let scale = scales.get(i).copied().unwrap_or(real(to) / real(from));
        (axis, Axis { from, to, scale, coordinates, nearest })
    };
    Ok(axes.iter().enumerate().map(one).collect())
}

/// The supported values of `coordinate_transformation_mode`.
const COORDINATES: &[&str] =
    &["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];

impl Axis<'_> {
    /// Returns the elements of x that element `j` of y interpolates.
    fn sample(&self, j: usize) -> Sample {
        let last = self.from.saturating_sub(1);
        let at = self.coordinate(real(j));
        let within = |at: f32| at.clamp(0.0, real(last));
        match self.nearest {
            None => {
                let at = within(at);
                let low = (at as usize).min(last);
                let share = at - real(low);
                [(low, 1.0 - share), ((low + 1).min(last), share)]
            }
            Some(rounding) => {
                let rounded = match rounding {
                    "floor" => at.floor(),
                    "ceil" => at.ceil(),
                    "round_prefer_floor" if at == at.trunc() + 0.5 => at.floor(),
                    _ => at.round(),
                };
                [(within(rounded) as usize, 1.0), (0, 0.0)]
            }
        }
    }

    /// Returns the coordinate in x of index `j` in y, in the same floating-point steps as ONNX Runtime.
    fn coordinate(&self, j: f32) -> f32 {
        let (from, to, scale) = (real(self.from), real(self.to), self.scale);
        match self.coordinates {
            _ if scale == 1.0 => j,
            "asymmetric" => j / scale,
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => j * (from - 1.0) / (to - 1.0),
            "pytorch_half_pixel" if self.to == 1 => 0.0,
            "half_pixel_symmetric" => {
                // The last step is in double precision there.
                let offset = f64::from(from / 2.0 * (1.0 - to / (scale * from)));
                (offset + (f64::from(j) + 0.5) / f64::from(scale) - 0.5) as f32
            }
            _ => (j + 0.5) / scale - 0.5,
        }
    }
}

fn real(n: usize) -> f32 {
    n as f32
}

/// Returns `k` where each of `from` elements is copied `k` times, one after another.
fn run(samples: &[Sample], from: usize) -> Option<usize> {
    let k = samples.len().checked_div(from)?;
    let copies = |(j, sample): (usize, &Sample)| sample.iter().all(|&(i, w)| w == 0.0 || (w == 1.0 && i == j / k));
    (k * from == samples.len() && samples.iter().enumerate().all(copies)).then_some(k)
}

/// Returns the sums of `runs` neighbors along each axis but the first two, by an AveragePool, which is fastest.
pub fn summed<'b>(dy: Expr<'b>, runs: &[usize]) -> Expr<'b> {
    let elements: usize = runs.iter().product();
    if elements == 1 {
        return dy;
    }
    let window = Attr::Ints(indices(&runs[2..]));
    let means = dy.builder().apply("AveragePool", &[dy], [("kernel_shape", window.clone()), ("strides", window)]);
    means * real(elements)
}

/// Returns Mᵀ dy along `axis`.
fn product<'b>(dy: Expr<'b>, axis: usize, from: usize, samples: &[Sample]) -> Expr<'b> {
    let mut shape = dy.shape();
    let to = shape[axis];
    let (outer, inner): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    shape[axis] = from;
    // The last axis is multiplied from behind, by M itself.
    let (rows, columns) = if inner == 1 { (to, from) } else { (from, to) };
    let mut weights = vec![0.0; from * to];
    for (j, sample) in samples.iter().enumerate() {
        for &(i, weight) in sample {
            weights[if inner == 1 { j * from + i } else { i * to + j }] += weight;
        }
    }
    let matrix = dy.builder().constant("sampling", Tensor::from_f32(&[rows, columns], &weights)).cast(dy.dtype());
    let found = match inner {
        1 => dy.reshape(&[outer, to]).matmul(matrix),
        _ => matrix.matmul(dy.reshape(&[outer, to, inner])),
    };
    found.reshape(&shape)
}
