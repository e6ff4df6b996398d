//! Why a guest stopped: from what the hardware recorded to what it means.
//!
//! [`decode`] is pure and total: every one of the 2^32 low words of ESR_EL2 has a meaning, and [`ExitReason`] has no
//! catch-all. An unknown exception class is the guest's UNDEF, an unknown fault status its external abort, and a class
//! that only EL2 can raise is a fault of ours. Sources: Arm ARM DDI 0487, D24.2.40 (ESR_EL2), D24.2.63 (HPFAR_EL2).

mod abort;
mod class;
mod reason;

pub use abort::{
    DataAbort, DataAbortKind, FaultAddress, FaultStatus, InstructionAbort, InstructionAbortKind,
};
pub use class::Class;
pub use reason::{
    AArch32Trap, Condition, Debug, DebugKind, ExitReason, Feature, GuestException, OwnFault,
    SError, Severity, TrappedInsn32, Wfx, WfxKind,
};

use crate::context::{InsnLen, Pc, Reg, spsr};
use crate::mmio::{MmioAccess, Width};
use crate::sysreg::{SysReg, SysRegAccess};

/// Which of the four lower-EL vectors was taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u64)]
pub enum Exit {
    /// A synchronous exception: ESR_EL2 says which.
    Sync = 0,
    /// A physical IRQ.
    Irq = 1,
    /// A physical FIQ.
    Fiq = 2,
    /// An asynchronous abort.
    SError = 3,
}

impl Exit {
    /// The vector with this number, in the order of the vector table; only the low two bits count.
    #[inline]
    #[must_use]
    pub const fn from_vector(number: u64) -> Self {
        match number & 3 {
            0 => Self::Sync,
            1 => Self::Irq,
            2 => Self::Fiq,
            _ => Self::SError,
        }
    }
}

/// What the hardware recorded about an exit. `far` and `hpfar` mean something for aborts only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Syndrome {
    /// ESR_EL2
    pub esr: u64,
    /// FAR_EL2
    pub far: u64,
    /// HPFAR_EL2
    pub hpfar: u64,
    /// ELR_EL2
    pub elr: u64,
    /// SPSR_EL2
    pub spsr: u64,
}

impl Syndrome {
    /// The exception class, ESR_EL2.EC.
    #[inline]
    #[must_use]
    pub const fn class(&self) -> Class {
        Class::from_esr(self.esr)
    }

    /// The instruction-specific syndrome, ESR_EL2.ISS.
    #[inline]
    #[must_use]
    pub const fn iss(&self) -> u32 {
        (self.esr & 0x1ff_ffff) as u32
    }

    /// The length of the trapped instruction, ESR_EL2.IL.
    #[inline]
    #[must_use]
    pub const fn insn_len(&self) -> InsnLen {
        if self.bit(25) {
            InsnLen::Four
        } else {
            InsnLen::Two
        }
    }

    /// Where the guest was.
    #[inline]
    #[must_use]
    pub const fn pc(&self) -> Pc {
        Pc {
            elr: self.elr,
            spsr: self.spsr,
        }
    }

    /// The immediate of HVC, SMC, SVC and BRK.
    #[inline]
    #[must_use]
    pub const fn immediate(&self) -> u16 {
        (self.esr & 0xffff) as u16
    }

    #[inline]
    const fn bit(&self, n: u32) -> bool {
        (self.esr >> n) & 1 != 0
    }

    #[inline]
    const fn field(&self, shift: u32, width: u32) -> u64 {
        (self.esr >> shift) & ((1 << width) - 1)
    }

    /// SPSR_EL2 names EL2 itself: whatever the class, no guest raised it.
    #[inline]
    const fn names_el2(&self) -> bool {
        self.spsr & (spsr::AARCH32 | 0b1100) == 0b1000
    }
}

/// What an exit means.
#[must_use]
pub fn decode(exit: Exit, syndrome: &Syndrome) -> ExitReason {
    match exit {
        Exit::Sync => decode_sync(syndrome),
        Exit::Irq => ExitReason::Irq,
        Exit::Fiq => ExitReason::Fiq,
        Exit::SError => ExitReason::SError(SError::from_syndrome(syndrome)),
    }
}

fn decode_sync(s: &Syndrome) -> ExitReason {
    if s.names_el2() {
        return ExitReason::OwnFault(OwnFault { class: s.class() });
    }
    match s.class() {
        Class::Unknown => ExitReason::Undefined {
            class: Class::Unknown,
        },
        Class::Wfx => ExitReason::Wfx(Wfx::from_syndrome(s)),
        Class::Hvc64 => ExitReason::Hypercall { imm: s.immediate() },
        Class::Smc64 => ExitReason::SecureCall { imm: s.immediate() },
        Class::Svc64 => ExitReason::SupervisorCall { imm: s.immediate() },
        Class::SystemRegister => ExitReason::SystemRegister(SysRegAccess::from_iss(s.iss())),
        Class::SystemRegister128 => ExitReason::Feature(Feature::SystemRegister128),
        Class::FpSimd => ExitReason::Feature(Feature::FpSimd),
        Class::Sve => ExitReason::Feature(Feature::Sve),
        Class::Sme => ExitReason::Feature(Feature::Sme),
        Class::PointerAuth => ExitReason::Feature(Feature::PointerAuth),
        Class::OtherInstruction => ExitReason::Feature(Feature::OtherInstruction),
        Class::Transaction => ExitReason::Feature(Feature::Transaction),
        Class::Eret => ExitReason::Feature(Feature::NestedEret),
        Class::Cp15 => AArch32Trap::conditional(TrappedInsn32::Cp15, s),
        Class::Cp15Pair => AArch32Trap::conditional(TrappedInsn32::Cp15Pair, s),
        Class::Cp14 => AArch32Trap::conditional(TrappedInsn32::Cp14, s),
        Class::Cp14Memory => AArch32Trap::conditional(TrappedInsn32::Cp14Memory, s),
        Class::Cp14Pair => AArch32Trap::conditional(TrappedInsn32::Cp14Pair, s),
        Class::VmrsId => AArch32Trap::conditional(TrappedInsn32::Vmrs, s),
        Class::Svc32 => AArch32Trap::always(TrappedInsn32::Svc),
        Class::Hvc32 => AArch32Trap::always(TrappedInsn32::Hvc),
        Class::Smc32 => AArch32Trap::smc(s),
        Class::Bkpt32 => AArch32Trap::always(TrappedInsn32::Bkpt),
        Class::VectorCatch32 => AArch32Trap::always(TrappedInsn32::VectorCatch),
        Class::IllegalState => ExitReason::IllegalState,
        Class::PcAlignment => ExitReason::PcAlignment { far: s.far },
        Class::SpAlignment => ExitReason::SpAlignment,
        Class::BranchTarget
        | Class::PointerAuthFail
        | Class::MemoryOperation
        | Class::FpException32
        | Class::FpException64
        | Class::GuardedStack
        | Class::Profiling => ExitReason::GuestException(GuestException {
            class: s.class(),
            iss: s.iss(),
        }),
        Class::InstructionAbortLower => abort::instruction(s),
        Class::DataAbortLower => data_abort(s),
        Class::SError => ExitReason::SError(SError::from_syndrome(s)),
        Class::BreakpointLower => Debug::reason(DebugKind::Breakpoint, s),
        Class::StepLower => Debug::reason(DebugKind::Step, s),
        Class::WatchpointLower => Debug::reason(DebugKind::Watchpoint, s),
        Class::Brk64 => Debug::reason(DebugKind::Brk { imm: s.immediate() }, s),
        Class::InstructionAbortSame
        | Class::DataAbortSame
        | Class::BreakpointSame
        | Class::StepSame
        | Class::WatchpointSame => ExitReason::OwnFault(OwnFault { class: s.class() }),
        Class::GranuleProtection | Class::ToEl3 | Class::Unallocated(_) => {
            ExitReason::Undefined { class: s.class() }
        }
    }
}

/// ESR_EL2.ISS of a data abort: ISV, CM and S1PTW.
const ISV: u32 = 24;
const CM: u32 = 8;
const S1PTW: u32 = 7;

/// A data abort is emulated as a device access only when everything about it is known: a stage-2 translation or
/// access-flag fault, on the access itself and not on a table walk, by an instruction the hardware has described.
fn data_abort(s: &Syndrome) -> ExitReason {
    let device = s.bit(ISV) && !s.bit(CM) && !s.bit(S1PTW) && FaultStatus::of(s).is_unmapped();
    match (device, FaultAddress::of(s)) {
        (true, FaultAddress::Exact(ipa)) => ExitReason::Mmio(MmioAccess {
            ipa,
            va: s.far,
            width: Width::from_sas(s.field(22, 2)),
            sign_extend: s.bit(21),
            reg: Reg::from_field(s.field(16, 5)),
            sixty_four: s.bit(15),
            write: s.bit(6),
        }),
        (true, FaultAddress::Page(_) | FaultAddress::Unknown)
        | (false, FaultAddress::Exact(_) | FaultAddress::Page(_) | FaultAddress::Unknown) => {
            ExitReason::DataAbort(DataAbort::from_syndrome(s))
        }
    }
}

impl SysRegAccess {
    /// The access that ISS of class 0x18 describes.
    #[inline]
    #[must_use]
    pub const fn from_iss(iss: u32) -> Self {
        Self {
            reg: SysReg::from_iss(iss),
            rt: Reg::from_field((iss >> 5) as u64),
            read: iss & 1 != 0,
        }
    }
}

#[cfg(test)]
mod tests;
