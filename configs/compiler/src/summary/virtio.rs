//! Disks and networks of a machine, and who has them.

use configs_plan::{DiskKind, SECTOR, VirtioDevice};

use super::size;
use crate::rate;
use crate::virtio::{Virtio, mac};

/// A disk of a compiled machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSummary {
    /// Its name.
    pub name: String,
    /// Its bytes, if they are not for the machine's own disk to say.
    pub size: Option<u64>,
    /// What it is made of.
    pub what: String,
    /// Which of the machine's own disks it is on.
    pub unit: Option<u32>,
    /// The guests that have it.
    pub users: Vec<String>,
}

/// A network of a compiled machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSummary {
    /// Its name.
    pub name: String,
    /// Whether the machine's own network card is on it.
    pub has_uplink: bool,
    /// The guests that are on it, with their cards.
    pub cards: Vec<String>,
}

/// What a device is, for the map of its guest's addresses.
pub(crate) fn words(virtio: &Virtio, device: &VirtioDevice) -> String {
    let name_of_disk = |nth: u32| {
        virtio
            .disks
            .get(nth as usize)
            .map(|disk| disk.name.as_str())
    };
    let of_network = |nth: u32| {
        virtio
            .networks
            .get(nth as usize)
            .map(|net| net.name.as_str())
    };
    match device {
        VirtioDevice::Console => "console".to_owned(),
        VirtioDevice::Block { disk, is_readonly } => {
            let only = if *is_readonly { ", read only" } else { "" };
            format!("disk `{}`{only}", name_of_disk(*disk).unwrap_or_default())
        }
        VirtioDevice::Net { network, .. } => {
            let name = of_network(*network).unwrap_or_default();
            format!("network `{name}`, {}", card(device))
        }
        VirtioDevice::Entropy => "random numbers".to_owned(),
        VirtioDevice::Vsock { cid, .. } => format!("sockets, context id {cid}"),
        VirtioDevice::Balloon => "balloon".to_owned(),
    }
}

/// A card's address and limits.
fn card(device: &VirtioDevice) -> String {
    let VirtioDevice::Net {
        mac, vlan, rate, ..
    } = device
    else {
        return String::new();
    };
    let mut words = mac::written(*mac);
    if *vlan != 0 {
        words.push_str(&format!(", VLAN {vlan}"));
    }
    if *rate != 0 {
        words.push_str(&format!(", {}", rate::shown(*rate)));
    }
    words
}

/// The disks, and who has each.
pub(crate) fn disks(virtio: &Virtio, guests: &[String]) -> Vec<DiskSummary> {
    let words = virtio.disk_words.iter();
    let all = (0u32..).zip(&virtio.disks).zip(words);
    all.map(|((nth, disk), what)| {
        let has = |device: &VirtioDevice| {
            matches!(device, VirtioDevice::Block { disk, .. } if *disk == nth)
        };
        let users = guests.iter().zip(&virtio.guests).filter_map(|(name, guest)| {
            let device = guest.slots.iter().map(|slot| &slot.device).find(|d| has(d))?;
            let reads = matches!(device, VirtioDevice::Block { is_readonly: true, .. });
            let only = reads && !disk.kind.is_readonly();
            Some(format!("{name}{}", if only { " (read only)" } else { "" }))
        });
        DiskSummary {
            name: disk.name.clone(),
            size: (disk.sectors != 0).then(|| disk.sectors.saturating_mul(SECTOR)),
            what: what.clone(),
            unit: match disk.kind {
                DiskKind::Machine { unit, .. } => Some(unit),
                DiskKind::Memory { .. }
                | DiskKind::Readonly { .. }
                | DiskKind::Snapshot { .. } => None,
            },
            users: users.collect(),
        }
    })
    .collect()
}

/// The networks, and who is on each.
pub(crate) fn networks(virtio: &Virtio, guests: &[String]) -> Vec<NetworkSummary> {
    let all = (0u32..).zip(&virtio.networks);
    all.map(|(nth, network)| {
        let mut cards = Vec::new();
        for (name, guest) in guests.iter().zip(&virtio.guests) {
            for slot in &guest.slots {
                if matches!(slot.device, VirtioDevice::Net { network, .. } if network == nth) {
                    cards.push(format!("{name} ({})", card(&slot.device)));
                }
            }
        }
        NetworkSummary {
            name: network.name.clone(),
            has_uplink: network.has_uplink,
            cards,
        }
    })
    .collect()
}

impl DiskSummary {
    pub(super) fn row(&self) -> [String; 4] {
        let size = self.size.map_or("-".to_owned(), size);
        [
            self.name.clone(),
            size,
            self.what.clone(),
            self.users.join(", "),
        ]
    }
}

impl NetworkSummary {
    pub(super) fn row(&self) -> [String; 2] {
        let uplink = self.has_uplink.then(|| "the machine's own card".to_owned());
        let all: Vec<String> = self.cards.iter().cloned().chain(uplink).collect();
        [self.name.clone(), all.join(", ")]
    }
}
