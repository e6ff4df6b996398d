//! Starting and stopping CPUs and the machine: PSCI (Arm DEN0022) by the `smccc` crate.

use crate::{cpu, image, xdv};
use dustlib_k_abi::ExitCode;
use guest_kernel_core::machine::{Affinity, Conduit};
use smccc::psci::{self, AffinityState, LowestAffinityLevel, error::Error};
use smccc::{Hvc, Smc};

// SAFETY: `boot.s` defines it; only its address is taken.
unsafe extern "C" {
    static gk_secondary_lane: u8;
}

/// Starts a CPU as lane `lane`. Its stack and its registers are its own; what it shares is atomic.
///
/// # Errors
/// PSCI's answer.
pub fn cpu_on(target: Affinity, lane: usize) -> Result<(), Error> {
    let entry = image::address_of(&raw const gk_secondary_lane).get();
    let context = u64::try_from(lane).map_err(|_| Error::InvalidParameters)?;
    match xdv::conduit() {
        Conduit::Hvc => psci::cpu_on::<Hvc>(target.get(), entry, context),
        Conduit::Smc => psci::cpu_on::<Smc>(target.get(), entry, context),
    }
}

/// Whether a CPU is off.
#[must_use]
pub fn is_off(target: Affinity) -> bool {
    let level = LowestAffinityLevel::All;
    let state = match xdv::conduit() {
        Conduit::Hvc => psci::affinity_info::<Hvc>(target.get(), level),
        Conduit::Smc => psci::affinity_info::<Smc>(target.get(), level),
    };
    state == Ok(AffinityState::Off)
}

/// Switches this CPU off.
pub fn cpu_off() -> ! {
    cpu::mask();
    let _refused = match xdv::conduit() {
        Conduit::Hvc => psci::cpu_off::<Hvc>(),
        Conduit::Smc => psci::cpu_off::<Smc>(),
    };
    cpu::park()
}

/// Ends the machine: with a code where XDV is there to hear it, by PSCI SYSTEM_OFF otherwise.
pub fn exit(code: ExitCode) -> ! {
    cpu::mask();
    xdv::exit(code);
    let _refused = match xdv::conduit() {
        Conduit::Hvc => psci::system_off::<Hvc>(),
        Conduit::Smc => psci::system_off::<Smc>(),
    };
    cpu::park()
}
