//! What the user should know although nothing failed; each text says what to do.

use serde::Serialize;

/// A condition that makes the result less than it could be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// The file holds no batch-normalisation statistics.
    NoStatistics,
    /// Images were made without statistics.
    ImagesWithoutStatistics {
        /// The terms of the loss that they were made by.
        terms: Vec<String>,
    },
    /// Statistics lie behind operators that no gradient passes.
    StatisticsOutOfReach {
        /// Those operators.
        operators: Vec<String>,
    },
    /// Nothing tells how images are scaled that were made.
    InputAssumed {
        /// The interval that was taken.
        lo: f64,
        /// Its upper end.
        hi: f64,
    },
    /// Nothing tells what inputs are like.
    InputGuessed {
        /// What is not known.
        unknown: Vec<String>,
        /// Layers whose inputs stay float for it.
        float_inputs: usize,
        /// Layers whose inputs are on grids.
        layers: usize,
        /// The flags that make it sure.
        cures: String,
    },
    /// Labelled images are perhaps on another scale than the network is fed.
    OtherScale {
        /// How, and what to do.
        message: String,
    },
    /// The model computed in other floating-point types.
    FloatsConverted {
        /// Those types.
        from: Vec<String>,
        /// Bytes of the tensors in the file that were of them.
        stored: usize,
        /// Bytes of the same tensors in float32.
        float32: usize,
    },
    /// The original could not be run in its own types.
    OriginalNotRun {
        /// The engine that refused it.
        engine: String,
        /// What it said.
        reason: String,
    },
    /// The operator set had to be raised.
    OpsetRaised {
        /// The version of the file.
        from: i64,
        /// The version that was needed.
        to: i64,
    },
    /// Operators are known to no engine here.
    OperatorsNotRun {
        /// The operators.
        operators: Vec<String>,
        /// Layers behind them.
        layers: Vec<String>,
    },
    /// An If stays, of which a branch may not have been seen.
    BranchesNotSeen {
        /// Each If.
        nodes: Vec<String>,
    },
    /// Sizes are fixed that the file of the float model leaves open.
    AxesFrozen {
        /// Each of them.
        axes: Vec<String>,
    },
    /// Layers with weights stay in floating point because no grid fits them.
    LayersStayFloat {
        /// Name and reason of each.
        layers: Vec<String>,
    },
    /// Weight scales were enlarged because a bias would have overflowed int32.
    BiasGuard {
        /// Each weight, and its channels with an enlarged scale.
        weights: Vec<(String, usize)>,
    },
    /// No gradient passes some operators.
    NotDifferentiable {
        /// Those that lie between layers and outputs.
        operators: Vec<String>,
    },
    /// The model was quantized without training.
    NotTrained {
        /// Why.
        reason: String,
    },
    /// What was trained on synthetic images was no nearer to the float network than what was found without them.
    StartKept,
    /// The loss diverged, and steps were taken back.
    TrainingDiverged {
        /// Steps that were done each time.
        steps: Vec<u64>,
    },
    /// Time was up before all steps were done.
    TimeIsUp {
        /// Steps that were done.
        done: u64,
        /// Steps that were planned.
        planned: u64,
    },
    /// Time was up before images were of use.
    ImagesCutShort {
        /// Steps of generators that were done.
        done: u64,
        /// Steps that were planned.
        planned: u64,
    },
    /// 4-bit weights save space, not time.
    PackedWeightsAreNotFaster,
    /// ONNX Runtime was not to be had.
    SingleRuntime {
        /// Why.
        reason: String,
    },
    /// A runtime has no say in the checks.
    RuntimeLeftOut {
        /// The runtime.
        runtime: String,
        /// What it makes of the float model.
        reason: String,
    },
    /// Weights used in several ways are stored several times.
    DuplicatedWeight {
        /// The initializer.
        weight: String,
        /// How many grids it is on.
        copies: usize,
    },
    /// The runtime that the file is for is none of those that checked it.
    RuntimeNotRun {
        /// Its name.
        runtime: &'static str,
    },
    /// Sums of two products exceed 16 bits, which x86 processors without VNNI saturate.
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
    WeightStaysFloatToo {
        /// The initializer.
        weight: String,
        /// The nodes that read it in floating point.
        readers: Vec<String>,
    },
    /// A recipe does not reach the bits asked for without loss.
    FewBits {
        /// The fewest bits of any grid.
        bits: u32,
    },
}

impl Warning {
    /// Returns whether the report begins with it, since all that follows depends on it.
    pub fn is_first(&self) -> bool {
        matches!(self, Self::InputGuessed { .. })
    }

    /// Returns whether this is about what a run came to; a dry run comes to nothing.
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

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoStatistics => f.write_str(
                "the file holds no batch-normalisation statistics (folded by the exporter, or the network has none): \
                 activation ranges come from synthetic inputs; export with BatchNormalization kept for better ones \
                 (PyTorch: training=TrainingMode.PRESERVE, do_constant_folding=False), or hand the statistics over with \
                 --bn-stats",
            ),
            Self::ImagesWithoutStatistics { terms } => write!(
                f,
                "the file holds no batch-normalisation statistics: images were made by {} alone, which says little of what \
                 the network was trained on; export with BatchNormalization kept, or hand the statistics over with \
                 --bn-stats",
                terms.join(", ")
            ),
            Self::StatisticsOutOfReach { operators } => write!(
                f,
                "no gradient passes {}: images were made by what lies before, statistics behind were not compared",
                operators.join(", ")
            ),
            Self::InputAssumed { lo, hi } => write!(
                f,
                "nothing in the file tells how inputs are scaled: {lo} to {hi} (normalised) is assumed; \
                 give --mean and --std, or --input-range LO:HI"
            ),
            Self::InputGuessed { unknown, float_inputs, layers, cures } => {
                let all = float_inputs + layers;
                write!(f, "nothing in the file tells {}; figures below rest on a guess of it, ", unknown.join(", nor "))?;
                match float_inputs {
                    0 => f.write_str("and ranges may be wrong for it")?,
                    _ => write!(f, "and {float_inputs} of {all} layers have float inputs for it, with quantized weights")?,
                }
                write!(f, "; give {cures}")
            }
            Self::OtherScale { message } => f.write_str(message),
            Self::FloatsConverted { from, stored, float32 } => write!(
                f,
                "the model was converted from {} to float32, which grids need: {stored} bytes of constants became \
                 {float32} before quantization; inputs and outputs keep their types, what stays float is float32",
                from.join(" and ")
            ),
            Self::OriginalNotRun { engine, reason } => write!(
                f,
                "{engine} cannot run the original in its own types, so the comparisons are with its float32 form; \
                 compare on a device that runs it with `dfq-onnx verify` ({reason})"
            ),
            Self::OpsetRaised { from, to } => write!(
                f,
                "the operator set was raised from {from} to {to}, which the grids asked for need; \
                 check that your runtime knows it"
            ),
            Self::OperatorsNotRun { operators, layers } => {
                write!(
                    f,
                    "no engine here knows {}: they were passed through, and every check stops before them; run the file \
                     once where they are known",
                    operators.join(", ")
                )?;
                match layers.is_empty() {
                    true => Ok(()),
                    false => write!(
                        f,
                        "; {} stay float, since nothing declares the types between",
                        layers.join(", ")
                    ),
                }
            }
            Self::BranchesNotSeen { nodes } => write!(
                f,
                "{} stays as it is: ranges behind it were found on the branch that is taken at these sizes and on these inputs; \
                 compare inputs of every branch with `dfq-onnx verify --data`",
                nodes.join(", ")
            ),
            Self::AxesFrozen { axes } => write!(
                f,
                "{} is fixed in the file, since it decides which layers run (If); export the model without that choice to keep \
                 it open",
                axes.join(", ")
            ),
            Self::LayersStayFloat { layers } => {
                write!(f, "{} layer(s) cannot be quantized and stay float: {}", layers.len(), layers.join("; "))
            }
            Self::BiasGuard { weights } => {
                let channels: usize = weights.iter().map(|(_, channels)| channels).sum();
                let names: Vec<String> = weights.iter().map(|(name, channels)| format!("{name} {channels}")).collect();
                write!(
                    f,
                    "{channels} channel(s) got a coarser scale so that their bias fits int32 ({}); they are nearly dead \
                     (tiny weights), which pruning would remove",
                    names.join(", ")
                )
            }
            Self::NotDifferentiable { operators } => write!(
                f,
                "no gradient passes {}: the network was trained up to there, and layers behind keep what was found \
                 without training",
                operators.join(", ")
            ),
            Self::NotTrained { reason } => {
                write!(f, "the model was quantized without training, as by --effort fast: {reason}")
            }
            Self::StartKept => write!(
                f,
                "training on synthetic images ended farther from the float network than ranges and rounding without them, \
                 which were taken instead, as by --effort fast; inputs of your own (--data FILE) train better"
            ),
            Self::TrainingDiverged { steps } => {
                let at: Vec<String> = steps.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "the loss diverged at step {}: training went back to the last sound step and on at half the rate each \
                     time; give a lower --learning-rate",
                    at.join(", ")
                )
            }
            Self::TimeIsUp { done, planned } => write!(
                f,
                "time was up after {done} of {planned} steps of training (--max-minutes); --steps with a smaller number ends \
                 in time, with a rate that falls to its end"
            ),
            Self::ImagesCutShort { done, planned } => write!(
                f,
                "time was up after {done} of {planned} steps of the generators of images (--max-minutes): images are left out, \
                 and the rest goes by dead leaves; give more minutes, or make fewer --images"
            ),
            Self::PackedWeightsAreNotFaster => f.write_str(
                "weights of 4 bits and below are stored packed: the file is small, but ONNX Runtime's CPU kernels \
                 compute these layers in float; use --container int8 with --target ort-cpu for speed",
            ),
            Self::SingleRuntime { reason } => write!(
                f,
                "only tract ran: no second runtime checked the file ({reason}); `dfq-onnx doctor` tells how to get one"
            ),
            Self::RuntimeLeftOut { runtime, reason } => write!(
                f,
                "{runtime} took no part in the checks, since {reason}: the file was checked in the other runtime alone; try \
                 it where it will run"
            ),
            Self::DuplicatedWeight { weight, copies } => write!(
                f,
                "\"{weight}\" is used in {copies} ways and stored once for each; give those layers the same bits to share it"
            ),
            Self::RuntimeNotRun { runtime } => write!(
                f,
                "the file keeps to the rules of {runtime}, which was not run here: what was checked is its arithmetic; \
                 compare a few results there too"
            ),
            Self::PairSaturation { layers, wrong_percent, worst, relative_rms, here } => write!(
                f,
                "x86 processors without VNNI{} saturate sums of two 8-bit products that exceed 16 bits, which happened in \
                 {layers} layer(s): {wrong_percent:.2} % of their results would be wrong, worst in {worst} (relative error \
                 {relative_rms:.4}); use --reduce-range for such machines",
                if *here { ", such as this one," } else { "" }
            ),
            Self::WeightStaysFloatToo { weight, readers } => write!(
                f,
                "\"{weight}\" is stored twice, quantized and in float32, which {} read(s); \
                 exclude the layers that quantize it (--exclude) where the size of the file matters",
                readers.join(", ")
            ),
            Self::FewBits { bits } => write!(
                f,
                "{bits} bits without training cost accuracy; compare on labelled images with --eval, \
                 or ask for more bits (--precision w4a8, --layer-bits NAME=8)"
            ),
        }
    }
}
