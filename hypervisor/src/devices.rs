//! Devices of the computer that machines are given: pages of registers, and an interrupt each.
//!
//! The plan names a device by its pages. What else it is, its interrupt too, the computer's device tree says, which is
//! asked again here: the plan was made by somebody else, and perhaps for another computer.

use configs_plan::{DevicePlan, GuestPlan};
use domain_hv::Owner;
use hypervisor_arch::boot::Boot;
use hypervisor_arch::{fault, gic};
use hypervisor_fdt::Kind;
use stage2::{Access, Attrs, Ledger};
use stage2_addr::{HostPhys, HostRegion, Ipa, IpaRegion};
use vcpu::vgic::Vgic;

use crate::boot::vm_id;
use crate::build::Part;
use crate::house::House;
use crate::vm::Vm;

/// A device's interrupt.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The computer's number for it.
    physical: u16,
    /// The machine's.
    intid: u32,
}

/// The interrupts of a machine's devices.
pub type Lines = arrayvec::ArrayVec<Line, { configs_plan::MAX_DEVICES }>;

/// Claims a device for a guest. Where its registers go, as what is not executed; its interrupt goes to `lines` and to the
/// CPU of lane 0.
pub fn claim(
    boot: &Boot,
    ledger: &mut Ledger<'_, Owner>,
    guest: &GuestPlan,
    plan: &DevicePlan,
    lines: &mut Lines,
) -> Part {
    match try_claim(boot, ledger, guest, plan, lines) {
        Some(part) => part,
        None => fault::refuse(format_args!(
            "guest {}: no {} is alone at {:#x}, free and without DMA, in this machine",
            guest.name(),
            plan.kind.compatible(),
            plan.host
        )),
    }
}

fn try_claim(
    boot: &Boot,
    ledger: &mut Ledger<'_, Owner>,
    guest: &GuestPlan,
    plan: &DevicePlan,
    lines: &mut Lines,
) -> Option<Part> {
    let host = &boot.machine;
    let region = HostRegion::from_bytes(HostPhys::new(plan.host), plan.size).ok()?;
    let device = host.device(boot.tree, &region, kind(plan.kind))?;
    ledger.claim(region, Owner::Guest(vm_id(guest))).ok()?;
    if let Some(intid) = plan.intid {
        let interrupt = device.interrupt?;
        let lane0 = guest.lanes().next()?;
        let affinity = host.cpus.get(lane0.cpu as usize)?;
        if host.uart_irq == Some(interrupt.intid) || !gic::give(&interrupt, *affinity) {
            return None;
        }
        let physical = u16::try_from(interrupt.intid).ok()?;
        lines.try_push(Line { physical, intid }).ok()?;
    }
    let window = IpaRegion::from_bytes(Ipa::new(plan.ipa), plan.size).ok()?;
    Some((window, region, Attrs::device(Access::RW)))
}

const fn kind(plan: configs_plan::DeviceKind) -> Kind {
    match plan {
        configs_plan::DeviceKind::Pl011 => Kind::Pl011,
        configs_plan::DeviceKind::Pl031 => Kind::Pl031,
        configs_plan::DeviceKind::Pl061 => Kind::Pl061,
    }
}

/// Has a machine's interrupt controller know of its devices.
pub fn link(guest: &GuestPlan, vgic: &Vgic, lines: &Lines) {
    if guest.devices().next().is_some() {
        vgic.give_devices();
    }
    for line in lines {
        vgic.link(line.intid, line.physical);
    }
}

/// Hands an interrupt that this CPU has acknowledged to the machine whose device's it is. False if it is nobody's. It
/// stays active until the machine has dealt with it.
#[inline(never)]
pub fn fired(house: &House, intid: u32) -> bool {
    for vm in house.vms {
        let of = |line: &&Line| u32::from(line.physical) == intid;
        if let Some(line) = vm.lines.iter().find(of) {
            gic::drop_priority(intid);
            vm.machine.device_fired(line.intid);
            return true;
        }
    }
    false
}

/// Silences a machine that has left: its devices' interrupts are off, and neither pending nor active.
pub fn retire(vm: &Vm) {
    for line in &vm.lines {
        gic::retire(line.physical.into());
    }
}
