//! A plan with every kind of disk and device, and virtio's rules said once more.

use std::collections::BTreeSet;

use configs_plan::encode::{GuestSpec, PlanSpec};
use configs_plan::{
    DiskKind, DiskPlan, FaultKind, Faults, HOST_LIMIT, Image, Lint, NetworkPlan, Offer, Part,
    Strike, VirtioDevice, VirtioPlan,
};

/// An image of so many bytes.
pub fn image(file: &str, len: u64) -> Image<String> {
    let file = file.to_owned();
    Image { file, len }
}

/// A disk of a kind.
pub fn disk_of(name: &str, sectors: u64, kind: DiskKind<String>) -> DiskPlan<String> {
    DiskPlan {
        name: name.to_owned(),
        sectors,
        kind,
    }
}

/// A disk of the machine.
pub fn of_machine(name: &str, sectors: u64, unit: u32, part: Part<String>) -> DiskPlan<String> {
    let is_readonly = false;
    let kind = DiskKind::Machine {
        unit,
        part,
        is_readonly,
    };
    disk_of(name, sectors, kind)
}

/// A network.
pub fn net(name: &str, has_uplink: bool) -> NetworkPlan<String> {
    NetworkPlan {
        name: name.to_owned(),
        has_uplink,
        echo: has_uplink.then_some([10, 0, 0, 1]),
    }
}

/// A device in a slot.
pub const fn at(slot: u32, device: VirtioDevice) -> VirtioPlan {
    VirtioPlan { slot, device }
}

/// A disk of a guest.
pub const fn block(disk: u32, is_readonly: bool) -> VirtioDevice {
    VirtioDevice::Block { disk, is_readonly }
}

/// A card on the first network.
pub const fn card(last: u8, vlan: u16) -> VirtioDevice {
    VirtioDevice::Net {
        network: 0,
        mac: [2, 0, 0, 0, 0, last],
        vlan,
        rate: 12_500_000,
    }
}

/// A socket device.
fn vsock(cid: u32, peers: u32) -> VirtioDevice {
    VirtioDevice::Vsock { cid, peers }
}

/// Two guests with every kind of disk, and all devices between them.
pub fn full() -> PlanSpec {
    let mut plan = super::two();
    let partition = |number| Part::Number(number);
    plan.disks = vec![
        disk_of(
            "memory",
            4096,
            DiskKind::Memory {
                image: Some(image("disks/memory", 1 << 20)),
            },
        ),
        disk_of("empty", 1, DiskKind::Memory { image: None }),
        disk_of(
            "readonly",
            2,
            DiskKind::Readonly {
                image: image("disks/readonly", 1024),
            },
        ),
        disk_of(
            "snapshot",
            64,
            DiskKind::Snapshot {
                image: image("disks/snapshot", 512),
                memory: 4096,
            },
        ),
        of_machine("whole", 0, 0, Part::Whole),
        of_machine("range", 100, 1, Part::From(2048)),
        of_machine("two", 0, 1, partition(2)),
        of_machine("named", 0, 1, Part::Name("EFI system".to_owned())),
    ];
    plan.networks = vec![net("lan", true), net("dmz", false)];
    plan.guests[0].virtio = vec![
        at(0, VirtioDevice::Console),
        at(1, block(0, false)),
        at(2, block(2, true)),
        at(3, block(3, false)),
        at(4, block(4, false)),
        at(5, block(7, true)),
        at(6, card(1, 10)),
        at(7, card(2, 0)),
        at(8, VirtioDevice::Entropy),
        at(30, vsock(3, 0b11)),
        at(31, VirtioDevice::Balloon),
    ];
    plan.guests[0].virtio_lint = Lint::Strict;
    plan.guests[0].offer = Offer {
        withheld: Offer::PACKED | Offer::IN_ORDER,
        queue_size: 16,
    };
    plan.guests[1].virtio = vec![
        at(31, block(2, true)),
        at(0, block(3, false)),
        at(5, block(7, true)),
        at(2, block(1, true)),
        at(1, card(3, 4094)),
        at(9, vsock(u32::MAX - 1, 0)),
    ];
    plan.guests[1].faults = Some(Faults::new(42, [1, 2, 3, 4, 5, 6, 7, 1_000_000]));
    plan.guests[1].script = vec![
        strike(31, FaultKind::Error, 9, 1),
        strike(1, FaultKind::Link, 0, u64::MAX),
        strike(9, FaultKind::Interrupt, u64::MAX - 1, 1),
    ];
    plan
}

/// A fault by script.
pub const fn strike(slot: u32, kind: FaultKind, first: u64, count: u64) -> Strike {
    Strike {
        slot,
        kind,
        first,
        count,
    }
}

/// What a plan says of a disk, as it would be written.
pub fn disk(disk: DiskPlan<&str>) -> DiskPlan<String> {
    let image = |image: Image<&str>| self::image(image.file, image.len);
    let kind = match disk.kind {
        DiskKind::Memory { image: i } => DiskKind::Memory {
            image: i.map(image),
        },
        DiskKind::Readonly { image: i } => DiskKind::Readonly { image: image(i) },
        DiskKind::Snapshot { image: i, memory } => DiskKind::Snapshot {
            image: image(i),
            memory,
        },
        DiskKind::Machine {
            unit,
            part,
            is_readonly,
        } => DiskKind::Machine {
            unit,
            part: match part {
                Part::Whole => Part::Whole,
                Part::From(first) => Part::From(first),
                Part::Number(number) => Part::Number(number),
                Part::Name(name) => Part::Name(name.to_owned()),
            },
            is_readonly,
        },
    };
    disk_of(disk.name, disk.sectors, kind)
}

/// What a plan says of a network, as it would be written.
pub fn network(network: NetworkPlan<&str>) -> NetworkPlan<String> {
    NetworkPlan {
        echo: network.echo,
        ..net(network.name, network.has_uplink)
    }
}

fn names_hold<'n>(names: impl Iterator<Item = &'n String>, most: usize) -> bool {
    let names: Vec<_> = names.collect();
    let different: BTreeSet<_> = names.iter().collect();
    let good = |name: &&&String| {
        (1..=31).contains(&name.len())
            && name
                .bytes()
                .all(|b| b"abcdefghijklmnopqrstuvwxyz0123456789-".contains(&b))
            && !name.starts_with('-')
            && ***name != "xdv"
    };
    names.len() <= most && different.len() == names.len() && names.iter().all(|n| good(&n))
}

fn image_holds(image: &Image<String>, sectors: u64) -> bool {
    let name = &image.file;
    let allowed = b"abcdefghijklmnopqrstuvwxyz0123456789-_./";
    (1..=47).contains(&name.len())
        && name.bytes().all(|b| allowed.contains(&b))
        && image.len != 0
        && image.len.is_multiple_of(512)
        && sectors.checked_mul(512).is_some_and(|all| image.len <= all)
}

/// Which of the machine's, which sectors of it, and which partition.
type Place = (u32, Option<(u64, u64)>, String);

/// Where a disk lies in the machine's, as what can be compared: sectors, or the name of a partition.
fn place(disk: &DiskPlan<String>) -> Option<Place> {
    let DiskKind::Machine { unit, part, .. } = &disk.kind else {
        return None;
    };
    let (range, word) = match part {
        Part::Whole => (Some((0, u64::MAX)), String::new()),
        Part::From(first) => (
            Some((*first, first.saturating_add(disk.sectors))),
            String::new(),
        ),
        Part::Number(number) => (None, format!("number {number}")),
        Part::Name(name) => (None, format!("name {name}")),
    };
    Some((*unit, range, word))
}

fn disk_holds(disk: &DiskPlan<String>) -> bool {
    let sectors = disk.sectors;
    let some = (1..=HOST_LIMIT / 512).contains(&sectors);
    match &disk.kind {
        DiskKind::Memory { image } => some && image.iter().all(|i| image_holds(i, sectors)),
        DiskKind::Readonly { image } => {
            some && image_holds(image, sectors) && image.len == sectors * 512
        }
        DiskKind::Snapshot { image, memory } => {
            let pages = *memory != 0 && memory.is_multiple_of(4096) && *memory <= HOST_LIMIT;
            some && image_holds(image, sectors) && pages
        }
        DiskKind::Machine { unit, part, .. } => {
            *unit < 32
                && match part {
                    Part::Whole => sectors == 0,
                    Part::From(first) => {
                        let end = first.checked_add(sectors);
                        some && end.is_some_and(|end| end <= HOST_LIMIT / 512)
                    }
                    Part::Number(number) => sectors == 0 && *number != 0,
                    Part::Name(name) => {
                        sectors == 0
                            && (1..=36).contains(&name.len())
                            && name.bytes().all(|b| (0x20..0x7F).contains(&b))
                    }
                }
        }
    }
}

/// Whether virtio's rules hold.
pub fn holds(spec: &PlanSpec) -> bool {
    let apart = spec.disks.iter().enumerate().all(|(nth, a)| {
        spec.disks.iter().take(nth).all(|b| {
            let (Some((unit, range, word)), Some((other, theirs, their_word))) =
                (place(a), place(b))
            else {
                return true;
            };
            let meet = match (range, theirs) {
                (Some(a), Some(b)) => a.0 < b.1 && b.0 < a.1,
                (None, None) => word == their_word,
                (Some(r), None) | (None, Some(r)) => r.1 == u64::MAX,
            };
            unit != other || !meet
        })
    });
    names_hold(spec.disks.iter().map(|d| &d.name), 16)
        && names_hold(spec.networks.iter().map(|n| &n.name), 8)
        && spec.disks.iter().all(disk_holds)
        && apart
        && spec.networks.iter().filter(|n| n.has_uplink).count() <= 1
        && users_hold(spec)
        && spec.guests.iter().all(|guest| {
            let slots: BTreeSet<_> = guest.virtio.iter().map(|v| v.slot).collect();
            let single = |kind| {
                let same = guest.virtio.iter().filter(|v| v.device.number() == kind);
                same.count() <= 1
            };
            guest.virtio.len() <= 16
                && slots.len() == guest.virtio.len()
                && slots.iter().all(|slot| *slot < 32)
                && [3, 4, 5, 19].into_iter().all(single)
                && guest.offer.withheld & !0x0000_014c_3000_0000 == 0
                && guest.offer.queue_size.count_ones() <= 1
                && guest.faults.iter().all(|faults| {
                    let rates = faults.rates();
                    rates.iter().all(|rate| *rate <= 1_000_000)
                })
                && guest
                    .script
                    .iter()
                    .all(|strike| strike_holds(guest, strike))
        })
}

fn strike_holds(guest: &GuestSpec, strike: &Strike) -> bool {
    let slot = strike.slot;
    let kinds: &[FaultKind] = match guest.virtio.iter().find(|one| one.slot == slot) {
        None => &[],
        Some(one) => match one.device.number() {
            2 => &[
                FaultKind::Delay,
                FaultKind::Short,
                FaultKind::Error,
                FaultKind::Drop,
                FaultKind::Reorder,
                FaultKind::Interrupt,
                FaultKind::Reset,
            ],
            1 => &[
                FaultKind::Delay,
                FaultKind::Drop,
                FaultKind::Interrupt,
                FaultKind::Link,
                FaultKind::Reset,
            ],
            _ => &[FaultKind::Delay, FaultKind::Interrupt, FaultKind::Reset],
        },
    };
    let same = guest.script.iter().filter(|other| other.slot == slot);
    kinds.contains(&strike.kind)
        && strike.count != 0
        && u128::from(strike.first) + u128::from(strike.count) <= u128::from(u64::MAX)
        && same.count() <= 16
}

/// Whether what devices name exists, and is not another one's.
fn users_hold(spec: &PlanSpec) -> bool {
    let mut cards = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut users = vec![Vec::new(); spec.disks.len()];
    for virtio in spec.guests.iter().flat_map(|g| &g.virtio) {
        let good = match virtio.device {
            VirtioDevice::Net {
                network, mac, vlan, ..
            } => {
                (network as usize) < spec.networks.len()
                    && mac[0] % 2 == 0
                    && mac.iter().any(|b| *b != 0)
                    && vlan < 4095
                    && cards.insert((network, mac))
            }
            VirtioDevice::Block { disk, is_readonly } => {
                let user = users.get_mut(disk as usize);
                user.map(|users| users.push(!is_readonly)).is_some()
            }
            VirtioDevice::Vsock { cid, peers } => {
                (3..u32::MAX).contains(&cid) && peers >> spec.guests.len() == 0 && ids.insert(cid)
            }
            VirtioDevice::Console | VirtioDevice::Entropy | VirtioDevice::Balloon => true,
        };
        if !good {
            return false;
        }
    }
    spec.disks.iter().zip(users).all(|(disk, users)| {
        let writers = users.iter().filter(|writes| **writes).count();
        match disk.kind {
            DiskKind::Readonly { .. } => writers == 0,
            DiskKind::Snapshot { .. } => true,
            DiskKind::Machine {
                is_readonly: true, ..
            } => writers == 0,
            DiskKind::Machine { .. } | DiskKind::Memory { .. } => writers == 0 || users.len() == 1,
        }
    })
}
