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
