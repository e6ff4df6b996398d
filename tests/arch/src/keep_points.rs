//! One breakpoint and one watchpoint a lane, each at a place of its own: whose they are shows when a lane passes all of
//! the places and is stopped at its own alone.

use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicU64;

use crate::call::caught;
use crate::{debug, lane, memory, sys};

/// Places: eight lanes of eight guests.
pub const PLACES: usize = 64;

global_asm!(
    ".section .text.tests_keep, \"ax\"",
    ".balign 8",
    ".global tests_keep_places",
    "tests_keep_places:",
    ".rept {places}",
    "nop",
    "ret",
    ".endr",
    places = const PLACES,
);

unsafe extern "C" {
    static tests_keep_places: [u32; 2 * PLACES];
}

static WATCHED: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

/// DBGBCR: all four bytes, EL1, on.
const BREAK: u64 = 0x1e3;
/// DBGWCR: all eight bytes, loads and stores, EL1, on.
const WATCH: u64 = 0x1ffb;

fn code(place: usize) -> u64 {
    memory::address_of(&raw const tests_keep_places) + 8 * u64::try_from(place).unwrap_or(0)
}

fn data(place: usize) -> Option<u64> {
    WATCHED
        .get(place)
        .map(|word| memory::address_of(word.as_ptr()))
}

/// Sets this lane's two points: the first of each kind, or the third, so that one that stays behind is not overwritten by
/// the next lane's.
pub fn arm(place: usize, third: bool) {
    debug::set_os_lock(false);
    debug::set_mdscr(debug::MDE | debug::KDE);
    let (code, data) = (code(place), data(place).unwrap_or(0));
    if third {
        // SAFETY: debug exceptions are masked but in `pass`, which expects them.
        unsafe {
            asm!(
                "msr s2_0_c0_c2_4, {}", "msr s2_0_c0_c2_5, {}", "msr s2_0_c0_c2_6, {}", "msr s2_0_c0_c2_7, {}", "isb",
                in(reg) code, in(reg) BREAK, in(reg) data, in(reg) WATCH, options(nostack, preserves_flags)
            );
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!(
                "msr s2_0_c0_c0_4, {}", "msr s2_0_c0_c0_5, {}", "msr s2_0_c0_c0_6, {}", "msr s2_0_c0_c0_7, {}", "isb",
                in(reg) code, in(reg) BREAK, in(reg) data, in(reg) WATCH, options(nostack, preserves_flags)
            );
        }
    }
}

/// Passes every place. The code places where it was stopped, and the data places, one bit each.
#[must_use]
pub fn pass() -> (u64, u64) {
    let (mut breaks, mut watches) = (0, 0);
    for place in 0..PLACES {
        let address = code(place);
        // SAFETY: a `nop` and a `ret`; what stops there is noted by the vectors, which go on.
        let run =
            stopped(|| unsafe { asm!("blr {}", in(reg) address, out("x30") _, options(nostack)) });
        let load = stopped(|| data(place).map(sys::load));
        breaks |= u64::from(run) << place;
        watches |= u64::from(load) << place;
    }
    (breaks, watches)
}

fn stopped<R>(body: impl FnOnce() -> R) -> bool {
    let before = lane::current().faults();
    let outcome = caught(|| {
        debug::open();
        let result = body();
        debug::close();
        result
    });
    outcome.is_err() || lane::current().faults() != before
}
