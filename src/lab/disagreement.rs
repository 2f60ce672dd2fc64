//! How far the students of a game disagree.

use super::{Lab, QuantizedStudent};
use crate::data::argmax;
use crate::error::Result;
use crate::ir::Tensor;
use crate::runtime::{Session, SessionOptions};
use crate::train::{Disagreement, Played, Target, chunk_of, targets};

/// Sums over pairs of students and inputs.
#[derive(Default)]
struct Sums {
    distance: f64,
    compared: usize,
    different: usize,
    classified: usize,
}

impl Lab<'_> {
    /// Returns the disagreement of `students` on held-out inputs at the end of a game; none for a single one.
    ///
    /// # Errors
    /// When inputs cannot be generated, or the engine fails.
    pub(super) fn disagreement(&self, students: &[QuantizedStudent], played: &Played) -> Result<Option<Disagreement>> {
        if students.len() < 2 {
            return Ok(None);
        }
        let inputs = self.images.held_out()?;
        let chunk = chunk_of(self.float, Tensor::samples_of(&inputs));
        let images = Tensor::samples_of(&inputs) / chunk * chunk;
        let vectors = students.iter().map(|student| student.vectors_of(played)).collect::<Result<Vec<_>>>()?;
        let mut sums = Sums::default();
        for target in targets(self.float).tensors {
            let load = |student: &QuantizedStudent| -> Result<Box<dyn Session>> {
                let graph = student.part_graph(&target.tensor, chunk)?;
                self.context.engine.load(&graph, &SessionOptions::default())
            };
            let mut sessions = students.iter().map(load).collect::<Result<Vec<_>>>()?;
            for start in (0..images).step_by(chunk) {
                let rows = inputs.iter().map(|tensor| tensor.rows(start..start + chunk)).collect::<Result<Vec<_>>>()?;
                let run = |(session, vectors): (&mut Box<dyn Session>, &[Tensor; 2])| -> Result<Vec<f32>> {
                    session.run(&[&vectors[..], &rows].concat())?[0].to_f32()
                };
                let outputs = sessions.iter_mut().zip(&vectors).map(run).collect::<Result<Vec<_>>>()?;
                sums.add(&outputs, chunk, &target);
            }
        }
        let share = |part: f64, all: usize| part / all.max(1) as f64;
        let top1 = (sums.classified > 0).then(|| share(sums.different as f64, sums.classified));
        let distance = share(sums.distance, sums.compared);
        Ok(Some(Disagreement { students: students.len(), images, top1, distance }))
    }
}

impl Sums {
    /// Adds the outputs of all students on the same `samples`.
    fn add(&mut self, outputs: &[Vec<f32>], samples: usize, target: &Target) {
        for (place, first) in outputs.iter().enumerate() {
            for second in &outputs[place + 1..] {
                let width = (first.len() / samples).max(1);
                for (a, b) in first.chunks(width).zip(second.chunks(width)) {
                    self.distance += distance(a, b);
                    self.compared += 1;
                    if target.is_logits {
                        self.different += usize::from(argmax(a) != argmax(b));
                        self.classified += 1;
                    }
                }
            }
        }
    }
}

/// Returns `2 ‖a - b‖ / (‖a‖ + ‖b‖)`; 0 where both are 0.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let widened = |values: &[f32]| norm(&mut values.iter().map(|&v| f64::from(v)));
    let apart = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let size = widened(a) + widened(b);
    if size > 0.0 { 2.0 * apart / size } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreement_is_relative_to_the_size_of_outputs() {
        let cases = [
            ("equal", distance(&[3.0, 4.0], &[3.0, 4.0]), 0.0),
            ("opposite", distance(&[3.0, 4.0], &[-3.0, -4.0]), 2.0),
            ("one of them 0", distance(&[3.0, 4.0], &[0.0, 0.0]), 2.0),
            ("both 0", distance(&[0.0], &[0.0]), 0.0),
            ("twice as large", distance(&[1.0], &[2.0]), 2.0 / 3.0),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| (found - expected).abs() > 1e-12).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn every_pair_of_students_counts_once_for_each_input() {
        let mut sums = Sums::default();
        let target = Target { tensor: "y".to_owned(), is_logits: true };
        sums.add(&[vec![1.0, 0.0, 0.0, 1.0], vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 0.0, 0.0, 1.0]], 2, &target);
        assert_eq!((sums.compared, sums.classified, sums.different), (6, 6, 2));
    }
}
