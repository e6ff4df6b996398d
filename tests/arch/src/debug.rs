//! A guest that debugs itself: breakpoints, watchpoints, single step, and code to use them on.

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering::Relaxed;

use crate::call::caught;
use crate::lane::{self, Fault};
use crate::memory;

global_asm!(
    ".section .text.tests_debug, \"ax\"",
    // Four instructions to stop at, one of them trapped by the hypervisor.
    ".global tests_debug_code",
    "tests_debug_code:",
    "nop",
    "mrs x0, id_aa64pfr0_el1",
    "nop",
    "nop",
    "ret",
    // What is stepped over at EL1: plain, trapped register, calls of both kinds, an emulated device (a register the hot
    // path knows, one it does not, and a pair, which the hardware does not describe), plain.
    ".global tests_step_code",
    "tests_step_code:",
    "nop",
    "mrs x1, id_aa64isar0_el1",
    "hvc #0",
    "smc #0",
    "ldr w1, [x2, #4]",
    "ldr w1, [x2, #8]",
    "ldp w1, w3, [x2]",
    "add x1, x1, #1",
    "b .",
    // tests_step(entry): one instruction at EL1h with debug exceptions open and PSTATE.SS set; the exception resumes at
    // `tests_stepped`.
    ".global tests_step",
    "tests_step:",
    "msr elr_el1, x0",
    "movz x1, #0x01c5",
    "movk x1, #0x0020, lsl #16",
    "msr spsr_el1, x1",
    // PSCI_VERSION, for the calls; the GIC's distributor, for the loads.
    "movz w0, #0x8400, lsl #16",
    "movz x2, #0x0800, lsl #16",
    "eret",
    ".global tests_stepped",
    "tests_stepped:",
    "ret",
);

/// Instructions that [`step`] can step over.
pub const STEPS: u64 = 8;

unsafe extern "C" {
    fn tests_debug_code();
    fn tests_step(entry: u64);
    static tests_step_code: u32;
    static tests_stepped: u32;
}

macro_rules! register {
    ($(#[$doc:meta])* $read:ident, $write:ident, $name:literal) => {
        $(#[$doc])*
        #[must_use]
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading a debug register changes nothing.
            unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack, preserves_flags)) };
            value
        }

        $(#[$doc])*
        pub fn $write(value: u64) {
            // SAFETY: debug exceptions come to this runtime's vectors, which note them down and go on.
            unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

register!(/** Monitor debug system control. */ mdscr, set_mdscr, "mdscr_el1");
register!(/** Claim tags: which there are, and setting them. */ claims, set_claims, "s2_0_c7_c8_6");
register!(/** Claim tags: which are set, and clearing them. */ claimed, clear_claims, "s2_0_c7_c9_6");

/// The OS lock: locked or not.
pub fn set_os_lock(locked: bool) {
    // SAFETY: as for the registers above.
    unsafe {
        asm!("msr oslar_el1, {}", "isb", in(reg) u64::from(locked), options(nostack, preserves_flags))
    };
}

/// MDSCR_EL1.{MDE, KDE, SS}.
pub const MDE: u64 = 1 << 15;
/// Debug exceptions at EL1 too.
pub const KDE: u64 = 1 << 13;
/// Software step.
pub const SS: u64 = 1;

/// How many breakpoints and watchpoints ID_AA64DFR0_EL1 announces.
#[must_use]
pub fn counts() -> (u64, u64) {
    let dfr0: u64;
    // SAFETY: reading an ID register changes nothing.
    unsafe { asm!("mrs {}, id_aa64dfr0_el1", out(reg) dfr0, options(nostack, preserves_flags)) };
    ((dfr0 >> 12 & 0xf) + 1, (dfr0 >> 20 & 0xf) + 1)
}

/// Address of instruction `index` of the code that [`run`] runs.
#[must_use]
pub fn code(index: u64) -> u64 {
    memory::address_of_code(tests_debug_code as *const ()) + 4 * index
}

/// Runs that code at EL1 with debug exceptions open; an instruction that was stopped at is skipped.
///
/// # Errors
/// The last exception it took.
pub fn run() -> Result<(), Fault> {
    caught(|| {
        open();
        // SAFETY: four instructions that change x0 only.
        unsafe { tests_debug_code() };
        close();
    })
}

/// Opens debug exceptions at EL1. The vectors close them with every exception they note.
pub fn open() {
    // SAFETY: see `set_mdscr`.
    unsafe { asm!("msr daifclr, #8", "isb", options(nostack, preserves_flags)) };
}

/// Closes them.
pub fn close() {
    // SAFETY: masking breaks no promise of Rust.
    unsafe { asm!("msr daifset, #8", options(nostack, preserves_flags)) };
}

/// Steps over instruction `index` (below [`STEPS`]) of another piece of code at EL1: the exception, and where it was
/// due.
#[must_use]
pub fn step(index: u64) -> (Option<Fault>, u64) {
    let entry = memory::address_of(&raw const tests_step_code) + 4 * index;
    let lane = lane::current();
    lane.fixup
        .store(memory::address_of(&raw const tests_stepped), Relaxed);
    // SAFETY: the step's exception, or whatever comes instead, resumes at `tests_stepped`, which returns; the
    // instructions change x0 to x3 only.
    let outcome = caught(|| unsafe { tests_step(entry) });
    lane.fixup.store(0, Relaxed);
    (outcome.err(), entry + 4)
}
