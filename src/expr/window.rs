//! Strides, dilations and padding of one call as numbers, whatever way they are written.

use super::indices;
use crate::ir::{Attr, Attrs};

/// The window of a convolution or pool, one entry for each spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Sizes of the kernel.
    pub kernel: Vec<i64>,
    /// Positions from one window to the next.
    pub strides: Vec<i64>,
    /// Positions from one element of the kernel to the next.
    pub dilations: Vec<i64>,
    /// Zeros before and behind each axis, as far as windows reach; negative where they stop short of the end.
    pub before: Vec<i64>,
    /// See [`Window::before`].
    pub behind: Vec<i64>,
}

impl Window {
    /// Returns the window that makes an output of spatial size `small` from an input of `large`; a transposed
    /// convolution makes `large` from `small`.
    ///
    /// # Errors
    /// What is not handled.
    pub fn read(attrs: &Attrs, kernel: &[usize], large: &[usize], small: &[usize]) -> Result<Self, &'static str> {
        let rank = kernel.len();
        let listed = |name: &str, default: i64| attrs.ints(name).map_or(vec![default; rank], <[i64]>::to_vec);
        let (kernel, large, small) = (indices(kernel), indices(large), indices(small));
        let (strides, dilations) = (listed("strides", 1), listed("dilations", 1));
        let span = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
        let reach = |i: usize| (small[i] - 1) * strides[i] + span(i);
        let total = |i: usize| (reach(i) - large[i]).max(0);
        let before: Vec<i64> = match attrs.string("auto_pad").unwrap_or("NOTSET") {
            "SAME_UPPER" => (0..rank).map(|i| total(i) / 2).collect(),
            "SAME_LOWER" => (0..rank).map(|i| total(i) - total(i) / 2).collect(),
            "VALID" => vec![0; rank],
            _ if attrs.ints("output_shape").is_some() => {
                return Err("output_shape: write its padding as numbers");
            }
            _ => attrs.ints("pads").map_or(vec![0; rank], |pads| pads[..rank].to_vec()),
        };
        let behind = (0..rank).map(|i| reach(i) - large[i] - before[i]).collect();
        Ok(Self { kernel, strides, dilations, before, behind })
    }

    /// Returns the number of spatial axes.
    pub fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Returns whether windows lie side by side and cover everything once.
    pub fn is_blocks(&self) -> bool {
        let apart = self.strides == self.kernel && self.dilations.iter().all(|&n| n == 1);
        apart && self.before.iter().chain(&self.behind).all(|&n| n == 0)
    }

    /// Returns what a convolution with this window needs; its padding has no negative numbers.
    pub fn attributes(&self, group: i64) -> Attrs {
        let pads = self.before.iter().chain(&self.behind).map(|&n| n.max(0)).collect();
        Attrs::from([
            ("strides", Attr::Ints(self.strides.clone())),
            ("dilations", Attr::Ints(self.dilations.clone())),
            ("pads", Attr::Ints(pads)),
            ("group", Attr::Int(group)),
        ])
    }

    /// Returns what the transposed convolution needs that undoes it: what windows stop short of comes back as zeros.
    pub fn transposed(&self, group: i64) -> Attrs {
        let mut attrs = self.attributes(group);
        attrs.set("output_padding", Attr::Ints(self.behind.iter().map(|&n| (-n).max(0)).collect()));
        attrs
    }
}
