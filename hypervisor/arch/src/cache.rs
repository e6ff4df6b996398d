//! Cache maintenance by address (Arm ARM D7.5).

use core::arch::asm;

/// The smallest data cache line, in bytes (CTR_EL0.DminLine).
fn data_line() -> u64 {
    let ctr: u64;
    // SAFETY: CTR_EL0 is readable at EL2.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << ((ctr >> 16) & 0xF)
}

/// Cleans the lines of a range to the point of coherency: observers without caches see it.
pub(crate) fn clean_to_memory(base: u64, len: u64) {
    let line = data_line();
    let mut at = base & !(line - 1);
    while at < base.saturating_add(len) {
        // SAFETY: cleaning changes no contents; the range is mapped EL2 memory.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Cleans and invalidates a range to the point of coherency and drops all instruction cache lines:
/// what a guest finds when it starts with its MMU and caches off.
pub(crate) fn hand_over(base: u64, len: u64) {
    let line = data_line();
    let mut at = base & !(line - 1);
    while at < base.saturating_add(len) {
        // SAFETY: as above; no EL2 object lies in guest memory.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    // SAFETY: barriers and an instruction cache invalidation change no contents.
    unsafe {
        asm!(
            "dsb sy",
            "ic ialluis",
            "dsb sy",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}
