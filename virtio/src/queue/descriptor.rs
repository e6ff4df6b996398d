//! A descriptor, copied once.

use stage2_addr::Ipa;

use super::Broken;
use crate::chain::Segment;
use crate::memory::GuestMemory;

/// `VIRTQ_DESC_F_NEXT`.
pub(super) const NEXT: u16 = 1 << 0;
/// `VIRTQ_DESC_F_WRITE`.
pub(super) const WRITE: u16 = 1 << 1;
/// `VIRTQ_DESC_F_INDIRECT`.
pub(super) const INDIRECT: u16 = 1 << 2;
/// `VIRTQ_DESC_F_AVAIL`, of packed rings.
pub(super) const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`, of packed rings.
pub(super) const USED: u16 = 1 << 15;

/// Bytes of a descriptor.
const BYTES: u32 = 16;

/// What a driver has written: nothing of it is judged.
#[derive(Clone, Copy)]
pub(super) struct Descriptor {
    pub segment: Segment,
    pub flags: u16,
    /// The next descriptor's index (split), the buffer's id (packed).
    pub link: u16,
}

impl Descriptor {
    /// Of a split ring (2.7.5).
    #[inline]
    pub(super) fn split<M: GuestMemory>(memory: &M, at: Ipa) -> Result<Self, Broken> {
        Ok(Self::of_split(memory.load_pair(at).ok_or(Broken)?))
    }

    /// The same, from its two halves.
    #[inline(always)]
    pub(super) fn of_split([address, rest]: [u64; 2]) -> Self {
        Self::new(address, rest, rest >> 32, rest >> 48)
    }

    /// Of a packed one (2.8.13).
    #[inline]
    pub(super) fn packed<M: GuestMemory>(memory: &M, at: Ipa) -> Result<Self, Broken> {
        let [address, rest] = memory.load_pair(at).ok_or(Broken)?;
        Ok(Self::new(address, rest, rest >> 48, rest >> 32))
    }

    #[inline]
    fn new(address: u64, len: u64, flags: u64, link: u64) -> Self {
        Self {
            segment: Segment {
                at: Ipa::new(address),
                len: low_u32(len),
            },
            flags: low_u16(flags),
            link: low_u16(link),
        }
    }

    /// Whether one of the flags is set.
    #[inline]
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// How many descriptors are in the table that it refers to: some, whole, and inside the guest's memory.
    #[inline(always)]
    pub(super) fn table<M: GuestMemory>(&self, memory: &M) -> Result<u32, Broken> {
        let Segment { at, len } = self.segment;
        if len == 0 || !len.is_multiple_of(BYTES) || !memory.contains(at, u64::from(len)) {
            return Err(Broken);
        }
        Ok(len / BYTES)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low_u32(value: u64) -> u32 {
    value as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lowest quarter is meant"
)]
const fn low_u16(value: u64) -> u16 {
    value as u16
}
