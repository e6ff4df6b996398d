//! Features and the configuration space: virtio 1.3, 5.2.3 and 5.2.4.

use super::disk::Facts;
use super::job::MAX_RANGES;
use crate::device::Dependency;

pub const SEG_MAX: u64 = 1 << 2;
pub const RO: u64 = 1 << 5;
pub const BLK_SIZE: u64 = 1 << 6;
pub const FLUSH: u64 = 1 << 9;
pub const TOPOLOGY: u64 = 1 << 10;
pub const CONFIG_WCE: u64 = 1 << 11;
pub const MQ: u64 = 1 << 12;
pub const DISCARD: u64 = 1 << 13;
pub const WRITE_ZEROES: u64 = 1 << 14;

/// A device that offers `CONFIG_WCE` offers `FLUSH`; what a driver accepts of both is its own affair (5.2.5.2).
pub const DEPENDENCIES: &[Dependency] = &[Dependency {
    feature: CONFIG_WCE,
    any_of: FLUSH,
    offer_only: true,
}];

/// Where the write cache is switched.
pub const WRITEBACK: u64 = 32;

/// Bytes of the fields that are here.
const BYTES: usize = 60;

/// Blocks of 4 KiB are what memory, snapshots and file systems have: 2^3 sectors.
const BLOCK_EXPONENT: u8 = 3;
const BLOCK_SECTORS: u16 = 1 << BLOCK_EXPONENT;

pub fn features(facts: &Facts, queues: u16) -> u64 {
    let mut features = SEG_MAX | BLK_SIZE | TOPOLOGY | FLUSH | CONFIG_WCE;
    for (bit, offered) in [
        (MQ, queues > 1),
        (RO, facts.readonly),
        (DISCARD, facts.discards && !facts.readonly),
        (WRITE_ZEROES, facts.zeroes && !facts.readonly),
    ] {
        if offered {
            features |= bit;
        }
    }
    features
}

/// What the configuration space says.
pub struct Config {
    pub sectors: u64,
    pub seg_max: u32,
    pub writeback: bool,
    pub queues: u16,
}

impl Config {
    /// Copies bytes of it; those behind its end are left.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let bytes = self.bytes();
        let Some(from) = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)) else {
            return;
        };
        for (to, from) in into.iter_mut().zip(from) {
            *to = *from;
        }
    }

    fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        // One range is as long as the disk: the device cuts it into pieces by itself.
        let most = u32::MAX.to_le_bytes();
        let ranges = MAX_RANGES.to_le_bytes();
        let align = u32::from(BLOCK_SECTORS).to_le_bytes();
        let fields: [(usize, &[u8]); 13] = [
            (0, &self.sectors.to_le_bytes()),
            (12, &self.seg_max.to_le_bytes()),
            (20, &512_u32.to_le_bytes()),
            (24, &[BLOCK_EXPONENT]),
            (26, &BLOCK_SECTORS.to_le_bytes()),
            (32, &[u8::from(self.writeback)]),
            (34, &self.queues.to_le_bytes()),
            (36, &most),
            (40, &ranges),
            (44, &align),
            (48, &most),
            (52, &ranges),
            // Zeroes may give sectors up.
            (56, &[1]),
        ];
        for (at, field) in fields {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
        }
        bytes
    }
}
