//! A guest's breakpoints and watchpoints in the CPU it runs on.
//!
//! `vcpu` knows what they are and lets nothing through that could concern anybody but the guest. A point is in the CPU
//! exactly while it is enabled, so nothing is ever read back.

use vcpu::debug::{DebugState, Kind, Point};

use crate::hardware::id_register;
use crate::registers;

core::arch::global_asm!(
    r#"
    .pushsection .text.numbered, "ax"
    // x0 = number * 4 + bank. One MSR and one RET each.
    .global __write_debug
__write_debug:
    adr     x2, 0f
    add     x2, x2, x0, lsl #3
    br      x2
0:
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    .irp    bank, 4, 5, 6, 7
    msr     s2_0_c0_c\number\()_\bank, x1
    ret
    .endr
    .endr
    .popsection
    "#
);

unsafe extern "C" {
    fn __write_debug(register: u64, value: u64);
}

/// A bank of numbered registers, in the order of their op2.
#[derive(Clone, Copy)]
enum Bank {
    BreakpointValue,
    BreakpointControl,
    WatchpointValue,
    WatchpointControl,
}

fn write(bank: Bank, number: usize, value: u64) {
    let register = (number as u64 & 15) * 4 + bank as u64;
    // SAFETY: a debug register of EL1: MDCR_EL2.TDE is 0, so none of them has an effect at EL2. The callers know that
    // it exists.
    unsafe { __write_debug(register, value) }
}

/// The registers of a point: its value and its control.
const fn banks(kind: Kind) -> (Bank, Bank) {
    match kind {
        Kind::Breakpoint => (Bank::BreakpointValue, Bank::BreakpointControl),
        Kind::Watchpoint => (Bank::WatchpointValue, Bank::WatchpointControl),
    }
}

/// Whether this CPU has the point: an access to any other is undefined.
fn exists(point: Point) -> bool {
    point.index < point.kind.count(id_register(5, 0))
}

/// Puts one point into the CPU as the lane has it now. Nothing between the writes can match half of it: it is off
/// while it changes, and EL2 is no match.
pub fn update(debug: &DebugState, point: Point) {
    if !exists(point) {
        return;
    }
    let pair = debug.hardware(point);
    let (value, control) = banks(point.kind);
    write(control, point.index, 0);
    if pair.control != 0 {
        write(value, point.index, pair.value);
        write(control, point.index, pair.control);
    }
}

/// Puts a lane's points into a CPU that has none. MDSCR_EL1, which arms them all, is part of the EL1 state.
#[inline(always)]
pub fn load(debug: &DebugState) {
    if debug.has_armed() {
        load_armed(debug);
    }
}

#[cold]
#[inline(never)]
fn load_armed(debug: &DebugState) {
    for (point, _) in debug.armed() {
        update(debug, point);
    }
}

/// Takes a lane's points out of the CPU.
#[inline(always)]
pub fn unload(debug: &DebugState) {
    if debug.has_armed() {
        unload_armed(debug);
    }
}

#[cold]
#[inline(never)]
fn unload_armed(debug: &DebugState) {
    for (point, _) in debug.armed() {
        if exists(point) {
            write(banks(point.kind).1, point.index, 0);
        }
    }
}

/// Switches off whatever there is: what firmware left, or a lane that ends here.
pub fn clear() {
    let dfr0 = id_register(5, 0);
    for kind in [Kind::Breakpoint, Kind::Watchpoint] {
        for index in 0..kind.count(dfr0) {
            write(banks(kind).1, index, 0);
        }
    }
    registers::isb();
}
