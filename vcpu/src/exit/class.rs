//! The exception classes that ESR_EL2.EC can hold.

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// An exception class. Every one of the 64 values has a variant, [`Class::Unallocated`] for those the
        /// architecture has not given a meaning.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Class {
            $($(#[$doc])* $name,)*
            /// Not allocated in the Arm ARM this was written against.
            Unallocated(u8),
        }

        impl Class {
            /// The class with this number; bits above the sixth are ignored.
            #[inline]
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code & 0x3f {
                    $($code => Self::$name,)*
                    other => Self::Unallocated(other),
                }
            }

            /// Its number.
            #[inline]
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unallocated(code) => code,
                }
            }
        }
    };
}

impl Class {
    /// The class in an ESR value.
    #[inline]
    #[must_use]
    pub const fn from_esr(esr: u64) -> Self {
        Self::from_code(((esr >> 26) & 0x3f) as u8)
    }
}

classes! {
    /// Unknown reason: an undefined instruction.
    Unknown = 0x00;
    /// WFI, WFE, WFIT or WFET.
    Wfx = 0x01;
    /// MCR or MRC, coproc 15.
    Cp15 = 0x03;
    /// MCRR or MRRC, coproc 15.
    Cp15Pair = 0x04;
    /// MCR or MRC, coproc 14.
    Cp14 = 0x05;
    /// LDC or STC, coproc 14.
    Cp14Memory = 0x06;
    /// FP or SIMD, trapped by CPTR_EL2 or CPACR_EL1.
    FpSimd = 0x07;
    /// VMRS of an identification register.
    VmrsId = 0x08;
    /// A pointer authentication instruction.
    PointerAuth = 0x09;
    /// An instruction no other class covers, such as LD64B and ST64B.
    OtherInstruction = 0x0a;
    /// MRRC, coproc 14.
    Cp14Pair = 0x0c;
    /// A branch target exception (BTI).
    BranchTarget = 0x0d;
    /// PSTATE.IL was set.
    IllegalState = 0x0e;
    /// SVC in AArch32.
    Svc32 = 0x11;
    /// HVC in AArch32.
    Hvc32 = 0x12;
    /// SMC in AArch32.
    Smc32 = 0x13;
    /// A 128-bit system register or instruction: MRRS, MSRR, SYSP.
    SystemRegister128 = 0x14;
    /// SVC in AArch64.
    Svc64 = 0x15;
    /// HVC in AArch64.
    Hvc64 = 0x16;
    /// SMC in AArch64.
    Smc64 = 0x17;
    /// MSR, MRS or a system instruction.
    SystemRegister = 0x18;
    /// SVE.
    Sve = 0x19;
    /// ERET under nested virtualisation.
    Eret = 0x1a;
    /// TSTART.
    Transaction = 0x1b;
    /// A failed pointer authentication (FPAC).
    PointerAuthFail = 0x1c;
    /// SME.
    Sme = 0x1d;
    /// A granule protection check: taken to EL3 only.
    GranuleProtection = 0x1e;
    /// IMPLEMENTATION DEFINED, to EL3 only.
    ToEl3 = 0x1f;
    /// An instruction abort of the guest.
    InstructionAbortLower = 0x20;
    /// An instruction abort of EL2.
    InstructionAbortSame = 0x21;
    /// A misaligned PC.
    PcAlignment = 0x22;
    /// A data abort of the guest.
    DataAbortLower = 0x24;
    /// A data abort of EL2.
    DataAbortSame = 0x25;
    /// A misaligned SP.
    SpAlignment = 0x26;
    /// A memory copy or set instruction out of step (MOPS).
    MemoryOperation = 0x27;
    /// A trapped floating-point exception in AArch32.
    FpException32 = 0x28;
    /// A trapped floating-point exception in AArch64.
    FpException64 = 0x2c;
    /// A guarded control stack exception.
    GuardedStack = 0x2d;
    /// An SError.
    SError = 0x2f;
    /// A breakpoint in the guest.
    BreakpointLower = 0x30;
    /// A breakpoint at EL2.
    BreakpointSame = 0x31;
    /// A software step of the guest.
    StepLower = 0x32;
    /// A software step of EL2.
    StepSame = 0x33;
    /// A watchpoint in the guest.
    WatchpointLower = 0x34;
    /// A watchpoint at EL2.
    WatchpointSame = 0x35;
    /// BKPT in AArch32.
    Bkpt32 = 0x38;
    /// A vector catch in AArch32.
    VectorCatch32 = 0x3a;
    /// BRK.
    Brk64 = 0x3c;
    /// A synchronous PMU exception.
    Profiling = 0x3d;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_round_trips() {
        for code in 0..64 {
            assert_eq!(Class::from_code(code).code(), code);
            assert_eq!(
                Class::from_esr((u64::from(code) << 26) | 0xffff_ff00_03ff_ffff),
                Class::from_code(code)
            );
        }
        assert_eq!(Class::from_code(0x56), Class::Hvc64, "only six bits count");
    }
}
