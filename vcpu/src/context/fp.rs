//! The FP and SIMD registers of a stopped lane.

/// V0 to V31 and their control registers. EL2 never computes with these: it only saves, restores and clears them.
#[repr(C, align(16))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FpState {
    /// V0 to V31.
    pub v: [u128; 32],
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
}

impl FpState {
    /// All zero: nothing of an earlier owner can be seen. A function, so that zeros are written and not copied.
    #[must_use]
    pub const fn reset() -> Self {
        Self {
            v: [0; 32],
            fpcr: 0,
            fpsr: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_lane_sees_zeros() {
        assert!(FpState::reset().v.iter().all(|v| *v == 0));
        assert_eq!((FpState::reset().fpcr, FpState::reset().fpsr), (0, 0));
        assert_eq!(size_of::<FpState>(), 528);
    }
}
