//! The arm64 Image header, the first instructions, and the way from there to Rust.

use core::arch::global_asm;
use core::panic::PanicInfo;

use crate::lane::{LANES, Lane};
use crate::{call, console, memory, println};

/// Lanes a test guest can have.
pub(crate) const MAX_LANES: usize = 8;
const STACK_SIZE: usize = 32 * 1024;

global_asm!(
    // The header of Documentation/arch/arm64/booting.rst: little endian, 4 KiB pages, placed anywhere.
    ".section .head, \"ax\"",
    ".global _start",
    "_start:",
    "b 1f",
    ".long 0",
    ".quad 0",
    ".quad _end - _start",
    ".quad 0b1010",
    ".quad 0, 0, 0",
    ".ascii \"ARM\\x64\"",
    ".long 0",
    // x0 = device tree. x20..x28 carry it over the calls.
    "1: msr daifset, #0xf",
    "mov x20, x0",
    // Relocate: every entry is R_AARCH64_RELATIVE (1027): *(base + offset) = base + addend.
    "adrp x1, _start",
    "add x1, x1, :lo12:_start",
    "adrp x2, __rela_start",
    "add x2, x2, :lo12:__rela_start",
    "adrp x3, __rela_end",
    "add x3, x3, :lo12:__rela_end",
    "2: cmp x2, x3",
    "b.hs 3f",
    "ldp x4, x5, [x2], #16",
    "ldr x6, [x2], #8",
    "cmp w5, #1027",
    "b.ne 2b",
    "add x6, x6, x1",
    "str x6, [x1, x4]",
    "b 2b",
    "3: adrp x1, __bss_start",
    "adrp x2, __bss_end",
    "4: cmp x1, x2",
    "b.hs 5f",
    "stp xzr, xzr, [x1], #16",
    "b 4b",
    "5: mov x0, xzr",
    // x0 = lane. Both ways in meet here.
    "tests_lane_start:",
    "mov x21, x0",
    "msr spsel, #1",
    "adrp x1, {stacks}",
    "add x1, x1, :lo12:{stacks}",
    "add x2, x21, #1",
    "mov x3, #{stack_size}",
    "madd x1, x2, x3, x1",
    "mov sp, x1",
    "adrp x1, {lanes}",
    "add x1, x1, :lo12:{lanes}",
    "mov x3, #{lane_size}",
    "madd x1, x21, x3, x1",
    "msr tpidr_el1, x1",
    "adrp x1, tests_vectors",
    "add x1, x1, :lo12:tests_vectors",
    "msr vbar_el1, x1",
    // CPACR_EL1: FP/SIMD, SVE and SME all open, so that whoever stops a probe is not this guest itself.
    "movz x1, #0x0333, lsl #16",
    "msr cpacr_el1, x1",
    "isb",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, x21",
    "cbnz x0, {secondary}",
    "mov x0, x20",
    "b {primary}",
    // CPU_ON comes here with the lane in x0.
    ".global tests_secondary_entry",
    "tests_secondary_entry:",
    "msr daifset, #0xf",
    "b tests_lane_start",
    stacks = sym STACKS,
    stack_size = const STACK_SIZE,
    lanes = sym LANES,
    lane_size = const size_of::<Lane>(),
    primary = sym primary,
    secondary = sym secondary,
);

unsafe extern "C" {
    fn tests_secondary_entry();
}

unsafe extern "Rust" {
    fn tests_guest_main(fdt: &'static [u8]) -> u32;
}

#[repr(C, align(16))]
struct Stacks([[u8; STACK_SIZE]; MAX_LANES]);

static mut STACKS: Stacks = Stacks([[0; STACK_SIZE]; MAX_LANES]);

/// Where CPU_ON sends a lane that shall run this runtime.
pub(crate) fn secondary_entry() -> u64 {
    memory::address_of_code(tests_secondary_entry as *const ())
}

extern "C" fn primary(fdt: u64) -> ! {
    console::probe();
    let tree = memory::device_tree(fdt);
    // SAFETY: `entry!` defines this symbol with exactly this signature; a guest without it does not link.
    let code = unsafe { tests_guest_main(tree) };
    call::exit(code)
}

extern "C" fn secondary(lane: u64) -> ! {
    crate::smp::run_work(lane);
    call::cpu_off()
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    println!("FAIL panic: {info}");
    call::exit(101)
}
