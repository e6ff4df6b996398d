//! What all lanes share. Set once by the first lane, only read afterwards; what changes is atomic.

use guest_kernel_arch::gic;
use guest_kernel_arch::memory::Free;
use guest_kernel_core::machine::Machine;
use guest_kernel_core::options::Options;
use guest_kernel_core::pattern::Pattern;
use guest_kernel_core::smp::Lanes;
use spin::Once;

/// The machine and the task. Interrupt handlers read it; it is set before interrupts are taken.
pub static SHARED: Once<Shared> = Once::new();

/// What the lanes tell each other.
pub static LANES: Lanes = Lanes::new();

/// See [`SHARED`].
pub struct Shared {
    /// The machine; lane `n` is `cpus[n]`.
    pub machine: Machine<'static>,
    /// The device tree's bytes.
    pub tree: &'static [u8],
    /// The command line.
    pub options: Options<'static>,
    /// Memory to check.
    pub free: Free,
    /// How to check it.
    pub pattern: Pattern,
}

impl Shared {
    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.machine.cpus.len()
    }

    /// Sends an SGI to a lane.
    pub fn send(&self, sgi: u32, lane: usize) {
        if let Some(target) = self.machine.cpus.get(lane) {
            gic::send_sgi(sgi, *target);
        }
    }
}
