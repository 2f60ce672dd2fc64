//! Arithmetic, elementwise functions, comparison and selection.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Expr;
use super::own::STOP_GRADIENT;
use crate::ir::{Attr, DType};

macro_rules! arithmetic {
    ($($operator:ident $method:ident $op_type:literal),*) => {$(
        impl<'b> $operator for Expr<'b> {
            type Output = Expr<'b>;
            #[track_caller]
            fn $method(self, other: Expr<'b>) -> Expr<'b> {
                self.builder.apply($op_type, &[self, other], [])
            }
        }

        impl<'b> $operator<f32> for Expr<'b> {
            type Output = Expr<'b>;
            #[track_caller]
            fn $method(self, other: f32) -> Expr<'b> {
                self.builder.apply($op_type, &[self, self.number(other)], [])
            }
        }

        impl<'b> $operator<Expr<'b>> for f32 {
            type Output = Expr<'b>;
            #[track_caller]
            fn $method(self, other: Expr<'b>) -> Expr<'b> {
                other.builder.apply($op_type, &[other.number(self), other], [])
            }
        }
    )*};
}

arithmetic!(Add add "Add", Sub sub "Sub", Mul mul "Mul", Div div "Div");

impl<'b> Neg for Expr<'b> {
    type Output = Expr<'b>;
    #[track_caller]
    fn neg(self) -> Expr<'b> {
        self.unary("Neg")
    }
}

impl<'b> Expr<'b> {
    /// Returns a constant of rank 0 of this tensor's element type.
    #[track_caller]
    pub fn number(self, value: f32) -> Self {
        self.builder.number(self.dtype(), value)
    }

    /// Returns an operator of one operand without attributes.
    #[track_caller]
    pub fn unary(self, op_type: &str) -> Self {
        self.builder.apply(op_type, &[self], [])
    }

    /// Returns `|x|`.
    #[track_caller]
    pub fn abs(self) -> Self {
        self.unary("Abs")
    }

    /// Returns -1, 0 or 1.
    #[track_caller]
    pub fn sign(self) -> Self {
        self.unary("Sign")
    }

    /// Returns `e^x`.
    #[track_caller]
    pub fn exp(self) -> Self {
        self.unary("Exp")
    }

    /// Returns the natural logarithm.
    #[track_caller]
    pub fn log(self) -> Self {
        self.unary("Log")
    }

    /// Returns the square root.
    #[track_caller]
    pub fn sqrt(self) -> Self {
        self.unary("Sqrt")
    }

    /// Returns `x²`.
    #[track_caller]
    pub fn square(self) -> Self {
        self * self
    }

    /// Returns `1/x`.
    #[track_caller]
    pub fn reciprocal(self) -> Self {
        self.unary("Reciprocal")
    }

    /// Returns `x^exponent`.
    #[track_caller]
    pub fn powf(self, exponent: f32) -> Self {
        self.builder.apply("Pow", &[self, self.number(exponent)], [])
    }

    /// Returns the nearest integer, halves to even.
    #[track_caller]
    pub fn round(self) -> Self {
        self.unary("Round")
    }

    /// Returns the hyperbolic tangent.
    #[track_caller]
    pub fn tanh(self) -> Self {
        self.unary("Tanh")
    }

    /// Returns `1/(1 + e^-x)`.
    #[track_caller]
    pub fn sigmoid(self) -> Self {
        self.unary("Sigmoid")
    }

    /// Returns `max(x, 0)`.
    #[track_caller]
    pub fn relu(self) -> Self {
        self.unary("Relu")
    }

    /// Returns the smaller of both.
    #[track_caller]
    pub fn min(self, other: Self) -> Self {
        self.builder.apply("Min", &[self, other], [])
    }

    /// Returns the larger of both.
    #[track_caller]
    pub fn max(self, other: Self) -> Self {
        self.builder.apply("Max", &[self, other], [])
    }

    /// Returns the value clipped to `[lo, hi]`.
    #[track_caller]
    pub fn clip(self, lo: f32, hi: f32) -> Self {
        self.builder.apply("Clip", &[self, self.number(lo), self.number(hi)], [])
    }

    /// Returns where both are equal.
    #[track_caller]
    pub fn equal(self, other: Self) -> Self {
        self.builder.apply("Equal", &[self, other], [])
    }

    /// Returns where it is larger than `other`.
    #[track_caller]
    pub fn greater(self, other: Self) -> Self {
        self.builder.apply("Greater", &[self, other], [])
    }

    /// Returns where it is smaller than `other`.
    #[track_caller]
    pub fn less(self, other: Self) -> Self {
        self.builder.apply("Less", &[self, other], [])
    }

    /// Returns `yes` where this boolean is true, else `no`.
    #[track_caller]
    pub fn choose(self, yes: Self, no: Self) -> Self {
        self.builder.apply("Where", &[self, yes, no], [])
    }

    /// Returns the elements as another type.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Self {
        if self.dtype() == dtype {
            return self;
        }
        self.builder.apply("Cast", &[self], [("to", Attr::Int(i64::from(dtype.code())))])
    }

    /// Returns the same values without a gradient.
    #[track_caller]
    pub fn stop_gradient(self) -> Self {
        self.builder.own(STOP_GRADIENT, &[self], [], 1)[0]
    }
}
