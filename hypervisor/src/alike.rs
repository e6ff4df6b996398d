//! Whether the CPUs are as like each other as their guests are told.
//!
//! A guest's ID registers are the same on all its lanes and are made before the other CPUs run, from those of the boot
//! CPU. So each CPU looks for itself whether it has all that was promised.

use hypervisor_arch::fault;
use hypervisor_arch::hardware::{id_register, main_id};
use vcpu::idregs::{IdRegs, Limits};
use vcpu::smccc::{Cpu, Workarounds};

use crate::house::House;

/// An ID register of this CPU, by the numbers of its encoding.
pub fn id(crm: u16, op2: u16) -> u64 {
    match (u8::try_from(crm), u8::try_from(op2)) {
        (Ok(crm), Ok(op2)) => id_register(crm, op2),
        _ => 0,
    }
}

/// What this CPU needs of the firmware.
pub fn workarounds() -> Workarounds {
    Workarounds::of([Cpu {
        midr: main_id(),
        pfr0: id_register(4, 0),
        mmfr1: id_register(7, 1),
    }])
}

/// Refuses a CPU that lacks what the machines were promised. All of them were promised the same.
pub fn judge(house: &House, index: usize) {
    let Some(vm) = house.vms.first() else { return };
    let (ids, told) = (&vm.machine.ids, vm.machine.workarounds);
    if let Some(register) = ids.exceeds(&IdRegs::sanitise(&id, Limits::MAX)) {
        fault::refuse(format_args!(
            "CPU {index} lacks what the CPU that booted has ({register}): XDV runs on CPUs that are alike"
        ));
    }
    if told.and(workarounds()) != told {
        fault::refuse(format_args!(
            "CPU {index} needs firmware mitigations that the CPU that booted does not: XDV runs on CPUs that are alike"
        ));
    }
}
