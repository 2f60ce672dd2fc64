//! Tensors in ONNX Runtime's blocked layout (NCHWc): `[N, C/b, H, W, b]`, channels padded with zeros, under the shape
//! `[N, padded C, H, W]`. ONNX Runtime itself writes such operators in domain `com.microsoft.nchwc` when it optimizes a
//! graph.

use std::cell::Cell;
use std::rc::Rc;

use crate::expr::{Expr, index, own};
use crate::ir::{Attr, Attrs, DType};
use crate::shape::Fact;

/// The domain of operators on blocked tensors.
pub const NCHWC: &str = "com.microsoft.nchwc";

/// A value in plain or blocked layout, or both; the missing one is added on first use.
#[derive(Clone, Debug)]
pub struct Value<'b>(Rc<Orders<'b>>);

#[derive(Debug)]
struct Orders<'b> {
    plain: Cell<Option<Expr<'b>>>,
    blocked: Cell<Option<Expr<'b>>>,
    /// The channels without padding.
    channels: usize,
}

impl<'b> From<Expr<'b>> for Value<'b> {
    fn from(plain: Expr<'b>) -> Self {
        let channels = plain.shape().get(1).copied().unwrap_or(0);
        Self(Rc::new(Orders { plain: Cell::new(Some(plain)), blocked: Cell::new(None), channels }))
    }
}

impl<'b> Value<'b> {
    /// Returns a value in blocked layout, with `channels` channels before padding.
    pub fn of_blocks(blocked: Expr<'b>, channels: usize) -> Self {
        Self(Rc::new(Orders { plain: Cell::new(None), blocked: Cell::new(Some(blocked)), channels }))
    }

    /// Returns a value in both layouts.
    pub fn of_both(plain: Expr<'b>, blocked: Expr<'b>) -> Self {
        let value = Self::from(plain);
        value.0.blocked.set(Some(blocked));
        value
    }

    /// Returns the value in plain layout.
    pub fn plain(&self) -> Expr<'b> {
        let orders = &self.0;
        if let Some(plain) = orders.plain.get() {
            return plain;
        }
        let blocked = orders.blocked.get().expect("a value has one of its orders");
        let mut shape = blocked.shape();
        shape[1] = orders.channels;
        let attrs = [("channels", Attr::Int(index(orders.channels)))];
        let plain = apply("ReorderOutput", blocked, &[], attrs, &shape);
        orders.plain.set(Some(plain));
        plain
    }

    /// Returns the value in blocks of `block` channels. It must have four axes.
    pub fn blocked(&self, block: usize) -> Expr<'b> {
        let orders = &self.0;
        if let Some(blocked) = orders.blocked.get() {
            return blocked;
        }
        let plain = orders.plain.get().expect("a value has one of its orders");
        let mut shape = plain.shape();
        let channels = shape[1];
        shape[1] = channels.next_multiple_of(block);
        // Other numbers of channels are refused (1.31).
        let plain = match channels % 4 {
            0 => plain,
            _ => plain.pad(&[0; 4], &[0, index(shape[1] - channels), 0, 0]),
        };
        let blocked = apply("ReorderInput", plain, &[], Attrs::default(), &shape);
        orders.blocked.set(Some(blocked));
        blocked
    }

    /// Returns the value in the layout that a convolution of `form` reads.
    pub fn in_order_of(&self, form: Form, block: usize) -> Expr<'b> {
        if form == Form::Narrow { self.plain() } else { self.blocked(block) }
    }

    /// Returns whether the blocked layout exists.
    pub fn is_blocked(&self) -> bool {
        self.0.blocked.get().is_some()
    }

    /// Returns whether it is a single number, which is the same in either layout.
    pub fn is_number(&self) -> bool {
        !self.is_blocked() && self.shape().iter().product::<usize>() == 1
    }

    /// Returns whether the blocked layout exists or can be added: only float32 tensors can be reordered.
    pub fn can_be_blocked(&self) -> bool {
        self.is_blocked() || self.0.plain.get().is_some_and(|plain| plain.dtype() == DType::F32 && plain.rank() == 4)
    }

    /// Returns its shape in plain layout.
    pub fn shape(&self) -> Vec<usize> {
        match (self.0.plain.get(), self.0.blocked.get()) {
            (None, Some(blocked)) => {
                let mut shape = blocked.shape();
                shape[1] = self.0.channels;
                shape
            }
            (plain, _) => plain.map(Expr::shape).unwrap_or_default(),
        }
    }
}

/// The channel layouts of convolutions with blocked kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Every filter reads all channels, which are blocked.
    Dense,
    /// The same with fewer channels than a block; the input stays plain.
    Narrow,
    /// One filter per channel.
    Depthwise,
    /// Groups of whole blocks.
    Grouped,
}

impl Form {
    /// Returns the form of a convolution from `channels` to `filters` in `groups`; `None` without a blocked kernel.
    pub fn of(channels: usize, filters: usize, groups: usize, block: usize) -> Option<Self> {
        let whole = |n: usize| groups > 0 && (n / groups).is_multiple_of(block);
        match groups {
            1 if channels < block => Some(Self::Narrow),
            1 => Some(Self::Dense),
            _ if groups == channels && groups == filters => Some(Self::Depthwise),
            _ if whole(channels) && whole(filters) => Some(Self::Grouped),
            _ => None,
        }
    }
}

/// Returns a weight `[F, C/g, h, w]`, padded and in the layout that blocked kernels read.
pub fn weight<'b>(w: Expr<'b>, form: Form, block: usize) -> Expr<'b> {
    let [filters, channels, h, v] = w.dims();
    let up = |n: usize| n.next_multiple_of(block);
    match form {
        Form::Dense | Form::Grouped => {
            let w = filled(w, up(filters), up(channels));
            let split = w.reshape(&[up(filters) / block, block, up(channels) / block, block, h, v]);
            split.transpose(&[0, 2, 4, 5, 3, 1]).reshape(&[up(filters), up(channels), h, v])
        }
        Form::Narrow | Form::Depthwise => {
            let w = filled(w, up(filters), channels);
            let split = w.reshape(&[up(filters) / block, block, channels, h, v]);
            split.transpose(&[0, 2, 3, 4, 1]).reshape(&[up(filters), channels, h, v])
        }
    }
}

fn filled(w: Expr<'_>, filters: usize, channels: usize) -> Expr<'_> {
    let [f, c, ..] = w.dims::<4>();
    w.pad(&[0; 4], &[index(filters - f), index(channels - c), 0, 0])
}

/// Returns a convolution of shape `shape`, of `x` (see [`Value::in_order_of`]) by a weight from [`weight`].
pub fn convolution<'b>(
    x: Expr<'b>,
    w: Expr<'b>,
    bias: Option<Expr<'b>>,
    mut attrs: Attrs,
    shape: &[usize],
) -> Value<'b> {
    attrs.set("kernel_shape", Attr::Ints(w.shape()[2..].iter().map(|&n| index(n)).collect()));
    attrs.set("auto_pad", "NOTSET");
    let mut up = shape.to_vec();
    up[1] = w.shape()[0];
    Value::of_blocks(apply("Conv", x, &[Some(w), bias], attrs, &up), shape[1])
}

/// Returns the result of an operator of [`NCHWC`], of the type of its first input `x` and of `shape`.
fn apply<'b>(
    op_type: &str,
    x: Expr<'b>,
    others: &[Option<Expr<'b>>],
    attrs: impl Into<Attrs>,
    shape: &[usize],
) -> Expr<'b> {
    let inputs = [&[Some(x)], others].concat();
    let node = own::of_domain(NCHWC, op_type, attrs);
    x.builder().foreign(node, &inputs, vec![Fact::of_shape(x.dtype(), shape)])[0]
}
