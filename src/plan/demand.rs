//! What operators want of a tensor's grid, and who wins where they want different things.

use super::Role;

/// A request for a grid: why, and with how many bits.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Why.
    pub role: Role,
    /// Bits.
    pub bits: u32,
}

impl Demand {
    /// Returns the one request that two requests for the same grid become: the image keeps its bits; layer inputs outrank
    /// carriers, carriers outrank outputs; equals take the wider.
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
