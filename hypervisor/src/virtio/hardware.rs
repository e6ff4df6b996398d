//! The machine's own virtio devices that guests are to have something of: found, claimed, made ready.

use arrayvec::ArrayVec;
use configs_plan::{Bundle, DiskKind, MAX_DISKS};
use domain_hv::Owner;
use hypervisor_arch::boot::Boot;
use hypervisor_arch::memory::{Arena, Grant};
use hypervisor_arch::virtio::{self, DISK_BYTES, Found, Kind, NET_BYTES};
use hypervisor_arch::{cpu, fault, gic};
use hypervisor_fdt::Interrupt;
use stage2::Ledger;
use stage2_addr::{HostPhys, HostRegion, PAGE_SIZE, PageCount};

use super::drives::{Drive, Drives};
use super::uplink::Card;

/// The machine's disks that a plan names: their numbers, and the name of the first of the plan's disks that does.
type Units<'a> = ArrayVec<(u32, &'a str), MAX_DISKS>;

/// Bytes of EL2's arena that the machine's devices take, at most.
pub fn arena_bytes(bundle: &Bundle<'_>) -> u64 {
    let card = outside(bundle).map_or(0, |_| size_of::<Card>() as u64 + 64);
    units(bundle).len() as u64 * (size_of::<Drive>() as u64 + 64) + card
}

fn units<'a>(bundle: &Bundle<'a>) -> Units<'a> {
    let mut units = Units::new();
    for disk in bundle.plan().disks() {
        if let DiskKind::Machine { unit, .. } = disk.kind
            && !units.iter().any(|(other, _)| *other == unit)
        {
            units.push((unit, disk.name));
        }
    }
    units
}

/// The network that has the uplink: its number, and its name.
fn outside<'a>(bundle: &Bundle<'a>) -> Option<(u8, &'a str)> {
    let mut networks = (0..).zip(bundle.plan().networks());
    let (number, network) = networks.find(|(_, network)| network.has_uplink)?;
    Some((number, network.name))
}

/// Those of the machine's devices that are ready.
pub struct Hardware {
    pub drives: Drives,
    pub card: Option<&'static Card>,
}

/// Makes those of the machine's devices ready that a plan has a use for. Others are not touched if it has none.
pub fn open(
    bundle: &Bundle<'static>,
    boot: &Boot,
    ledger: &mut Ledger<'_, Owner>,
    arena: &mut Arena,
) -> Hardware {
    let (units, outside) = (units(bundle), outside(bundle));
    let (mut drives, mut card) = (Drives::new(), None);
    let bytes = units.len() as u64 * DISK_BYTES + outside.map_or(0, |_| NET_BYTES);
    if bytes == 0 {
        return Hardware { drives, card };
    }
    set_memory_aside(boot, ledger, bytes);
    let (mut number, mut has_old) = (0, false);
    for found in virtio::take(&boot.machine, boot.tree) {
        claim(ledger, &found);
        match found.kind {
            Kind::Disk => {
                let unit = units.iter().find(|(unit, _)| *unit == number);
                drives.extend(unit.map(|(unit, name)| drive(boot, arena, *unit, name, found)));
                number += 1;
            }
            Kind::Net if card.is_none() => {
                card = outside.map(|(network, name)| plug(boot, arena, network, name, found));
            }
            Kind::Net => {}
            Kind::Legacy => has_old = true,
        }
    }
    let old = match has_old {
        true => {
            "; of those from before virtio 1 it has (QEMU: -global virtio-mmio.force-legacy=false)"
        }
        false => "",
    };
    for (unit, name) in units {
        if !drives.iter().any(|drive| drive.unit == unit) {
            let (unit, number) = (u64::from(unit), u64::from(number));
            fault::refuse(format_args!(
                "disk {name}: the machine has no virtio disk {unit}, but {number} of them{old}"
            ));
        }
    }
    match (outside, card) {
        (Some((_, name)), None) => fault::refuse(format_args!(
            "network {name}: the machine has no virtio network card{old}"
        )),
        _ => Hardware { drives, card },
    }
}

/// Memory that devices reach, and nothing else is in.
fn set_memory_aside(boot: &Boot, ledger: &mut Ledger<'_, Owner>, bytes: u64) {
    let pages = PageCount::covering(bytes);
    let region = ledger.allocate(&boot.machine.ram, pages, Owner::Hypervisor);
    match region.ok().and_then(Grant::take) {
        Some(grant) => virtio::set_memory_aside(grant),
        None => fault::refuse(format_args!(
            "no {} KiB of free RAM for the machine's own devices",
            bytes >> 10
        )),
    }
}

/// Claims the page that a device's registers begin in, which is perhaps another's as well: no guest can have it.
fn claim(ledger: &mut Ledger<'_, Owner>, found: &Found) {
    if let Ok(page) = HostRegion::from_bytes(found.base.page_floor(), PAGE_SIZE)
        && ledger.first_overlap(&page).is_none()
    {
        let _ = ledger.claim(page, Owner::Hypervisor);
    }
}

/// Ends the boot for the sake of a device.
fn refuse(what: &str, name: &str, at: HostPhys, why: &str) -> ! {
    fault::refuse(format_args!(
        "{what} {name}: what the machine has at {at:#x} {why}"
    ))
}

const NO_INTERRUPT: &str = "has another device's interrupt";
const NO_ROOM: &str = "does not fit EL2's arena";

fn drive(
    boot: &Boot,
    arena: &mut Arena,
    unit: u32,
    name: &'static str,
    found: Found,
) -> &'static Drive {
    let at = found.base;
    let refuse = |why: &str| -> ! { refuse("disk", name, at, why) };
    let Some(intid) = listen(boot, &found.interrupt) else {
        refuse(NO_INTERRUPT);
    };
    let disk = match found.into_disk() {
        Ok(disk) => disk,
        Err(refusal) => refuse(refusal.words()),
    };
    match arena.alloc(Drive::new(unit, name, intid, disk)) {
        Some(drive) => drive,
        None => refuse(NO_ROOM),
    }
}

fn plug(
    boot: &Boot,
    arena: &mut Arena,
    network: u8,
    name: &'static str,
    found: Found,
) -> &'static Card {
    let at = found.base;
    let refuse = |why: &str| -> ! { refuse("network", name, at, why) };
    let Some(intid) = listen(boot, &found.interrupt) else {
        refuse(NO_INTERRUPT);
    };
    let net = match found.into_net() {
        Ok(net) => net,
        Err(refusal) => refuse(refusal.words()),
    };
    match arena.alloc(Card::new(network, name, intid, net)) {
        Some(card) => card,
        None => refuse(NO_ROOM),
    }
}

/// Has a device interrupt this CPU, the one that boots; the INTID.
fn listen(boot: &Boot, interrupt: &Interrupt) -> Option<u32> {
    let intid = interrupt.intid;
    let free = boot.machine.uart_irq != Some(intid) && gic::give(interrupt, cpu::affinity());
    free.then(|| {
        gic::enable_shared(intid, true);
        intid
    })
}
