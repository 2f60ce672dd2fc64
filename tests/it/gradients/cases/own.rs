//! Operators of our own.

use dfq_onnx::expr::Expr;
use dfq_onnx::ir::Tensor;

use super::case;
use crate::gradients::Case;
use crate::gradients::Values::Apart;

const IMAGES: &[usize] = &[2, 3, 4, 5];
const CHANNELS: &[usize] = &[3];
/// Shapes of any rank above one.
const SHAPES: [&[usize]; 3] = [&[6, 3], &[2, 3, 4], IMAGES];

pub fn cases() -> Vec<Case> {
    let mut cases = selections();
    for shape in SHAPES {
        cases.extend(channels(shape));
    }
    cases
}

fn channels(shape: &'static [usize]) -> Vec<Case> {
    let rank = shape.len();
    let moments = |what: &str, used: &'static [usize]| {
        let mut made = case("ChannelMoments", &format!("{what}, rank {rank}"), &[(shape, Apart)], |x| x[0]);
        made.build = Box::new(move |x| {
            let (mean, variance) = x[0].channel_moments();
            used.iter().map(|&i| [mean, variance][i]).collect()
        });
        made
    };
    let affine = |what: &str, trained: &[&'static [usize]], build: for<'b> fn(&[Expr<'b>]) -> Expr<'b>| {
        let operands: Vec<_> = trained.iter().map(|shape| (*shape, Apart)).collect();
        case("ChannelAffine", &format!("{what}, rank {rank}"), &operands, build)
    };
    vec![
        moments("both", &[0, 1]),
        moments("mean alone", &[0]),
        moments("variance alone", &[1]),
        affine("all trained", &[shape, CHANNELS, CHANNELS], |x| x[0].channel_affine(x[1], x[2])),
        affine("x alone", &[shape], |x| x[0].channel_affine(fixed(x[0]), fixed(x[0]))),
        affine("the factor alone", &[CHANNELS], |x| images(x[0]).channel_affine(x[0], fixed(x[0]))),
        affine("the shift alone", &[CHANNELS], |x| images(x[0]).channel_affine(fixed(x[0]), x[0])),
        affine("x and the shift", &[shape, CHANNELS], |x| x[0].channel_affine(fixed(x[0]), x[1])),
    ]
}

/// Returns a constant for each of three channels.
fn fixed<'b>(like: Expr<'b>) -> Expr<'b> {
    like.builder().constant("fixed", Tensor::from_f32(CHANNELS, &[0.5, -2.0, 1.25])).cast(like.dtype())
}

/// Returns constant images of three channels.
fn images<'b>(like: Expr<'b>) -> Expr<'b> {
    let values: Vec<f32> = (0..120).map(|i| (i as f32 / 17.0).sin()).collect();
    like.builder().constant("images", Tensor::from_f32(IMAGES, &values)).cast(like.dtype())
}

fn selections() -> Vec<Case> {
    let select = |form, rows: &'static [i64], columns: &'static [i64]| {
        case("Select", form, &[(IMAGES, Apart)], move |x| {
            let [rows, columns] = [rows, columns].map(|places| x[0].builder().ints(places));
            x[0].select(rows, columns)
        })
    };
    vec![
        select("a crop", &[1, 2], &[2, 3, 4]),
        select("a flip", &[0, 1, 2, 3], &[4, 3, 2, 1, 0]),
        select("a reflected shift", &[1, 0, 1, 2], &[3, 4, 3, 2, 1]),
        select("larger than x", &[0, 0, 1, 1, 2, 2, 3, 3], &[0, 0, 0, 4, 4, 4]),
    ]
}
