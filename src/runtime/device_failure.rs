//! Distinguishes device failures from refused models by the messages of ONNX Runtime, which has no error codes for
//! them.

use super::Device;
use crate::error::Error;

/// The kinds of device failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Memory,
    Lost,
}

/// Out-of-memory messages of the library's arena, CUDA, cuBLAS, cuDNN, TensorRT, the C++ library and Rust, in this
/// order.
const MEMORY: &[&str] = &[
    "Failed to allocate memory for requested buffer",
    "is smaller than requested bytes",
    "CUDA failure 2:",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "(out of memory)",
    "std::bad_alloc",
    "bad allocation",
    "larger than max_size()",
    "vector::_M_",
    "vector::reserve",
    "capacity overflow",
    "LayoutError",
];

/// Messages of ONNX Runtime and tract about unsupported operators or types.
const LACKING: &[&str] = &["Could not find an implementation for", "Unimplemented("];

/// CUDA errors after which nothing runs on the device in this process: the device or driver is lost, or a kernel
/// crashed. Others are wrong calls.
const LOST_CODES: &[u32] =
    &[3, 4, 30, 35, 46, 100, 101, 214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, 802, 803, 804, 999];

/// Such errors of cuBLAS and cuDNN.
const LOST: &[&str] = &[
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_MAPPING_ERROR",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "device removed",
];

/// Returns the `error` of loading a step as [`Error::Unsupported`] if the engine lacks an operator: a gradient graph
/// has more operators than the model.
pub(super) fn lacking_kernel(error: Error) -> Error {
    match error {
        Error::Runtime { engine, message } if LACKING.iter().any(|phrase| message.contains(phrase)) => {
            Error::unsupported("a training step", format!("{engine}: {message}"))
        }
        other => other,
    }
}

/// Returns the error with advice if `message` reports a failure of `device`; `None` for other messages. A CPU fails
/// only by lack of memory.
pub(super) fn device_failure(device: Device, message: &str) -> Option<Error> {
    let failure = failure(message).filter(|&found| device != Device::Cpu || found == Failure::Memory);
    let (what, cure) = match failure? {
        Failure::Memory => ("has too little free memory", "lower --batch, free memory, or use another device"),
        Failure::Lost => ("failed", "check it with nvidia-smi, or use another device"),
    };
    Some(Error::Resources(format!(
        "device {device} {what}: {}; {cure}. The last checkpoint of a run with --run-folder stays: --resume DIR goes on \
         from it, on another device with --device (cpu, say) and the same --batch",
        cause(message)
    )))
}

fn failure(message: &str) -> Option<Failure> {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    if says(MEMORY) {
        return Some(Failure::Memory);
    }
    let is_lost = code(message).is_some_and(|code| LOST_CODES.contains(&code)) || says(LOST);
    is_lost.then_some(Failure::Lost)
}

/// Returns the number in `CUDA failure 719: unspecified launch failure`.
fn code(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("CUDA failure ")?;
    rest.split(':').next()?.trim().parse().ok()
}

/// Returns the message without the library's source positions: function signatures before the failure, and the text
/// after the first semicolon (host, file, line).
pub(super) fn cause(message: &str) -> String {
    let starts = ["CUDA failure ", "CUBLAS failure ", "CUDNN failure ", "CUDNN_FE failure "];
    let start = starts.iter().filter_map(|start| message.find(start)).min();
    let text = start.map_or(message, |start| message[start..].split(';').next().unwrap_or_default());
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:121 std::conditional_t<THRW, void, \
                        onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, ERRTYPE, \
                        const char*, const char*, int) [with ERRTYPE = cudaError; bool THRW = true]";

    #[test]
    fn a_device_that_fails_is_told_from_a_model_that_is_refused() {
        let cases = [
            (
                "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=cuda_stream_handle.cc ; line=175 ; expr=x;",
                Some(Failure::Memory),
            ),
            (
                "Non-zero status code returned while running Conv node. Name:'c' Status Message: bfc_arena.cc:376 \
                 onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 13111296",
                Some(Failure::Memory),
            ),
            (
                "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=egg ; expr=cublasCreate(&cublas_handle_);",
                Some(Failure::Memory),
            ),
            ("safeRuntime.cpp (25) - Cuda Error in allocate: 2 (out of memory)", Some(Failure::Memory)),
            (
                "Non-zero status code returned while running Gemm node. Name:'g' Status Message: CUBLAS failure 13: \
                 CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0 ; file=gemm.cc ; line=121 ; expr=cublasGemmHelper(",
                Some(Failure::Lost),
            ),
            ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; expr=y;", Some(Failure::Lost)),
            (
                "CUDA failure 100: no CUDA-capable device is detected ; GPU=32712 ; expr=cudaSetDevice(",
                Some(Failure::Lost),
            ),
            (
                "CUDA failure 101: invalid device ordinal ; GPU=0 ; expr=cudaSetDevice(info_.device_id);",
                Some(Failure::Lost),
            ),
            ("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ;", Some(Failure::Lost)),
            ("CUDA failure 719: unspecified launch failure ; GPU=0 ;", Some(Failure::Lost)),
            ("Exception during loading: cannot create std::vector larger than max_size()", Some(Failure::Memory)),
            ("stopped with a panic: capacity overflow", Some(Failure::Memory)),
            // A mistake in a call, or a graph that cannot be captured.
            ("CUDA failure 1: invalid argument ; GPU=0 ;", None),
            ("CUDA failure 900: operation not permitted when stream is capturing ; expr=cudaMalloc(", None),
            ("CUBLAS failure 15: CUBLAS_STATUS_NOT_SUPPORTED ; GPU=0 ;", None),
            ("CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0 ;", None),
            (
                "Non-zero status code returned while running Gather node. Name:'g' Status Message: indices element out of \
                 data bounds, idx=7 must be within the inclusive range [-3,2]",
                None,
            ),
            ("Could not find an implementation for NoSuchOperator(1) node with name ''", None),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(message, expected)| failure(message) != *expected).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_error_keeps_the_cause_and_tells_how_to_go_on() {
        let message = format!("{CALL} CUDA failure 719: unspecified launch failure ; GPU=1 ; hostname=a ; line=3 ;");
        let error = device_failure(Device::Cuda(1), &message).unwrap();
        let text = error.to_string();
        assert!(text.starts_with("device cuda:1 failed: CUDA failure 719: unspecified launch failure; "), "{text}");
        assert!(text.contains("--resume") && text.contains("--device"), "{text}");
        assert_eq!(error.exit_code(), 5);
        assert!(device_failure(Device::Cpu, &message).is_none(), "there is no such device");
        let memory =
            device_failure(Device::Cpu, "bfc_arena.cc: Failed to allocate memory for requested buffer of size 9");
        assert_eq!(memory.unwrap().exit_code(), 5);
    }

    #[test]
    fn an_operator_that_an_engine_lacks_is_told_from_a_graph_that_is_wrong() {
        let lacks = [
            "NOT_IMPLEMENTED : Could not find an implementation for Sqrt(13) node with name 's'",
            "Unimplemented(Det)",
        ];
        for message in lacks {
            assert!(
                matches!(lacking_kernel(Error::runtime("engine", message)), Error::Unsupported { .. }),
                "{message}"
            );
        }
        let wrong = Error::runtime("engine", "Node (add) has input size 3 not in range [min=2, max=2]");
        assert!(matches!(lacking_kernel(wrong), Error::Runtime { .. }));
    }
}
