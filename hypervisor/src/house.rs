//! All that EL2 has, once it is built: written by the boot CPU, then only shared.

use core::sync::atomic::{AtomicU64, Ordering};

use domain_hv::{Placement, Roster};
use hypervisor_arch::hardware::ThisCpu;
use spin::{Mutex, Once};
use vcpu::vgic::VirtGic;

use crate::crew::Crew;
use crate::operator::Operator;
use crate::vm::Vm;

/// The house.
pub struct House {
    /// The machines, by their number.
    pub vms: &'static [Vm],
    /// Who still runs.
    pub roster: Roster,
    /// Which CPU runs which lane.
    pub placement: Placement,
    /// The lanes of each CPU, until it takes them.
    pub crews: &'static [Mutex<Option<&'static mut Crew>>],
    /// The wake interrupt of each CPU that has lanes.
    pub wakes: &'static [u64],
    /// The number of the last look around: somebody wanted to know where every lane is.
    pub looks: AtomicU64,
    /// After how many milliseconds the run is over.
    pub deadline_ms: Option<u32>,
    /// Who types.
    pub operator: Operator,
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
    /// Whether a CPU has lanes.
    pub fn has_lanes(&self, cpu: usize) -> bool {
        self.placement.lanes(cpu).next().is_some()
    }

    /// A CPU takes its crew. Once.
    pub fn crew(&self, cpu: usize) -> Option<&'static mut Crew> {
        self.crews.get(cpu)?.lock().take()
    }

    /// Makes every CPU look around.
    fn wake_all(&self) {
        for wake in self.wakes {
            ThisCpu.send_sgi(*wake);
        }
    }

    /// Has every CPU note where its lanes are. The look's number.
    pub fn look_around(&self) -> u64 {
        let number = self.looks.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake_all();
        number
    }

    /// The number of the last look that somebody wanted.
    pub fn last_look(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }
}
