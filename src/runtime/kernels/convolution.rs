//! The arguments of a weight gradient: the window and the sizes of both tensors, checked against each other.

/// The attributes of a weight gradient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvAttributes {
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Distance between windows.
    pub strides: [usize; 2],
    /// Padding above, left, below and right, in the order of ONNX.
    pub pads: [usize; 4],
    /// Distance between the kernel's elements.
    pub dilations: [usize; 2],
    /// Number of groups.
    pub group: usize,
    /// Channels of x, without padding.
    pub channels: usize,
    /// Channels of dy, without padding.
    pub filters: usize,
    /// Channels in a block, 8 or 16.
    pub block: usize,
    /// Whether x is in the blocked layout, not in plain NCHW.
    pub x_blocked: bool,
    /// The same for dy.
    pub dy_blocked: bool,
}

/// A window and the sizes that it is applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    pub(super) window: ConvAttributes,
    pub(super) batch: usize,
    /// Height and width of x.
    pub(super) input: [usize; 2],
    /// Height and width of dy.
    pub(super) output: [usize; 2],
}

/// Larger sizes are refused, so that products of a few of them fit.
const LARGEST: usize = 1 << 31;

impl ConvAttributes {
    /// Returns this window.
    ///
    /// # Errors
    /// When its fields do not fit together.
    pub fn checked(self) -> Result<Self, String> {
        let positive = [self.kernel, self.strides, self.dilations, [self.group, self.channels], [self.filters, 1]];
        if positive.as_flattened().iter().chain(&self.pads).any(|&n| n >= LARGEST) {
            return Err(format!("a number of {LARGEST} or more in {self:?}"));
        }
        if positive.as_flattened().contains(&0) {
            return Err(format!("expected numbers above 0 beside the pads, found {self:?}"));
        }
        let Self { group, channels, filters, block, .. } = self;
        if channels % group != 0 || filters % group != 0 {
            return Err(format!("group {group} does not divide {channels} channels and {filters} filters"));
        }
        if !matches!(block, 8 | 16) {
            return Err(format!("expected blocks of 8 or 16 channels, found {block}"));
        }
        if self.x_blocked && !self.dy_blocked {
            return Err("x_blocked without dy_blocked; give both in the blocked layout, or x in plain NCHW".to_owned());
        }
        let whole = |n: usize, blocked: bool| !blocked || (n / group).is_multiple_of(block);
        let apart = group == 1 || self.is_depthwise() && self.x_blocked;
        if !(apart || whole(channels, self.x_blocked) && whole(filters, self.dy_blocked)) {
            return Err(format!(
                "{group} groups of {channels} channels and {filters} filters are no whole blocks of {block}; give x \
                 and dy in plain NCHW"
            ));
        }
        Ok(self)
    }

    /// Returns whether every channel is a group of its own with one filter.
    pub fn is_depthwise(&self) -> bool {
        self.group > 1 && self.group == self.channels && self.group == self.filters
    }

    /// Returns the shape of the gradient, `[O, C/group, kh, kw]`.
    pub fn gradient_shape(&self) -> [usize; 4] {
        [self.filters, self.channels / self.group, self.kernel[0], self.kernel[1]]
    }
}

impl Convolution {
    /// Returns the convolution with a window on the shapes of `x` and `dy`.
    ///
    /// # Errors
    /// When the shapes do not fit the window.
    pub fn new(window: &ConvAttributes, x: &[usize], dy: &[usize]) -> Result<Self, String> {
        let w = window.clone().checked()?;
        let (&[batch, c, h, width], &[images, o, oh, ow]) = (x, dy) else {
            return Err(format!("expected x and dy of 4 axes, found {x:?} and {dy:?}"));
        };
        let padded = |n: usize, blocked: bool| if blocked { n.next_multiple_of(w.block) } else { n };
        let expected = (batch, padded(w.channels, w.x_blocked), padded(w.filters, w.dy_blocked));
        if (images, c, o) != expected {
            let (_, c, o) = expected;
            return Err(format!("expected x of {c} channels and dy of {o}, of one batch, found {x:?} and {dy:?}"));
        }
        for (axis, (size, count)) in [(h, oh), (width, ow)].into_iter().enumerate() {
            let all = size.saturating_add(w.pads[axis]).saturating_add(w.pads[axis + 2]);
            let reach = |count: usize| {
                let last = (count - 1).checked_mul(w.strides[axis])?;
                last.checked_add((w.kernel[axis] - 1).checked_mul(w.dilations[axis])?)?.checked_add(1)
            };
            if size >= LARGEST || count >= LARGEST || count > 0 && reach(count).is_none_or(|reach| reach > all) {
                return Err(format!("windows reach beyond x and its padding: {w:?}, x {x:?}, dy {dy:?}"));
            }
        }
        let elements = |shape: &[usize]| shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let most = isize::MAX.unsigned_abs() / 4;
        for shape in [x, dy, &w.gradient_shape()] {
            if elements(shape).is_none_or(|n| n > most) {
                return Err(format!("{shape:?} is too large"));
            }
        }
        Ok(Self { window: w, batch, input: [h, width], output: [oh, ow] })
    }

    /// Returns the numbers of elements of x, dy and the gradient.
    pub fn lengths(&self) -> [usize; 3] {
        let w = &self.window;
        let padded = |n: usize, blocked: bool| if blocked { n.next_multiple_of(w.block) } else { n };
        let image = |channels: usize, size: [usize; 2]| self.batch * channels * size[0] * size[1];
        let x = image(padded(w.channels, w.x_blocked), self.input);
        let dy = image(padded(w.filters, w.dy_blocked), self.output);
        [x, dy, w.gradient_shape().iter().product()]
    }
}
