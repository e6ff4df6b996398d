//! The vector table: note down, resume. See [`crate::lane::Lane`] for the fields.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;

use crate::lane::{self, Lane};
use crate::{call, gic, println};

global_asm!(
    ".section .text.tests_vectors, \"ax\"",
    ".macro slot target",
    ".balign 128",
    "b \\target",
    ".endm",
    ".balign 2048",
    ".global tests_vectors",
    "tests_vectors:",
    "slot 10f",
    "slot 20f",
    "slot 20f",
    "slot 30f",
    "slot 10f",
    "slot 20f",
    "slot 20f",
    "slot 30f",
    "slot 40f",
    "slot 20f",
    "slot 20f",
    "slot 30f",
    "slot 40f",
    "slot 20f",
    "slot 20f",
    "slot 30f",
    // Synchronous, from EL1.
    "10: stp x0, x1, [sp, #-16]!",
    "mrs x0, tpidr_el1",
    "mrs x1, esr_el1",
    "str x1, [x0, #{esr}]",
    "mrs x1, far_el1",
    "str x1, [x0, #{far}]",
    "mrs x1, elr_el1",
    "str x1, [x0, #{elr}]",
    "mrs x1, spsr_el1",
    "str x1, [x0, #{spsr}]",
    // PSTATE.IL, .SS and a clear .D would fault again at once.
    "bic x1, x1, #(1 << 20)",
    "bic x1, x1, #(1 << 21)",
    "orr x1, x1, #(1 << 9)",
    "msr spsr_el1, x1",
    "ldr x1, [x0, #{faults}]",
    "add x1, x1, #1",
    "str x1, [x0, #{faults}]",
    "ldr x1, [x0, #{armed}]",
    "cbz x1, {unexpected}",
    "ldr x1, [x0, #{fixup}]",
    "cbnz x1, 12f",
    "ldr x1, [x0, #{esr}]",
    "lsr x1, x1, #26",
    // A branch to nowhere resumes at its caller; SVC's return address is already past it.
    "cmp x1, #0x21",
    "b.eq 13f",
    "cmp x1, #0x22",
    "b.eq 13f",
    "cmp x1, #0x15",
    "mrs x1, elr_el1",
    "b.eq 12f",
    "add x1, x1, #4",
    "12: msr elr_el1, x1",
    "ldp x0, x1, [sp], #16",
    "eret",
    "13: mov x1, x30",
    "b 12b",
    // IRQ and FIQ.
    "20: sub sp, sp, #192",
    "stp x0, x1, [sp]",
    "stp x2, x3, [sp, #16]",
    "stp x4, x5, [sp, #32]",
    "stp x6, x7, [sp, #48]",
    "stp x8, x9, [sp, #64]",
    "stp x10, x11, [sp, #80]",
    "stp x12, x13, [sp, #96]",
    "stp x14, x15, [sp, #112]",
    "stp x16, x17, [sp, #128]",
    "stp x18, x30, [sp, #144]",
    "mrs x0, elr_el1",
    "mrs x1, spsr_el1",
    "stp x0, x1, [sp, #160]",
    "bl {interrupt}",
    "ldp x0, x1, [sp, #160]",
    "msr elr_el1, x0",
    "msr spsr_el1, x1",
    "ldp x0, x1, [sp]",
    "ldp x2, x3, [sp, #16]",
    "ldp x4, x5, [sp, #32]",
    "ldp x6, x7, [sp, #48]",
    "ldp x8, x9, [sp, #64]",
    "ldp x10, x11, [sp, #80]",
    "ldp x12, x13, [sp, #96]",
    "ldp x14, x15, [sp, #112]",
    "ldp x16, x17, [sp, #128]",
    "ldp x18, x30, [sp, #144]",
    "add sp, sp, #192",
    "eret",
    // SError: counted, resumed.
    "30: stp x0, x1, [sp, #-16]!",
    "mrs x0, tpidr_el1",
    "mrs x1, esr_el1",
    "str x1, [x0, #{esr}]",
    "ldr x1, [x0, #{serrors}]",
    "add x1, x1, #1",
    "str x1, [x0, #{serrors}]",
    "ldp x0, x1, [sp], #16",
    "eret",
    // Synchronous, from EL0: back to the caller of `tests_el0`, with EL0's x0.
    "40: msr tpidr_el0, x1",
    "mrs x1, tpidr_el1",
    "str x0, [x1, #{argument}]",
    "mrs x0, esr_el1",
    "str x0, [x1, #{esr}]",
    "mrs x0, far_el1",
    "str x0, [x1, #{far}]",
    "mrs x0, elr_el1",
    "str x0, [x1, #{elr}]",
    "mrs x0, spsr_el1",
    "str x0, [x1, #{spsr}]",
    "ldr x0, [x1, #{faults}]",
    "add x0, x0, #1",
    "str x0, [x1, #{faults}]",
    "ldr x0, [x1, #{el1_sp}]",
    "mov sp, x0",
    "ldr x0, [x1, #{argument}]",
    "ldp x19, x20, [sp]",
    "ldp x21, x22, [sp, #16]",
    "ldp x23, x24, [sp, #32]",
    "ldp x25, x26, [sp, #48]",
    "ldp x27, x28, [sp, #64]",
    "ldp x29, x30, [sp, #80]",
    "add sp, sp, #96",
    "ret",
    // tests_el0(entry, x0, pstate): runs `entry` at EL0 until its next synchronous exception.
    ".global tests_el0",
    "tests_el0:",
    "sub sp, sp, #96",
    "stp x19, x20, [sp]",
    "stp x21, x22, [sp, #16]",
    "stp x23, x24, [sp, #32]",
    "stp x25, x26, [sp, #48]",
    "stp x27, x28, [sp, #64]",
    "stp x29, x30, [sp, #80]",
    "mov x4, sp",
    "mrs x3, tpidr_el1",
    "str x4, [x3, #{el1_sp}]",
    "msr elr_el1, x0",
    "msr spsr_el1, x2",
    "mov x0, x1",
    "eret",
    esr = const offset_of!(Lane, esr),
    elr = const offset_of!(Lane, elr),
    far = const offset_of!(Lane, far),
    spsr = const offset_of!(Lane, spsr),
    faults = const offset_of!(Lane, faults),
    fixup = const offset_of!(Lane, fixup),
    armed = const offset_of!(Lane, armed),
    serrors = const offset_of!(Lane, serrors),
    argument = const offset_of!(Lane, argument),
    el1_sp = const offset_of!(Lane, el1_sp),
    unexpected = sym unexpected,
    interrupt = sym interrupt,
);

extern "C" fn unexpected() -> ! {
    let fault = lane::current().last_fault();
    println!(
        "FAIL unexpected fault on lane {}: esr {:#x} elr {:#x} far {:#x} spsr {:#x}",
        lane::number(),
        fault.esr,
        fault.elr,
        fault.far,
        fault.spsr
    );
    call::exit(102)
}

extern "C" fn interrupt() {
    let lane = lane::current();
    let intid = gic::acknowledge();
    if intid >= gic::SPURIOUS_FIRST {
        return;
    }
    lane.irqs
        .store(lane.irqs.load(Relaxed).wrapping_add(1), Relaxed);
    crate::memory::call_hook(lane.hook.load(Relaxed), intid);
    gic::end(intid);
}

unsafe extern "C" {
    static tests_vectors: u8;
}

/// The table's address.
pub(crate) fn address() -> u64 {
    crate::memory::address_of(&raw const tests_vectors)
}
