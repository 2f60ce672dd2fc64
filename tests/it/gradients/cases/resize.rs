//! Resize in every way it samples.

use dfq_onnx::expr::Expr;
use dfq_onnx::ir::{Attr, Attrs, Tensor};

use super::case;
use crate::gradients::Case;
use crate::gradients::Values::Apart;

/// By how much, as the inputs `scales` and `sizes`.
#[derive(Clone, Copy)]
enum By {
    Scales(&'static [f32]),
    Sizes(&'static [i64]),
}

const IMAGE: &[usize] = &[2, 3, 4, 5];
const COORDINATES: &[&str] =
    &["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
const ROUNDING: &[&str] = &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
/// Whole, fractional, smaller, one element left, and a size that a scale is rounded down to.
const BY: &[By] = &[
    By::Scales(&[1.0, 1.0, 2.0, 3.0]),
    By::Scales(&[1.0, 1.0, 1.6, 0.7]),
    By::Scales(&[1.0, 1.0, 0.3, 2.5]),
    By::Sizes(&[2, 3, 7, 3]),
    By::Sizes(&[2, 3, 1, 10]),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for coordinates in COORDINATES {
        for (i, by) in BY.iter().enumerate() {
            for rounding in ROUNDING {
                let form = format!("nearest {coordinates} {rounding} {i}");
                cases.push(resize(form, IMAGE, *by, &[("nearest_mode", rounding), coordinate(coordinates)]));
            }
            let form = format!("linear {coordinates} {i}");
            cases.push(resize(form, IMAGE, *by, &[("mode", "linear"), coordinate(coordinates)]));
        }
    }
    cases.extend(others());
    cases
}

/// The attribute that maps a place in y to a place in x.
fn coordinate(mode: &'static str) -> (&'static str, &'static str) {
    ("coordinate_transformation_mode", mode)
}

fn resize(form: String, shape: &'static [usize], by: By, texts: &[(&'static str, &'static str)]) -> Case {
    let mut attrs = Attrs::default();
    texts.iter().for_each(|(name, value)| attrs.set(name, *value));
    with_attrs(form, shape, by, attrs)
}

fn with_attrs(form: String, shape: &'static [usize], by: By, attrs: Attrs) -> Case {
    case("Resize", &form, &[(shape, Apart)], move |x| call(x[0], by, attrs.clone()))
}

fn call<'b>(x: Expr<'b>, by: By, attrs: Attrs) -> Expr<'b> {
    let inputs = match by {
        By::Scales(scales) => {
            [Some(x), None, Some(x.builder().constant("scales", Tensor::from_f32(&[scales.len()], scales))), None]
        }
        By::Sizes(sizes) => [Some(x), None, None, Some(x.builder().ints(sizes))],
    };
    let given = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    x.builder().call("Resize", &inputs[..given], attrs, 1)[0]
}

fn others() -> Vec<Case> {
    let axes = |axes: &[i64], mode: &'static str| -> Attrs {
        let mut attrs = Attrs::from([("axes", Attr::Ints(axes.to_vec()))]);
        attrs.set("mode", mode);
        attrs
    };
    vec![
        with_attrs("nearest, axes".into(), IMAGE, By::Scales(&[2.0, 3.0]), axes(&[-1, 2], "nearest")),
        with_attrs("nearest, one axis by size".into(), IMAGE, By::Sizes(&[8]), axes(&[2], "nearest")),
        with_attrs("linear, axes".into(), IMAGE, By::Sizes(&[7, 9]), axes(&[2, 3], "linear")),
        with_attrs("nearest, all four axes".into(), IMAGE, By::Scales(&[2.0, 1.5, 2.0, 1.0]), Attrs::default()),
        with_attrs("nearest, matrix".into(), &[3, 4], By::Scales(&[2.0, 2.0]), Attrs::default()),
        with_attrs("linear, matrix".into(), &[3, 4], By::Scales(&[2.0, 1.5]), axes(&[0, 1], "linear")),
        with_attrs(
            "nearest, three axes".into(),
            &[1, 2, 2, 3, 2],
            By::Scales(&[1.0, 1.0, 2.0, 2.0, 2.0]),
            Attrs::default(),
        ),
        with_attrs(
            "linear, three axes".into(),
            &[1, 2, 2, 3, 2],
            By::Scales(&[2.0, 2.0, 1.5]),
            axes(&[2, 3, 4], "linear"),
        ),
        with_attrs("nearest, one spatial axis".into(), &[2, 3, 4], By::Scales(&[1.0, 1.0, 2.0]), Attrs::default()),
    ]
}
