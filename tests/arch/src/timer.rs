//! The virtual timer.

use crate::sys;

/// The virtual timer's PPI.
pub const INTID: u32 = 27;

/// Fires `ticks` from now.
pub fn arm(ticks: u64) {
    sys::set_cntv_cval(sys::cntvct().wrapping_add(ticks));
    sys::set_cntv_ctl(1);
}

/// Stops it.
pub fn disarm() {
    sys::set_cntv_ctl(0);
}

/// Ticks in `ms` milliseconds.
#[must_use]
pub fn ticks(ms: u64) -> u64 {
    sys::cntfrq().saturating_mul(ms) / 1000
}

/// Looks until it is `done`, for so many milliseconds at most; says whether it is. A millisecond in which the host stood
/// still for longer is one: what became due meanwhile still has the others to come in.
pub fn within(ms: u64, mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..ms {
        let end = sys::cntvct().wrapping_add(ticks(1));
        loop {
            if done() {
                return true;
            }
            if sys::cntvct() >= end {
                break;
            }
        }
    }
    done()
}
