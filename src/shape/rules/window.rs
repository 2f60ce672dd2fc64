//! Output sizes of convolutions and pools over axes that may be unknown; [`crate::shape::ConvWindow`] has the padding
//! over known axes.

use crate::error::Result;
use crate::ir::{Dim, Shape};
use crate::shape::{Call, dims};

/// Kernel, strides, dilations and padding of one call.
pub struct SlidingWindow<'c> {
    call: &'c Call<'c>,
    kernel: Shape,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<i64>,
    auto_pad: &'c str,
    ceil: bool,
}

/// Returns the attribute `name` as sizes.
pub fn sizes(call: &Call, name: &str, values: &[i64]) -> Result<Vec<usize>> {
    let one = |v: &i64| {
        let positive = usize::try_from(*v).ok().filter(|&n| n > 0);
        positive.ok_or_else(|| call.error(format!("{name} is {values:?}, expected positive numbers")))
    };
    values.iter().map(one).collect()
}

impl<'c> SlidingWindow<'c> {
    /// Returns the window that the attributes describe.
    pub fn read(call: &'c Call<'c>, kernel: &[Dim]) -> Result<Self> {
        let rank = kernel.len();
        let of_length = |name: &str, len: usize, default: i64| {
            let values = call.attrs.ints(name).map_or(vec![default; len], <[i64]>::to_vec);
            if values.len() != len {
                return Err(call.error(format!("{name} is {values:?}, expected {len} numbers")));
            }
            Ok(values)
        };
        Ok(Self {
            call,
            kernel: kernel.to_vec(),
            strides: sizes(call, "strides", &of_length("strides", rank, 1)?)?,
            dilations: sizes(call, "dilations", &of_length("dilations", rank, 1)?)?,
            pads: of_length("pads", 2 * rank, 0)?,
            auto_pad: call.attrs.string("auto_pad").unwrap_or("NOTSET"),
            ceil: call.attrs.int("ceil_mode", 0) == 1,
        })
    }

    fn same(&self) -> bool {
        self.auto_pad.starts_with("SAME")
    }

    /// Returns the padding before and after axis `i`; 0 where `auto_pad` computes it.
    fn padding(&self, i: usize) -> (i64, i64) {
        match self.auto_pad {
            "NOTSET" | "" => (self.pads[i], self.pads[i + self.kernel.len()]),
            _ => (0, 0),
        }
    }

    /// Returns the input elements that the window spans along axis `i`.
    fn span(&self, i: usize) -> Option<i64> {
        let [k, d] = [i64::try_from(self.kernel[i].known()?).ok()?, i64::try_from(self.dilations[i]).ok()?];
        (k - 1).checked_mul(d)?.checked_add(1)
    }

    /// Returns the elements along axis `i` of a transposed convolution of `n` positions, before padding is cropped.
    fn uncut(&self, i: usize, n: usize) -> Option<i128> {
        let [n, stride] = [i128::try_from(n).ok()?, i128::try_from(self.strides[i]).ok()?];
        (n - 1).checked_mul(stride)?.checked_add(i128::from(self.span(i)?))
    }

    fn check_rank(&self, spatial: &[Dim]) -> Result<()> {
        if spatial.len() == self.kernel.len() {
            return Ok(());
        }
        Err(self.call.error(format!(
            "kernel of {} axes for an input with {} spatial axes",
            self.kernel.len(),
            spatial.len()
        )))
    }

    /// Returns the number of window positions along each spatial axis.
    pub fn slide(&self, spatial: &[Dim]) -> Result<Shape> {
        self.check_rank(spatial)?;
        spatial.iter().enumerate().map(|(i, d)| self.positions(i, d)).collect()
    }

    fn positions(&self, i: usize, dim: &Dim) -> Result<Dim> {
        let (begin, end) = self.padding(i);
        let span = self.span(i);
        let Some(n) = dim.known() else {
            let kept =
                self.strides[i] == 1 && (self.same() || span == Some(begin.saturating_add(end).saturating_add(1)));
            return Ok(if kept { dim.clone() } else { Dim::Unknown });
        };
        if self.same() {
            return Ok(Dim::Known(n.div_ceil(self.strides[i])));
        }
        let Some(span) = span else {
            return self.kernel[i].known().map_or(Ok(Dim::Unknown), |_| dims::size(self.call, None));
        };
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        let stride = i64::try_from(self.strides[i]).unwrap_or(i64::MAX);
        let room = n.saturating_add(begin).saturating_add(end).saturating_sub(span);
        if room < 0 {
            return Err(self.call.error(format!(
                "a window that spans {span} does not fit spatial axis {i} of size {n}, padded by {begin} and {end}"
            )));
        }
        let mut positions = room / stride + 1;
        if self.ceil && room % stride != 0 {
            // A last window that would begin in the end padding is left out.
            positions += i64::from(positions.saturating_mul(stride) < n.saturating_add(begin));
        }
        Ok(usize::try_from(positions).map_or(Dim::Unknown, Dim::Known))
    }

    /// Returns the spatial output sizes of a transposed convolution.
    pub fn unslide(&self, spatial: &[Dim]) -> Result<Shape> {
        self.check_rank(spatial)?;
        let extra = self.call.attrs.ints("output_padding").unwrap_or(&[]);
        let one = |(i, dim): (usize, &Dim)| {
            let (begin, end) = self.padding(i);
            let (Some(n), Some(_)) = (dim.known(), self.kernel[i].known()) else { return Ok(Dim::Unknown) };
            let uncut = self.uncut(i, n).and_then(|n| n.checked_add(i128::from(extra.get(i).copied().unwrap_or(0))));
            let size = match self.same() {
                true => i128::try_from(n).ok().and_then(|n| n.checked_mul(i128::try_from(self.strides[i]).ok()?)),
                false => uncut.map(|n| n - i128::from(begin) - i128::from(end)),
            };
            match size {
                Some(n) if n < 0 => {
                    Err(self.call.error(format!("padding of {begin} and {end} leaves nothing of spatial axis {i}")))
                }
                size => dims::size(self.call, size.and_then(|n| usize::try_from(n).ok())),
            }
        };
        spatial.iter().enumerate().map(one).collect()
    }

    /// Returns the `spatial` sizes of an input with its padding.
    pub fn padded(&self, spatial: &[Dim]) -> Vec<usize> {
        let one = |(i, dim): (usize, &Dim)| {
            let n = dim.known().unwrap_or(1);
            if self.same() {
                let last = n.div_ceil(self.strides[i]).saturating_sub(1).saturating_mul(self.strides[i]);
                let span = self.span(i).and_then(|span| usize::try_from(span).ok()).unwrap_or(usize::MAX);
                return n.max(last.saturating_add(span));
            }
            let (begin, end) = self.padding(i);
            [begin, end].iter().fold(n, |n, &pad| n.saturating_add(usize::try_from(pad).unwrap_or(0)))
        };
        spatial.iter().take(self.kernel.len()).enumerate().map(one).collect()
    }

    /// Returns the spatial output sizes of a transposed convolution before padding is cropped.
    pub fn uncut_sizes(&self, spatial: &[Dim]) -> Vec<usize> {
        let one = |(i, dim): (usize, &Dim)| {
            self.uncut(i, dim.known().unwrap_or(1))
                .map_or(usize::MAX, |n| usize::try_from(n.max(0)).unwrap_or(usize::MAX))
        };
        spatial.iter().take(self.kernel.len()).enumerate().map(one).collect()
    }
}
