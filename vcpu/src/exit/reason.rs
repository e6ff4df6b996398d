//! What an exit can mean.

use super::{Class, DataAbort, InstructionAbort, Syndrome};
use crate::context::{Reg, spsr};
use crate::mmio::MmioAccess;
use crate::sysreg::SysRegAccess;

/// Why the guest stopped. There is no catch-all: whoever matches on this names every case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExitReason {
    /// A physical IRQ is pending.
    Irq,
    /// A physical FIQ is pending.
    Fiq,
    /// An asynchronous abort.
    SError(SError),
    /// WFI, WFE or their forms with a timeout.
    Wfx(Wfx),
    /// HVC. The return address already points past it.
    Hypercall {
        /// The immediate.
        imm: u16,
    },
    /// SMC. The return address points at it.
    SecureCall {
        /// The immediate.
        imm: u16,
    },
    /// SVC. Comes to EL2 only where HCR_EL2.TGE is set, which it is not for a guest.
    SupervisorCall {
        /// The immediate.
        imm: u16,
    },
    /// MSR, MRS or a system instruction.
    SystemRegister(SysRegAccess),
    /// A load or store of unmapped memory that the hardware has described in full.
    Mmio(MmioAccess),
    /// Any other data abort.
    DataAbort(DataAbort),
    /// An instruction abort.
    InstructionAbort(InstructionAbort),
    /// Use of a feature that is trapped.
    Feature(Feature),
    /// A trap or exception from AArch32 user mode.
    AArch32(AArch32Trap),
    /// A debug exception.
    Debug(Debug),
    /// The guest returned to an illegal state.
    IllegalState,
    /// The guest branched to a misaligned address.
    PcAlignment {
        /// The address.
        far: u64,
    },
    /// The guest used a misaligned stack pointer.
    SpAlignment,
    /// An exception that the guest raised and that belongs to its own EL1: give it back as it is.
    GuestException(GuestException),
    /// An instruction without meaning here, or a class the architecture has not allocated: UNDEF into the guest.
    Undefined {
        /// The class that was seen.
        class: Class,
    },
    /// Only EL2 can raise this: a fault of ours, never of a guest.
    OwnFault(OwnFault),
}

/// WFI, WFE, WFIT or WFET.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Wfx {
    /// Which of the four.
    pub kind: WfxKind,
    /// The register with the timeout, if the instruction has one and the hardware says which.
    pub timeout: Option<Reg>,
    /// Whether an AArch32 condition lets it execute.
    pub passes: bool,
}

/// The four wait instructions, in the order of ISS.TI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WfxKind {
    /// Wait for interrupt.
    Wfi,
    /// Wait for event.
    Wfe,
    /// Wait for interrupt with timeout.
    Wfit,
    /// Wait for event with timeout.
    Wfet,
}

impl Wfx {
    pub(super) const fn from_syndrome(s: &Syndrome) -> Self {
        let kind = match s.field(0, 2) {
            0 => WfxKind::Wfi,
            1 => WfxKind::Wfe,
            2 => WfxKind::Wfit,
            _ => WfxKind::Wfet,
        };
        let timed = s.bit(1) && s.bit(2);
        Self {
            kind,
            timeout: if timed {
                Some(Reg::from_field(s.field(5, 5)))
            } else {
                None
            },
            passes: Condition::from_syndrome(s).holds(s.spsr),
        }
    }
}

/// A feature whose use traps to EL2. All but FP and SIMD are hidden from guests and answered with UNDEF.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Feature {
    /// FP and SIMD (CPTR_EL2.TFP).
    FpSimd,
    /// SVE (CPTR_EL2.TZ).
    Sve,
    /// SME (CPTR_EL2.TSM).
    Sme,
    /// Pointer authentication (HCR_EL2.API, APK).
    PointerAuth,
    /// LD64B, ST64B and others without a class of their own.
    OtherInstruction,
    /// Transactional memory.
    Transaction,
    /// ERET of a guest hypervisor.
    NestedEret,
    /// MRRS, MSRR and SYSP.
    SystemRegister128,
}

/// A trap from AArch32 user mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AArch32Trap {
    /// What was executed.
    pub kind: TrappedInsn32,
    /// Whether its condition holds; a trapped instruction whose condition fails is stepped over, with no other effect.
    pub passes: bool,
}

/// What AArch32 user mode executed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TrappedInsn32 {
    /// MCR or MRC, coproc 15.
    Cp15,
    /// MCRR or MRRC, coproc 15.
    Cp15Pair,
    /// MCR or MRC, coproc 14.
    Cp14,
    /// LDC or STC, coproc 14.
    Cp14Memory,
    /// MRRC, coproc 14.
    Cp14Pair,
    /// VMRS of an identification register.
    Vmrs,
    /// SVC.
    Svc,
    /// HVC.
    Hvc,
    /// SMC.
    Smc,
    /// BKPT.
    Bkpt,
    /// A vector catch.
    VectorCatch,
}

impl AArch32Trap {
    /// A trap of an instruction that carries its condition in the syndrome.
    pub(super) const fn conditional(kind: TrappedInsn32, s: &Syndrome) -> ExitReason {
        ExitReason::AArch32(Self {
            kind,
            passes: Condition::from_syndrome(s).holds(s.spsr),
        })
    }

    /// An exception that occurs only when the condition holds.
    pub(super) const fn always(kind: TrappedInsn32) -> ExitReason {
        ExitReason::AArch32(Self { kind, passes: true })
    }

    /// SMC: whether the condition is in the syndrome is said by CCKNOWNPASS, bit 19.
    pub(super) const fn smc(s: &Syndrome) -> ExitReason {
        if s.bit(19) {
            Self::conditional(TrappedInsn32::Smc, s)
        } else {
            Self::always(TrappedInsn32::Smc)
        }
    }
}

/// The condition of a trapped instruction: ISS.CV and ISS.COND.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// The hardware gives the condition.
    Known(u8),
    /// It does not: for T32 the IT state in SPSR decides, for A32 the trap itself means that it holds.
    InSpsr,
}

impl Condition {
    /// The condition in ISS bits 24:20.
    #[inline]
    #[must_use]
    pub const fn from_syndrome(s: &Syndrome) -> Self {
        if s.bit(24) {
            Self::Known(((s.esr >> 20) & 0xf) as u8)
        } else {
            Self::InSpsr
        }
    }

    /// ConditionHolds (Arm ARM J1.3.3) with the flags of `value`. Always true in AArch64.
    #[must_use]
    pub const fn holds(self, value: u64) -> bool {
        if value & spsr::AARCH32 == 0 {
            return true;
        }
        let condition = match self {
            Self::Known(condition) => condition as u64,
            Self::InSpsr if value & spsr::T32 == 0 => return true,
            Self::InSpsr => {
                let block = (value & (spsr::IT_HIGH | spsr::IT_LOW)) != 0;
                if !block {
                    return true;
                }
                // IT[7:4], at SPSR bits 15:12, is the condition of the current instruction.
                (value >> 12) & 0xf
            }
        };
        let n = value >> 31 & 1;
        let z = value >> 30 & 1;
        let c = value >> 29 & 1;
        let v = value >> 28 & 1;
        let base = match condition >> 1 {
            0 => z == 1,
            1 => c == 1,
            2 => n == 1,
            3 => v == 1,
            4 => c == 1 && z == 0,
            5 => n == v,
            6 => n == v && z == 0,
            _ => return true,
        };
        base != (condition & 1 == 1)
    }
}

/// A debug exception that was routed to EL2 (MDCR_EL2.TDE); otherwise the guest's EL1 takes them itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Debug {
    /// Which.
    pub kind: DebugKind,
    /// The syndrome as the guest would have seen it.
    pub iss: u32,
    /// The address of a watchpoint.
    pub far: Option<u64>,
}

/// The kinds of debug exception.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DebugKind {
    /// A hardware breakpoint.
    Breakpoint,
    /// A software step.
    Step,
    /// A watchpoint.
    Watchpoint,
    /// BRK.
    Brk {
        /// The immediate.
        imm: u16,
    },
}

impl Debug {
    pub(super) const fn reason(kind: DebugKind, s: &Syndrome) -> ExitReason {
        ExitReason::Debug(Self {
            kind,
            iss: s.iss(),
            far: match kind {
                DebugKind::Watchpoint => Some(s.far),
                DebugKind::Breakpoint | DebugKind::Step | DebugKind::Brk { .. } => None,
            },
        })
    }
}

/// An exception of the guest's own that reached EL2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GuestException {
    /// Its class.
    pub class: Class,
    /// Its syndrome.
    pub iss: u32,
}

/// A class that only EL2 can raise, or an exception whose SPSR names EL2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnFault {
    /// The class.
    pub class: Class,
}

/// An asynchronous abort (Arm ARM D24.2.40, ISS encoding for an SError).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SError {
    /// How bad.
    pub severity: Severity,
    /// The whole syndrome, for the report and for VSESR_EL2.
    pub iss: u32,
}

/// What an SError says about the state of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Severity {
    /// The syndrome is IMPLEMENTATION DEFINED (IDS) or does not classify the error.
    Unclassified,
    /// The error may have spread.
    Uncontainable,
    /// The interrupted context cannot go on.
    Unrecoverable,
    /// The context may be restarted, though the error remains.
    Restartable,
    /// Software can repair it.
    Recoverable,
    /// The hardware has corrected it.
    Corrected,
}

impl SError {
    pub(super) const fn from_syndrome(s: &Syndrome) -> Self {
        let severity = if s.bit(24) || s.field(0, 6) != 0x11 {
            Severity::Unclassified
        } else {
            match s.field(10, 3) {
                0 => Severity::Uncontainable,
                1 => Severity::Unrecoverable,
                2 => Severity::Restartable,
                3 => Severity::Recoverable,
                6 => Severity::Corrected,
                _ => Severity::Unclassified,
            }
        };
        Self {
            severity,
            iss: s.iss(),
        }
    }
}
