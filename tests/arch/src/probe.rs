//! One instruction at a time, with every register in view, and what became of it.
//!
//! The instruction is patched into a slot of this image. One lane at a time may use the slots: a second one is told so
//! by a panic, rather than run the other's instruction.

use core::arch::{asm, global_asm};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::call::caught;
use crate::lane::{self, Fault};
use crate::memory;

global_asm!(
    ".section .text.tests_probe, \"ax\"",
    // tests_run(x: *mut [u64; 31]): loads x0..x30, runs the slot, stores x0..x30.
    ".global tests_run",
    "tests_run:",
    "sub sp, sp, #112",
    "stp x19, x20, [sp]",
    "stp x21, x22, [sp, #16]",
    "stp x23, x24, [sp, #32]",
    "stp x25, x26, [sp, #48]",
    "stp x27, x28, [sp, #64]",
    "stp x29, x30, [sp, #80]",
    "str x0, [sp, #96]",
    "ldp x2, x3, [x0, #16]",
    "ldp x4, x5, [x0, #32]",
    "ldp x6, x7, [x0, #48]",
    "ldp x8, x9, [x0, #64]",
    "ldp x10, x11, [x0, #80]",
    "ldp x12, x13, [x0, #96]",
    "ldp x14, x15, [x0, #112]",
    "ldp x16, x17, [x0, #128]",
    "ldp x18, x19, [x0, #144]",
    "ldp x20, x21, [x0, #160]",
    "ldp x22, x23, [x0, #176]",
    "ldp x24, x25, [x0, #192]",
    "ldp x26, x27, [x0, #208]",
    "ldp x28, x29, [x0, #224]",
    "ldr x30, [x0, #240]",
    "ldp x0, x1, [x0]",
    ".global tests_run_slot",
    "tests_run_slot:",
    ".rept {slots}",
    "nop",
    ".endr",
    "stp x0, x1, [sp, #-16]!",
    "ldr x0, [sp, #112]",
    "stp x2, x3, [x0, #16]",
    "stp x4, x5, [x0, #32]",
    "stp x6, x7, [x0, #48]",
    "stp x8, x9, [x0, #64]",
    "stp x10, x11, [x0, #80]",
    "stp x12, x13, [x0, #96]",
    "stp x14, x15, [x0, #112]",
    "stp x16, x17, [x0, #128]",
    "stp x18, x19, [x0, #144]",
    "stp x20, x21, [x0, #160]",
    "stp x22, x23, [x0, #176]",
    "stp x24, x25, [x0, #192]",
    "stp x26, x27, [x0, #208]",
    "stp x28, x29, [x0, #224]",
    "str x30, [x0, #240]",
    "ldp x2, x3, [sp], #16",
    "stp x2, x3, [x0]",
    "ldp x19, x20, [sp]",
    "ldp x21, x22, [sp, #16]",
    "ldp x23, x24, [sp, #32]",
    "ldp x25, x26, [sp, #48]",
    "ldp x27, x28, [sp, #64]",
    "ldp x29, x30, [sp, #80]",
    "add sp, sp, #112",
    "ret",
    // The EL0 slot: the instruction, then back.
    ".global tests_el0_slot",
    "tests_el0_slot:",
    "nop",
    "svc #0x77",
    // Four words of EL0 in AArch32.
    ".global tests_el0_words",
    "tests_el0_words:",
    ".rept {slots}",
    "nop",
    ".endr",
    slots = const SLOTS,
);

/// Instructions the slot holds.
pub const SLOTS: usize = 4;
const NOP: u32 = 0xd503_201f;

unsafe extern "C" {
    fn tests_run(x: *mut [u64; 31]);
    fn tests_el0(entry: u64, x0: u64, pstate: u64) -> u64;
    static tests_run_slot: [u32; SLOTS];
    static tests_el0_slot: u32;
    static tests_el0_words: [u32; SLOTS];
}

/// Whether a lane is in a slot.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Writes an instruction into a slot and makes the instruction stream see it (DDI 0487 B2.4.4).
fn patch(slot: *const u32, index: usize, word: u32) {
    let address = slot.wrapping_add(index).cast_mut();
    // SAFETY: only called with the slots of this file, which are code that no Rust item describes.
    unsafe { address.write_volatile(word) };
    // SAFETY: cache maintenance of that word.
    unsafe {
        asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb", in(reg) address, options(nostack, preserves_flags));
    }
}

/// Patches these words into a slot and runs `body`, which goes through it.
fn with<R>(slot: *const u32, words: &[u32], body: impl FnOnce() -> R) -> R {
    let busy = BUSY.swap(true, Ordering::Acquire);
    assert!(!busy, "two lanes probe at once");
    for (index, word) in words.iter().enumerate() {
        patch(slot, index, *word);
    }
    let result = body();
    BUSY.store(false, Ordering::Release);
    result
}

/// Runs one instruction at EL1 with `x` in x0..x30, which then holds what it left.
///
/// # Errors
/// The fault it took.
pub fn run(word: u32, x: &mut [u64; 31]) -> Result<(), Fault> {
    run_words([word, NOP, NOP, NOP], x)
}

/// Runs four instructions. A fault skips the one that took it; the last fault is reported.
///
/// # Errors
/// The last fault.
pub fn run_words(words: [u32; SLOTS], x: &mut [u64; 31]) -> Result<(), Fault> {
    let slot = (&raw const tests_run_slot).cast::<u32>();
    // SAFETY: `tests_run` keeps AAPCS64 whatever the instruction leaves in the registers; the callers choose instructions that
    // leave this image's memory and SP alone, which is all that Rust relies on.
    with(slot, &words, || caught(|| unsafe { tests_run(x) }))
}

/// Runs one instruction at EL0 with `x0`; the exception that ended it (SVC #0x77 when it was none of its own) and its x0. MMU off only.
#[must_use]
pub fn run_el0(word: u32, x0: u64) -> (Fault, u64) {
    run_el0_in(word, x0, MASKED)
}

/// EL0 in AArch64, interrupts masked.
pub const MASKED: u64 = 0x3c0;
/// PSTATE.SS: the next instruction is stepped over.
pub const STEP: u64 = 1 << 21;

/// The address of the instruction that [`run_el0`] runs.
#[must_use]
pub fn el0_slot() -> u64 {
    memory::address_of(&raw const tests_el0_slot)
}

/// As [`run_el0`], with this PSTATE.
#[must_use]
pub fn run_el0_in(word: u32, x0: u64, pstate: u64) -> (Fault, u64) {
    let slot = &raw const tests_el0_slot;
    let entry = memory::address_of(slot);
    // SAFETY: as for `run_words`; EL0 comes back by SVC or by its own exception, to the saved frame.
    let value = with(slot, &[word], || unsafe { tests_el0(entry, x0, pstate) });
    (lane::current().last_fault(), value)
}

/// EL0 in AArch32, A32 instructions, interrupts masked.
pub const A32: u64 = 0x1d0;
/// The same with T32 instructions.
pub const T32: u64 = A32 | 1 << 5;

/// Runs words of A32 or T32 at EL0, of which one must take an exception; the exception, as an offset behind the first
/// word, and R0. MMU off only.
#[must_use]
pub fn run_el0_words(words: [u32; SLOTS], r0: u64, pstate: u64) -> (Fault, u64, u64) {
    let slot = (&raw const tests_el0_words).cast::<u32>();
    let entry = memory::address_of(slot);
    // SAFETY: as for `run_el0`.
    let value = with(slot, &words, || unsafe { tests_el0(entry, r0, pstate) });
    let fault = lane::current().last_fault();
    (fault, fault.elr.wrapping_sub(entry), value)
}

/// True when the EL0 instruction ran to its end.
#[must_use]
pub const fn returned(fault: &Fault) -> bool {
    fault.class() == 0x15 && fault.esr & 0xffff == 0x77
}

/// Width of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl Width {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Byte, Self::Half, Self::Word, Self::Double];

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }
}

/// Where this image is: nothing here may be written by a probe.
fn own_image() -> Range<u64> {
    memory::image_start()..memory::image_end()
}

/// Reads by plain `ldr`.
///
/// # Errors
/// The fault it took.
pub fn read(address: u64, width: Width) -> Result<u64, Fault> {
    let mut value: u64 = 0;
    let target = &mut value;
    caught(|| match width {
        // SAFETY: a load at an address of the test's choice; it changes nothing, and a fault is caught.
        Width::Byte => unsafe {
            asm!("ldrb {:w}, [{}]", inout(reg) *target, in(reg) address, options(nostack))
        },
        // SAFETY: as above.
        Width::Half => unsafe {
            asm!("ldrh {:w}, [{}]", inout(reg) *target, in(reg) address, options(nostack))
        },
        // SAFETY: as above.
        Width::Word => unsafe {
            asm!("ldr {:w}, [{}]", inout(reg) *target, in(reg) address, options(nostack))
        },
        // SAFETY: as above.
        Width::Double => unsafe {
            asm!("ldr {}, [{}]", inout(reg) *target, in(reg) address, options(nostack))
        },
    })?;
    Ok(value)
}

/// Writes by plain `str`. Inside this guest's own image it does nothing.
///
/// # Errors
/// The fault it took.
pub fn write(address: u64, width: Width, value: u64) -> Result<(), Fault> {
    let image = own_image();
    if address.saturating_add(7) >= image.start && address < image.end {
        return Ok(());
    }
    caught(|| match width {
        // SAFETY: outside this image, so no Rust object changes; a fault is caught.
        Width::Byte => unsafe {
            asm!("strb {:w}, [{}]", in(reg) value, in(reg) address, options(nostack))
        },
        // SAFETY: as above.
        Width::Half => unsafe {
            asm!("strh {:w}, [{}]", in(reg) value, in(reg) address, options(nostack))
        },
        // SAFETY: as above.
        Width::Word => unsafe {
            asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack))
        },
        // SAFETY: as above.
        Width::Double => unsafe {
            asm!("str {}, [{}]", in(reg) value, in(reg) address, options(nostack))
        },
    })
}

/// Branches there, linking; a fault on the way comes back here.
///
/// # Errors
/// The fault it took.
pub fn jump(address: u64) -> Result<(), Fault> {
    // SAFETY: the callers jump to where nothing can be executed; the vectors resume behind the branch.
    caught(|| unsafe { asm!("blr {}", in(reg) address, clobber_abi("C"), options(nostack)) })
}

/// Jumps there for good: endings only.
pub fn jump_away(address: u64) -> ! {
    lane::current()
        .armed
        .store(1, core::sync::atomic::Ordering::Relaxed);
    // SAFETY: nothing of this guest is used afterwards.
    unsafe { asm!("mov x30, {0}", "br {0}", in(reg) address, options(noreturn)) }
}

/// Loops for good, without a hint that would let anybody else run.
pub fn spin_forever() -> ! {
    // SAFETY: a branch to itself.
    unsafe { asm!("b .", options(noreturn, nostack)) }
}
