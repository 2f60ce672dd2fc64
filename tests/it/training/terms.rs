//! A loss is kept step by step together with its named terms, by checkpoints too.

use dfq_onnx::observe::Silent;
use dfq_onnx::runtime::{Engine, TractEngine};
use dfq_onnx::train::{Checkpoint, Schedule, descend};

use super::bowl;
use crate::support::ort;

/// The same formula in f32 by another compiler.
const TOLERANCE: f32 = 1e-6;

const START: [f32; 2] = [3.0, -1.0];

/// Returns loss and terms of every step at the rate 0.1.
fn by_hand() -> Vec<[f32; 3]> {
    let mut w = START;
    let step = |number: u16| {
        let x = f32::from(number);
        let (near, small) =
            (w.map(|w| (w - x).powi(2)).iter().sum::<f32>(), w.map(|w| w * w).iter().sum::<f32>() * 0.1);
        w = w.map(|w| w - 0.1 * (2.0 * (w - x) + 0.2 * w));
        [near + small, near, small]
    };
    (0..10).map(step).collect()
}

#[test]
fn terms_of_the_loss_are_told_beside_it_and_kept() {
    let mut feed = |number: u64| Ok(bowl::feed(number as f32));
    for engine in [ort() as &dyn Engine, &TractEngine] {
        let (made, folder) = (bowl::step(engine, START), tempfile::tempdir().unwrap());
        let checkpoints = bowl::checkpoints(folder.path(), false);
        let path = checkpoints.path.clone();
        let course = bowl::course(10, 0.1, Schedule::Constant, Some(checkpoints));
        let history = descend(&made, engine, course, &mut feed, &mut Silent).unwrap().histories.remove(0);
        assert_eq!(history.names().collect::<Vec<_>>(), ["loss", "near", "small"]);
        let found = [history.loss(), history.term("near"), history.term("small")];
        for (number, expected) in by_hand().into_iter().enumerate() {
            for (found, expected) in found.iter().map(|column| column[number]).zip(expected) {
                assert!((found - expected).abs() <= TOLERANCE * expected, "step {number}: {found} for {expected}");
            }
        }
        let last: Vec<f32> = found.iter().map(|column| column[9]).collect();
        assert_eq!(history.last(), [("loss", last[0]), ("near", last[1]), ("small", last[2])]);
        let kept = &Checkpoint::read(&path).unwrap().tensors["history"];
        assert_eq!((kept.shape(), kept), (&[10, 3][..], &history.to_tensor()));
    }
}
