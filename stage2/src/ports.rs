//! What the tables need of the machine.

use stage2_addr::HostPhys;

use crate::Stale;

/// Entries in one table of the 4 KiB granule.
pub(crate) const ENTRIES: u64 = 512;

/// The position of an entry in its table, proven below 512.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableIndex(u16);

impl TableIndex {
    /// The first entry.
    pub const FIRST: Self = Self(0);

    /// The index in the low nine bits of `raw`; an address shifted right by its level's shift is what comes here.
    #[must_use]
    pub const fn from_low_bits(raw: u64) -> Self {
        Self((raw & (ENTRIES - 1)) as u16)
    }

    /// The index as a number below 512.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The index that follows, and the first one behind the last.
    pub(crate) const fn next(self) -> Self {
        Self::from_low_bits(self.0 as u64 + 1)
    }

    /// Every index in ascending order.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..ENTRIES).map(Self::from_low_bits)
    }
}

/// Access to the frames that hold translation tables.
///
/// The crate passes only frames of the quota that the tables were created with.
pub trait TableMemory {
    /// The entry `index` of the table in the frame at `table`.
    fn read(&self, table: HostPhys, index: TableIndex) -> u64;

    /// Writes an entry by one single-copy atomic 64-bit store.
    fn write(&mut self, table: HostPhys, index: TableIndex, descriptor: u64);

    /// Writes zero to all 512 entries of a table that no walker can reach.
    fn zero(&mut self, table: HostPhys);

    /// Returns once the writes so far are visible to the table walkers of every CPU, before any later write is:
    /// `DSB ISHST`. Called between filling a table and linking it, and at the end of a change.
    fn publish(&mut self);
}

/// The translation caches of all CPUs.
pub trait Tlb {
    /// Returns once no CPU of the inner shareable domain uses a translation that `stale` names, nor one combined from
    /// it with a stage 1: `DSB ISHST`, the `TLBI …IS` that fit, `DSB ISH`, and `ISB` for EL2's own regime.
    ///
    /// Invalidating more than asked is always right; `stale` says how little would do.
    fn invalidate(&self, stale: &Stale);
}
