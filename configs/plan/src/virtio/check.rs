//! The rules of disks, networks and virtio devices.

use super::{
    DiskKind, DiskPlan, Faults, Image, Lint, MAX_CID, MAX_DISKS, MAX_NETWORKS, MAX_PARTITION_NAME,
    MAX_RATE, MAX_SECTORS, MAX_STRIKES, MAX_VIRTIO, MAX_VLAN, MIN_CID, Offer, Part, SECTOR,
    VIRTIO_SLOTS, VirtioDevice,
};
use crate::check::{file_name_is_valid, overlap};
use crate::{GuestPlan, HOST_LIMIT, PAGE, Plan, PlanError, Why, check_name, format};

/// The most virtio-blk devices a machine has: as many as QEMU's `virt` has slots.
const MAX_UNITS: u32 = 32;

/// Judges all of a plan that is about virtio.
pub(crate) fn plan(plan: &Plan<'_>) -> Result<(), PlanError> {
    disks(plan)?;
    networks(plan)?;
    for guest in plan.guests() {
        devices(plan, &guest)?;
        trials(&guest)?;
    }
    Ok(())
}

fn disks(plan: &Plan<'_>) -> Result<(), PlanError> {
    let count = plan.disks().0.len() / format::DISK;
    if count > MAX_DISKS {
        return Err(PlanError::new(Why::DiskCount, count as u64));
    }
    let mut known = 0;
    for disk in plan.disks() {
        let wrong = |why| Err(PlanError::new(why, known as u64));
        let mut earlier = plan.disks().take(known);
        if check_name(disk.name).is_err() || earlier.any(|other| other.name == disk.name) {
            return wrong(Why::DiskName);
        }
        if !size_is_valid(&disk) {
            return wrong(Why::DiskSize);
        }
        if plan.disks().take(known).any(|other| meet(&other, &disk)) {
            return wrong(Why::DiskOverlap);
        }
        known += 1;
    }
    if known != count {
        return Err(PlanError::new(Why::DiskKind, known as u64));
    }
    Ok(())
}

/// Whether a disk's numbers fit together.
fn size_is_valid(disk: &DiskPlan<&str>) -> bool {
    let sectors = disk.sectors;
    let holds = |image: &Image<&str>| {
        let whole = image.len != 0 && image.len.is_multiple_of(SECTOR);
        whole && image.len / SECTOR <= sectors && file_name_is_valid(image.file)
    };
    let some = sectors != 0 && sectors <= MAX_SECTORS;
    match &disk.kind {
        DiskKind::Memory { image } => some && image.as_ref().is_none_or(holds),
        DiskKind::Readonly { image } => some && holds(image) && image.len / SECTOR == sectors,
        DiskKind::Snapshot { image, memory } => {
            let pages = *memory != 0 && memory.is_multiple_of(PAGE) && *memory <= HOST_LIMIT;
            some && holds(image) && pages
        }
        DiskKind::Machine { unit, part, .. } => {
            *unit < MAX_UNITS
                && match part {
                    Part::Whole => sectors == 0,
                    Part::From(first) => some && *first <= MAX_SECTORS - sectors,
                    Part::Number(number) => sectors == 0 && *number != 0,
                    Part::Name(name) => sectors == 0 && partition_name_is_valid(name),
                }
        }
    }
}

/// Printable ASCII.
fn partition_name_is_valid(name: &str) -> bool {
    let length = 1..=MAX_PARTITION_NAME;
    length.contains(&name.len()) && name.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// Whether two disks share a sector of the machine's, as far as that can be told without asking it.
fn meet(a: &DiskPlan<&str>, b: &DiskPlan<&str>) -> bool {
    let (
        DiskKind::Machine { unit, part, .. },
        DiskKind::Machine {
            unit: other,
            part: theirs,
            ..
        },
    ) = (&a.kind, &b.kind)
    else {
        return false;
    };
    unit == other
        && match (part, theirs) {
            (Part::Whole, _) | (_, Part::Whole) => true,
            (Part::From(at), Part::From(here)) => overlap(*at, a.sectors, *here, b.sectors),
            (Part::Number(n), Part::Number(m)) => n == m,
            (Part::Name(n), Part::Name(m)) => n == m,
            (Part::From(_) | Part::Number(_) | Part::Name(_), _) => false,
        }
}

fn networks(plan: &Plan<'_>) -> Result<(), PlanError> {
    let count = plan.networks().0.len() / format::NETWORK;
    if count > MAX_NETWORKS {
        return Err(PlanError::new(Why::NetworkCount, count as u64));
    }
    let mut known = 0;
    for network in plan.networks() {
        let wrong = |why| Err(PlanError::new(why, known as u64));
        let mut earlier = plan.networks().take(known);
        if check_name(network.name).is_err() || earlier.any(|other| other.name == network.name) {
            return wrong(Why::NetworkName);
        }
        let mut earlier = plan.networks().take(known);
        if network.has_uplink && earlier.any(|other| other.has_uplink) {
            return wrong(Why::NetworkUplink);
        }
        known += 1;
    }
    if known != count {
        return Err(PlanError::new(Why::NetworkKind, known as u64));
    }
    Ok(())
}

fn devices(plan: &Plan<'_>, guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let count = guest.virtio().0.len() / format::VIRTIO;
    if count > MAX_VIRTIO {
        return Err(guest.wrong(Why::VirtioCount, count as u64));
    }
    let mut slots = 0u32;
    let mut known = 0;
    for virtio in guest.virtio() {
        // A slot that is none has the bit zero, which is in no slots' bits but in all ones.
        let bit = 1u32.checked_shl(virtio.slot).unwrap_or(0);
        if virtio.slot >= VIRTIO_SLOTS || slots & bit != 0 {
            return Err(guest.wrong(Why::VirtioSlot, u64::from(virtio.slot)));
        }
        slots |= bit;
        let number = virtio.device.number();
        let is_other = |other: &VirtioDevice| other.number() != number;
        let mut earlier = guest.virtio().take(known).map(|earlier| earlier.device);
        if virtio.device.is_single() && !earlier.all(|other| is_other(&other)) {
            return Err(guest.wrong(Why::VirtioTwice, known as u64));
        }
        if let Err(why) = device(plan, virtio.device) {
            return Err(guest.wrong(why, known as u64));
        }
        for earlier in plan
            .guests()
            .take_while(|other| other.index() <= guest.index())
        {
            // Of the guest itself, only the devices before this one.
            let same = earlier.index() == guest.index();
            let theirs = earlier.virtio().take(if same { known } else { MAX_VIRTIO });
            for other in theirs {
                if let Some(why) = collide(plan, virtio.device, other.device) {
                    return Err(guest.wrong(why, known as u64));
                }
            }
        }
        known += 1;
    }
    if known != count {
        return Err(guest.wrong(Why::VirtioKind, known as u64));
    }
    Ok(())
}

/// Judges a device by itself.
fn device(plan: &Plan<'_>, device: VirtioDevice) -> Result<(), Why> {
    let (sound, why) = match device {
        VirtioDevice::Net {
            network, mac, vlan, ..
        } => {
            if plan.networks().nth(network as usize).is_none() {
                return Err(Why::VirtioNetwork);
            }
            // The lowest bit of the first byte is that of groups (IEEE 802, 8.2.2).
            let [first, ..] = mac;
            let unicast = first & 1 == 0 && mac != [0; 6];
            (unicast && vlan <= MAX_VLAN, Why::VirtioAddress)
        }
        VirtioDevice::Block { disk, is_readonly } => {
            let disk = plan.disks().nth(disk as usize);
            let given = disk.is_some_and(|disk| is_readonly || !disk.kind.is_readonly());
            (given, Why::VirtioDisk)
        }
        VirtioDevice::Vsock { cid, peers } => {
            let known = peers >> plan.guests().count().min(31) == 0;
            (known && (MIN_CID..=MAX_CID).contains(&cid), Why::VirtioCid)
        }
        VirtioDevice::Console | VirtioDevice::Entropy | VirtioDevice::Balloon => return Ok(()),
    };
    if sound { Ok(()) } else { Err(why) }
}

/// Why two devices, of one guest or of two, cannot both be there.
fn collide(plan: &Plan<'_>, a: VirtioDevice, b: VirtioDevice) -> Option<Why> {
    match (a, b) {
        (
            VirtioDevice::Block { disk, is_readonly },
            VirtioDevice::Block {
                disk: other,
                is_readonly: theirs,
            },
        ) => {
            let disk = plan.disks().nth(disk as usize).filter(|_| disk == other)?;
            let writes = !is_readonly || !theirs;
            (writes && disk.kind.is_shared()).then_some(Why::VirtioDiskOf)
        }
        (
            VirtioDevice::Net { network, mac, .. },
            VirtioDevice::Net {
                network: other,
                mac: theirs,
                ..
            },
        ) => (network == other && mac == theirs).then_some(Why::VirtioAddressOf),
        (VirtioDevice::Vsock { cid, .. }, VirtioDevice::Vsock { cid: theirs, .. }) => {
            (cid == theirs).then_some(Why::VirtioCid)
        }
        (
            VirtioDevice::Net { .. }
            | VirtioDevice::Block { .. }
            | VirtioDevice::Console
            | VirtioDevice::Entropy
            | VirtioDevice::Balloon
            | VirtioDevice::Vsock { .. },
            _,
        ) => None,
    }
}

/// What is watched, what goes wrong on purpose, and what is kept back.
fn trials(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let known = match guest.virtio_lint() {
        Lint::Off => format::TRACE_VIRTIO,
        Lint::Errors | Lint::Strict => {
            format::LINT_VIRTIO | format::LINT_STRICT | format::TRACE_VIRTIO
        }
    };
    let undefined = guest.watched() & !known;
    if undefined != 0 {
        return Err(guest.wrong(Why::Lint, u64::from(undefined)));
    }
    let fixed = guest.withheld() & !Offer::FEATURES;
    if fixed != 0 {
        return Err(guest.wrong(Why::Offer, fixed));
    }
    if !Offer::is_size(guest.queue_size()) {
        return Err(guest.wrong(Why::QueueSize, u64::from(guest.queue_size())));
    }
    let rates = guest.faults().unwrap_or_default();
    match Faults::rates(&rates).iter().find(|rate| **rate > MAX_RATE) {
        Some(rate) => Err(guest.wrong(Why::FaultRate, u64::from(*rate))),
        None => script(guest),
    }
}

/// What goes wrong exactly when: with devices that there are, and as it can with them.
fn script(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let count = guest.script().0.len() / format::STRIKE;
    if count > MAX_STRIKES * MAX_VIRTIO {
        return Err(guest.wrong(Why::FaultCount, count as u64));
    }
    let mut known = 0;
    for strike in guest.script() {
        let mut devices = guest.virtio();
        let device = devices.find(|device| device.slot == strike.slot);
        let happens = device.is_some_and(|found| strike.kind.counted(&found.device).is_some());
        let ends = strike.first.checked_add(strike.count).is_some();
        if !happens || !ends || strike.count == 0 {
            return Err(guest.wrong(Why::FaultScript, known as u64));
        }
        let earlier = guest.script().take(known);
        if earlier.filter(|other| other.slot == strike.slot).count() >= MAX_STRIKES {
            return Err(guest.wrong(Why::FaultCount, known as u64));
        }
        known += 1;
    }
    if known != count {
        return Err(guest.wrong(Why::FaultScript, known as u64));
    }
    Ok(())
}
