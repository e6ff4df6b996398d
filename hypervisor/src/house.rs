//! All that EL2 has, once it is built: written by the boot CPU, then only shared.

use domain_hv::{LaneId, Placement, Roster};
use spin::{Mutex, Once};
use vcpu::lane::Vcpu;

use crate::vm::Vm;

/// The house.
pub struct House {
    /// The machines, by their number.
    pub vms: &'static [Vm],
    /// Who still runs.
    pub roster: Roster,
    /// Which CPU runs which lane.
    pub placement: Placement,
    /// The lanes, by the number of the CPU that takes them.
    pub lanes: &'static [Mutex<Option<&'static mut Vcpu<'static>>>],
    /// After how many milliseconds the run is over.
    pub deadline_ms: Option<u32>,
}

static HOUSE: Once<House> = Once::new();

/// Opens the house. The first call counts.
pub fn open(house: House) -> &'static House {
    HOUSE.call_once(|| house)
}

/// The house, on a CPU that was started after it was opened.
pub fn get() -> Option<&'static House> {
    HOUSE.get()
}

impl House {
    /// The machine and lane that a CPU runs, if it runs one.
    pub fn lane_of(&self, cpu: usize) -> Option<(&'static Vm, LaneId)> {
        let lane = self.placement.dedicated(cpu)?;
        Some((self.vms.get(usize::from(lane.vm.number()))?, lane))
    }
}
