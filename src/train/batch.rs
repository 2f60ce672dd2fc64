//! Chooses the batch size of a training step.

use super::{BuiltPhase, Settings, TrainingStep, peak_bytes};
use crate::error::{Error, Result};
use crate::ir::Graph;
use crate::runtime::machine::memory_limit;

/// A training step may use one part in this many of the machine's memory.
const SHARE: u64 = 3;

/// What takes memory while it is trained.
pub trait Footprint {
    /// Returns the bytes of the tensors of a step.
    fn peak_bytes(&self) -> usize;
}

impl Footprint for TrainingStep {
    fn peak_bytes(&self) -> usize {
        peak_bytes(&self.graph)
    }
}

/// Sessions of all phases are loaded at once.
impl Footprint for Vec<BuiltPhase> {
    fn peak_bytes(&self) -> usize {
        self.iter().map(|built| built.phase.step.peak_bytes()).sum()
    }
}

/// Returns the step (or phases) that `build` returns for a batch size, and that batch size: the one fixed by the user or
/// the model, else `usual`, or the largest that fits into a third of the machine's memory.
///
/// # Errors
/// [`Error::Usage`] when the model fixes a batch size other than the user's; [`Error::Resources`] when it does not fit.
pub fn fitting_batch<T: Footprint>(
    graph: &Graph,
    settings: &Settings,
    usual: usize,
    build: &dyn Fn(usize) -> Result<T>,
) -> Result<(T, usize)> {
    let (wanted, fixed) = match (graph.fixed_batch(), settings.batch) {
        (Some(fixed), Some(given)) if fixed != given => {
            return Err(Error::Usage(format!(
                "--batch {given}: the model fixes its batch at {fixed}; leave the flag out, or export the model with a \
                 batch of any size"
            )));
        }
        (Some(fixed), _) => (fixed, Some(Fixed::Model)),
        (None, Some(given)) => (given, Some(Fixed::User)),
        (None, None) => (usual, None),
    };
    let limit = memory_limit().map_or(u64::MAX, |bytes| bytes / SHARE);
    fit(wanted, fixed, limit, build)
}

/// What fixes the batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fixed {
    User,
    Model,
}

fn fit<T: Footprint>(
    wanted: usize,
    fixed: Option<Fixed>,
    limit: u64,
    build: &dyn Fn(usize) -> Result<T>,
) -> Result<(T, usize)> {
    let (wanted, mut batch, mut taken) = (wanted.max(1), wanted.max(1), None);
    loop {
        let step = build(batch)?;
        let bytes = u64::try_from(step.peak_bytes()).unwrap_or(u64::MAX);
        let taken = *taken.get_or_insert(bytes);
        let refuse = |advice: &str| {
            Err(Error::Resources(format!(
                "a training step on {wanted} sample(s) takes about {}, a third of this machine's memory is {}; {advice}",
                gigabytes(taken),
                gigabytes(limit)
            )))
        };
        match fixed {
            Some(Fixed::User) if bytes <= limit && batch < wanted => return refuse(&format!("try --batch {batch}")),
            _ if bytes <= limit => return Ok((step, batch)),
            // No step on fewer samples can be built.
            Some(Fixed::Model) => return refuse("export the model with a smaller batch, or one of any size"),
            _ => {}
        }
        // Weights and moments do not shrink with the batch, so this takes a few rounds.
        let smaller = (u128::try_from(batch).unwrap_or(u128::MAX) * u128::from(limit)) / u128::from(bytes);
        let smaller = usize::try_from(smaller).unwrap_or(batch).min(batch - 1);
        if smaller == 0 {
            return refuse("use a machine with more memory");
        }
        batch = smaller;
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Builder;
    use crate::ir::{DType, Dim};
    use crate::train::Optimiser;

    /// Bytes that [`step`] takes for any batch size, and per sample.
    const FIXED: u64 = 4000;
    const EACH: u64 = 800;

    /// A vector of 1000 floats, and two tensors of 100 floats per sample.
    fn step(batch: usize) -> Result<TrainingStep> {
        let builder = Builder::new("step");
        builder.input("weights", DType::F32, &[1000]);
        let x = builder.input("x", DType::F32, &[batch, 100]);
        let graph = builder.finish(&[("y", x.relu())])?;
        let optimiser = Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        Ok(TrainingStep { graph, state: Vec::new(), optimisers: vec![optimiser], losses: 1, terms: Vec::new() })
    }

    #[test]
    fn a_batch_shrinks_until_it_fits_unless_it_is_fixed() {
        let of = |samples: u64| FIXED + EACH * samples;
        let (by_user, by_model) = (Some(Fixed::User), Some(Fixed::Model));
        let (fits, too_much) = (|batch: usize| Ok(batch), |text: &'static str| Err(text));
        let cases = [
            ("it fits", 64, None, of(64), fits(64)),
            ("as large as it can be", 64, None, u64::MAX, fits(64)),
            ("a byte too much", 64, None, of(64) - 1, fits(63)),
            ("far too much", 64, None, of(5), fits(5)),
            ("one sample", 64, None, of(2) - 1, fits(1)),
            ("nothing wanted is one sample", 0, None, of(1), fits(1)),
            ("fixed, and it fits", 64, by_user, of(64), fits(64)),
            ("fixed, and half of it fits", 64, by_user, of(64) / 2, too_much("--batch 29")),
            ("fixed by the model, and it fits", 64, by_model, of(64), fits(64)),
            (
                "fixed by the model, and half of it fits",
                64,
                by_model,
                of(64) / 2,
                too_much("export the model with a smaller batch"),
            ),
            ("fixed, and not one sample fits", 64, by_user, 0, too_much("more memory")),
            ("not one sample fits", 64, None, of(1) - 1, too_much("more memory")),
            ("one sample that does not fit", 1, by_user, of(1) - 1, too_much("more memory")),
        ];
        let mut failed = Vec::new();
        for (name, wanted, fixed, limit, expected) in cases {
            let found = fit(wanted, fixed, limit, &step);
            let holds = match (&found, &expected) {
                (Ok((made, batch)), Ok(expected)) => {
                    let shape = made.graph.value(made.graph.inputs[1]).static_shape();
                    batch == expected && shape == Some(vec![*batch, 100])
                }
                (Err(error @ Error::Resources(text)), Err(advice)) => {
                    let told = text.contains("on 64 sample(s)") || wanted != 64;
                    text.contains(advice) && told && error.exit_code() == 5
                }
                _ => false,
            };
            if !holds {
                failed.push(format!("{name}: {:?}, expected {expected:?}", found.map(|(_, batch)| batch)));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn what_the_model_fixes_is_the_batch() {
        let graph = |dim: Dim| {
            let mut graph = Graph::default();
            let x = graph.add_value("x");
            (graph.value_mut(x).dtype, graph.value_mut(x).shape) = (Some(DType::F32), Some(vec![dim, Dim::Known(100)]));
            graph.inputs.push(x);
            graph
        };
        let (open, fixed) = (|| graph(Dim::Symbol("N".to_owned())), || graph(Dim::Known(4)));
        let cases = [
            ("nothing said", open(), None, Some(64)),
            ("by the user", open(), Some(16), Some(16)),
            ("by the model", fixed(), None, Some(4)),
            ("the same by both", fixed(), Some(4), Some(4)),
            ("contradictory", fixed(), Some(16), None),
        ];
        let mut failed = Vec::new();
        for (name, graph, batch, expected) in cases {
            let settings = Settings { batch, ..Settings::default() };
            let found = fitting_batch(&graph, &settings, 64, &step).map(|(_, batch)| batch);
            let refused = matches!(&found, Err(e @ Error::Usage(text))
                if e.exit_code() == 2 && text.contains("--batch 16") && text.contains("fixes its batch at 4"));
            if found.as_ref().ok() != expected.as_ref() || expected.is_none() != refused {
                failed.push(format!("{name}: {found:?}"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
