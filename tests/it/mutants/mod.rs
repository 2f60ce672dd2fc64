//! Models with attributes, edges, shapes, types and contents changed at random: each is planned or refused, without a panic,
//! in time, and with the exit code of a bad model or of missing resources.
//!
//! Half a minute from a fixed seed; `DFQ_ONNX_MUTANTS=N` tries N mutants, `DFQ_ONNX_MUTANTS_SEED` others.

mod change;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dfq_onnx::ir::Graph;
use dfq_onnx::{fuzzing, onnx};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutants that the ordinary tests try, where they have time for them.
const MUTANTS: u64 = 20_000;
/// The time that the ordinary tests take at most.
const TIME: Duration = Duration::from_secs(30);
/// The longest that one mutant may take.
const HANG: Duration = Duration::from_secs(10);
/// Changes of one mutant at most.
const CHANGES: usize = 4;

#[derive(Default)]
struct Tally {
    planned: u64,
    bad: u64,
    resources: u64,
    slowest: Duration,
    failed: Vec<String>,
}

#[test]
fn mutants_are_planned_or_refused_and_never_panic() {
    let asked = std::env::var("DFQ_ONNX_MUTANTS").ok().and_then(|n| n.parse().ok());
    let seed: u64 = std::env::var("DFQ_ONNX_MUTANTS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let seeds = seeds::seeds();
    let (mut tally, started) = (Tally::default(), Instant::now());
    for number in 0..asked.unwrap_or(MUTANTS) {
        if asked.is_none() && started.elapsed() > TIME {
            break;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let (name, graph) = &seeds[rng.random_range(0..seeds.len())];
        let mut mutant = graph.clone();
        let changes: Vec<String> =
            (0..rng.random_range(1..=CHANGES)).map(|_| change::change(&mut mutant, &mut rng)).collect();
        try_one(&format!("mutant {number} of seed {seed}, {name}: {}", changes.join("; ")), &mutant, &mut tally);
    }
    let Tally { planned, bad, resources, slowest, failed } = &tally;
    println!("{planned} planned, {bad} refused, {resources} too large, the slowest in {slowest:?}");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(
        asked.is_some() || *planned > 100 && *bad > 100,
        "{planned} planned, {bad} refused: changes too small or large"
    );
}

fn try_one(what: &str, mutant: &Graph, tally: &mut Tally) {
    let started = Instant::now();
    let planned = catch_unwind(AssertUnwindSafe(|| fuzzing::model(Bytes::from(onnx::encode(mutant)?))));
    let took = started.elapsed();
    match planned {
        Ok(Ok(())) => tally.planned += 1,
        Ok(Err(error)) if error.exit_code() == 3 => tally.bad += 1,
        Ok(Err(error)) if error.exit_code() == 5 => tally.resources += 1,
        Ok(Err(error)) => tally.failed.push(format!("{what}: exit code {}: {error}", error.exit_code())),
        Err(_) => tally.failed.push(format!("{what}: panicked")),
    }
    tally.slowest = tally.slowest.max(took);
    if took > HANG {
        tally.failed.push(format!("{what}: took {took:?}"));
    }
}

#[test]
fn the_seeds_are_sound() {
    let planned = |graph: &Graph| fuzzing::model(Bytes::from(onnx::encode(graph)?));
    let wrong: Vec<String> =
        seeds::seeds().iter().filter_map(|(name, graph)| Some(format!("{name}: {}", planned(graph).err()?))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
