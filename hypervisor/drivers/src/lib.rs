//! What is on the machine's disk: its partitions, read as hostile input.
//!
//! The drivers themselves are beside it, in `arch`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod crc;
pub mod gpt;

#[cfg(test)]
mod tests;

/// Bytes of a sector, whatever the disk's own blocks are (virtio 1.3, 5.2.4).
pub const SECTOR: u64 = 512;

/// Sectors of a disk, one after the other: not none, and their end is a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sectors {
    first: u64,
    end: u64,
}

impl Sectors {
    /// So many sectors from `first` on; `None` if they are none or do not end.
    #[must_use]
    pub const fn new(first: u64, count: u64) -> Option<Self> {
        match first.checked_add(count) {
            Some(end) if count != 0 => Some(Self { first, end }),
            _ => None,
        }
    }

    /// The first.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The one behind the last.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.end - self.first
    }

    /// Whether a sector is in both.
    #[must_use]
    pub const fn overlap(self, other: Self) -> bool {
        self.first < other.end && other.first < self.end
    }

    /// Where on the disk `count` sectors are that begin at this one's `sector`; `None` unless all of them are inside.
    #[must_use]
    pub const fn within(self, sector: u64, count: u64) -> Option<u64> {
        let (Some(first), Some(behind)) =
            (self.first.checked_add(sector), sector.checked_add(count))
        else {
            return None;
        };
        match behind <= self.count() {
            true => Some(first),
            false => None,
        }
    }
}
