//! Conditions that the user should know of although nothing failed. Every text says what to do.

use serde::Serialize;
use thiserror::Error;

/// A condition that makes the result worse than it could be.
#[derive(Clone, Debug, Error, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// The file has no batch-normalization statistics.
    #[error(
        "the file has no batch-normalization statistics (folded by the exporter, or the network has none): activation \
         ranges come from synthetic inputs; for better ranges, export with BatchNormalization kept (PyTorch: \
         training=TrainingMode.PRESERVE, do_constant_folding=False), or give the statistics with --bn-stats"
    )]
    NoStatistics,
    /// Images were synthesized without statistics.
    #[error(
        "the file has no batch-normalization statistics: images were synthesized by {} alone, which says little about the \
         training data; export with BatchNormalization kept, or give the statistics with --bn-stats", .terms.join(", ")
    )]
    ImagesWithoutStatistics {
        /// The terms of the synthesis loss.
        terms: Vec<String>,
    },
    /// Statistics lie behind operators without gradient.
    #[error(
        "there is no gradient rule for {}: images were synthesized from the statistics before; those behind were not used",
        .operators.join(", ")
    )]
    StatisticsOutOfReach {
        /// The operators.
        operators: Vec<String>,
    },
    /// The scale of synthesized images is assumed.
    #[error(
        "the scale of the input is unknown: {lo} to {hi} (normalized) is assumed; give --mean and --std, or \
         --input-range LO:HI"
    )]
    InputAssumed {
        /// The lower end of the assumed interval.
        lo: f64,
        /// Its upper end.
        hi: f64,
    },
    /// The kind or range of inputs is a guess.
    #[error("{}", input_guessed(.unknown, *.float_inputs, *.layers, .cures))]
    InputGuessed {
        /// The unknown properties.
        unknown: Vec<String>,
        /// Layers whose inputs stay float because of the guess.
        float_inputs: usize,
        /// Layers whose inputs are quantized.
        layers: usize,
        /// The flags that replace the guess.
        cures: String,
    },
    /// Labeled images may have another scale than the network's input.
    #[error("{message}")]
    OtherScale {
        /// The difference, and what to do.
        message: String,
    },
    /// The model was converted from other floating-point types.
    #[error(
        "the model was converted from {} to float32 for quantization: {stored} bytes of constants became {float32} \
         before quantization; inputs and outputs keep their types, float layers compute in float32", .from.join(" and ")
    )]
    FloatsConverted {
        /// The types.
        from: Vec<String>,
        /// Bytes of the tensors of these types in the file.
        stored: usize,
        /// Bytes of the same tensors in float32.
        float32: usize,
    },
    /// The original does not run in its own types.
    #[error(
        "{engine} cannot run the original in its own types, so it was compared in float32; compare with \
         `dfq-onnx verify` on a device that runs it ({reason})"
    )]
    OriginalNotRun {
        /// The engine that refused it.
        engine: String,
        /// The engine's message.
        reason: String,
    },
    /// The operator set was raised.
    #[error(
        "the operator set was raised from {from} to {to}, which the quantized types need; check that your runtime \
         supports it"
    )]
    OpsetRaised {
        /// The version of the file.
        from: i64,
        /// The required version.
        to: i64,
    },
    /// No engine here supports some operators.
    #[error("{}", operators_not_run(.operators, .layers))]
    OperatorsNotRun {
        /// The operators.
        operators: Vec<String>,
        /// Layers behind them.
        layers: Vec<String>,
    },
    /// An If stays, and some of its branches may not have run.
    #[error(
        "{} stays in the file: ranges behind it come from the branch taken at these sizes and on these inputs; compare \
         inputs of every branch with `dfq-onnx verify --data`", .nodes.join(", ")
    )]
    BranchesNotSeen {
        /// The If nodes.
        nodes: Vec<String>,
    },
    /// Axes that the float model leaves open are fixed.
    #[error(
        "{} is fixed in the file, since it decides which layers run (If); to keep it open, export the model without \
         that If", .axes.join(", ")
    )]
    AxesFrozen {
        /// The axes.
        axes: Vec<String>,
    },
    /// Layers with weights stay float because they cannot be quantized.
    #[error("{} layer(s) cannot be quantized and stay float: {}", .layers.len(), .layers.join("; "))]
    LayersStayFloat {
        /// Name and reason of each.
        layers: Vec<String>,
    },
    /// Weight scales were enlarged because a bias would overflow int32.
    #[error("{}", bias_guard(.weights))]
    BiasGuard {
        /// Each weight, and its number of channels with an enlarged scale.
        weights: Vec<(String, usize)>,
    },
    /// Operators have no gradient.
    #[error(
        "there is no gradient rule for {}: the network was trained up to there; layers behind keep the result without training",
        .operators.join(", ")
    )]
    NotDifferentiable {
        /// The operators between layers and outputs.
        operators: Vec<String>,
    },
    /// The model was quantized without training.
    #[error("the model was quantized without training, as with --effort fast: {reason}")]
    NotTrained {
        /// The reason.
        reason: String,
    },
    /// Training on synthetic images did not come closer to the float network than the start without them.
    #[error(
        "training on synthetic images ended farther from the float network than quantization without them, which was kept \
         instead, as with --effort fast; training on your own inputs (--data FILE) works better"
    )]
    StartKept,
    /// The loss diverged, and training was rolled back.
    #[error(
        "the loss diverged at step {}: training rolled back and continued at half the rate each time; give a lower \
         --learning-rate", joined(.steps)
    )]
    TrainingDiverged {
        /// Steps done at each divergence.
        steps: Vec<u64>,
    },
    /// Training ended at the deadline.
    #[error(
        "time was up after {done} of {planned} training steps (--max-minutes); with fewer --steps the learning rate falls \
         to its end in time"
    )]
    TimeIsUp {
        /// Completed steps.
        done: u64,
        /// Planned steps.
        planned: u64,
    },
    /// Image synthesis ended too early.
    #[error(
        "time was up after {done} of {planned} steps of image synthesis (--max-minutes): the images are not used, dead \
         leaves take their place; give more minutes or fewer --images"
    )]
    ImagesCutShort {
        /// Completed steps of generators.
        done: u64,
        /// Planned steps.
        planned: u64,
    },
    /// 4-bit weights save space, not time.
    #[error(
        "weights of 4 bits and below are stored packed: the file is small, but ONNX Runtime's CPU kernels compute these \
         layers in float; use --container int8 with --target ort-cpu for speed"
    )]
    PackedWeightsAreNotFaster,
    /// ONNX Runtime is not available.
    #[error("only tract ran: no second runtime checked the file ({reason}); `dfq-onnx doctor` tells how to get one")]
    SingleRuntime {
        /// The reason.
        reason: String,
    },
    /// A runtime takes no part in the checks.
    #[error(
        "{runtime} took no part in the checks, since {reason}: the file was checked in the other runtime alone; test it \
         where it will run"
    )]
    RuntimeLeftOut {
        /// The runtime.
        runtime: String,
        /// What it does with the float model.
        reason: String,
    },
    /// A weight is stored once per use.
    #[error(
        "\"{weight}\" is used in {copies} ways and stored once for each; give those layers the same bits to share it"
    )]
    DuplicatedWeight {
        /// The initializer.
        weight: String,
        /// The number of copies.
        copies: usize,
    },
    /// The target runtime did not check the file.
    #[error(
        "the file follows the rules of {runtime}, which did not run here: only its arithmetic was checked; compare a few \
         results there too"
    )]
    RuntimeNotRun {
        /// The name of the runtime.
        runtime: &'static str,
    },
    /// Sums of two products exceed 16 bits, where x86 processors without VNNI saturate.
    #[error(
        "x86 processors without VNNI{} saturate sums of two 8-bit products that exceed 16 bits, which happened in {layers} \
         layer(s): {wrong_percent:.2} % of their results would be wrong, worst in {worst} (relative error \
         {relative_rms:.4}); use --reduce-range for such machines", if *.here { ", such as this one," } else { "" }
    )]
    PairSaturation {
        /// Layers in which it happened on the inputs of the checks.
        layers: usize,
        /// Elements of their results that would be wrong, in percent.
        wrong_percent: f64,
        /// The layer with the largest error.
        worst: String,
        /// Its error: RMS over RMS of its result.
        relative_rms: f64,
        /// Whether this machine is such a processor.
        here: bool,
    },
    /// A quantized weight is stored in floating point too.
    #[error(
        "\"{weight}\" is stored twice, quantized and in float32, which {} read(s); where the size of the file matters, \
         exclude the layers that quantize it (--exclude)", .readers.join(", ")
    )]
    WeightStaysFloatToo {
        /// The initializer.
        weight: String,
        /// The nodes that read it in floating point.
        readers: Vec<String>,
    },
    /// Few bits cost accuracy without training.
    #[error(
        "{bits} bits without training cost accuracy; compare on labeled images with --eval, or ask for more bits \
         (--precision w4a8, --layer-bits NAME=8)"
    )]
    FewBits {
        /// The fewest bits of any tensor.
        bits: u32,
    },
}

impl Warning {
    /// Returns whether the report begins with it, since all figures depend on it.
    pub fn is_first(&self) -> bool {
        matches!(self, Self::InputGuessed { .. })
    }

    /// Returns whether this is about the results of a run; a dry run has none.
    pub fn is_of_results(&self) -> bool {
        matches!(
            self,
            Self::ImagesCutShort { .. }
                | Self::OriginalNotRun { .. }
                | Self::PairSaturation { .. }
                | Self::RuntimeNotRun { .. }
                | Self::SingleRuntime { .. }
                | Self::TimeIsUp { .. }
                | Self::TrainingDiverged { .. }
        )
    }
}

fn input_guessed(unknown: &[String], float_inputs: usize, layers: usize, cures: &str) -> String {
    let unknown = unknown.join(", nor ");
    let effect = match float_inputs {
        0 => "and ranges may be wrong".to_owned(),
        _ => {
            format!("and {float_inputs} of {} layers keep float inputs, with quantized weights", float_inputs + layers)
        }
    };
    format!("nothing in the file tells {unknown}; the figures below rest on a guess, {effect}; give {cures}")
}

fn operators_not_run(operators: &[String], layers: &[String]) -> String {
    let operators = operators.join(", ");
    let text =
        format!("no engine here supports {operators}: the checks stop before them; run the file once where they work");
    match layers {
        [] => text,
        layers => format!("{text}; {} stay float, since the types in between are not declared", layers.join(", ")),
    }
}

fn bias_guard(weights: &[(String, usize)]) -> String {
    let channels: usize = weights.iter().map(|(_, channels)| channels).sum();
    let names: Vec<String> = weights.iter().map(|(name, channels)| format!("{name} {channels}")).collect();
    format!(
        "{channels} channel(s) got a coarser scale so that their bias fits int32 ({}); their weights are nearly 0, and \
         pruning would remove them",
        names.join(", ")
    )
}

fn joined(steps: &[u64]) -> String {
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
