//! Damaged files: whatever a byte is changed to, the answer is a graph or an error, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use dfq_onnx::ir::Graph;
use dfq_onnx::{Error, fuzzing, onnx};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::fixture;
use crate::support::nets::{net, normalised_net};

const DAMAGES: usize = 300;

/// Positions outside of large weights, where a byte means something.
fn telling(bytes: &Bytes) -> Vec<usize> {
    let graph: Graph = onnx::decode(bytes.clone()).unwrap();
    let start = bytes.as_ptr().addr();
    let large = graph.value_ids().filter_map(|id| graph.constant_of(id)).map(|t| t.bytes()).filter(|b| b.len() > 64);
    let large: Vec<_> = large.map(|b| b.as_ptr().addr()..b.as_ptr().addr() + b.len()).collect();
    (0..bytes.len()).filter(|&i| !large.iter().any(|range| range.contains(&(start + i)))).collect()
}

fn damage(bytes: &Bytes, places: &[usize], rng: &mut ChaCha8Rng) -> (String, Vec<u8>) {
    let mut damaged = bytes.to_vec();
    let at = places[rng.random_range(0..places.len())];
    let (what, value) = match rng.random_range(0..6) {
        0 => {
            damaged.truncate(at);
            return (format!("cut at {at}"), damaged);
        }
        1 => ("all ones", 0xff),
        2 => ("zero", 0),
        3 => ("one more", damaged[at].wrapping_add(1)),
        4 => ("one less", damaged[at].wrapping_sub(1)),
        _ => ("a flipped bit", damaged[at] ^ (1 << rng.random_range(0..8))),
    };
    damaged[at] = value;
    (format!("{what} at {at}"), damaged)
}

#[test]
fn damaged_files_are_read_or_refused_and_never_panic() {
    let file = |name: &str| std::fs::read(fixture(name)).unwrap();
    let subjects = [
        ("digits_resnet8", file("digits_resnet8.onnx")),
        ("digits_mobilenet", file("digits_mobilenet.onnx")),
        ("net", net(|_| ())),
        ("normalised net", normalised_net(|_| ())),
    ];
    let (mut failed, mut sound, mut refused) = (Vec::new(), 0, 0);
    for (name, bytes) in subjects {
        let bytes = Bytes::from(bytes);
        let places = telling(&bytes);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..DAMAGES {
            let (what, damaged) = damage(&bytes, &places, &mut rng);
            match catch_unwind(AssertUnwindSafe(|| fuzzing::model(damaged.into()))) {
                Ok(Ok(())) => sound += 1,
                Ok(Err(error)) => {
                    refused += 1;
                    if error.exit_code() != 3 || matches!(error, Error::Read { .. }) {
                        failed.push(format!("{name}, {what}: exit code {}: {error}", error.exit_code()));
                    }
                }
                Err(_) => failed.push(format!("{name}, {what}: panicked")),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(sound > 50 && refused > 50, "{sound} read, {refused} refused: the damage is too small or too large");
}
