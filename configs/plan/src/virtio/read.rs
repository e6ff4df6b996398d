//! Reading virtio's sections. What the judge has not seen yet reads as an end of the list, or as a name that none has.

use super::{
    DiskKind, DiskPlan, FaultKind, Faults, Image, Lint, NetworkPlan, Offer, Part, Strike,
    VirtioDevice, VirtioPlan,
};
use crate::decode::{long, short};
use crate::format::{self, number, text};
use crate::{GuestPlan, Plan};

impl<'a> Plan<'a> {
    /// The disks, in the order that guests' devices count them in.
    #[must_use]
    pub fn disks(&self) -> Disks<'a> {
        Disks(self.disks.unwrap_or_default())
    }

    /// The networks, in the order that guests' devices count them in.
    #[must_use]
    pub fn networks(&self) -> Networks<'a> {
        Networks(self.networks.unwrap_or_default())
    }
}

impl<'a> GuestPlan<'_, 'a> {
    /// Its virtio devices.
    #[must_use]
    pub fn virtio(&self) -> Virtio<'a> {
        Virtio(self.section(format::KIND_VIRTIO))
    }

    /// What is reported of its drivers' use of virtio.
    #[must_use]
    pub fn virtio_lint(&self) -> Lint {
        match self.watched() {
            watched if watched & format::LINT_VIRTIO == 0 => Lint::Off,
            watched if watched & format::LINT_STRICT == 0 => Lint::Errors,
            _ => Lint::Strict,
        }
    }

    /// Whether everything that its drivers and virtio devices do with queues is reported.
    #[must_use]
    pub fn is_virtio_traced(&self) -> bool {
        self.watched() & format::TRACE_VIRTIO != 0
    }

    /// Whether anything goes wrong on purpose in its virtio devices.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        self.faults().is_some() || !self.script().0.is_empty()
    }

    /// What goes wrong on purpose in its virtio devices, and exactly when.
    #[must_use]
    pub fn script(&self) -> Script<'a> {
        let section = self.section(format::KIND_TRIALS);
        Script(section.get(format::TRIALS..).unwrap_or_default())
    }

    /// What goes wrong on purpose in its virtio devices by chance, if anything.
    #[must_use]
    pub fn faults(&self) -> Option<Faults> {
        let section = self.section(format::KIND_TRIALS);
        let mut rates = [0; 8];
        for (rate, at) in rates.iter_mut().zip((16..).step_by(4)) {
            *rate = short(section, at);
        }
        (rates != [0; 8]).then(|| Faults::new(long(section, 8), rates))
    }

    /// What of virtio is kept from its drivers.
    #[must_use]
    pub fn offer(&self) -> Offer {
        Offer {
            withheld: self.withheld(),
            queue_size: u16::try_from(self.queue_size()).unwrap_or(0),
        }
    }

    /// The largest size of a queue, for the judge.
    pub(super) fn queue_size(&self) -> u32 {
        short(self.section(format::KIND_TRIALS), 4)
    }

    /// The features that are kept back, for the judge.
    pub(super) fn withheld(&self) -> u64 {
        long(self.section(format::KIND_TRIALS), 48)
    }

    /// What is watched, for the judge.
    pub(super) fn watched(&self) -> u32 {
        short(self.section(format::KIND_TRIALS), 0)
    }
}

/// The disks of a plan.
#[derive(Clone, Debug)]
pub struct Disks<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Disks<'a> {
    type Item = DiskPlan<&'a str>;

    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let (disk, rest) = self.0.split_at_checked(format::DISK)?;
        self.0 = rest;
        // A field that is no text reads as an empty one, which `check` refuses.
        let field = |from: usize, to: usize| disk.get(from..to).and_then(text).unwrap_or("");
        let (len, more) = (long(disk, 8), long(disk, 16));
        let file = field(64, format::DISK);
        let image = Image { file, len };
        let unit = u32::try_from(len).ok();
        let flags = short(disk, 28);
        let machine = |part| {
            Some(DiskKind::Machine {
                unit: unit?,
                part,
                is_readonly: flags == format::DISK_READONLY,
            })
        };
        // What a kind has no use for is zero.
        let kind = match (short(disk, 24), flags, more) {
            (format::DISK_MEMORY, 0, 0) if len == 0 && file.is_empty() => {
                DiskKind::Memory { image: None }
            }
            (format::DISK_MEMORY, 0, 0) => DiskKind::Memory { image: Some(image) },
            (format::DISK_IN_BUNDLE, 0, 0) => DiskKind::Readonly { image },
            (format::DISK_SNAPSHOT, 0, memory) => DiskKind::Snapshot { image, memory },
            (_, 2.., _) => return None,
            (format::DISK_PARTITION_NAME, _, 0) => machine(Part::Name(file))?,
            _ if !file.is_empty() => return None,
            (format::DISK_WHOLE, _, 0) => machine(Part::Whole)?,
            (format::DISK_RANGE, _, first) => machine(Part::From(first))?,
            (format::DISK_PARTITION, _, number) => {
                machine(Part::Number(u32::try_from(number).ok()?))?
            }
            _ => return None,
        };
        Some(DiskPlan {
            name: field(32, 64),
            sectors: long(disk, 0),
            kind,
        })
    }
}

/// The networks of a plan.
#[derive(Clone, Debug)]
pub struct Networks<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Networks<'a> {
    type Item = NetworkPlan<&'a str>;

    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let (network, rest) = self.0.split_at_checked(format::NETWORK)?;
        self.0 = rest;
        let flags = short(network, 0);
        let echo = *network.get(4..)?.first_chunk()?;
        (flags <= 1).then_some(NetworkPlan {
            name: network.get(8..).and_then(text).unwrap_or(""),
            has_uplink: flags != 0,
            echo: (echo != [0; 4]).then_some(echo),
        })
    }
}

/// The faults by script of a guest's virtio devices.
#[derive(Clone, Debug)]
pub struct Script<'a>(pub(super) &'a [u8]);

impl Iterator for Script<'_> {
    type Item = Strike;

    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let (strike, rest) = self.0.split_at_checked(format::STRIKE)?;
        self.0 = rest;
        let kind = usize::try_from(short(strike, 4)).ok()?;
        Some(Strike {
            slot: short(strike, 0),
            kind: *FaultKind::ALL.get(kind)?,
            first: long(strike, 8),
            count: long(strike, 16),
        })
    }
}

/// The virtio devices of a guest.
#[derive(Clone, Debug)]
pub struct Virtio<'a>(pub(super) &'a [u8]);

impl Iterator for Virtio<'_> {
    type Item = VirtioPlan;

    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let (device, rest) = self.0.split_at_checked(format::VIRTIO)?;
        self.0 = rest;
        let (slot, kind) = (short(device, 0), short(device, 4));
        let (index, flags) = (short(device, 8), short(device, 12));
        let (rate, address) = (long(device, 16), long(device, 24));
        // What a kind has no use for is zero.
        let device = match (kind, index, flags, rate, address) {
            (1, network, 0, rate, _) => VirtioDevice::Net {
                network,
                mac: *device.get(24..)?.first_chunk()?,
                vlan: u16::try_from(number(device, 30, 2)).ok()?,
                rate,
            },
            (2, disk, 0..=1, 0, 0) => VirtioDevice::Block {
                disk,
                is_readonly: flags != 0,
            },
            (3, 0, 0, 0, 0) => VirtioDevice::Console,
            (4, 0, 0, 0, 0) => VirtioDevice::Entropy,
            (5, 0, 0, 0, 0) => VirtioDevice::Balloon,
            (19, cid, peers, 0, 0) => VirtioDevice::Vsock { cid, peers },
            _ => return None,
        };
        Some(VirtioPlan { slot, device })
    }
}
