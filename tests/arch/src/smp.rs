//! The other lanes.

use core::sync::atomic::Ordering::Relaxed;

use crate::call::{self, id};
use crate::{lane, memory, start, sys};

/// Turns lane `n` on with `work(argument)`; it turns itself off afterwards. The answer is PSCI's.
pub fn start(n: usize, work: fn(u64), argument: u64) -> u64 {
    let Some(lane) = lane::of(n) else {
        return u64::MAX;
    };
    lane.give_work(work, argument);
    let number = u64::try_from(n).unwrap_or(0);
    sys::barrier();
    let [status, ..] = call::hvc([id::CPU_ON, number, start::secondary_entry(), number]);
    status
}

/// Where a lane enters this runtime: for CPU_ON calls made by hand.
#[must_use]
pub fn entry() -> u64 {
    start::secondary_entry()
}

/// Waits until lane `n` is off.
pub fn wait_off(n: usize) {
    let number = u64::try_from(n).unwrap_or(0);
    loop {
        let [state, ..] = call::hvc([id::AFFINITY_INFO, number, 0, 0]);
        if state == 1 {
            return;
        }
        sys::relax();
    }
}

/// Lanes that PSCI knows, from lane 0 up.
#[must_use]
pub fn lanes() -> usize {
    (0..start::MAX_LANES)
        .take_while(|n| {
            let [state, ..] = call::hvc([id::AFFINITY_INFO, u64::try_from(*n).unwrap_or(0), 0, 0]);
            state <= 2
        })
        .count()
}

pub(crate) fn run_work(_lane: u64) {
    let lane = lane::current();
    memory::call_work(lane.work.load(Relaxed), lane.argument.load(Relaxed));
}
