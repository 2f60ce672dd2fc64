//! Sums of two products at 16 bits: the errors of integer kernels on x86 processors without VNNI.
//!
//! Their instruction (`vpmaddubsw`) multiplies unsigned by signed bytes, adds neighbors and saturates the sum to int16.
//! Emulated on the observed integers of a check, in the order in which ONNX Runtime packs them: kernel positions, then
//! input channels; padding is the zero point. Depthwise layers have other kernels, which do not saturate. The results
//! of the check itself do not include this error.

use serde::Serialize;

use super::integers::Observed;
use super::modes::Mode;
use super::operands::{Columns, Product, products};
use super::structure::Quantizer;
use super::tap::tap;
use crate::error::Result;
use crate::ir::{DType, Graph, Tensor};

/// A layer whose weights let sums of two products exceed 16 bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Saturation {
    /// The layer.
    pub layer: String,
    /// Pairs of neighbouring weights, and how many of them can exceed 16 bits with some input.
    pub pairs: usize,
    /// See [`Saturation::pairs`].
    pub risky_pairs: usize,
    /// Sums of two products that exceeded 16 bits on the observed integers.
    pub saturated: u64,
    /// Examined elements of the layer's result, and those that include a saturated sum.
    pub results: u64,
    /// See [`Saturation::results`].
    pub wrong_results: u64,
    /// The largest error of an element, in units of the result.
    pub largest_error: f64,
    /// RMS of the error over RMS of the result.
    pub relative_rms: f64,
}

/// Returns every layer of `graph` with uint8 inputs and int8 weights that could saturate, and its error on the observed
/// integers.
///
/// # Errors
/// When the engine cannot run the graph with the affected results among its outputs.
pub fn saturation(
    graph: &Graph,
    quantizers: &[Quantizer],
    mode: &Mode,
    observed: &[Observed],
) -> Result<Vec<Saturation>> {
    let mut found = Vec::new();
    let mut affected = Vec::new();
    for product in products(graph, quantizers) {
        let risky = risky_pairs(&product);
        if risky.is_empty() {
            continue;
        }
        let mut errors = Errors::default();
        for batch in observed {
            let integers = &batch.integers[product.quantizer];
            for columns in product.columns(integers) {
                errors.add(&product, &risky, &columns);
            }
        }
        if errors.saturated > 0 {
            affected.push((found.len(), product.output));
        }
        found.push(errors.report(&product, risky.len()));
    }
    let taps: Vec<_> = affected.iter().map(|&(_, id)| (id, DType::F32)).collect();
    let squares = squares(graph, &taps, mode, observed)?;
    for (&(i, _), square) in affected.iter().zip(squares) {
        // Until here it holds the sum of squared errors.
        found[i].relative_rms = (found[i].relative_rms / square).sqrt();
    }
    Ok(found)
}

/// Two neighbouring weights of an output channel whose products can add up to more than 16 bits.
struct RiskyPair {
    channel: usize,
    first: usize,
    weights: [i32; 2],
}

fn risky_pairs(product: &Product) -> Vec<RiskyPair> {
    let mut risky = Vec::new();
    for (channel, row) in product.rows.iter().enumerate() {
        for (pair, weights) in row.as_chunks::<2>().0.iter().enumerate() {
            let weights = weights.map(i32::from);
            let extreme = |sign: i32| weights.iter().map(|&w| (sign * w).max(0) * 255 * sign).sum::<i32>();
            if saturate(extreme(1)) != extreme(1) || saturate(extreme(-1)) != extreme(-1) {
                risky.push(RiskyPair { channel, first: 2 * pair, weights });
            }
        }
    }
    // Pairs of one place read the same inputs, which are then gathered once.
    risky.sort_by_key(|pair| pair.first);
    risky
}

fn saturate(sum: i32) -> i32 {
    sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

#[derive(Default)]
struct Errors {
    saturated: u64,
    results: u64,
    wrong: u64,
    largest: f64,
    squares: f64,
}

impl Errors {
    fn add(&mut self, product: &Product, risky: &[RiskyPair], columns: &Columns) {
        let channels = columns.channels.clone();
        let positions = columns.positions();
        let mut lost = vec![0i32; channels.len() * positions];
        let mut at: Option<(usize, Vec<u8>, Vec<u8>)> = None;
        for pair in risky.iter().filter(|pair| channels.contains(&pair.channel)) {
            if at.as_ref().is_none_or(|(first, ..)| *first != pair.first) {
                at = Some((pair.first, columns.gather(pair.first), columns.gather(pair.first + 1)));
            }
            let Some((_, a, b)) = &at else { continue };
            let row = (pair.channel - channels.start) * positions;
            for ((&a, &b), lost) in a.iter().zip(b).zip(&mut lost[row..row + positions]) {
                let sum = i32::from(a) * pair.weights[0] + i32::from(b) * pair.weights[1];
                let missing = sum - saturate(sum);
                self.saturated += u64::from(missing != 0);
                *lost += missing;
            }
        }
        self.results += u64::try_from(lost.len()).unwrap_or(u64::MAX);
        for (i, &missing) in lost.iter().enumerate().filter(|(_, missing)| **missing != 0) {
            let error = f64::from(missing).abs() * product.scale(channels.start + i / positions);
            self.wrong += 1;
            self.largest = self.largest.max(error);
            self.squares += error * error;
        }
    }

    fn report(&self, product: &Product, risky: usize) -> Saturation {
        Saturation {
            layer: product.name.clone(),
            pairs: product.rows.iter().map(|row| row.len() / 2).sum(),
            risky_pairs: risky,
            saturated: self.saturated,
            results: self.results,
            wrong_results: self.wrong,
            largest_error: self.largest,
            relative_rms: self.squares,
        }
    }
}

/// Returns the sum of squares of each tapped tensor over the observed inputs.
fn squares(
    graph: &Graph,
    taps: &[(crate::ir::ValueId, DType)],
    mode: &Mode,
    observed: &[Observed],
) -> Result<Vec<f64>> {
    let mut squares = vec![0.0; taps.len()];
    if taps.is_empty() {
        return Ok(squares);
    }
    let (tapped, sources) = tap(graph, taps);
    let mut session = mode.load(&tapped)?;
    let inputs: Vec<Vec<Tensor>> = observed.iter().map(|batch| batch.inputs.clone()).collect();
    for (batch, outputs) in observed.iter().zip(session.run_each(&inputs)?) {
        for (square, source) in squares.iter_mut().zip(&sources) {
            let tensor: &Tensor = source.pick(&batch.inputs, &outputs);
            *square += tensor.to_f32()?.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
        }
    }
    Ok(squares)
}
