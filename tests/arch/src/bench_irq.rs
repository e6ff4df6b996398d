//! The vectors and the far ends of the interrupt rows.
//!
//! The first instruction of the handler reads the counter: what lies before it is what the row measures. Register contract
//! while these vectors are in place: x9, x10 are the handler's; x11 = where the stamp goes; x12 = what CNTV_CTL becomes (0).

use core::arch::global_asm;

use crate::memory;

global_asm!(
    ".section .text.tests_bench, \"ax\"",
    ".balign 2048",
    ".global tests_bench_vectors",
    "tests_bench_vectors:",
    // Synchronous, IRQ, FIQ, SError with SP_EL0: not used.
    ".rept 4",
    ".balign 128",
    "b .",
    ".endr",
    ".balign 128",
    "b .",
    ".balign 128",
    "mrs x9, cntvct_el0",
    "mrs x10, S3_0_C12_C12_0",
    "msr cntv_ctl_el0, x12",
    "str x9, [x11]",
    "hint #113",
    // What a kernel's handler would save and restore; without it the self round trip would be shorter than its peers'.
    ".rept {padding}",
    "nop",
    ".endr",
    "msr S3_0_C12_C12_1, x10",
    "eret",
    ".rept 10",
    ".balign 128",
    "b .",
    ".endr",
    ".balign 128",
    // First instruction of a lane turned on by the bench. x0 = where the stamp goes.
    ".global tests_bench_cpu_on_entry",
    "tests_bench_cpu_on_entry:",
    "mrs x9, cntvct_el0",
    "str x9, [x0]",
    "hint #113",
    "dsb sy",
    "movz w0, #0x8400, lsl #16",
    "movk w0, #2",
    "hvc #0",
    "b .",
    padding = const HANDLER_PADDING,
);

/// Makes the bare round trip 29 instructions, as the yardstick's was; two are the marks.
const HANDLER_PADDING: usize = 14;

unsafe extern "C" {
    static tests_bench_vectors: u8;
    fn tests_bench_cpu_on_entry();
}

pub(crate) fn vectors() -> u64 {
    memory::address_of(&raw const tests_bench_vectors)
}

pub(crate) fn cpu_on_entry() -> u64 {
    memory::address_of_code(tests_bench_cpu_on_entry as *const ())
}
