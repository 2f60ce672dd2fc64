//! The options of ONNX Runtime's execution providers. Defaults are stated too, since they differ between versions.

use std::path::Path;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, TensorRT};

use crate::runtime::Device;

/// The most bytes of a TensorRT tactic: by default all device memory, which the training state and CUDA layers share.
const TENSORRT_WORKSPACE: usize = 1 << 30;

/// TensorRT's default: from 4 on the time to build an engine grows by multiples, and a step graph has a thousand nodes.
const TENSORRT_LEVEL: u8 = 3;

/// The use of a device by a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use<'a> {
    /// Whether to request CPU integer kernels that do not saturate.
    pub is_precise: bool,
    /// Whether it runs often enough for a careful choice of kernels.
    pub often: bool,
    /// Whether products may round their factors to 10 fraction bits.
    pub tf32: bool,
    /// Whether CUDA's work is captured once and then replayed.
    pub cuda_graphs: bool,
    /// A folder for TensorRT's kernel timings, shared by all sessions.
    pub timing_cache: Option<&'a Path>,
    /// A folder for TensorRT's engines of this very graph and its constants. The library tells engines apart by names
    /// of tensors alone: in a shared folder it would run one model with the weights of another.
    pub engine_cache: Option<&'a Path>,
}

/// Returns the execution providers for `device`, the preferred first.
pub(super) fn providers(device: Device, how: &Use) -> Vec<ExecutionProviderDispatch> {
    let cuda = |index| cuda(index, how).build().error_on_failure();
    match device {
        Device::Cpu => Vec::new(),
        Device::Cuda(index) => vec![cuda(index)],
        // What TensorRT cannot run falls to CUDA, not to the CPU.
        Device::TensorRt(index) => vec![tensorrt(index, how).build().error_on_failure(), cuda(index)],
    }
}

/// - TF32: on in steps of training alone, where its error is far below the noise of a batch, and tensor cores pay.
///   Everything
///   that is compared with another runtime stays in float32, whose limits it would miss.
/// - Search for convolutions: exhaustive where shapes are run thousands of times; a session that runs once would spend
///   longer on the search than on the run. cuDNN 9 orders kernels by a model in both and times none, so that a run
///   repeats.
/// - Workspace of convolutions: as much as they like where speed pays, else 32 MB, which leaves memory to others.
/// - Arena: grows by what is asked for. Doubling takes up to twice the memory, and shapes do not change.
/// - Layout: as the graph has it. Weights of steps are inputs, which NHWC would transpose in every step.
fn cuda(index: u32, how: &Use) -> CUDA {
    let search = if how.often { ConvAlgorithmSearch::Exhaustive } else { ConvAlgorithmSearch::Heuristic };
    CUDA::default()
        .with_device_id(device_id(index))
        .with_tf32(how.tf32)
        .with_conv_algorithm_search(search)
        .with_conv_max_workspace(how.often)
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .with_prefer_nhwc(false)
        .with_cuda_graph(how.cuda_graphs)
}

/// float16 is off: what is compared and trained is float32. (TensorRT itself may use TF32; ONNX Runtime has no option
/// for that, the variable `NVIDIA_TF32_OVERRIDE=0` has.) No CUDA graph of its own: the state changes its buffers in
/// every step.
fn tensorrt(index: u32, how: &Use) -> TensorRT {
    let mut provider = TensorRT::default()
        .with_device_id(device_id(index))
        .with_fp16(false)
        .with_cuda_graph(false)
        .with_max_workspace_size(TENSORRT_WORKSPACE)
        .with_builder_optimization_level(TENSORRT_LEVEL)
        .with_timing_cache(how.timing_cache.is_some())
        .with_engine_cache(how.engine_cache.is_some());
    if let Some(folder) = how.timing_cache {
        provider = provider.with_timing_cache_path(folder.display());
    }
    if let Some(folder) = how.engine_cache {
        provider = provider.with_engine_cache_path(folder.display());
    }
    provider
}

fn device_id(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(provider: &dyn std::fmt::Debug, options: &[(&str, &str)]) {
        let text = format!("{provider:?}");
        for (key, value) in options {
            assert!(text.contains(&format!("\"{key}\": \"{value}\"")), "{key} {value} in {text}");
        }
    }

    #[test]
    fn cuda_is_exact_and_quick_to_load_unless_it_trains() {
        let once = Use::default();
        let same = [("device_id", "2"), ("arena_extend_strategy", "kSameAsRequested"), ("prefer_nhwc", "false")];
        has(&cuda(2, &once), &same);
        has(
            &cuda(2, &once),
            &[("use_tf32", "false"), ("cudnn_conv_algo_search", "HEURISTIC"), ("enable_cuda_graph", "false")],
        );
        let steps = Use { often: true, tf32: true, cuda_graphs: true, ..once };
        has(&cuda(2, &steps), &same);
        has(
            &cuda(2, &steps),
            &[("use_tf32", "true"), ("cudnn_conv_algo_search", "EXHAUSTIVE"), ("enable_cuda_graph", "true")],
        );
    }

    #[test]
    fn tensorrt_keeps_engines_only_where_they_cannot_be_mistaken() {
        let shared = Path::new("/cache/tensorrt");
        let checks = Use { timing_cache: Some(shared), ..Use::default() };
        has(&tensorrt(0, &checks), &[("trt_fp16_enable", "false"), ("trt_engine_cache_enable", "false")]);
        has(
            &tensorrt(0, &checks),
            &[("trt_timing_cache_enable", "true"), ("trt_timing_cache_path", "/cache/tensorrt")],
        );
        let steps = Use { engine_cache: Some(Path::new("/cache/tensorrt/ab")), ..checks };
        has(
            &tensorrt(0, &steps),
            &[("trt_engine_cache_enable", "true"), ("trt_engine_cache_path", "/cache/tensorrt/ab")],
        );
    }
}
