//! The layout of a list register, `ICH_LR<n>_EL2` (IHI 0069, 12.4.9).

/// State: the interrupt is pending.
pub const PENDING: u64 = 1 << 62;
/// State: the interrupt is active.
pub const ACTIVE: u64 = 1 << 63;
/// Both state bits; zero means the register is empty.
pub const STATE: u64 = PENDING | ACTIVE;
/// The virtual interrupt is tied to a physical one, which the guest's deactivation also deactivates.
pub const HW: u64 = 1 << 61;
/// Group 1 (else group 0).
pub const GROUP1: u64 = 1 << 60;
/// With `HW` = 0: a maintenance interrupt when the interrupt is deactivated.
pub const EOI: u64 = 1 << 41;

const PRIORITY_SHIFT: u32 = 48;
const PHYSICAL_SHIFT: u32 = 32;

/// A list register without state: `intid` at `priority` in its group.
#[inline]
#[must_use]
pub const fn template(intid: u32, priority: u8, group1: bool) -> u64 {
    let group = if group1 { GROUP1 } else { 0 };
    intid as u64 | (priority as u64) << PRIORITY_SHIFT | group
}

/// The `HW` bit together with the physical INTID `intid`.
#[inline]
#[must_use]
pub const fn linked(intid: u32) -> u64 {
    HW | (intid as u64) << PHYSICAL_SHIFT
}

/// The virtual INTID of a list register.
#[inline]
#[must_use]
pub const fn intid(lr: u64) -> u32 {
    super::bits::low32(lr)
}

/// The priority of a list register.
#[inline]
#[must_use]
pub const fn priority(lr: u64) -> u8 {
    super::bits::low8(lr >> PRIORITY_SHIFT)
}

/// The physical INTID of a list register whose `HW` bit is set.
#[inline]
#[must_use]
pub const fn physical(lr: u64) -> u32 {
    super::bits::low32(lr >> PHYSICAL_SHIFT) & 0x1fff
}
