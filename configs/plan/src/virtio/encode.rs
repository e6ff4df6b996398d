//! Writing virtio's sections, on the host.

use alloc::string::String;
use alloc::vec::Vec;

use super::{DiskKind, DiskPlan, Lint, NetworkPlan, Offer, Part, Strike, VirtioDevice, VirtioPlan};
use crate::encode::{GuestSpec, field};
use crate::{PlanError, Why, format};

/// A disk as the plan has it.
pub(crate) fn disk(nth: u64, disk: &DiskPlan<String>) -> Result<Vec<u8>, PlanError> {
    let is_readonly = matches!(
        disk.kind,
        DiskKind::Machine {
            is_readonly: true,
            ..
        }
    );
    let image = disk.kind.image();
    let (kind, len, more, text) = match &disk.kind {
        DiskKind::Memory { .. } => (format::DISK_MEMORY, None, 0, None),
        DiskKind::Readonly { .. } => (format::DISK_IN_BUNDLE, None, 0, None),
        DiskKind::Snapshot { memory, .. } => (format::DISK_SNAPSHOT, None, *memory, None),
        DiskKind::Machine { unit, part, .. } => {
            let (kind, more, name) = match part {
                Part::Whole => (format::DISK_WHOLE, 0, None),
                Part::From(first) => (format::DISK_RANGE, *first, None),
                Part::Number(number) => (format::DISK_PARTITION, u64::from(*number), None),
                Part::Name(name) => (format::DISK_PARTITION_NAME, 0, Some(name)),
            };
            (kind, Some(u64::from(*unit)), more, name)
        }
    };
    let len = len.or(image.map(|image| image.len)).unwrap_or(0);
    let text = text.or(image.map(|image| &image.file));
    let no_name = PlanError::new(Why::DiskName, nth);
    let no_file = PlanError::new(Why::DiskSize, nth);
    let mut bytes = Vec::new();
    for number in [disk.sectors, len, more] {
        bytes.extend(number.to_le_bytes());
    }
    for number in [kind, u32::from(is_readonly)] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(field::<{ format::NAME_FIELD }>(&disk.name).ok_or(no_name)?);
    let text = text.map_or("", String::as_str);
    bytes.extend(field::<{ format::FILE_FIELD }>(text).ok_or(no_file)?);
    Ok(bytes)
}

/// A network as the plan has it.
pub(crate) fn network(nth: u64, network: &NetworkPlan<String>) -> Result<Vec<u8>, PlanError> {
    let no_name = PlanError::new(Why::NetworkName, nth);
    let mut bytes = Vec::from(u32::from(network.has_uplink).to_le_bytes());
    bytes.extend(network.echo.unwrap_or_default());
    bytes.extend(field::<{ format::NAME_FIELD }>(&network.name).ok_or(no_name)?);
    Ok(bytes)
}

/// A guest's device as the plan has it.
pub(crate) fn device(virtio: &VirtioPlan) -> Vec<u8> {
    let (index, flags, rate, mac, vlan) = match virtio.device {
        VirtioDevice::Net {
            network,
            mac,
            vlan,
            rate,
        } => (network, 0, rate, mac, vlan),
        VirtioDevice::Block { disk, is_readonly } => (disk, u32::from(is_readonly), 0, [0; 6], 0),
        VirtioDevice::Vsock { cid, peers } => (cid, peers, 0, [0; 6], 0),
        VirtioDevice::Console | VirtioDevice::Entropy | VirtioDevice::Balloon => {
            (0, 0, 0, [0; 6], 0)
        }
    };
    let mut bytes = Vec::new();
    for number in [virtio.slot, virtio.device.number(), index, flags] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(rate.to_le_bytes());
    bytes.extend(mac);
    bytes.extend(vlan.to_le_bytes());
    bytes
}

/// What is watched, what goes wrong on purpose and what is kept back, as the plan has it; empty if that is nothing.
pub(crate) fn trials(guest: &GuestSpec) -> Vec<u8> {
    let offer = guest.offer;
    let mut watched = 0;
    watched |= match guest.virtio_lint {
        Lint::Off => 0,
        Lint::Errors => format::LINT_VIRTIO,
        Lint::Strict => format::LINT_VIRTIO | format::LINT_STRICT,
    };
    if guest.is_virtio_traced {
        watched |= format::TRACE_VIRTIO;
    }
    let is_sound = guest.faults.is_none() && guest.script.is_empty();
    if watched == 0 && is_sound && offer == Offer::default() {
        return Vec::new();
    }
    let faults = guest.faults.unwrap_or_default();
    let mut bytes = Vec::from(watched.to_le_bytes());
    bytes.extend(u32::from(offer.queue_size).to_le_bytes());
    bytes.extend(faults.seed.to_le_bytes());
    bytes.extend(faults.rates().iter().flat_map(|rate| rate.to_le_bytes()));
    bytes.extend(offer.withheld.to_le_bytes());
    bytes.extend(guest.script.iter().flat_map(strike));
    bytes
}

fn strike(strike: &Strike) -> Vec<u8> {
    let mut bytes = Vec::from(strike.slot.to_le_bytes());
    bytes.extend((strike.kind as u32).to_le_bytes());
    bytes.extend(strike.first.to_le_bytes());
    bytes.extend(strike.count.to_le_bytes());
    bytes
}
