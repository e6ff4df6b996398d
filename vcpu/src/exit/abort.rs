//! Aborts: the fault status, the address that goes with it, and what is left when no device access can be emulated.

use stage2_addr::Ipa;

use super::{CM, ExitReason, S1PTW, Syndrome};

/// FnV: FAR_EL2 does not hold the address. Valid for external aborts.
const FNV: u32 = 10;

/// What a fault status code (DFSC or IFSC) means, without the level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultStatus {
    /// An address too wide for the regime.
    AddressSize,
    /// Nothing is mapped there.
    Translation,
    /// The access flag is clear.
    AccessFlag,
    /// Mapped, but not for this.
    Permission,
    /// A synchronous external abort, or a parity or ECC error, on the access.
    External,
    /// The same, on a table walk.
    ExternalOnWalk,
    /// A memory tag mismatch.
    TagCheck,
    /// A misaligned access.
    Alignment,
    /// Granule protection.
    GranuleProtection,
    /// Two TLB entries for one address.
    TlbConflict,
    /// A hardware update of a descriptor that memory cannot do atomically.
    UnsupportedAtomicUpdate,
    /// An exclusive or atomic access to memory that has none.
    UnsupportedExclusive,
    /// IMPLEMENTATION DEFINED: lockdown.
    Lockdown,
}

impl FaultStatus {
    /// The meaning of a status code; bits above the sixth are ignored. Reserved codes mean an external abort.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code & 0x3f {
            0x00..=0x03 | 0x29 | 0x2c => Self::AddressSize,
            0x04..=0x07 | 0x2a | 0x2b => Self::Translation,
            0x08..=0x0b => Self::AccessFlag,
            0x0c..=0x0f => Self::Permission,
            0x11 => Self::TagCheck,
            0x12..=0x17 | 0x1b..=0x1f => Self::ExternalOnWalk,
            0x21 => Self::Alignment,
            0x22..=0x28 => Self::GranuleProtection,
            0x30 => Self::TlbConflict,
            0x31 => Self::UnsupportedAtomicUpdate,
            0x34 => Self::Lockdown,
            0x35 => Self::UnsupportedExclusive,
            // 0x10 and 0x18 by definition; the rest are reserved.
            _ => Self::External,
        }
    }

    #[inline]
    pub(super) const fn of(s: &Syndrome) -> Self {
        Self::from_code((s.esr & 0x3f) as u8)
    }

    /// A fault by which stage 2 tells of a device: nothing is mapped, or the access flag is clear.
    #[inline]
    #[must_use]
    pub const fn is_unmapped(self) -> bool {
        matches!(self, Self::Translation | Self::AccessFlag)
    }
}

/// The intermediate physical address of a fault, as far as the hardware has told it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultAddress {
    /// The byte: the page from HPFAR_EL2, the offset from FAR_EL2.
    Exact(Ipa),
    /// The page of a stage-1 table. FAR_EL2 holds the address that was being translated, so the offset is not known.
    Page(Ipa),
    /// HPFAR_EL2 is UNKNOWN for this class of fault: permission faults of the access itself, external aborts and all
    /// others that are not about stage 2. Whoever needs the address walks the tables.
    Unknown,
}

impl FaultAddress {
    /// HPFAR_EL2 is written for translation, access-flag and address-size faults of stage 2, and for every stage-2
    /// fault on a stage-1 walk, permission faults included (Arm ARM D24.2.63).
    #[inline]
    pub(super) const fn of(s: &Syndrome) -> Self {
        let on_walk = s.bit(S1PTW);
        match FaultStatus::of(s) {
            FaultStatus::Translation | FaultStatus::AccessFlag | FaultStatus::AddressSize => {}
            FaultStatus::Permission if on_walk => {}
            FaultStatus::Permission
            | FaultStatus::External
            | FaultStatus::ExternalOnWalk
            | FaultStatus::TagCheck
            | FaultStatus::Alignment
            | FaultStatus::GranuleProtection
            | FaultStatus::TlbConflict
            | FaultStatus::UnsupportedAtomicUpdate
            | FaultStatus::UnsupportedExclusive
            | FaultStatus::Lockdown => return Self::Unknown,
        }
        // FIPA, bits 47:4, is bits 55:12 of the address. Bit 63 (NS) is not part of it.
        let page = (s.hpfar & 0x0000_ffff_ffff_fff0) << 8;
        if on_walk {
            Self::Page(Ipa::new(page))
        } else {
            Self::Exact(Ipa::new(page | (s.far & 0xfff)))
        }
    }

    /// The page, if it is known.
    #[must_use]
    pub const fn page(self) -> Option<Ipa> {
        match self {
            Self::Exact(ipa) | Self::Page(ipa) => Some(ipa.page_floor()),
            Self::Unknown => None,
        }
    }
}

/// Why a data abort is not a device access.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DataAbortKind {
    /// Unmapped at stage 2, and the instruction is one the hardware does not describe (ISV = 0).
    NoSyndrome,
    /// A cache maintenance instruction or DC ZVA on unmapped memory.
    CacheMaintenance,
    /// The guest's own stage-1 table is not in its memory, or in memory it may not read.
    Stage1Walk,
    /// Mapped at stage 2, but not for this access.
    Permission,
    /// The address is beyond the IPA space.
    AddressSize,
    /// A synchronous external abort, a parity error, or a status that is reserved.
    External,
    /// A memory tag mismatch.
    TagCheck,
    /// A misaligned access to memory that stage 2 makes Device.
    Alignment,
    /// Two TLB entries for one address.
    TlbConflict,
    /// An exclusive or atomic access the memory does not support.
    UnsupportedAtomic,
    /// Granule protection.
    GranuleProtection,
}

/// A data abort that does not describe a device access.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DataAbort {
    /// What is wrong.
    pub kind: DataAbortKind,
    /// Whether the access was a write; true for cache maintenance (WnR).
    pub write: bool,
    /// A cache maintenance instruction caused it (CM).
    pub cache_maintenance: bool,
    /// The virtual address, unless the hardware does not know it.
    pub far: Option<u64>,
    /// The intermediate physical address.
    pub address: FaultAddress,
}

impl DataAbort {
    pub(super) const fn from_syndrome(s: &Syndrome) -> Self {
        let status = FaultStatus::of(s);
        Self {
            kind: Self::kind(s, status),
            write: s.bit(6),
            cache_maintenance: s.bit(CM),
            far: far(s, status),
            address: FaultAddress::of(s),
        }
    }

    const fn kind(s: &Syndrome, status: FaultStatus) -> DataAbortKind {
        match status {
            FaultStatus::External | FaultStatus::ExternalOnWalk => DataAbortKind::External,
            FaultStatus::TagCheck => DataAbortKind::TagCheck,
            FaultStatus::Alignment => DataAbortKind::Alignment,
            FaultStatus::TlbConflict => DataAbortKind::TlbConflict,
            FaultStatus::GranuleProtection => DataAbortKind::GranuleProtection,
            FaultStatus::UnsupportedAtomicUpdate
            | FaultStatus::UnsupportedExclusive
            | FaultStatus::Lockdown => DataAbortKind::UnsupportedAtomic,
            FaultStatus::AddressSize
            | FaultStatus::Translation
            | FaultStatus::AccessFlag
            | FaultStatus::Permission
                if s.bit(S1PTW) =>
            {
                DataAbortKind::Stage1Walk
            }
            FaultStatus::Permission => DataAbortKind::Permission,
            FaultStatus::AddressSize => DataAbortKind::AddressSize,
            FaultStatus::Translation | FaultStatus::AccessFlag if s.bit(CM) => {
                DataAbortKind::CacheMaintenance
            }
            FaultStatus::Translation | FaultStatus::AccessFlag => DataAbortKind::NoSyndrome,
        }
    }
}

/// Why the guest could not fetch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InstructionAbortKind {
    /// Unmapped at stage 2: a hole or an emulated device.
    Unmapped,
    /// Mapped, but not executable.
    Permission,
    /// The guest's own stage-1 table is not in its memory.
    Stage1Walk,
    /// The address is beyond the IPA space.
    AddressSize,
    /// An external abort, or a status that is reserved or has no meaning for a fetch.
    External,
    /// Two TLB entries for one address.
    TlbConflict,
    /// Granule protection.
    GranuleProtection,
}

/// An instruction abort of the guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InstructionAbort {
    /// What is wrong.
    pub kind: InstructionAbortKind,
    /// The virtual address, unless the hardware does not know it.
    pub far: Option<u64>,
    /// The intermediate physical address.
    pub address: FaultAddress,
}

pub(super) const fn instruction(s: &Syndrome) -> ExitReason {
    let status = FaultStatus::of(s);
    let on_walk = s.bit(S1PTW);
    let kind = match status {
        FaultStatus::TlbConflict => InstructionAbortKind::TlbConflict,
        FaultStatus::GranuleProtection => InstructionAbortKind::GranuleProtection,
        FaultStatus::AddressSize
        | FaultStatus::Translation
        | FaultStatus::AccessFlag
        | FaultStatus::Permission
            if on_walk =>
        {
            InstructionAbortKind::Stage1Walk
        }
        FaultStatus::Translation | FaultStatus::AccessFlag => InstructionAbortKind::Unmapped,
        FaultStatus::Permission => InstructionAbortKind::Permission,
        FaultStatus::AddressSize => InstructionAbortKind::AddressSize,
        FaultStatus::External
        | FaultStatus::ExternalOnWalk
        | FaultStatus::TagCheck
        | FaultStatus::Alignment
        | FaultStatus::UnsupportedAtomicUpdate
        | FaultStatus::UnsupportedExclusive
        | FaultStatus::Lockdown => InstructionAbortKind::External,
    };
    ExitReason::InstructionAbort(InstructionAbort {
        kind,
        far: far(s, status),
        address: FaultAddress::of(s),
    })
}

const fn far(s: &Syndrome, status: FaultStatus) -> Option<u64> {
    match status {
        FaultStatus::External | FaultStatus::ExternalOnWalk if s.bit(FNV) => None,
        FaultStatus::AddressSize
        | FaultStatus::Translation
        | FaultStatus::AccessFlag
        | FaultStatus::Permission
        | FaultStatus::External
        | FaultStatus::ExternalOnWalk
        | FaultStatus::TagCheck
        | FaultStatus::Alignment
        | FaultStatus::GranuleProtection
        | FaultStatus::TlbConflict
        | FaultStatus::UnsupportedAtomicUpdate
        | FaultStatus::UnsupportedExclusive
        | FaultStatus::Lockdown => Some(s.far),
    }
}
