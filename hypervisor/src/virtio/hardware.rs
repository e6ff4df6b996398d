//! The machine's own virtio devices that guests are to have something of: found, claimed, made ready.

use arrayvec::ArrayVec;
use configs_plan::{Bundle, DiskKind, MAX_DISKS};
use domain_hv::Owner;
use hypervisor_arch::boot::Boot;
use hypervisor_arch::memory::{Arena, Grant};
use hypervisor_arch::virtio::{self, DISK_BYTES, Found, Kind};
use hypervisor_arch::{cpu, fault, gic};
use hypervisor_fdt::Interrupt;
use stage2::Ledger;
use stage2_addr::{HostRegion, PAGE_SIZE, PageCount};

use super::drives::{Drive, Drives};

/// The machine's disks that a plan names: their numbers, and the name of the first of the plan's disks that does.
type Units<'a> = ArrayVec<(u32, &'a str), MAX_DISKS>;

/// Bytes of EL2's arena that the machine's devices take, at most.
pub fn arena_bytes(bundle: &Bundle<'_>) -> u64 {
    units(bundle).len() as u64 * (size_of::<Drive>() as u64 + 64)
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

/// Makes those of the machine's disks ready that a plan names. Other devices are not touched if there are none.
pub fn open(
    bundle: &Bundle<'static>,
    boot: &Boot,
    ledger: &mut Ledger<'_, Owner>,
    arena: &mut Arena,
) -> Drives {
    let units = units(bundle);
    let mut drives = Drives::new();
    if units.is_empty() {
        return drives;
    }
    set_memory_aside(boot, ledger, units.len() as u64 * DISK_BYTES);
    let (mut number, mut has_old) = (0, false);
    for found in virtio::take(&boot.machine, boot.tree) {
        claim(ledger, &found);
        match found.kind {
            Kind::Disk => {
                let unit = units.iter().find(|(unit, _)| *unit == number);
                drives.extend(unit.map(|(unit, name)| drive(boot, arena, *unit, name, found)));
                number += 1;
            }
            Kind::Legacy => has_old = true,
            Kind::Net => {}
        }
    }
    for (unit, name) in units {
        if !drives.iter().any(|drive| drive.unit == unit) {
            let old = match has_old {
                true => {
                    "; of those from before virtio 1 it has (QEMU: -global virtio-mmio.force-legacy=false)"
                }
                false => "",
            };
            let (unit, number) = (u64::from(unit), u64::from(number));
            fault::refuse(format_args!(
                "disk {name}: the machine has no virtio disk {unit}, but {number} of them{old}"
            ));
        }
    }
    drives
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

fn drive(
    boot: &Boot,
    arena: &mut Arena,
    unit: u32,
    name: &'static str,
    found: Found,
) -> &'static Drive {
    let at = found.base;
    let intid = listen(boot, &found.interrupt);
    let disk = match (intid, found.into_disk()) {
        (Some(intid), Ok(disk)) => arena.alloc(Drive::new(unit, name, intid, disk)),
        (None, _) => fault::refuse(format_args!(
            "disk {name}: the interrupt of the machine's disk at {at:#x} is another's too"
        )),
        (_, Err(refusal)) => fault::refuse(format_args!(
            "disk {name}: what the machine has at {at:#x} {}",
            refusal.words()
        )),
    };
    match disk {
        Some(disk) => disk,
        None => fault::refuse(format_args!("disk {name}: EL2's arena is too small")),
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
