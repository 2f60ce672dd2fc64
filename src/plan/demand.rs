//! Requests of operators for a tensor's grid, and their priorities.

use super::Role;

/// A request for a grid: its reason and bits.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Why.
    pub role: Role,
    /// Bits.
    pub bits: u32,
}

impl Demand {
    /// Returns the merged request of two requests for the same grid: the image keeps its bits; layer inputs outrank
    /// carriers, carriers outrank outputs; among equals the wider wins.
    pub fn merge(self, other: Self) -> Self {
        let rank = |d: Self| match d.role {
            Role::Image => 3,
            Role::LayerInput => 2,
            Role::Carrier => 1,
            Role::Output => 0,
        };
        match rank(self).cmp(&rank(other)) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => Self { bits: self.bits.max(other.bits), ..self },
        }
    }
}
