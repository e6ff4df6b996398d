//! What goes wrong on purpose in a guest's devices, as the plan has it.

use configs_plan::{FaultKind, GuestPlan};
use hypervisor_arch::memory::Arena;
use virtio::faults::{Clock, Faults, FaultyDevice, Kind, Link, Often, Script, Strike};

use super::Any;

/// The faults of one of a guest's devices, if it has any.
pub fn of(guest: &GuestPlan<'_, '_>, slot: u32) -> Option<Faults> {
    if !guest.has_faults() {
        return None;
    }
    let plan = guest.faults().unwrap_or_default();
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
        script: script(guest, slot),
    };
    Some(faults.of(slot.into()))
}

/// What is to go wrong exactly when. The plan has no more of it than there is room for.
fn script(guest: &GuestPlan<'_, '_>, slot: u32) -> Script {
    let mut script = Script::NONE;
    for strike in guest.script().filter(|strike| strike.slot == slot) {
        let kind = match strike.kind {
            FaultKind::Delay => Kind::Delay,
            FaultKind::Short => Kind::Short,
            FaultKind::Error => Kind::Error,
            FaultKind::Drop => Kind::Drop,
            FaultKind::Reorder => Kind::Reorder,
            FaultKind::Interrupt => Kind::Interrupt,
            FaultKind::Link => Kind::Link,
            FaultKind::Reset => Kind::Reset,
        };
        let _ = script.add(Strike {
            kind,
            first: strike.first,
            count: strike.count,
        });
    }
    script
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
