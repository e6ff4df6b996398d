//! What is in the chains of a device of a known kind.

use stage2_addr::Ipa;

use super::rules::Broken;
use super::walk::Walk;
use super::{Report, Subject};
use crate::features::Features;
use crate::memory::GuestMemory;

const NET: u32 = 1;
const BLOCK: u32 = 2;
const BALLOON: u32 = 5;
const VSOCK: u32 = 19;

/// Whether Linux notifies this queue before `DRIVER_OK`, which it must not: the balloon's statistics, by `init_vqs` of
/// drivers/virtio/virtio_balloon.c in every version up to 6.12. Nobody who writes a driver has to hear of that.
pub(super) fn is_early_in_linux(subject: Subject, queue: Option<u16>) -> bool {
    subject.id == BALLOON && queue == Some(2)
}

/// A queue of a device.
pub(super) struct Content {
    pub subject: Subject,
    pub queue: u16,
    /// The queue behind all others of the device, where that is one for control.
    pub control: u16,
}

impl Content {
    /// Whether the device tells of all that it does with the queue. Receive queues are filled by others, and a socket's
    /// packets wait for their receivers.
    pub const fn is_traced(&self) -> bool {
        match self.subject.id {
            NET => self.queue % 2 == 1 || self.queue == self.control,
            VSOCK => false,
            _ => true,
        }
    }

    /// Judges what a sound chain says.
    pub fn judge<M: GuestMemory>(
        &self,
        walk: &Walk,
        at: u16,
        features: Features,
        memory: &M,
        report: &mut Report<'_>,
    ) {
        match self.subject.id {
            BLOCK => self.block(walk, at, features, memory, report),
            NET if self.queue == self.control => {}
            NET if self.queue % 2 == 1 => transmitted(walk, at, features, memory, report),
            NET => received(walk, at, features, report),
            _ => {}
        }
    }

    /// virtio 1.3, 5.2.6.
    fn block<M: GuestMemory>(
        &self,
        walk: &Walk,
        at: u16,
        features: Features,
        memory: &M,
        report: &mut Report<'_>,
    ) {
        const RO: u64 = 1 << 5;
        const FLUSH: u64 = 1 << 9;
        const DISCARD: u64 = 1 << 13;
        const WRITE_ZEROES: u64 = 1 << 14;
        if walk.readable < 16 {
            return report.at(Broken::BlkHeader, at);
        }
        if walk.written == 0 {
            return report.at(Broken::BlkStatus, at);
        }
        // Drivers need not put the header into one buffer; those that do not are not judged further.
        let Some((header, 16..)) = walk.first_readable else {
            return;
        };
        let mut raw = [0; 16];
        if memory.read(Ipa::new(header), &mut raw).is_none() {
            return;
        }
        let [a, b, c, d, _, _, _, _, sector @ ..] = raw;
        let (kind, sector) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sector));
        let agreed = |feature| features.bits() & feature != 0;
        let data = match kind {
            0 => walk.written - 1,
            1 => walk.readable - 16,
            4 if agreed(FLUSH) => return,
            8 => return,
            11 if agreed(DISCARD) => return,
            13 if agreed(WRITE_ZEROES) => return,
            _ => return report.at(Broken::BlkType, at),
        };
        if kind == 1 && self.subject.offered & RO != 0 {
            report.at(Broken::BlkReadOnly, at);
        }
        if !data.is_multiple_of(512) || data == 0 {
            report.at(Broken::BlkSectors, at);
        }
        let end = sector.checked_add(data / 512);
        if end.is_none_or(|end| end > self.subject.sectors) {
            report.at(Broken::BlkRange, at);
        }
    }
}

const CSUM: u64 = 1;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_UFO: u64 = 1 << 14;
const HOST_USO: u64 = 1 << 56;
const MRG_RXBUF: u64 = 1 << 15;
const GUEST_SEGMENTS: u64 = 1 << 7 | 1 << 8 | 1 << 10;

/// Bytes of the header (5.1.6).
const HEADER: u64 = 12;

/// A frame that the driver sends (5.1.6.2).
fn transmitted<M: GuestMemory>(
    walk: &Walk,
    at: u16,
    features: Features,
    memory: &M,
    report: &mut Report<'_>,
) {
    const NEEDS_CSUM: u8 = 1;
    if walk.readable < HEADER {
        return report.at(Broken::NetHeader, at);
    }
    let Some((header, 12..)) = walk.first_readable else {
        return;
    };
    let mut raw = [0; 12];
    if memory.read(Ipa::new(header), &mut raw).is_none() {
        return;
    }
    let [flags, kind, .., low, high] = raw;
    let agreed = |any: u64| features.bits() & any != 0;
    if flags & NEEDS_CSUM != 0 && !agreed(CSUM) {
        report.at(Broken::NetChecksum, at);
    }
    // The top bit says that ECN is in use.
    let is_agreed = match kind & 0x7f {
        0 => true,
        1 => agreed(HOST_TSO4),
        3 => agreed(HOST_UFO),
        4 => agreed(HOST_TSO6),
        5 => agreed(HOST_USO),
        _ => false,
    };
    if !is_agreed {
        report.at(Broken::NetSegments, at);
    }
    if (low, high) != (0, 0) {
        report.at(Broken::NetBuffers, at);
    }
}

/// A buffer that the driver posts (5.1.6.3.1).
fn received(walk: &Walk, at: u16, features: Features, report: &mut Report<'_>) {
    let least = if features.bits() & MRG_RXBUF != 0 {
        HEADER
    } else if features.bits() & GUEST_SEGMENTS != 0 {
        65_550 + HEADER
    } else {
        1514 + HEADER
    };
    if walk.written < least {
        report.at(Broken::NetReceive, at);
    }
}
