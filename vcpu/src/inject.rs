//! An exception put into a guest, exactly as the hardware would have taken it to EL1.
//!
//! AArch64.TakeException (Arm ARM J1.1.2): the return state goes to ELR_EL1 and SPSR_EL1, the syndrome to ESR_EL1 and
//! FAR_EL1, and the guest resumes in its own vector table with the PSTATE that an exception entry sets.

use crate::context::{El1State, InsnLen, Pc, Source, spsr};
use crate::exit::{
    Class, DataAbort, DataAbortKind, GuestException, InstructionAbort, SError, Syndrome,
};

/// The EL1 registers that an exception entry reads and writes, wherever they are kept.
pub trait El1Regs {
    /// VBAR_EL1
    fn vbar(&self) -> u64;
    /// SCTLR_EL1
    fn sctlr(&self) -> u64;
    /// Writes ELR_EL1.
    fn set_elr(&mut self, value: u64);
    /// Writes SPSR_EL1.
    fn set_spsr(&mut self, value: u64);
    /// Writes ESR_EL1.
    fn set_esr(&mut self, value: u64);
    /// Writes FAR_EL1.
    fn set_far(&mut self, value: u64);
}

impl El1Regs for El1State {
    fn vbar(&self) -> u64 {
        self.vbar_el1
    }
    fn sctlr(&self) -> u64 {
        self.sctlr_el1
    }
    fn set_elr(&mut self, value: u64) {
        self.elr_el1 = value;
    }
    fn set_spsr(&mut self, value: u64) {
        self.spsr_el1 = value;
    }
    fn set_esr(&mut self, value: u64) {
        self.esr_el1 = value;
    }
    fn set_far(&mut self, value: u64) {
        self.far_el1 = value;
    }
}

/// Features of the CPU that change what an exception entry does to PSTATE. They are the host's, hidden or not: the
/// bits exist in PSTATE either way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Features {
    /// FEAT_PAN
    pub pan: bool,
    /// FEAT_SSBS
    pub ssbs: bool,
    /// FEAT_MTE2: PSTATE.TCO
    pub mte: bool,
    /// FEAT_NMI: PSTATE.ALLINT
    pub nmi: bool,
}

impl Features {
    /// The features of a CPU with these ID_AA64MMFR1_EL1 and ID_AA64PFR1_EL1.
    #[must_use]
    pub const fn of_host(mmfr1: u64, pfr1: u64) -> Self {
        Self {
            pan: (mmfr1 >> 20) & 0xf != 0,
            ssbs: (pfr1 >> 4) & 0xf != 0,
            mte: (pfr1 >> 8) & 0xf >= 2,
            nmi: (pfr1 >> 36) & 0xf != 0,
        }
    }
}

/// A synchronous exception for a guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exception {
    /// The instruction is undefined. The answer to everything hidden, unknown or not allowed.
    Undefined,
    /// A synchronous data abort.
    DataAbort {
        /// The faulting address, unless nobody knows it.
        far: Option<u64>,
        /// A write.
        write: bool,
        /// By a cache maintenance instruction.
        cache_maintenance: bool,
        /// The status: external, unless the access was misaligned.
        status: Status,
    },
    /// A synchronous external abort on an instruction fetch.
    InstructionAbort {
        /// The faulting address, unless nobody knows it.
        far: Option<u64>,
        /// The status.
        status: Status,
    },
    /// A misaligned PC.
    PcAlignment {
        /// The PC.
        far: u64,
    },
    /// A misaligned stack pointer.
    SpAlignment,
    /// Execution in an illegal state.
    IllegalState,
    /// An exception of the guest's own, given back with its syndrome.
    Own {
        /// Its class.
        class: Class,
        /// Its syndrome.
        iss: u32,
        /// The address, if it has one.
        far: Option<u64>,
    },
}

/// A fault status code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// A synchronous external abort, not on a table walk.
    External,
    /// A synchronous external abort on a table walk. The level is not known, so it is reported as 0.
    ExternalOnWalk,
    /// A misaligned access.
    Alignment,
    /// A TLB conflict.
    TlbConflict,
    /// A tag check fault.
    TagCheck,
    /// An exclusive or atomic access that is not supported.
    UnsupportedExclusive,
}

impl Status {
    /// DFSC or IFSC.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::External => 0x10,
            Self::ExternalOnWalk => 0x14,
            Self::Alignment => 0x21,
            Self::TlbConflict => 0x30,
            Self::TagCheck => 0x11,
            Self::UnsupportedExclusive => 0x35,
        }
    }
}

impl Exception {
    /// The abort that answers a device access which no device answers, or which cannot be emulated.
    #[must_use]
    pub const fn refused_access(va: u64, write: bool) -> Self {
        Self::DataAbort {
            far: Some(va),
            write,
            cache_maintenance: false,
            status: Status::External,
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Undefined => Class::Unknown,
            Self::DataAbort { .. } => Class::DataAbortLower,
            Self::InstructionAbort { .. } => Class::InstructionAbortLower,
            Self::PcAlignment { .. } => Class::PcAlignment,
            Self::SpAlignment => Class::SpAlignment,
            Self::IllegalState => Class::IllegalState,
            Self::Own { class, .. } => class,
        }
    }

    /// EC, IL and ISS of ESR_EL1.
    #[must_use]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other classes are the same from EL0 and from EL1"
    )]
    pub const fn esr(self, source: Source, len: InsnLen) -> u64 {
        /// FnV: FAR_EL1 is not valid.
        const FNV: u64 = 1 << 10;
        let from_el0 = matches!(source, Source::El0A64 | Source::El0A32);
        let class = match self.class() {
            Class::InstructionAbortLower if !from_el0 => Class::InstructionAbortSame,
            Class::DataAbortLower if !from_el0 => Class::DataAbortSame,
            Class::BreakpointLower if !from_el0 => Class::BreakpointSame,
            Class::StepLower if !from_el0 => Class::StepSame,
            Class::WatchpointLower if !from_el0 => Class::WatchpointSame,
            class => class,
        };
        let iss = match self {
            Self::Undefined | Self::PcAlignment { .. } | Self::SpAlignment | Self::IllegalState => {
                0
            }
            // ISV and all it describes stay clear: only a stage-2 abort reported to EL2 has them.
            Self::DataAbort {
                far,
                write,
                cache_maintenance,
                status,
            } => {
                status.code()
                    | (write as u64) << 6
                    | (cache_maintenance as u64) << 8
                    | fnv(far, status, FNV)
            }
            Self::InstructionAbort { far, status } => status.code() | fnv(far, status, FNV),
            Self::Own { iss, .. } => iss as u64 & 0x1ff_ffff,
        };
        (class.code() as u64) << 26 | self.il(len) << 25 | iss
    }

    /// ESR_ELx.IL is the instruction's length only where the exception is about the instruction; elsewhere it is 1.
    const fn il(self, len: InsnLen) -> u64 {
        match self {
            Self::Undefined
            | Self::InstructionAbort { .. }
            | Self::PcAlignment { .. }
            | Self::SpAlignment
            | Self::IllegalState => 1,
            // ISV is 0 here, and then IL is 1 (Arm ARM D24.2.39).
            Self::DataAbort { .. } => 1,
            Self::Own { .. } => match len {
                InsnLen::Two => 0,
                InsnLen::Four => 1,
            },
        }
    }

    const fn far(self) -> Option<u64> {
        match self {
            Self::DataAbort { far, .. }
            | Self::InstructionAbort { far, .. }
            | Self::Own { far, .. } => far,
            Self::PcAlignment { far } => Some(far),
            Self::Undefined | Self::SpAlignment | Self::IllegalState => None,
        }
    }

    /// What the guest gets for a data abort that EL2 does not resolve: an external abort, except where the guest's own
    /// access was at fault in a way stage 1 has a name for.
    #[must_use]
    pub const fn from_data_abort(abort: &DataAbort) -> Self {
        let status = match abort.kind {
            DataAbortKind::Alignment => Status::Alignment,
            DataAbortKind::TlbConflict => Status::TlbConflict,
            DataAbortKind::TagCheck => Status::TagCheck,
            DataAbortKind::UnsupportedAtomic => Status::UnsupportedExclusive,
            DataAbortKind::Stage1Walk => Status::ExternalOnWalk,
            DataAbortKind::NoSyndrome
            | DataAbortKind::CacheMaintenance
            | DataAbortKind::Permission
            | DataAbortKind::AddressSize
            | DataAbortKind::External
            | DataAbortKind::GranuleProtection => Status::External,
        };
        Self::DataAbort {
            far: abort.far,
            write: abort.write,
            cache_maintenance: abort.cache_maintenance,
            status,
        }
    }

    /// What the guest gets for an instruction abort: an external abort.
    #[must_use]
    pub const fn from_instruction_abort(abort: &InstructionAbort) -> Self {
        use crate::exit::InstructionAbortKind as Kind;
        Self::InstructionAbort {
            far: abort.far,
            status: match abort.kind {
                Kind::Stage1Walk => Status::ExternalOnWalk,
                Kind::TlbConflict => Status::TlbConflict,
                Kind::Unmapped
                | Kind::Permission
                | Kind::AddressSize
                | Kind::External
                | Kind::GranuleProtection => Status::External,
            },
        }
    }

    /// The exception that the hardware reported to EL2, given back to the guest unchanged. For the classes that
    /// [`crate::exit::ExitReason`] keeps as the guest's own, and for debug exceptions.
    #[must_use]
    pub const fn reflect(s: &Syndrome) -> Self {
        let class = s.class();
        Self::Own {
            class,
            iss: s.iss(),
            far: if matches!(class, Class::WatchpointLower | Class::PcAlignment) {
                Some(s.far)
            } else {
                None
            },
        }
    }

    /// As [`Exception::reflect`], from the decoded form.
    #[must_use]
    pub const fn own(exception: GuestException) -> Self {
        Self::Own {
            class: exception.class,
            iss: exception.iss,
            far: None,
        }
    }
}

const fn fnv(far: Option<u64>, status: Status, bit: u64) -> u64 {
    match (far, status) {
        (None, Status::External) => bit,
        (
            None | Some(_),
            Status::External
            | Status::ExternalOnWalk
            | Status::Alignment
            | Status::TlbConflict
            | Status::TagCheck
            | Status::UnsupportedExclusive,
        ) => 0,
    }
}

/// Takes `exception` to the guest's EL1. `pc` is the instruction to return to; the result is where the guest resumes.
#[must_use]
pub fn inject(
    pc: Pc,
    len: InsnLen,
    exception: Exception,
    regs: &mut impl El1Regs,
    features: Features,
) -> Pc {
    regs.set_esr(exception.esr(pc.source(), len));
    if let Some(far) = exception.far() {
        regs.set_far(far);
    }
    enter(pc, 0, regs, features)
}

/// The exception entry itself; `kind` is 0 for synchronous, 0x80 for IRQ, 0x100 for FIQ and 0x180 for SError.
fn enter(pc: Pc, kind: u64, regs: &mut impl El1Regs, features: Features) -> Pc {
    let group = match pc.source() {
        Source::El1t => 0x000,
        Source::El1h => 0x200,
        Source::El0A64 => 0x400,
        Source::El0A32 => 0x600,
    };
    regs.set_elr(pc.elr);
    regs.set_spsr(pc.spsr);
    Pc {
        // VBAR_EL1 bits 10:0 are RES0.
        elr: (regs.vbar() & !0x7ff).wrapping_add(group + kind),
        spsr: entry_pstate(pc.spsr, regs.sctlr(), features),
    }
}

/// PSTATE after an exception entry to EL1: EL1h, DAIF masked; NZCV, DIT and PAN kept; PAN set unless SCTLR_EL1.SPAN;
/// SSBS from SCTLR_EL1.DSSBS; TCO set; ALLINT unless SCTLR_EL1.SPINTMASK; UAO, BTYPE, SS and IL clear.
const fn entry_pstate(old: u64, sctlr: u64, features: Features) -> u64 {
    const SPAN: u64 = 1 << 23;
    const DSSBS: u64 = 1 << 44;
    const SPINTMASK: u64 = 1 << 62;
    let mut new = spsr::EL1H | spsr::DAIF | old & (spsr::NZCV | spsr::DIT | spsr::PAN);
    if features.pan && sctlr & SPAN == 0 {
        new |= spsr::PAN;
    }
    if features.ssbs && sctlr & DSSBS != 0 {
        new |= spsr::SSBS;
    }
    if features.mte {
        new |= spsr::TCO;
    }
    if features.nmi && sctlr & SPINTMASK == 0 {
        new |= spsr::ALLINT;
    }
    new
}

/// A virtual SError to make pending: the hardware delivers it when the guest unmasks PSTATE.A.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub struct VirtualSError {
    /// What to put into VSESR_EL2, where FEAT_RAS exists, before setting HCR_EL2.VSE.
    pub vsesr: u64,
}

impl VirtualSError {
    /// The virtual SError for a physical one that the guest has caused. The physical syndrome is about the machine, not
    /// about the guest's, so the guest sees an uncategorised one (IDS = 1, the rest zero).
    pub const fn from_physical(_: &SError) -> Self {
        Self { vsesr: 1 << 24 }
    }
}

#[cfg(test)]
mod tests;
