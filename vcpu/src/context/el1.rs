//! The EL1 and EL0 system registers that a world switch exchanges.

macro_rules! el1_state {
    ($($(#[$doc:meta])* $field:ident = $reset:expr;)*) => {
        /// Every EL1 and EL0 system register that a guest owns and reaches without a trap.
        ///
        /// What is not here is either trapped (see [`crate::sysreg`]), banked by EL2 for the guest (VPIDR, VMPIDR,
        /// CNTVOFF, VTTBR), or unreachable because the feature is hidden.
        #[repr(C)]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct El1State {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl El1State {
            /// The state of a lane that PSCI has just started. Fields that the architecture leaves UNKNOWN at
            /// reset are zero, so that a new guest learns nothing of whoever used them before.
            #[must_use]
            pub const fn reset() -> Self {
                Self { $($field: $reset,)* }
            }

            /// The names of the registers, in the order of the fields.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field),)*];
        }
    };
}

/// SCTLR_EL1 with MMU and caches off: the bits that are RES1 in Armv8.0 (LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS).
pub(crate) const SCTLR_RESET: u64 = 0x30d0_0800;

el1_state! {
    /// SP_EL0
    sp_el0 = 0;
    /// SP_EL1
    sp_el1 = 0;
    /// ELR_EL1
    elr_el1 = 0;
    /// SPSR_EL1
    spsr_el1 = 0;
    /// ESR_EL1
    esr_el1 = 0;
    /// FAR_EL1
    far_el1 = 0;
    /// AFSR0_EL1
    afsr0_el1 = 0;
    /// AFSR1_EL1
    afsr1_el1 = 0;
    /// VBAR_EL1
    vbar_el1 = 0;
    /// SCTLR_EL1
    sctlr_el1 = SCTLR_RESET;
    /// CPACR_EL1: FP and SIMD trap to EL1 until the guest enables them
    cpacr_el1 = 0;
    /// TTBR0_EL1
    ttbr0_el1 = 0;
    /// TTBR1_EL1
    ttbr1_el1 = 0;
    /// TCR_EL1
    tcr_el1 = 0;
    /// MAIR_EL1
    mair_el1 = 0;
    /// AMAIR_EL1
    amair_el1 = 0;
    /// CONTEXTIDR_EL1
    contextidr_el1 = 0;
    /// TPIDR_EL0
    tpidr_el0 = 0;
    /// TPIDRRO_EL0
    tpidrro_el0 = 0;
    /// TPIDR_EL1
    tpidr_el1 = 0;
    /// PAR_EL1
    par_el1 = 0;
    /// CSSELR_EL1
    csselr_el1 = 0;
    /// MDSCR_EL1: what of the guest's trapped value the hardware may see, see [`hardware_mdscr`](crate::debug::DebugState::hardware_mdscr)
    mdscr_el1 = 0;
    /// CNTKCTL_EL1
    cntkctl_el1 = 0;
    /// CNTV_CTL_EL0
    cntv_ctl_el0 = 0;
    /// CNTV_CVAL_EL0
    cntv_cval_el0 = 0;
    /// CNTP_CTL_EL0
    cntp_ctl_el0 = 0;
    /// CNTP_CVAL_EL0
    cntp_cval_el0 = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_has_the_mmu_off_and_the_timers_disabled() {
        let reset = El1State::reset();
        assert_eq!(reset.sctlr_el1 & 0b1_0000_0000_0101, 0, "M, C and I");
        assert_eq!(reset.sctlr_el1, 0x30d0_0800);
        assert_eq!((reset.cntv_ctl_el0, reset.cntp_ctl_el0), (0, 0));
        assert_eq!(reset.mdscr_el1, 0);
    }

    #[test]
    fn every_register_is_named_once() {
        let mut names = El1State::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len() * 8, size_of::<El1State>());
    }
}
