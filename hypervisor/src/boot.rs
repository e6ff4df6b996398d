//! From a machine that is up to the first guest instruction.

use core::fmt;

use configs_plan::{Bundle, GuestPlan};
use domain_hv::{LaneId, Owner, Placement, Roster, Share, VmId};
use hypervisor_arch::boot::Boot;
use hypervisor_arch::memory::{Arena, Grant};
use hypervisor_arch::{cpu, fault, gic, say, timer};
use spin::Mutex;
use stage2::{Extent, Ledger};
use stage2_addr::{HostRegion, PageCount};
use vcpu::lane::Vcpu;

use crate::build::{self, Builder};
use crate::house::{self, House};
use crate::run;
use crate::vm::Vm;

/// Extents of the ledger: RAM, tables and arena of eight machines, and what was there before.
const EXTENTS: usize = 96;
/// A secondary CPU's stack for the run loop.
const STACK: u64 = 64 << 10;
/// A CPU's stack for reports of its own faults.
const EMERGENCY: u64 = 16 << 10;

/// Prints why and switches off.
fn refuse(why: fmt::Arguments) -> ! {
    fault::refuse(why)
}

/// What the boot CPU does.
pub fn main(boot: Boot) -> ! {
    let mut slots: [Option<Extent<Owner>>; EXTENTS] = [None; EXTENTS];
    let mut ledger = Ledger::new(&mut slots);
    let bundle = open_bundle(&boot, &mut ledger);
    let boot_index = boot_cpu(&boot);
    check_timers(&boot);
    say!(
        "XDV {}, {} CPUs, {} MiB RAM, EL2 at {:#x}..{:#x}",
        env!("CARGO_PKG_VERSION"),
        boot.machine.cpus.len(),
        boot.machine.ram.iter().map(HostRegion::bytes).sum::<u64>() >> 20,
        boot.image.base(),
        boot.image.end()
    );
    let placement = place(&bundle, boot.machine.cpus.len());
    build::claim_pinned(&bundle, &mut ledger);
    let lanes = placement.iter().count();
    let cpus = boot.machine.cpus.len();
    let mut arena = arena(
        &boot,
        &mut ledger,
        build::arena_bytes(lanes, cpus, STACK + EMERGENCY),
    );
    let mut builder = Builder::new(&boot.machine, &mut ledger, &mut arena);
    let Some(vms) = builder.machines(&bundle) else {
        refuse(format_args!("the plan's machines do not fit EL2's arena"));
    };
    let vms: &'static [Vm] = vms;
    let memory_ticks = builder.memory_ticks();
    let lanes = seats(&mut arena, vms, &placement, cpus);
    let count = u32::try_from(vms.len()).unwrap_or(u32::MAX);
    let house = house::open(House {
        vms,
        roster: Roster::new(count),
        placement,
        lanes,
        deadline_ms: bundle.plan().deadline_ms(),
    });
    name_machines(&mut arena, vms);
    start_cpus(&boot, house, &mut arena, boot_index);
    if let Some(ms) = house.deadline_ms {
        let ticks = timer::frequency().saturating_mul(u64::from(ms)) / 1000;
        timer::set_deadline(timer::now().saturating_add(ticks));
    }
    for vm in vms {
        if let Some(seat) = vm.seats.first() {
            // As CPU_ON would: claimed, then ordered. A machine that is being built has no lane that is on.
            let _ = vm.machine.power.turn_on(0);
            seat.order(vm.entry, vm.dtb);
        }
    }
    let taken = timer::now().saturating_sub(boot.entered_at);
    say!(
        "boot: {} ticks to the first guest instruction, and {memory_ticks} for the guests' memory",
        taken.saturating_sub(memory_ticks)
    );
    for vm in vms {
        if let Some(seat) = vm.seats.first() {
            vcpu::vgic::VirtGic::send_sgi(&mut hypervisor_arch::hardware::ThisCpu, seat.kick);
        }
    }
    run::cpu(boot_index)
}

/// Claims what is taken already and opens the bundle.
fn open_bundle<'a>(boot: &Boot, ledger: &mut Ledger<'_, Owner>) -> Bundle<'a> {
    let machine = &boot.machine;
    claim(ledger, boot.image, Owner::Hypervisor);
    claim(ledger, boot.device_tree, Owner::DeviceTree);
    let Some(range) = machine.bundle else {
        refuse(format_args!(
            "there is no boot bundle: give bundle.cpio as the initial RAM disk (-initrd)"
        ));
    };
    let Ok(region) = HostRegion::covering(range.base, range.len) else {
        refuse(format_args!("the boot bundle's bounds make no sense"));
    };
    claim(ledger, region, Owner::Bundle);
    for region in &machine.reserved {
        claim_rest(ledger, *region, Owner::Firmware);
    }
    let Some(grant) = Grant::take(region) else {
        refuse(format_args!(
            "the boot bundle at {region} is not all in free RAM"
        ));
    };
    let skip = usize::try_from(range.base.page_offset()).unwrap_or(0);
    let len = usize::try_from(range.len).unwrap_or(0);
    let bytes: &'static [u8] = grant.into_bytes();
    let bytes = bytes
        .get(skip..)
        .and_then(|rest| rest.get(..len))
        .unwrap_or(&[]);
    match Bundle::open(bytes) {
        Ok(bundle) => bundle,
        Err(error) => refuse(format_args!("{error}")),
    }
}

fn claim(ledger: &mut Ledger<'_, Owner>, region: HostRegion, owner: Owner) {
    if let Err(error) = ledger.claim(region, owner) {
        refuse(format_args!("{owner} cannot have {region}: {error}"));
    }
}

/// Claims what of a region nobody has: reservations overlap each other, and loaders reserve device tree and initrd too.
fn claim_rest(ledger: &mut Ledger<'_, Owner>, region: HostRegion, owner: Owner) {
    let mut rest = Some(region);
    while let Some(piece) = rest {
        let taken = ledger.first_overlap(&piece).map(|extent| extent.region);
        let free = match taken {
            Some(taken) => HostRegion::between(piece.base(), taken.base()).ok(),
            None => Some(piece),
        };
        if let Some(free) = free {
            claim(ledger, free, owner);
        }
        rest = taken.and_then(|taken| HostRegion::between(taken.end(), piece.end()).ok());
    }
}

/// Refuses a machine whose timers have other interrupts than BSA gives them: guests' tables and list registers are
/// written for these.
fn check_timers(boot: &Boot) {
    let timers = boot.machine.timer_irqs;
    let usual = (gic::VIRTUAL_TIMER, gic::PHYSICAL_TIMER, gic::EL2_TIMER);
    if (timers.virt, timers.phys, timers.hyp) != usual {
        refuse(format_args!(
            "the timers' interrupts are {}, {} and {}, not {usual:?}",
            timers.virt, timers.phys, timers.hyp
        ));
    }
}

/// The boot CPU's number.
fn boot_cpu(boot: &Boot) -> usize {
    let affinity = cpu::affinity();
    let Some(index) = boot.machine.cpus.iter().position(|one| *one == affinity) else {
        refuse(format_args!(
            "the device tree does not know the CPU {affinity:#x} that booted"
        ));
    };
    cpu::set_boot_index(u32::try_from(index).unwrap_or(0));
    index
}

/// Places every lane of the plan.
fn place(bundle: &Bundle, cpus: usize) -> Placement {
    let mut placement = Placement::new(cpus);
    for guest in bundle.plan().guests() {
        for (index, lane) in guest.lanes().enumerate() {
            let id = LaneId {
                vm: vm_id(&guest),
                index: u8::try_from(index).unwrap_or(u8::MAX),
            };
            if let Err(error) = placement.place(id, lane.cpu, Share::Dedicated) {
                refuse(format_args!("guest {}: {error}", guest.name()));
            }
        }
    }
    placement
}

/// A guest's identity.
pub fn vm_id(guest: &GuestPlan) -> VmId {
    VmId::new(u16::try_from(guest.index()).unwrap_or(u16::MAX))
}

/// EL2's arena, as large as the plan needs.
fn arena(boot: &Boot, ledger: &mut Ledger<'_, Owner>, bytes: u64) -> Arena {
    let pages = PageCount::covering(bytes);
    let granted = ledger
        .allocate(&boot.machine.ram, pages, Owner::Hypervisor)
        .ok()
        .and_then(Grant::take);
    match granted {
        Some(grant) => Arena::new(grant),
        None => refuse(format_args!(
            "no free RAM for EL2's own {} KiB",
            bytes >> 10
        )),
    }
}

/// Makes the lanes and lays each on the seat of its CPU.
fn seats(
    arena: &mut Arena,
    vms: &'static [Vm],
    placement: &Placement,
    cpus: usize,
) -> &'static [Mutex<Option<&'static mut Vcpu<'static>>>] {
    let Some(seats) = arena.alloc_slice(cpus, |_| Mutex::new(None)) else {
        refuse(format_args!("EL2's arena is too small for its CPUs"));
    };
    for placed in placement.iter() {
        let lane = placed.lane;
        let Some(vm) = vms.get(usize::from(lane.vm.number())) else {
            continue;
        };
        let vcpu = arena.alloc_lane(Vcpu::new(&vm.machine, usize::from(lane.index)));
        let (Some(vcpu), Some(seat)) = (vcpu, seats.get_mut(placed.cpu)) else {
            refuse(format_args!("EL2's arena is too small for its lanes"));
        };
        *seat.get_mut() = Some(vcpu);
    }
    seats
}

fn name_machines(arena: &mut Arena, vms: &'static [Vm]) {
    let name = |index: usize| vms.get(index).map_or("?", |vm| vm.name);
    if let Some(names) = arena.alloc_slice(vms.len(), name) {
        fault::name_vms(names);
    }
}

/// Starts every other CPU that has a lane: first all stacks and records, then the CPUs.
fn start_cpus(boot: &Boot, house: &'static House, arena: &mut Arena, boot_index: usize) {
    let mut starts = arrayvec::ArrayVec::<_, { domain_hv::placement::MAX_CPUS }>::new();
    for placed in house
        .placement
        .iter()
        .filter(|placed| placed.cpu != boot_index)
    {
        let (index, lane) = (placed.cpu, placed.lane);
        let Some(affinity) = boot.machine.cpus.get(index) else {
            continue;
        };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let stacks = arena.alloc_stacks(STACK, EMERGENCY);
        let start = stacks.and_then(|stacks| cpu::prepare(arena, stacks, number, run::cpu));
        match start {
            Some(start) => starts.push((index, lane, *affinity, start)),
            None => refuse(format_args!(
                "EL2's arena is too small for its CPUs' stacks"
            )),
        }
    }
    for (index, lane, affinity, start) in starts {
        if let Err(error) = cpu::start(affinity, start) {
            refuse(format_args!(
                "CPU {index} ({affinity:#x}), which {lane} needs, does not start: {error:?}"
            ));
        }
    }
}

/// The kick that reaches a logical CPU.
pub fn kick_of(machine: &hypervisor_arch::fdt::Machine, cpu: u32) -> u64 {
    let affinity = usize::try_from(cpu)
        .ok()
        .and_then(|cpu| machine.cpus.get(cpu));
    affinity.map_or(0, |affinity| gic::kick_value(*affinity))
}
