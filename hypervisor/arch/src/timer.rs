//! Time at EL2: the physical counter, and EL2's own timer for the one deadline of a run.

use aarch64_cpu::registers::{CNTFRQ_EL0, Readable};

use crate::registers;

/// CNTHP_CTL_EL2: ENABLE, not masked.
const ENABLE: u64 = 1;

/// The physical counter (CNTPCT_EL0), not before what precedes it.
#[must_use]
pub fn now() -> u64 {
    registers::isb();
    registers::read_cntpct_el0()
}

/// Ticks per second (CNTFRQ_EL0).
#[must_use]
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// Lets the EL2 physical timer's interrupt come at this count on this CPU. From the next exception return on, or the next
/// wait.
pub fn set_deadline(count: u64) {
    registers::write_cnthp_cval_el2(count);
    registers::write_cnthp_ctl_el2(ENABLE);
}

/// Silences it.
pub fn clear_deadline() {
    registers::write_cnthp_ctl_el2(0);
    registers::isb();
}
