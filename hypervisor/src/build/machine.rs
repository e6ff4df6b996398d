//! Puts a machine together, once its memory is.

use configs_plan::GuestPlan;
use domain_hv::lifecycle::OnCrash;
#[cfg(debug_assertions)]
use hypervisor_arch::tables::TableFrames;
use hypervisor_arch::world::Stage2Registers;
use hypervisor_arch::{say, timer};
use vcpu::idregs::IdRegs;
use vcpu::inject::Features;
use vcpu::machine::Machine;
use vcpu::smccc::Workarounds;

use super::{CLOCK, Memory};
use crate::boot::vm_id;
use crate::devices;
use crate::life::Life;
use crate::vm::{Seat, Vm};
use crate::watch::Watchdog;

/// What all machines have in common.
pub(super) struct Common {
    pub vtcr: u64,
    pub ids: IdRegs,
    pub features: Features,
    pub workarounds: Workarounds,
    pub epoch: u64,
}

impl Common {
    /// Puts a machine together and says that it has started.
    pub fn vm(
        &self,
        guest: &GuestPlan<'_, 'static>,
        memory: Memory,
        seats: &'static [Seat],
        variables: &'static mut [u32],
    ) -> Vm {
        let size = guest.ram().size;
        let (ids, workarounds) = (self.ids.clone(), self.workarounds);
        let mut machine = Machine::new(seats.len(), size, ids, self.features, workarounds);
        machine.set_epoch(self.epoch);
        if !variables.is_empty() {
            machine.add_firmware(variables);
        }
        devices::link(guest, &machine.vgic, &memory.lines);
        #[cfg(feature = "virtio")]
        machine.set_virtio(memory.virtio);
        say!(
            "guest {}: started, {} lanes, {} MiB",
            guest.name(),
            seats.len(),
            size >> 20
        );
        Vm {
            id: vm_id(guest),
            name: guest.name(),
            machine,
            ram: memory.ram,
            flash: memory.flash,
            stage2: Stage2Registers {
                vttbr: memory.tables.vttbr(),
                vtcr: self.vtcr,
            },
            #[cfg(debug_assertions)]
            mapped: memory.tables.mapped(&TableFrames),
            #[cfg(debug_assertions)]
            tables: memory.tables,
            clock: CLOCK,
            entry: guest.entry(),
            dtb: guest.dtb(),
            seats,
            files: memory.files,
            life: Life::new(on_crash(guest.on_crash())),
            watchdog: Watchdog::new(guest.watchdog_ms().map(ticks)),
            lines: memory.lines,
            #[cfg(feature = "virtio")]
            virtio: memory.virtio,
        }
    }
}

/// Milliseconds in ticks.
fn ticks(ms: u32) -> u64 {
    timer::frequency().saturating_mul(u64::from(ms)) / 1000
}

/// The plan's word for it in ours.
const fn on_crash(plan: configs_plan::OnCrash) -> OnCrash {
    match plan {
        configs_plan::OnCrash::Stop => OnCrash::Stop,
        configs_plan::OnCrash::Restart => OnCrash::Restart,
        configs_plan::OnCrash::Hold => OnCrash::Hold,
    }
}
