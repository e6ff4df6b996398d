//! Every register of the distributor and of a redistributor, one row a range: what it does and which widths it takes.
//!
//! A width or alignment that a row does not list is refused: the access becomes an external abort in the guest
//! (IHI 0069, 12.1.3 leaves it to the implementation). Everything reserved reads as zero and ignores writes.

/// What accesses to a range do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Emulated.
    Implemented,
    /// Reads as a constant, ignores writes.
    ReadOnly,
    /// Reads as zero, ignores writes.
    RazWi,
    /// The access is an external abort in the guest.
    Refused,
}

/// The emulated registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Nothing there.
    None,
    /// `GICD_CTLR`.
    Control,
    /// `GICD_TYPER`.
    Type,
    /// `GICD_IIDR` and `GICR_IIDR`.
    Implementer,
    /// `GICR_TYPER`.
    LaneType,
    /// `GICR_WAKER`.
    Waker,
    /// `IGROUPR`.
    Group,
    /// `ISENABLER`.
    SetEnable,
    /// `ICENABLER`.
    ClearEnable,
    /// `ISPENDR`.
    SetPending,
    /// `ICPENDR`.
    ClearPending,
    /// `ISACTIVER`.
    SetActive,
    /// `ICACTIVER`.
    ClearActive,
    /// `IPRIORITYR`.
    Priority,
    /// `ICFGR`.
    Config,
    /// `IROUTER`.
    Route,
    /// The identification block at the end of the frame.
    Identification,
}

/// One range of registers.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The architecture's name: for tests; EL2 carries none.
    #[cfg(test)]
    pub name: &'static str,
    /// Where it begins and ends, in words: both frames are less than 2^16 of them.
    first: u16,
    end: u16,
    /// Legal widths in bytes, OR-ed.
    widths: u8,
    /// What accesses do.
    pub policy: Policy,
    /// The register that answers.
    pub register: Register,
    /// See [`base`](Self::base).
    base: u8,
}

impl Row {
    /// Offset of the first byte.
    #[must_use]
    pub fn first(&self) -> u32 {
        u32::from(self.first) * 4
    }

    /// Offset of the byte after the last.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.end) * 4
    }

    /// Legal widths in bytes, OR-ed.
    #[must_use]
    pub fn widths(&self) -> u32 {
        u32::from(self.widths)
    }

    /// The INTID of the first bit, byte, field or doubleword of the range.
    #[must_use]
    pub fn base(&self) -> u32 {
        u32::from(self.base)
    }
}

/// A byte offset in words.
const fn words(offset: u32) -> u16 {
    assert!(offset.is_multiple_of(4) && offset < 1 << 18);
    #[expect(clippy::cast_possible_truncation, reason = "below 2^16")]
    let words = (offset / 4) as u16;
    words
}

const B: u8 = 1;
const W: u8 = 4;
const D: u8 = 8;

const fn real(
    name: &'static str,
    first: u32,
    end: u32,
    widths: u8,
    register: Register,
    base: u8,
) -> Row {
    _ = name;
    Row {
        #[cfg(test)]
        name,
        first: words(first),
        end: words(end),
        widths,
        policy: Policy::Implemented,
        register,
        base,
    }
}

const fn fixed(name: &'static str, first: u32, end: u32, widths: u8, register: Register) -> Row {
    _ = name;
    Row {
        #[cfg(test)]
        name,
        first: words(first),
        end: words(end),
        widths,
        policy: Policy::ReadOnly,
        register,
        base: 0,
    }
}

const fn zero(name: &'static str, first: u32, end: u32, widths: u8) -> Row {
    _ = name;
    Row {
        #[cfg(test)]
        name,
        first: words(first),
        end: words(end),
        widths,
        policy: Policy::RazWi,
        register: Register::None,
        base: 0,
    }
}

use Register as R;

/// The distributor, `GICD_*`, 64 KiB (IHI 0069, 12.8). Ordered and without gaps.
pub const DISTRIBUTOR: &[Row] = &[
    real("GICD_CTLR", 0x0000, 0x0004, W, R::Control, 0),
    fixed("GICD_TYPER", 0x0004, 0x0008, W, R::Type),
    fixed("GICD_IIDR", 0x0008, 0x000c, W, R::Implementer),
    zero("GICD_TYPER2", 0x000c, 0x0010, W),
    zero("GICD_STATUSR", 0x0010, 0x0014, W),
    zero("reserved, implementation defined", 0x0014, 0x0040, W),
    // GICD_TYPER.MBIS = 0: message-based SPIs do not exist.
    zero(
        "GICD_SETSPI_NSR, CLRSPI_NSR, SETSPI_SR, CLRSPI_SR",
        0x0040,
        0x0060,
        W,
    ),
    zero("reserved, implementation defined", 0x0060, 0x0080, W),
    zero("GICD_IGROUPR0 (affinity routing)", 0x0080, 0x0084, W),
    real("GICD_IGROUPR<n>", 0x0084, 0x008c, W, R::Group, 32),
    zero("GICD_IGROUPR<n>, absent INTIDs", 0x008c, 0x0100, W),
    zero("GICD_ISENABLER0 (affinity routing)", 0x0100, 0x0104, W),
    real("GICD_ISENABLER<n>", 0x0104, 0x010c, W, R::SetEnable, 32),
    zero("GICD_ISENABLER<n>, absent INTIDs", 0x010c, 0x0180, W),
    zero("GICD_ICENABLER0 (affinity routing)", 0x0180, 0x0184, W),
    real("GICD_ICENABLER<n>", 0x0184, 0x018c, W, R::ClearEnable, 32),
    zero("GICD_ICENABLER<n>, absent INTIDs", 0x018c, 0x0200, W),
    zero("GICD_ISPENDR0 (affinity routing)", 0x0200, 0x0204, W),
    real("GICD_ISPENDR<n>", 0x0204, 0x020c, W, R::SetPending, 32),
    zero("GICD_ISPENDR<n>, absent INTIDs", 0x020c, 0x0280, W),
    zero("GICD_ICPENDR0 (affinity routing)", 0x0280, 0x0284, W),
    real("GICD_ICPENDR<n>", 0x0284, 0x028c, W, R::ClearPending, 32),
    zero("GICD_ICPENDR<n>, absent INTIDs", 0x028c, 0x0300, W),
    zero("GICD_ISACTIVER0 (affinity routing)", 0x0300, 0x0304, W),
    real("GICD_ISACTIVER<n>", 0x0304, 0x030c, W, R::SetActive, 32),
    zero("GICD_ISACTIVER<n>, absent INTIDs", 0x030c, 0x0380, W),
    zero("GICD_ICACTIVER0 (affinity routing)", 0x0380, 0x0384, W),
    real("GICD_ICACTIVER<n>", 0x0384, 0x038c, W, R::ClearActive, 32),
    zero("GICD_ICACTIVER<n>, absent INTIDs", 0x038c, 0x0400, W),
    zero(
        "GICD_IPRIORITYR0-7 (affinity routing)",
        0x0400,
        0x0420,
        B | W,
    ),
    real("GICD_IPRIORITYR<n>", 0x0420, 0x0460, B | W, R::Priority, 32),
    zero("GICD_IPRIORITYR<n>, absent INTIDs", 0x0460, 0x0800, B | W),
    zero(
        "GICD_ITARGETSR<n> (affinity routing)",
        0x0800,
        0x0c00,
        B | W,
    ),
    zero("GICD_ICFGR0-1 (affinity routing)", 0x0c00, 0x0c08, W),
    real("GICD_ICFGR<n>", 0x0c08, 0x0c18, W, R::Config, 32),
    zero("GICD_ICFGR<n>, absent INTIDs", 0x0c18, 0x0d00, W),
    // GICD_CTLR.DS = 1: one security state.
    zero("GICD_IGRPMODR<n>", 0x0d00, 0x0e00, W),
    zero("GICD_NSACR<n>", 0x0e00, 0x0f00, W),
    zero("GICD_SGIR (affinity routing)", 0x0f00, 0x0f10, W),
    zero(
        "GICD_CPENDSGIR<n>, GICD_SPENDSGIR<n> (affinity routing)",
        0x0f10,
        0x0f30,
        B | W,
    ),
    zero("reserved", 0x0f30, 0x0f80, W),
    zero("GICD_INMIR<n>", 0x0f80, 0x1000, W),
    // GICD_TYPER.ESPI = 0: no extended SPIs.
    zero("GICD_*<n>E, bits", 0x1000, 0x2000, W),
    zero("GICD_IPRIORITYR<n>E", 0x2000, 0x2400, B | W),
    zero("GICD_*<n>E, bits and fields", 0x2400, 0x6000, W),
    zero("GICD_IROUTER0-31, reserved", 0x6000, 0x6100, W | D),
    real("GICD_IROUTER<n>", 0x6100, 0x6300, W | D, R::Route, 32),
    zero("GICD_IROUTER<n>, absent INTIDs", 0x6300, 0x8000, W | D),
    zero("GICD_IROUTER<n>E", 0x8000, 0xa000, W | D),
    zero("reserved, implementation defined", 0xa000, 0xffd0, W),
    fixed(
        "GICD_PIDR<n>, GICD_CIDR<n>",
        0xffd0,
        0x1_0000,
        W,
        R::Identification,
    ),
];

/// One redistributor, `GICR_*`: the RD frame and the SGI frame, 128 KiB (IHI 0069, 12.9 to 12.11).
/// Ordered and without gaps.
pub const REDISTRIBUTOR: &[Row] = &[
    // GICR_TYPER.PLPIS = 0: no LPIs, hence none of their registers.
    zero("GICR_CTLR", 0x0000, 0x0004, W),
    fixed("GICR_IIDR", 0x0004, 0x0008, W, R::Implementer),
    fixed("GICR_TYPER", 0x0008, 0x0010, W | D, R::LaneType),
    zero("GICR_STATUSR", 0x0010, 0x0014, W),
    real("GICR_WAKER", 0x0014, 0x0018, W, R::Waker, 0),
    zero("GICR_MPAMIDR, GICR_PARTIDR", 0x0018, 0x0020, W),
    zero("reserved, implementation defined", 0x0020, 0x0040, W),
    zero("GICR_SETLPIR, GICR_CLRLPIR", 0x0040, 0x0050, W | D),
    zero("reserved", 0x0050, 0x0070, W),
    zero("GICR_PROPBASER, GICR_PENDBASER", 0x0070, 0x0080, W | D),
    zero("reserved", 0x0080, 0x00a0, W),
    zero("GICR_INVLPIR", 0x00a0, 0x00a8, W | D),
    zero("reserved", 0x00a8, 0x00b0, W),
    zero("GICR_INVALLR", 0x00b0, 0x00b8, W | D),
    zero("reserved", 0x00b8, 0x00c0, W),
    zero("GICR_SYNCR", 0x00c0, 0x00c4, W),
    zero("reserved, implementation defined", 0x00c4, 0xffd0, W),
    fixed(
        "GICR_PIDR<n>, GICR_CIDR<n>",
        0xffd0,
        0x1_0000,
        W,
        R::Identification,
    ),
    zero("reserved (SGI frame)", 0x1_0000, 0x1_0080, W),
    real("GICR_IGROUPR0", 0x1_0080, 0x1_0084, W, R::Group, 0),
    zero("GICR_IGROUPR<n>E", 0x1_0084, 0x1_0100, W),
    real("GICR_ISENABLER0", 0x1_0100, 0x1_0104, W, R::SetEnable, 0),
    zero("GICR_ISENABLER<n>E", 0x1_0104, 0x1_0180, W),
    real("GICR_ICENABLER0", 0x1_0180, 0x1_0184, W, R::ClearEnable, 0),
    zero("GICR_ICENABLER<n>E", 0x1_0184, 0x1_0200, W),
    real("GICR_ISPENDR0", 0x1_0200, 0x1_0204, W, R::SetPending, 0),
    zero("GICR_ISPENDR<n>E", 0x1_0204, 0x1_0280, W),
    real("GICR_ICPENDR0", 0x1_0280, 0x1_0284, W, R::ClearPending, 0),
    zero("GICR_ICPENDR<n>E", 0x1_0284, 0x1_0300, W),
    real("GICR_ISACTIVER0", 0x1_0300, 0x1_0304, W, R::SetActive, 0),
    zero("GICR_ISACTIVER<n>E", 0x1_0304, 0x1_0380, W),
    real("GICR_ICACTIVER0", 0x1_0380, 0x1_0384, W, R::ClearActive, 0),
    zero("GICR_ICACTIVER<n>E", 0x1_0384, 0x1_0400, W),
    real(
        "GICR_IPRIORITYR<n>",
        0x1_0400,
        0x1_0420,
        B | W,
        R::Priority,
        0,
    ),
    zero("GICR_IPRIORITYR<n>E", 0x1_0420, 0x1_0460, B | W),
    zero("reserved", 0x1_0460, 0x1_0c00, W),
    real(
        "GICR_ICFGR0, GICR_ICFGR1",
        0x1_0c00,
        0x1_0c08,
        W,
        R::Config,
        0,
    ),
    zero("GICR_ICFGR<n>E", 0x1_0c08, 0x1_0d00, W),
    zero("GICR_IGRPMODR<n>", 0x1_0d00, 0x1_0e00, W),
    zero("GICR_NSACR", 0x1_0e00, 0x1_0e04, W),
    zero("reserved", 0x1_0e04, 0x1_0f80, W),
    zero("GICR_INMIR<n>", 0x1_0f80, 0x1_1000, W),
    zero("reserved, implementation defined", 0x1_1000, 0x2_0000, W),
];

/// The row of an access, if its width, alignment and range are legal.
pub(super) fn find(table: &'static [Row], offset: u64, bytes: u32) -> Option<&'static Row> {
    let row = table
        .iter()
        .find(|row| offset >= u64::from(row.first()) && offset < u64::from(row.end()))?;
    (row.widths() & bytes != 0
        && bytes.is_power_of_two()
        && offset & u64::from(bytes - 1) == 0
        && offset + u64::from(bytes) <= u64::from(row.end())
        && row.policy != Policy::Refused)
        .then_some(row)
}
