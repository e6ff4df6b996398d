//! The machine's firmware: PSCI by the conduit that its device tree names (DEN0022).

use core::sync::atomic::{AtomicBool, Ordering};

use smccc::{Hvc, Smc, psci};

/// Why firmware refused.
pub type PowerError = psci::Error;

/// Whether the machine's PSCI is called by HVC. At EL2 that is only so under another hypervisor.
static USE_HVC: AtomicBool = AtomicBool::new(false);

/// Chooses the conduit: SMC until told otherwise.
pub fn use_hvc(hvc: bool) {
    USE_HVC.store(hvc, Ordering::Relaxed);
}

/// Starts a CPU at `entry` (physical) with `context` in its `x0`.
pub(crate) fn cpu_on(affinity: u64, entry: u64, context: u64) -> Result<(), PowerError> {
    if USE_HVC.load(Ordering::Relaxed) {
        psci::cpu_on::<Hvc>(affinity, entry, context)
    } else {
        psci::cpu_on::<Smc>(affinity, entry, context)
    }
}

/// Switches the machine off. Where firmware will not, this CPU sleeps for good with interrupts masked.
pub fn off() -> ! {
    // Both are asked: a machine that cannot be switched off would look like a hang.
    let _ = if USE_HVC.load(Ordering::Relaxed) {
        psci::system_off::<Hvc>()
    } else {
        psci::system_off::<Smc>()
    };
    loop {
        aarch64_cpu::asm::wfi();
    }
}
