//! The gradient of a convolution's weight: chooses the kernel and copies tensors to its layout.

use super::dense::{Blocked, dense};
use super::depthwise::depthwise;
use super::pack::{Plain, to_blocks, with_padding};
use super::plain_input::plain_input;
use super::{Convolution, Execution};

/// The tensors of [`weight_gradient`].
#[derive(Debug)]
pub struct WeightGradient<'a> {
    /// The input of the convolution.
    pub x: &'a [f32],
    /// The gradient of its output.
    pub dy: &'a [f32],
    /// Receives the gradient of its weight.
    pub dw: &'a mut [f32],
}

/// Writes the gradient to `dw`, `[O, C/group, kh, kw]`: the sum over images and pixels of `dy` times the patch of `x`.
/// `scratch` is memory to reuse between calls.
///
/// # Errors
/// For tensors of other lengths than `convolution` requires.
pub fn weight_gradient(
    convolution: &Convolution,
    tensors: WeightGradient,
    scratch: &mut [Vec<f32>; 3],
    execution: Execution,
) -> Result<(), String> {
    let (WeightGradient { x, dy, dw }, spread) = (tensors, execution.spread);
    let (found, expected) = ([x.len(), dy.len(), dw.len()], convolution.lengths());
    if found != expected {
        return Err(format!("expected x, dy and dw of {expected:?} elements, found {found:?}"));
    }
    let window = &convolution.window;
    let [packed_x, packed_dy, sums] = scratch;
    let (block, depthwise_form) = (window.block, window.is_depthwise());
    // Each channel of a depthwise convolution is a lane, so all groups share blocks.
    let groups = if depthwise_form { 1 } else { window.group };
    let per_group = [window.channels / groups, window.filters / groups];
    let [in_blocks, out_blocks] = per_group.map(|n| n.div_ceil(block));
    let plain = |values, channels, size| Plain { values, channels, size };
    let dy = if window.dy_blocked {
        dy
    } else {
        to_blocks(&plain(dy, window.filters, convolution.output), groups, block, packed_dy, spread);
        packed_dy
    };
    let few = !depthwise_form && (window.dy_blocked || per_group[0] < block);
    let x = if window.x_blocked || few && window.pads == [0; 4] {
        x
    } else if few {
        with_padding(convolution, x, packed_x, spread);
        packed_x
    } else {
        to_blocks(&plain(x, window.channels, convolution.input), groups, block, packed_x, spread);
        packed_x
    };
    let flat = flattened(convolution);
    let blocked = Blocked { convolution: &flat, x, dy, block, in_blocks, out_blocks };
    let kernel = match (depthwise_form, few && !window.x_blocked) {
        (true, _) => depthwise,
        (_, true) => plain_input,
        _ => dense,
    };
    kernel(&blocked, dw, sums, execution);
    Ok(())
}

/// Returns a 1x1 convolution with all pixels of an image in one row; other convolutions unchanged.
fn flattened(convolution: &Convolution) -> Convolution {
    let (mut flat, window) = (convolution.clone(), &convolution.window);
    let one_by_one = window.kernel == [1, 1] && window.strides == [1, 1] && window.pads == [0; 4];
    if one_by_one && convolution.input == convolution.output {
        let pixels = convolution.input[0] * convolution.input[1];
        (flat.input, flat.output) = ([1, pixels], [1, pixels]);
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::super::{ConvAttributes, Instructions, Spread, in_turn};
    use super::*;

    /// Numbers from -1 to 1 that look random.
    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let number = |i: usize| ((i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32;
        (0..n).map(|i| number(i) / 8_388_608.0 - 1.0).collect()
    }

    /// The window's sizes, then those of x and dy.
    fn cases() -> Vec<(&'static str, ConvAttributes, [usize; 4], [usize; 4])> {
        let window = |block, channels, filters, group| ConvAttributes {
            kernel: [3, 3],
            strides: [1, 1],
            pads: [1; 4],
            dilations: [1, 1],
            group,
            channels,
            filters,
            block,
            x_blocked: true,
            dy_blocked: true,
        };
        let mut cases = Vec::new();
        for b in [8, 16] {
            cases.extend([
                ("dense", window(b, 40, 27, 1), [3, 48, 19, 17], [3, 32, 19, 17]),
                ("depthwise", window(b, 20, 20, 20), [3, 32, 19, 17], [3, 32, 19, 17]),
                ("image", ConvAttributes { x_blocked: false, ..window(b, 3, 27, 1) }, [3, 3, 19, 17], [3, 32, 19, 17]),
            ]);
        }
        for (_, window, x, dy) in &mut cases {
            x[1] = if window.x_blocked { window.channels.next_multiple_of(window.block) } else { x[1] };
            dy[1] = window.filters.next_multiple_of(window.block);
        }
        cases
    }

    fn gradient(convolution: &Convolution, instructions: Instructions, spread: Spread) -> Vec<f32> {
        let [x, dy, dw] = convolution.lengths();
        let (x, dy, mut dw) = (numbers(x, 1), numbers(dy, 2), vec![0.0; dw]);
        let tensors = WeightGradient { x: &x, dy: &dy, dw: &mut dw };
        let execution = Execution { instructions, spread };
        weight_gradient(convolution, tensors, &mut Default::default(), execution).unwrap();
        dw
    }

    #[test]
    fn all_instructions_give_the_same_gradients() {
        let mut failed = Vec::new();
        for (name, window, x, dy) in cases() {
            let convolution = Convolution::new(&window, &x, &dy).unwrap();
            let [portable, others @ ..] = &Instructions::available()[..] else { continue };
            let expected = gradient(&convolution, *portable, &in_turn);
            let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            for &best in others {
                let found = gradient(&convolution, best, &in_turn);
                let near = found.iter().zip(&expected).filter(|(f, e)| (*f - *e).abs() <= 1e-5 * largest).count();
                if near < expected.len() {
                    let far = expected.len() - near;
                    failed.push(format!("{name}, blocks of {}, {best:?}: {far} elements are far off", window.block));
                }
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn the_order_of_the_pieces_changes_no_bit() {
        let backwards = |pieces: usize, work: &(dyn Fn(usize) + Sync)| (0..pieces).rev().for_each(work);
        for (name, window, x, dy) in cases() {
            let convolution = Convolution::new(&window, &x, &dy).unwrap();
            for best in Instructions::available() {
                let expected = gradient(&convolution, best, &in_turn);
                assert!(gradient(&convolution, best, &backwards) == expected, "{name}, {best:?}");
            }
        }
    }

    #[test]
    fn refuses_tensors_of_other_lengths() {
        let (_, window, x, dy) = cases().remove(0);
        let convolution = Convolution::new(&window, &x, &dy).unwrap();
        let [x, dy, dw] = convolution.lengths();
        for lengths in [[x - 1, dy, dw], [x, dy + 1, dw], [x, dy, dw - 1]] {
            let [x, dy, mut dw] = lengths.map(|n| vec![0.0; n]);
            let tensors = WeightGradient { x: &x, dy: &dy, dw: &mut dw };
            let execution = Execution { instructions: Instructions::best(), spread: &in_turn };
            let error = weight_gradient(&convolution, tensors, &mut Default::default(), execution).unwrap_err();
            assert!(error.contains("elements"), "{error}");
        }
    }
}
