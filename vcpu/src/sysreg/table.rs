//! The table of trapped registers.
//!
//! A row covers a contiguous range of encodings, so that a family such as `PMEVCNTR<n>_EL0` is one row. The rows are
//! sorted and disjoint, which the compiler checks, and [`lookup`] is a binary search.
//!
//! The trap bits that bring accesses here: HCR_EL2.{TID1, TID3, TIDCP, TACR, TLOR, TERR, IMO, FMO} set and HCR_EL2.{APK,
//! API, ATA, EnSCXT, FIEN} clear; MDCR_EL2.{TDRA, TDOSA, TDA, TPM, TPMCR, TTRF, TPMS} set and E2PB, E2TB clear;
//! CPTR_EL2.{TTA, TAM} set; of HCRX_EL2 only TALLINT set, and the fine-grained traps zero, where such features exist. Rows
//! also stand for what is trapped on some CPUs, or some of the time: HCR_EL2.{TSW, TID5}, ICC_SRE_EL2.Enable,
//! ICH_HCR_EL2.TDIR.

use super::SysReg;

/// What an access to a trapped register does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Policy {
    /// An identification register: reads give the guest's own value, writes are UNDEF.
    Id,
    /// Reads as zero, writes ignored.
    RazWi,
    /// Reads as zero; writes are UNDEF, the register being read-only.
    Raz,
    /// Writes ignored; reads are UNDEF, the register being write-only.
    Wi,
    /// MDSCR_EL1: the lane keeps the value, the hardware sees the part that is the guest's.
    Mdscr,
    /// A breakpoint's or watchpoint's register (CRm is its number, op2 which of the four): the same. UNDEF beyond the
    /// last one.
    DebugPoint,
    /// OSLAR_EL1: sets or clears the lane's OS lock.
    OsLock,
    /// OSLSR_EL1: shows it.
    OsLockStatus,
    /// DBGCLAIMSET_EL1: sets claim tags of the lane; reads show which exist.
    ClaimSet,
    /// DBGCLAIMCLR_EL1: clears them; reads show them.
    ClaimClear,
    /// A register of the interrupt controller's CPU interface.
    Gic(Gic),
    /// Cache maintenance by set and way.
    SetWay,
    /// UNDEF, as on a machine without the feature.
    Undef(Why),
}

/// Trapped registers of the GIC CPU interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gic {
    /// ICC_SGI0R_EL1
    Sgi0r,
    /// ICC_SGI1R_EL1
    Sgi1r,
    /// ICC_ASGI1R_EL1
    Asgi1r,
    /// ICC_DIR_EL1: traps while an interrupt is active without a list register (ICH_HCR_EL2.TDIR).
    Dir,
    /// ICC_SRE_EL1: the system register interface is on and stays on.
    Sre,
}

/// Why a listed register is UNDEF.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// The identification registers say that the feature is absent.
    Hidden,
    /// IMPLEMENTATION DEFINED: no two CPUs agree on what it does.
    ImplementationDefined,
    /// Not in the table.
    Unlisted,
}

/// Registers `first` to `last`, one policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The lowest encoding.
    pub first: SysReg,
    /// The highest.
    pub last: SysReg,
    /// The register, or the family: for tests, which compare the table with a text; EL2 carries none.
    #[cfg(test)]
    pub name: &'static str,
    /// What an access does.
    pub policy: Policy,
}

type Encoding = (u16, u16, u16, u16, u16);

const fn one(name: &'static str, e: Encoding, policy: Policy) -> Row {
    range(name, e, e, policy)
}

const fn range(name: &'static str, from: Encoding, to: Encoding, policy: Policy) -> Row {
    _ = name;
    Row {
        first: SysReg::new(from.0, from.1, from.2, from.3, from.4),
        last: SysReg::new(to.0, to.1, to.2, to.3, to.4),
        #[cfg(test)]
        name,
        policy,
    }
}

/// The four registers of breakpoint and watchpoint `number`.
const fn point(number: u16) -> Row {
    range(
        "DBG{BVR,BCR,WVR,WCR}<n>_EL1",
        (2, 0, 0, number, 4),
        (2, 0, 0, number, 7),
        Policy::DebugPoint,
    )
}

const HIDDEN: Policy = Policy::Undef(Why::Hidden);
const IMPDEF: Policy = Policy::Undef(Why::ImplementationDefined);

/// Every trapped register, ascending.
pub const TABLE: &[Row] = &[
    // Set/way maintenance (op0 = 1).
    one("DC ISW", (1, 0, 7, 6, 2), Policy::SetWay),
    one("DC IGSW", (1, 0, 7, 6, 4), HIDDEN),
    one("DC IGDSW", (1, 0, 7, 6, 6), HIDDEN),
    one("DC CSW", (1, 0, 7, 10, 2), Policy::SetWay),
    one("DC CGSW", (1, 0, 7, 10, 4), HIDDEN),
    one("DC CGDSW", (1, 0, 7, 10, 6), HIDDEN),
    one("DC CISW", (1, 0, 7, 14, 2), Policy::SetWay),
    one("DC CIGSW", (1, 0, 7, 14, 4), HIDDEN),
    one("DC CIGDSW", (1, 0, 7, 14, 6), HIDDEN),
    range(
        "SYS IMPDEF (C11)",
        (1, 0, 11, 0, 0),
        (1, 0, 11, 15, 7),
        IMPDEF,
    ),
    range(
        "SYS IMPDEF (C15)",
        (1, 0, 15, 0, 0),
        (1, 0, 15, 15, 7),
        IMPDEF,
    ),
    // Debug (op0 = 2).
    one("OSDTRRX_EL1", (2, 0, 0, 0, 2), Policy::RazWi),
    point(0),
    point(1),
    one("MDCCINT_EL1", (2, 0, 0, 2, 0), Policy::RazWi),
    one("MDSCR_EL1", (2, 0, 0, 2, 2), Policy::Mdscr),
    point(2),
    one("OSDTRTX_EL1", (2, 0, 0, 3, 2), Policy::RazWi),
    point(3),
    point(4),
    point(5),
    one("OSECCR_EL1", (2, 0, 0, 6, 2), Policy::RazWi),
    point(6),
    point(7),
    point(8),
    point(9),
    point(10),
    point(11),
    point(12),
    point(13),
    point(14),
    point(15),
    one("MDRAR_EL1", (2, 0, 1, 0, 0), Policy::Raz),
    one("OSLAR_EL1", (2, 0, 1, 0, 4), Policy::OsLock),
    one("OSLSR_EL1", (2, 0, 1, 1, 4), Policy::OsLockStatus),
    one("OSDLR_EL1", (2, 0, 1, 3, 4), Policy::RazWi),
    one("DBGPRCR_EL1", (2, 0, 1, 4, 4), Policy::RazWi),
    one("DBGCLAIMSET_EL1", (2, 0, 7, 8, 6), Policy::ClaimSet),
    one("DBGCLAIMCLR_EL1", (2, 0, 7, 9, 6), Policy::ClaimClear),
    one("DBGAUTHSTATUS_EL1", (2, 0, 7, 14, 6), Policy::Raz),
    range("TRC*, BRB*", (2, 1, 0, 0, 0), (2, 1, 15, 15, 7), HIDDEN),
    one("MDCCSR_EL0", (2, 3, 0, 1, 0), Policy::Raz),
    one("DBGDTR_EL0", (2, 3, 0, 4, 0), Policy::RazWi),
    one("DBGDTRRX_EL0/DBGDTRTX_EL0", (2, 3, 0, 5, 0), Policy::RazWi),
    // EL1 registers.
    one("REVIDR_EL1", (3, 0, 0, 0, 6), Policy::Raz),
    range("ID_*_EL1", (3, 0, 0, 1, 0), (3, 0, 0, 7, 7), Policy::Id),
    one("ACTLR_EL1", (3, 0, 1, 0, 1), Policy::RazWi),
    one("SCTLR2_EL1", (3, 0, 1, 0, 3), HIDDEN),
    one("RGSR_EL1", (3, 0, 1, 0, 5), HIDDEN),
    one("GCR_EL1", (3, 0, 1, 0, 6), HIDDEN),
    one("ZCR_EL1", (3, 0, 1, 2, 0), HIDDEN),
    one("TRFCR_EL1", (3, 0, 1, 2, 1), HIDDEN),
    one("SMPRI_EL1", (3, 0, 1, 2, 4), HIDDEN),
    one("SMCR_EL1", (3, 0, 1, 2, 6), HIDDEN),
    one("TCR2_EL1", (3, 0, 2, 0, 3), HIDDEN),
    range(
        "API{A,B}Key{Lo,Hi}_EL1",
        (3, 0, 2, 1, 0),
        (3, 0, 2, 1, 3),
        HIDDEN,
    ),
    range(
        "APD{A,B}Key{Lo,Hi}_EL1",
        (3, 0, 2, 2, 0),
        (3, 0, 2, 2, 3),
        HIDDEN,
    ),
    range(
        "APGAKey{Lo,Hi}_EL1",
        (3, 0, 2, 3, 0),
        (3, 0, 2, 3, 1),
        HIDDEN,
    ),
    range(
        "GCSCR_EL1, GCSPR_EL1, GCSCRE0_EL1",
        (3, 0, 2, 5, 0),
        (3, 0, 2, 5, 2),
        HIDDEN,
    ),
    // Only writes trap (HCRX_EL2.TALLINT).
    one("ALLINT", (3, 0, 4, 3, 0), HIDDEN),
    one("ERRIDR_EL1", (3, 0, 5, 3, 0), HIDDEN),
    one("ERRSELR_EL1", (3, 0, 5, 3, 1), HIDDEN),
    one("ERXGSR_EL1", (3, 0, 5, 3, 2), HIDDEN),
    range(
        "ERX{FR,CTLR,STATUS,ADDR,PFGF,PFGCTL,PFGCDN}_EL1",
        (3, 0, 5, 4, 0),
        (3, 0, 5, 4, 6),
        HIDDEN,
    ),
    range("ERXMISC<n>_EL1", (3, 0, 5, 5, 0), (3, 0, 5, 5, 3), HIDDEN),
    range(
        "TFSR_EL1, TFSRE0_EL1",
        (3, 0, 5, 6, 0),
        (3, 0, 5, 6, 1),
        HIDDEN,
    ),
    range("PMS*_EL1", (3, 0, 9, 9, 0), (3, 0, 9, 9, 7), HIDDEN),
    range("PMB*_EL1", (3, 0, 9, 10, 0), (3, 0, 9, 10, 7), HIDDEN),
    range("TRB*_EL1", (3, 0, 9, 11, 0), (3, 0, 9, 11, 7), HIDDEN),
    range(
        "PMINTENSET_EL1, PMINTENCLR_EL1",
        (3, 0, 9, 14, 1),
        (3, 0, 9, 14, 2),
        HIDDEN,
    ),
    one("PMMIR_EL1", (3, 0, 9, 14, 6), HIDDEN),
    range(
        "MAIR2_EL1, PIRE0_EL1, PIR_EL1, POR_EL1, S2POR_EL1",
        (3, 0, 10, 2, 1),
        (3, 0, 10, 2, 5),
        HIDDEN,
    ),
    one("AMAIR2_EL1", (3, 0, 10, 3, 1), HIDDEN),
    range(
        "LORSA_EL1, LOREA_EL1, LORN_EL1, LORC_EL1",
        (3, 0, 10, 4, 0),
        (3, 0, 10, 4, 3),
        HIDDEN,
    ),
    one("MPAMIDR_EL1", (3, 0, 10, 4, 4), HIDDEN),
    one("LORID_EL1", (3, 0, 10, 4, 7), HIDDEN),
    range(
        "MPAM{1,0,SM}_EL1",
        (3, 0, 10, 5, 0),
        (3, 0, 10, 5, 3),
        HIDDEN,
    ),
    range(
        "IMPDEF (C11), EL1",
        (3, 0, 11, 0, 0),
        (3, 0, 11, 15, 7),
        IMPDEF,
    ),
    one("ICC_DIR_EL1", (3, 0, 12, 11, 1), Policy::Gic(Gic::Dir)),
    one("ICC_SGI1R_EL1", (3, 0, 12, 11, 5), Policy::Gic(Gic::Sgi1r)),
    one(
        "ICC_ASGI1R_EL1",
        (3, 0, 12, 11, 6),
        Policy::Gic(Gic::Asgi1r),
    ),
    one("ICC_SGI0R_EL1", (3, 0, 12, 11, 7), Policy::Gic(Gic::Sgi0r)),
    one("ICC_SRE_EL1", (3, 0, 12, 12, 5), Policy::Gic(Gic::Sre)),
    one("ACCDATA_EL1", (3, 0, 13, 0, 5), HIDDEN),
    one("SCXTNUM_EL1", (3, 0, 13, 0, 7), HIDDEN),
    range(
        "IMPDEF (C15), EL1",
        (3, 0, 15, 0, 0),
        (3, 0, 15, 15, 7),
        IMPDEF,
    ),
    one("GMID_EL1", (3, 1, 0, 0, 4), HIDDEN),
    one("SMIDR_EL1", (3, 1, 0, 0, 6), HIDDEN),
    one("AIDR_EL1", (3, 1, 0, 0, 7), Policy::Raz),
    range(
        "IMPDEF (C11), op1 1",
        (3, 1, 11, 0, 0),
        (3, 1, 11, 15, 7),
        IMPDEF,
    ),
    range(
        "IMPDEF (C15), op1 1",
        (3, 1, 15, 0, 0),
        (3, 1, 15, 15, 7),
        IMPDEF,
    ),
    // EL0 registers.
    one("GCSPR_EL0", (3, 3, 2, 5, 1), HIDDEN),
    one("SVCR", (3, 3, 4, 2, 2), HIDDEN),
    one("FPMR", (3, 3, 4, 4, 2), HIDDEN),
    range(
        "PM{CR,CNTENSET,CNTENCLR,OVSCLR,SWINC,SELR,CEID0,CEID1}_EL0",
        (3, 3, 9, 12, 0),
        (3, 3, 9, 12, 7),
        HIDDEN,
    ),
    range(
        "PM{CCNTR,XEVTYPER,XEVCNTR}_EL0",
        (3, 3, 9, 13, 0),
        (3, 3, 9, 13, 2),
        HIDDEN,
    ),
    one("PMUSERENR_EL0", (3, 3, 9, 14, 0), HIDDEN),
    one("PMOVSSET_EL0", (3, 3, 9, 14, 3), HIDDEN),
    one("POR_EL0", (3, 3, 10, 2, 4), HIDDEN),
    range(
        "IMPDEF (C11), EL0",
        (3, 3, 11, 0, 0),
        (3, 3, 11, 15, 7),
        IMPDEF,
    ),
    one("TPIDR2_EL0", (3, 3, 13, 0, 5), HIDDEN),
    one("SCXTNUM_EL0", (3, 3, 13, 0, 7), HIDDEN),
    range("AM*_EL0", (3, 3, 13, 2, 0), (3, 3, 13, 15, 7), HIDDEN),
    range(
        "PMEVCNTR<n>_EL0",
        (3, 3, 14, 8, 0),
        (3, 3, 14, 11, 6),
        HIDDEN,
    ),
    range(
        "PMEVTYPER<n>_EL0, PMCCFILTR_EL0",
        (3, 3, 14, 12, 0),
        (3, 3, 14, 15, 7),
        HIDDEN,
    ),
    range(
        "IMPDEF (C15), EL0",
        (3, 3, 15, 0, 0),
        (3, 3, 15, 15, 7),
        IMPDEF,
    ),
];

/// The encodings of the identification registers: op0 3, op1 0, CRn 0, CRm 1 to 7.
pub(super) const ID_FIRST: u16 = SysReg::new(3, 0, 0, 1, 0).raw();

const _: () = {
    let mut rest = TABLE;
    let mut above = 0;
    while let [row, tail @ ..] = rest {
        assert!(row.first.raw() >= above, "sorted and disjoint");
        assert!(row.last.raw() >= row.first.raw());
        above = row.last.raw() + 1;
        rest = tail;
    }
};

/// The row of `reg`, if the table has one.
#[must_use]
pub fn lookup(reg: SysReg) -> Option<&'static Row> {
    let after = TABLE.partition_point(|row| row.first <= reg);
    let row = TABLE.get(after.checked_sub(1)?)?;
    (reg <= row.last).then_some(row)
}
