//! This CPU: who it is, masking, waiting.

use crate::timer;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::asm::wfi;
use aarch64_cpu::registers::{ID_AA64MMFR0_EL1, MPIDR_EL1, Readable, SCTLR_EL1, TPIDR_EL1};
use core::arch::asm;
use guest_kernel_core::machine::Affinity;

/// The number of this lane.
#[must_use]
pub fn lane() -> usize {
    usize::try_from(TPIDR_EL1.get()).unwrap_or(usize::MAX)
}

/// This CPU's affinity.
#[must_use]
pub fn affinity() -> Affinity {
    Affinity::from_mpidr(MPIDR_EL1.get())
}

/// How many bits a physical address has, and the field's value (DDI 0487, ID_AA64MMFR0_EL1.PARange;
/// `TCR_EL1.IPS` has the same encoding). 52-bit addresses need another granule: 48 are used then.
#[must_use]
pub fn physical_bits() -> (u32, u64) {
    match ID_AA64MMFR0_EL1.get() & 0xF {
        0 => (32, 0),
        1 => (36, 1),
        2 => (40, 2),
        3 => (42, 3),
        4 => (44, 4),
        _ => (48, 5),
    }
}

/// Whether the MMU is on, and with it locks and other exclusives usable.
#[must_use]
pub fn mmu_is_on() -> bool {
    SCTLR_EL1.is_set(SCTLR_EL1::M)
}

/// Masks interrupts.
pub fn mask() {
    // SAFETY: masking interrupts breaks no promise to the compiler. Not `nomem`: it orders accesses
    // to what handlers share.
    unsafe { asm!("msr daifset, #0x2", options(nostack)) };
}

/// Takes interrupts from now on.
pub fn unmask() {
    // SAFETY: handlers run on their own stack, keep every register, and share only atomics.
    unsafe { asm!("msr daifclr, #0x6", options(nostack)) };
    barrier::isb(barrier::SY);
}

/// Takes interrupts until `done` says so, or until the counter reaches `patience`. The timer is
/// set to `alarm` meanwhile. Returns what `done` said last. Sleeps; never spins.
pub fn wait(patience: u64, alarm: u64, done: impl Fn() -> bool) -> bool {
    loop {
        // Between looking and sleeping nothing may be missed: an interrupt that comes while masked
        // stays pending, and a pending interrupt ends WFI even when masked.
        mask();
        let over = timer::now() >= patience;
        if done() || over {
            timer::disarm();
            unmask();
            return done();
        }
        timer::arm(alarm);
        wfi();
        unmask();
    }
}

/// Stops this CPU for good, asleep.
pub fn park() -> ! {
    mask();
    loop {
        timer::disarm();
        wfi();
    }
}
