//! What goes wrong on purpose in a guest's devices, as the plan has it.

use hypervisor_arch::memory::Arena;
use virtio::faults::{Clock, Faults, FaultyDevice, Link, Often};

use super::Any;

/// The faults of one of a guest's devices.
pub fn of(plan: configs_plan::Faults, slot: u32) -> Faults {
    let faults = Faults {
        seed: plan.seed,
        delay: Often::Rate(plan.delay),
        short: Often::Rate(plan.short),
        error: Often::Rate(plan.error),
        drop: Often::Rate(plan.drop),
        reorder: Often::Rate(plan.reorder),
        interrupt: Often::Rate(plan.interrupt),
        link: Often::Rate(plan.link),
        reset: Often::Rate(plan.reset),
    };
    faults.of(slot.into())
}

/// What a device and its disk go by.
#[derive(Clone, Copy)]
pub struct Trouble {
    pub faults: Faults,
    pub clock: &'static Clock,
}

impl Trouble {
    /// Puts a device behind its faults.
    pub fn around(
        self,
        device: &'static mut Any,
        is_disk: bool,
        link: Option<&'static (dyn Link + Sync)>,
        arena: &mut Arena,
    ) -> Option<&'static mut Any> {
        let Self { faults, clock } = self;
        let faulty = if is_disk {
            FaultyDevice::over_disk(device, faults, clock)
        } else {
            FaultyDevice::new(device, faults, clock, link)
        };
        Some(arena.alloc(faulty)?)
    }
}

/// What that takes of the arena, for each device.
pub const ARENA_BYTES: u64 = (size_of::<FaultyDevice<'_, Any>>() + size_of::<Clock>()) as u64 + 128;
