//! CUDA graphs of steps: the kernels of a step are recorded once for each of the two directions between the state's
//! buffers and then replayed. Otherwise small networks spend most of a step on kernel launches.

use ort::AsPointer;
use ort::session::{RunOptions, Session};

use super::steps::OrtSteps;
use crate::error::{Error, Result};
use crate::ir::Tensor;
use crate::runtime::{Device, SessionOptions, StepSession};

/// Steps that run before recording, one in each direction. The library runs a graph twice more before it records it, so
/// all memory of a step is allocated by then, as recording requires.
const WARM_UP: u64 = 2;

/// The library's id of a run that is neither recorded nor replayed; 0 is reserved.
const REGULAR: &str = "-1";
const DIRECTIONS: [&str; 2] = ["1", "2"];

/// The oldest minor version of ONNX Runtime 1 in which two recordings in one session do not disturb each other: before,
/// tables of pointers that Split and Concat read in a replay lay in memory that the next recording used again
/// (microsoft/onnxruntime, pull request 32121).
const OLDEST_MINOR: u32 = 30;

/// Returns whether to record steps on `device`.
pub(super) fn captures(device: Device, options: &SessionOptions) -> bool {
    options.cuda_graphs && matches!(device, Device::Cuda(_))
}

/// Returns why ONNX Runtime `version` cannot record steps, `None` where it can.
pub(in crate::runtime) fn too_old(version: &str) -> Option<String> {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let is_old = minor.is_none_or(|minor| minor < OLDEST_MINOR);
    is_old.then(|| format!("ONNX Runtime {version} cannot replay two of them in turn, 1.{OLDEST_MINOR} and newer can"))
}

/// Returns an input that a kernel reads on the host, if any; a replay would reuse its contents at binding time.
pub(super) fn host_input(session: &Session) -> ort::Result<Option<String>> {
    let mut memories = vec![std::ptr::null(); session.inputs().len()];
    // SAFETY: the library writes as many pointers as there is room for, one for each input.
    #[allow(unsafe_code)]
    unsafe {
        let get = ort::api().SessionGetMemoryInfoForInputs;
        ort::Error::result_from_status(get(session.ptr(), memories.as_mut_ptr(), memories.len()))?;
    }
    let on_host = |memory: *const ort::sys::OrtMemoryInfo| {
        let mut device = ort::sys::OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU;
        // SAFETY: every session with these inputs was made by asking the same, and found no null; it owns them, and
        // lives.
        #[allow(unsafe_code)]
        unsafe {
            (ort::api().MemoryInfoGetDeviceType)(memory, &mut device);
        }
        device == ort::sys::OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU
    };
    let found = session.inputs().iter().zip(memories).find(|(_, memory)| on_host(*memory));
    Ok(found.map(|(input, _)| input.name().to_owned()))
}

/// Logs that steps run without CUDA graphs.
pub(super) fn warn(why: &dyn std::fmt::Display) {
    tracing::warn!("training runs without CUDA graphs, slower where the network is small: {why}");
}

/// The state of recording.
pub(super) struct Capture {
    regular: RunOptions,
    directions: [RunOptions; 2],
    done: u64,
}

impl Capture {
    pub fn new() -> ort::Result<Self> {
        let options = |id: &str| -> ort::Result<RunOptions> {
            let mut options = RunOptions::new()?;
            options.set("gpu_graph_id", id)?;
            Ok(options)
        };
        Ok(Self { regular: options(REGULAR)?, directions: [options(DIRECTIONS[0])?, options(DIRECTIONS[1])?], done: 0 })
    }

    /// Returns the mode of the next step in direction `turn`.
    pub fn options(&self, turn: usize) -> &RunOptions {
        if self.done < WARM_UP { &self.regular } else { &self.directions[turn] }
    }

    /// Counts a finished step.
    pub fn count(&mut self) {
        self.done += 1;
    }

    /// Returns whether both directions are recorded.
    pub fn is_complete(&self) -> bool {
        self.done >= WARM_UP + DIRECTIONS.len() as u64
    }
}

/// Runs steps without recording.
pub(super) type Regular = Box<dyn FnOnce(&[(String, Tensor)]) -> Result<OrtSteps> + Send>;

/// Recorded steps, falling back to plain steps on failure.
pub(super) struct CapturedSteps {
    steps: OrtSteps,
    /// `None` once both directions are recorded.
    regular: Option<Regular>,
}

impl CapturedSteps {
    pub fn new(steps: OrtSteps, regular: Regular) -> Self {
        Self { steps, regular: Some(regular) }
    }
}

impl StepSession for CapturedSteps {
    fn step(&mut self, phase: usize, feeds: &[Tensor]) -> Result<()> {
        let why = match self.steps.step(phase, feeds) {
            // Feeds that do not fit are nothing of the recording.
            Err(why) if !matches!(why, Error::Shape { .. }) => why,
            done => {
                self.regular.take_if(|_| self.steps.is_captured());
                return done;
            }
        };
        let Some(regular) = self.regular.take() else { return Err(why) };
        // A device that was lost gives no state either.
        let (Ok(state), Ok(kept)) = (self.steps.state(), self.steps.kept()) else { return Err(why) };
        self.steps = regular(&kept)?;
        state.iter().enumerate().try_for_each(|(index, value)| self.steps.write(index, value))?;
        self.steps.step(phase, feeds)?;
        warn(&why);
        Ok(())
    }

    fn read(&self, index: usize) -> Result<Tensor> {
        self.steps.read(index)
    }

    fn keep(&mut self) -> Result<()> {
        self.steps.keep()
    }

    fn go_back(&mut self) -> Result<()> {
        self.steps.go_back()
    }

    fn write(&mut self, index: usize, value: &Tensor) -> Result<()> {
        self.steps.write(index, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Builder;
    use crate::ir::{DType, Graph};
    use crate::runtime::ort::Purpose;
    use crate::runtime::step_layout::StepLayout;
    use crate::runtime::{OrtEngine, Places, locate};

    #[test]
    fn steps_are_recorded_on_cuda_alone_and_by_libraries_that_can() {
        let options = SessionOptions::default();
        assert!(captures(Device::Cuda(1), &options));
        assert!(!captures(Device::Cuda(1), &SessionOptions { cuda_graphs: false, ..options.clone() }));
        assert!(!captures(Device::Cpu, &options) && !captures(Device::TensorRt(0), &options));
        let found = ["1.24.4", "1.29", "1.30.0", "1.31.1", "2"].map(|version| too_old(version).is_none());
        assert_eq!(found, [false, false, true, true, false]);
    }

    /// Returns steps that add one of three numbers to a total.
    fn picking() -> Graph {
        let builder = Builder::new("picking");
        let total = builder.input("total", DType::F32, &[1]);
        let index = builder.input("index", DType::I64, &[1]);
        let numbers = builder.constant("numbers", Tensor::from_f32(&[3], &[1.0, 10.0, 100.0]));
        builder.finish(&[("total.next", total + numbers.gather(index, 0))]).unwrap()
    }

    fn steps(engine: &OrtEngine, state: &[(String, Tensor)], captured: bool) -> Result<OrtSteps> {
        let purpose = Purpose::Steps { captured: false };
        let session = engine.session(&picking(), &SessionOptions::default(), purpose).unwrap();
        assert_eq!(host_input(&session.session).unwrap().as_deref(), Some("total"), "all lies on the host here");
        let layout = StepLayout::new(&[&picking()], state)?;
        let capture = captured.then(Capture::new).transpose().unwrap();
        Ok(OrtSteps::new(vec![session], layout, state, capture).unwrap())
    }

    /// The parts are private, and no library for the CPU records anything: it runs what is bound once as it is.
    #[test]
    fn what_is_bound_once_steps_as_what_is_bound_anew_and_goes_on_where_a_step_fails() {
        let found = locate(&Places::of_this_process(None), false).unwrap();
        let engine = OrtEngine::open(&found.path, Device::Cpu).unwrap();
        let pick = |index: i64| [Tensor::from_i64(&[1], &[index])];
        for failing in [None, Some(0), Some(1), Some(3), Some(6)] {
            let start = [("total".to_owned(), Tensor::from_f32(&[1], &[0.0]))];
            let copy = engine.clone();
            let regular: Regular = Box::new(move |state| steps(&copy, state, false));
            let mut session = CapturedSteps::new(steps(&engine, &start, true).unwrap(), regular);
            let mut total = 0.0;
            for step in 0..8 {
                let before = session.read(0).unwrap().to_f32().unwrap();
                if failing == Some(step) {
                    assert!(session.step(0, &pick(7)).is_err());
                    assert_eq!(session.read(0).unwrap().to_f32().unwrap(), before, "failing in step {step}");
                }
                assert!(matches!(session.step(0, &[]), Err(Error::Shape { .. })));
                let index = step % 3;
                session.step(0, &pick(index)).unwrap();
                total += [1.0, 10.0, 100.0][usize::try_from(index).unwrap()];
                assert_eq!(session.read(0).unwrap().to_f32().unwrap(), [total], "step {step} of {failing:?}");
                if step == 4 {
                    session.write(0, &Tensor::from_f32(&[1], &[0.5])).unwrap();
                    total = 0.5;
                }
            }
            assert!(session.regular.is_none());
        }
    }
}
