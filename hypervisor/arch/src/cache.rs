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
    let first = base & !(line - 1);
    // Four at a time: this is what a guest's memory costs by the MiB.
    // SAFETY: as above; no EL2 object lies in guest memory, and nothing past the range's last line is touched.
    unsafe {
        asm!(
            "b 3f",
            "2: dc civac, {at}",
            "add {at}, {at}, {line}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            "3: cmp {at}, {most}",
            "b.lo 2b",
            "b 5f",
            "4: dc civac, {at}",
            "add {at}, {at}, {line}",
            "5: cmp {at}, {end}",
            "b.lo 4b",
            at = inout(reg) first => _,
            line = in(reg) line,
            most = in(reg) base.saturating_add(len).saturating_sub(3 * line),
            end = in(reg) base.saturating_add(len),
            options(nostack),
        );
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
