//! The training step of a generator of images for a model, with what `generator.py` needs to write it by hand.

use std::collections::BTreeMap;
use std::path::Path;

use dfq_onnx::expr::STANDARD;
use dfq_onnx::onnx;
use dfq_onnx::plan::Policy;
use dfq_onnx::synthesis::{Generator, ImageSynthesis, Latents, Maker, Options, SynthesisTeacher, weights};
use dfq_onnx::train::RandomStream;
use serde_json::{Value, json};

use crate::Result;
use crate::prepare::quantized::prepared;
use crate::prepare::{BATCHES, Prepared, Settings, ort, usual_batch};

/// The random numbers of the generator.
const STREAM: RandomStream = RandomStream { seed: 0, stage: 0 };

/// Returns the training step of a generator for a model, with the defaults of the stage that makes images.
pub fn prepare(model: &Path, settings: &Settings) -> Result<Prepared> {
    let prepared = prepared(&onnx::load(model)?, &Policy::default())?;
    let teacher = SynthesisTeacher::new(&prepared.float, &prepared.norms)?;
    let batch = teacher.graph.fixed_batch().or(settings.batch).unwrap_or_else(|| usual_batch(&teacher.graph));
    let generator = Generator::new(&teacher.spec, &prepared.input, teacher.macs, STREAM)?;
    let maker = Maker { generator, latents: Latents::new(batch, None, STREAM)?, labels: None };
    let options = Options::default();
    let weights = weights(&options.loss, !teacher.normals.is_empty())?;
    let input = prepared.input;
    let Options { swing, augment, low_pass, learning_rate, .. } = options;
    let synthesis =
        ImageSynthesis { teacher, weights, slack: Vec::new(), swing, augment, low_pass, others: Vec::new(), input };
    let step = synthesis.step(&maker, &STANDARD)?;
    let cpu = synthesis.step(&maker, &ort().lowering())?;
    let fed = step.graph.fed_inputs();
    let names: Vec<&str> = fed[step.state.len()..].iter().map(|&id| step.graph.name_of(id)).collect();
    let mut batches = BTreeMap::new();
    for number in 0..BATCHES {
        let feeds = synthesis.feeds(STREAM, number);
        batches.extend(names.iter().map(|name| format!("{name}.{number}")).zip(feeds));
    }
    let rates = |number| (format!("rates.{number}"), step.rates(&[learning_rate], number));
    batches.extend((0..settings.steps).map(rates));
    let more = described(&maker, &synthesis, &names)?;
    let rate = |scales: &[f32]| learning_rate as f32 * scales.first().copied().unwrap_or(1.0);
    let lr_scales = [maker.generator.weights.lr_scales().to_f32()?, maker.latents.vector.lr_scales().to_f32()?];
    let rates = [("weights", rate(&lr_scales[0])), ("latents", rate(&lr_scales[1]))];
    Ok(Prepared { step, cpu, read: ("teacher.onnx", synthesis.teacher.graph), batch, batches, rates, more })
}

/// Returns the generator's tensors in the order of its vector, what it makes images like, the feeds of a step in order,
/// and the statistics that tensors of `teacher.onnx` are compared with.
fn described(maker: &Maker, synthesis: &ImageSynthesis, feeds: &[&str]) -> Result<Value> {
    let ImageSynthesis { teacher, input, .. } = synthesis;
    if synthesis.weights.iter().map(|term| term.0).ne(["bn"]) {
        return Err("generator.py writes the step of models with statistics of batch normalisation alone".into());
    }
    let entries = |of: &dfq_onnx::train::TrainedVector| -> Vec<Value> {
        of.layout.entries().iter().map(|entry| json!([entry.name, entry.shape])).collect()
    };
    let normal = |normal: &dfq_onnx::train::losses::ChannelNormal| {
        json!({
            "tensor": normal.tensor, "mean": normal.mean, "deviation": normal.std, "before": normal.before,
        })
    };
    let channels: Vec<(f64, f64)> = (0..teacher.spec.channels()).map(|c| input.channel(c)).collect();
    Ok(json!({
        "weights": entries(&maker.generator.weights), "latents": entries(&maker.latents.vector), "size": teacher.spec.size(),
        "channels": channels, "interval": [input.lo, input.hi], "input": teacher.spec.name,
        "augment": synthesis.augment, "swings": teacher.swings.iter().map(|swing| &swing.tensor).collect::<Vec<_>>(),
        "feeds": feeds, "normals": teacher.normals.iter().map(normal).collect::<Vec<_>>(),
        "macs": [teacher.macs, maker.generator.macs()],
    }))
}
