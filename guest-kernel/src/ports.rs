//! The core's ports on this hardware.

use crate::shared::Shared;
use guest_kernel_arch::{cpu, timer};
use guest_kernel_core::interrupt::ping_sgi;
use guest_kernel_core::ipi::Ipi;
use guest_kernel_core::tick::Timer;

/// How long an answer may take. Only a broken machine needs so long.
const PATIENCE_MS: u64 = 20_000;

/// One lane's view of the hardware.
pub struct Port<'s> {
    pub shared: &'s Shared,
    pub lane: usize,
}

impl Ipi for Port<'_> {
    fn ping(&self, lane: usize) {
        self.shared.send(ping_sgi(self.lane), lane);
    }

    fn wait_for(&self, done: impl Fn() -> bool) -> bool {
        let patience = timer::after_ms(PATIENCE_MS);
        cpu::wait(patience, patience, done)
    }
}

impl Timer for Port<'_> {
    fn now(&self) -> u64 {
        timer::now()
    }

    fn wait_with_timer(&self, deadline: u64, done: impl Fn() -> bool) -> bool {
        cpu::wait(timer::after_ms(PATIENCE_MS), deadline, done)
    }
}
