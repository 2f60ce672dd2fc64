//! The vector instructions of kernels.

/// Vector instructions that this machine supports; no other value can be constructed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instructions(pub(super) Kind);

/// The versions of a kernel; each has the instructions of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// Returns all that this machine supports, the best last; the first is portable.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
        let kinds = [
            (Kind::Portable, true),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2, avx2),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512, avx2 && std::is_x86_feature_detected!("avx512f")),
        ];
        kinds.into_iter().filter(|(_, has)| *has).map(|(kind, _)| Self(kind)).collect()
    }

    /// Returns the best that this machine supports.
    pub fn best() -> Self {
        *Self::available().last().expect("portable code runs everywhere")
    }

    /// Returns the channels of a block: 16 with AVX-512, else 8.
    pub fn block(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => 16,
            _ => 8,
        }
    }
}
