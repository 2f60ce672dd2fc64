//! The device that ONNX Runtime runs on, as typed on the command line.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Where sessions run; the number is the index of the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Device {
    #[default]
    Cpu,
    Cuda(u32),
    TensorRt(u32),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused =
            || Error::Usage(format!("device \"{text}\": expected cpu, cuda, cuda:INDEX, tensorrt or tensorrt:INDEX"));
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse::<u32>().map_err(|_| refused())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("tensorrt", index) => Ok(Self::TensorRt(index.unwrap_or(0))),
            _ => Err(refused()),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::TensorRt(index) => write!(f, "tensorrt:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        let cases = [
            ("cpu", Some(Device::Cpu)),
            ("cuda", Some(Device::Cuda(0))),
            ("cuda:3", Some(Device::Cuda(3))),
            ("tensorrt:1", Some(Device::TensorRt(1))),
            ("cpu:0", None),
            ("cuda:", None),
            ("cuda:-1", None),
            ("gpu", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        for device in [Device::Cpu, Device::Cuda(2), Device::TensorRt(0)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
    }
}
