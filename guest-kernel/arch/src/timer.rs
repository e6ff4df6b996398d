//! The virtual timer.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable,
};

/// The virtual counter, read neither early nor late.
#[must_use]
pub fn now() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Counter steps per second.
#[must_use]
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// The counter's value this many milliseconds from now.
#[must_use]
pub fn after_ms(ms: u64) -> u64 {
    now().saturating_add(ms.saturating_mul(frequency()) / 1000)
}

/// Asks for an interrupt when the counter reaches `deadline`.
pub fn arm(deadline: u64) {
    CNTV_CVAL_EL0.set(deadline);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
    barrier::isb(barrier::SY);
}

/// Asks for none.
pub fn disarm() {
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::CLEAR);
    barrier::isb(barrier::SY);
}
