//! From a machine that is up to the first guest instruction.

use core::fmt;
use core::sync::atomic::AtomicU64;

use configs_plan::{Bundle, GuestPlan};
use domain_hv::{LaneId, Owner, Placed, Placement, Roster, Server, Share, VmId};
use hypervisor_arch::boot::Boot;
use hypervisor_arch::memory::{Arena, Grant};
use hypervisor_arch::{cpu, fault, gic, say, timer};
use spin::Mutex;
use stage2::{Extent, Ledger};
use stage2_addr::{HostRegion, PageCount};
use vcpu::lane::Vcpu;

use crate::build::{self, Builder};
use crate::crew::Crew;
use crate::entropy;
use crate::house::{self, House};
use crate::life;
use crate::operator::{self, Operator};
use crate::report;
use crate::run;
use crate::vm::Vm;

/// Extents of the ledger: RAM, tables and arena of eight machines, what was there before, and some thirty devices.
const EXTENTS: usize = 96;
/// A secondary CPU's stack for the run loop.
const STACK: u64 = 64 << 10;
/// A CPU's stack for reports of its own faults.
const EMERGENCY: u64 = 16 << 10;

/// What a lane with a CPU of its own is promised: all of it. In ticks, and any number would do.
const WHOLE: Server = Server {
    budget: 1 << 20,
    period: 1 << 20,
    priority: 0,
};

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
    entropy::seed(boot.machine.seed);
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
    let guests = bundle.plan().guests();
    let firmwares = guests.filter(|guest| guest.flash().is_some()).count();
    let mut arena = arena(
        &boot,
        &mut ledger,
        build::arena_bytes(lanes, cpus, firmwares, STACK + EMERGENCY) + devices_bytes(&bundle),
    );
    let mut builder = Builder::new(&boot, &mut ledger, &mut arena);
    let Some(vms) = builder.machines(&bundle) else {
        refuse(format_args!("the plan's machines do not fit EL2's arena"));
    };
    let vms: &'static [Vm] = vms;
    #[cfg(feature = "virtio")]
    for vm in vms {
        vm.virtio.settle(&vm.machine);
    }
    let memory_ticks = builder.memory_ticks();
    let crews = crews(&mut arena, vms, &placement, cpus);
    let deadline_ms = bundle.plan().deadline_ms();
    if let Some(Some(crew)) = crews.get_mut(boot_index).map(Mutex::get_mut) {
        charge(crew, deadline_ms);
    }
    let wakes = wakes(&mut arena, &boot, &placement, boot_index);
    let count = u32::try_from(vms.len()).unwrap_or(u32::MAX);
    let house = house::open(House {
        vms,
        roster: Roster::new(count),
        placement,
        crews,
        wakes,
        looks: AtomicU64::new(report::BEFORE_ANY),
        deadline_ms,
        operator: Operator::at(boot.machine.uart_irq),
    });
    name_machines(&mut arena, vms);
    start_cpus(&boot, house, &mut arena, boot_index);
    operator::listen(house);
    let taken = timer::now().saturating_sub(boot.entered_at);
    say!(
        "boot: {} ticks to the first guest instruction, and {memory_ticks} for the guests' memory",
        taken.saturating_sub(memory_ticks)
    );
    for vm in vms {
        life::begin(house, vm);
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
    for (found, usual) in [
        (timers.virt, gic::VIRTUAL_TIMER),
        (timers.phys, gic::PHYSICAL_TIMER),
        (timers.hyp, gic::EL2_TIMER),
    ] {
        if found != usual {
            let (found, usual) = (u64::from(found), u64::from(usual));
            refuse(format_args!(
                "a timer has the interrupt {found}, not {usual}"
            ));
        }
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
            if let Err(error) = placement.place(id, lane.cpu, share(lane.share)) {
                refuse(format_args!("guest {}: {error}", guest.name()));
            }
        }
    }
    placement
}

/// What the plan promises a lane, in ticks.
fn share(plan: configs_plan::Share) -> Share {
    match plan {
        configs_plan::Share::Dedicated => Share::Dedicated,
        configs_plan::Share::Shared {
            budget_us,
            period_us,
            priority,
        } => Share::Shared(Server::from_micros(
            budget_us,
            period_us,
            priority,
            timer::frequency(),
        )),
    }
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

/// What the arena needs for virtio devices.
#[cfg(feature = "virtio")]
fn devices_bytes(bundle: &Bundle) -> u64 {
    crate::virtio::arena_bytes(bundle)
}

/// Virtio devices are not in this EL2.
#[cfg(not(feature = "virtio"))]
const fn devices_bytes(_: &Bundle) -> u64 {
    0
}

/// Gives the crew of the CPU that boots what it alone sees to: the end of the run, if it has one, and what is outside.
fn charge(crew: &mut Crew, deadline_ms: Option<u32>) {
    if let Some(ms) = deadline_ms {
        let ticks = timer::frequency().saturating_mul(u64::from(ms)) / 1000;
        crew.end_run_at(timer::now().saturating_add(ticks));
    }
    #[cfg(feature = "virtio")]
    crew.look_outside_at(timer::now());
}

/// Makes the lanes, and of the lanes of each CPU its crew.
fn crews(
    arena: &mut Arena,
    vms: &'static [Vm],
    placement: &Placement,
    cpus: usize,
) -> &'static mut [Mutex<Option<&'static mut Crew>>] {
    let Some(crews) = arena.alloc_slice(cpus, |_| Mutex::new(None)) else {
        refuse(format_args!("EL2's arena is too small for its CPUs"));
    };
    for (cpu, crew) in crews.iter_mut().enumerate() {
        let members = arena.alloc_list();
        let Some(new) = members.and_then(|members| arena.alloc(Crew::new(members))) else {
            refuse(format_args!("EL2's arena is too small for its CPUs"));
        };
        for placed in placement.lanes(cpu) {
            enlist(arena, vms, placed, new);
        }
        *crew.get_mut() = Some(new);
    }
    crews
}

/// Makes a lane and puts it into its CPU's crew.
fn enlist(arena: &mut Arena, vms: &'static [Vm], placed: Placed, crew: &mut Crew) {
    let index = usize::from(placed.lane.index);
    let Some(vm) = vms.get(usize::from(placed.lane.vm.number())) else {
        return;
    };
    let vcpu = arena.alloc_lane(Vcpu::new(&vm.machine, index));
    let (Some(vcpu), Some(seat)) = (vcpu, vm.seats.get(index)) else {
        refuse(format_args!("EL2's arena is too small for its lanes"));
    };
    let (server, dedicated) = match placed.share {
        Share::Shared(server) => (server, false),
        Share::Dedicated => (WHOLE, true),
    };
    if let Err(error) = crew.admit(vcpu, vm, seat, server, dedicated) {
        refuse(format_args!("guest {}: {}: {error}", vm.name, placed.lane));
    }
}

/// The wake interrupts of all CPUs that have something to look after.
fn wakes(
    arena: &mut Arena,
    boot: &Boot,
    placement: &Placement,
    boot_index: usize,
) -> &'static [u64] {
    let busy = |cpu: &usize| *cpu == boot_index || placement.lanes(*cpu).next().is_some();
    let cpus: arrayvec::ArrayVec<usize, { domain_hv::placement::MAX_CPUS }> =
        (0..boot.machine.cpus.len().min(domain_hv::placement::MAX_CPUS))
            .filter(busy)
            .collect();
    let wake = |index: usize| {
        let cpu = cpus.get(index).and_then(|cpu| u32::try_from(*cpu).ok());
        cpu.map_or(0, |cpu| sgi_to(&boot.machine, cpu, gic::WAKE_SGI))
    };
    match arena.alloc_slice(cpus.len(), wake) {
        Some(wakes) => wakes,
        None => refuse(format_args!("EL2's arena is too small for its CPUs")),
    }
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
    for index in house.placement.cpus().filter(|cpu| *cpu != boot_index) {
        let Some(affinity) = boot.machine.cpus.get(index) else {
            continue;
        };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let stacks = arena.alloc_stacks(STACK, EMERGENCY);
        let start = stacks.and_then(|stacks| cpu::prepare(arena, stacks, number, run::cpu));
        match start {
            Some(start) => starts.push((index, *affinity, start)),
            None => refuse(format_args!(
                "EL2's arena is too small for its CPUs' stacks"
            )),
        }
    }
    for (index, affinity, start) in starts {
        if let Err(error) = cpu::start(affinity, start) {
            refuse(format_args!(
                "CPU {index} ({affinity:#x}), which guests need, does not start: PSCI error -{}",
                i64::from(error).unsigned_abs()
            ));
        }
    }
}

/// The ICC_SGI1R_EL1 value that sends an SGI to a logical CPU.
pub fn sgi_to(machine: &hypervisor_fdt::Machine, cpu: u32, sgi: u32) -> u64 {
    let affinity = usize::try_from(cpu)
        .ok()
        .and_then(|cpu| machine.cpus.get(cpu));
    affinity.map_or(0, |affinity| gic::sgi_value(*affinity, sgi))
}
