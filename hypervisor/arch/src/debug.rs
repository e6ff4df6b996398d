//! A guest's breakpoints and watchpoints in the CPU it runs on.
//!
//! `vcpu` knows what they are and lets nothing through that could concern anybody but the guest. A point is in the CPU
//! exactly while it is enabled, so nothing is ever read back.

use vcpu::debug::{DebugState, Kind, Point};

use crate::hardware::id_register;
use crate::registers;

/// Declares writers over the numbered registers of one of the four banks.
macro_rules! bank {
    ($name:ident: $op2:literal) => {
        fn $name(index: usize, value: u64) {
            bank!(@ index, value, $op2, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
    };
    (@ $index:ident, $value:ident, $op2:literal, $($n:literal)*) => {
        match $index {
            $($n => {
                // SAFETY: a debug register of EL1: MDCR_EL2.TDE is 0, so none of them has an effect at EL2.
                unsafe {
                    core::arch::asm!(
                        concat!("msr s2_0_c0_c", $n, "_", $op2, ", {}"),
                        in(reg) $value,
                        options(nomem, nostack, preserves_flags)
                    );
                }
            })*
            _ => {}
        }
    };
}

bank!(write_breakpoint_value: 4);
bank!(write_breakpoint_control: 5);
bank!(write_watchpoint_value: 6);
bank!(write_watchpoint_control: 7);

/// Writes the register of this number.
type Write = fn(usize, u64);

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
    let (value, control): (Write, Write) = match point.kind {
        Kind::Breakpoint => (write_breakpoint_value, write_breakpoint_control),
        Kind::Watchpoint => (write_watchpoint_value, write_watchpoint_control),
    };
    control(point.index, 0);
    if pair.control != 0 {
        value(point.index, pair.value);
        control(point.index, pair.control);
    }
}

/// Puts a lane's points into a CPU that has none. MDSCR_EL1, which arms them all, is part of the EL1 state.
pub fn load(debug: &DebugState) {
    for (point, _) in debug.armed() {
        update(debug, point);
    }
}

/// Takes a lane's points out of the CPU.
pub fn unload(debug: &DebugState) {
    for (point, _) in debug.armed() {
        match point.kind {
            Kind::Breakpoint if exists(point) => write_breakpoint_control(point.index, 0),
            Kind::Watchpoint if exists(point) => write_watchpoint_control(point.index, 0),
            Kind::Breakpoint | Kind::Watchpoint => {}
        }
    }
}

/// Switches off whatever there is: what firmware left, or a lane that ends here.
pub fn clear() {
    let dfr0 = id_register(5, 0);
    for index in 0..Kind::Breakpoint.count(dfr0) {
        write_breakpoint_control(index, 0);
    }
    for index in 0..Kind::Watchpoint.count(dfr0) {
        write_watchpoint_control(index, 0);
    }
    registers::isb();
}
