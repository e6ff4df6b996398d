//! Debug builds: who reaches which frames, found out anew from the live tables whenever a machine's life turns.
//!
//! Boot proves it once for all builds, and tables do not change while machines run. Whoever breaks that is told here.

use hypervisor_arch::fault;
use hypervisor_arch::tables::TableFrames;

use crate::house::House;
use crate::vm::Vm;

/// Switches off if a machine reaches a frame of another, or has more or less in reach than it was built with.
pub fn check(house: &House) {
    for vm in house.vms {
        let name = vm.name;
        if vm.tables.mapped(&TableFrames) != vm.mapped {
            fault::refuse(format_args!("guest {name} reaches what it was not given"));
        }
        for other in house.vms.iter().filter(|other| other.id != vm.id) {
            let flash = other.flash.iter().map(|flash| flash.region());
            let theirs = flash.chain([other.ram.region()]);
            if let Some(shared) = stage2::shared_frames(frames(vm), theirs.chain(frames(other))) {
                let other = other.name;
                fault::refuse(format_args!("guest {name} reaches {shared} of {other}"));
            }
        }
    }
}

/// What a machine's tables lead to.
fn frames(vm: &Vm) -> impl Iterator<Item = stage2_addr::HostRegion> + Clone {
    vm.tables.runs(&TableFrames).map(|run| run.host)
}
