//! Building the map.

use super::entry::{self, Attributes, Kind};
use super::{ADDRESS_BITS, ENTRIES, Table, WINDOW};
use crate::addr::{GuestPhys, PhysRange};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = 4096;

/// Why a range cannot be mapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapError {
    /// The tables are used up.
    OutOfTables,
    /// The range is not made of whole pages.
    Misaligned(GuestPhys),
    /// The range reaches beyond the address space.
    TooHigh(GuestPhys),
    /// Something is mapped there already.
    Taken(GuestPhys),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfTables => f.write_str("out of page tables"),
            Self::Misaligned(at) => write!(f, "cannot map {at}: not a whole page"),
            Self::TooHigh(at) => write!(f, "cannot map {at}: beyond {ADDRESS_BITS} bits"),
            Self::Taken(at) => write!(f, "cannot map {at}: mapped already"),
        }
    }
}

/// A map under construction, and later the one in use.
pub struct AddressMap<'t> {
    tables: &'t [Table],
    base: GuestPhys,
    used: usize,
}

impl<'t> AddressMap<'t> {
    /// Starts an empty map in `tables`, all zero, which lie at `base`. The first is the root.
    ///
    /// # Errors
    /// [`MapError::OutOfTables`] when there is not even a root.
    pub fn new(tables: &'t [Table], base: GuestPhys) -> Result<Self, MapError> {
        if tables.is_empty() {
            return Err(MapError::OutOfTables);
        }
        Ok(Self {
            tables,
            base,
            used: 1,
        })
    }

    /// Where the root table lies, for `TTBR0_EL1`.
    #[must_use]
    pub const fn root(&self) -> GuestPhys {
        self.base
    }

    /// Maps a range onto itself, with the largest entries that fit.
    ///
    /// # Errors
    /// When the range is not page-aligned, too high, or (partly) mapped already, or the tables are
    /// used up. Part of the range may be mapped then.
    pub fn map(&mut self, range: PhysRange, attributes: Attributes) -> Result<(), MapError> {
        for edge in [range.start(), range.end()] {
            if !edge.is_aligned(PAGE) {
                return Err(MapError::Misaligned(edge));
            }
        }
        if range.end().get() > WINDOW {
            return Err(MapError::TooHigh(range.end()));
        }
        let mut at = range.start();
        while at < range.end() {
            let left = range.end().get() - at.get();
            let level = (1..=3)
                .find(|level| at.is_aligned(size(*level)) && size(*level) <= left)
                .unwrap_or(3);
            let slot = self.slot(at, level)?;
            if slot.load(Ordering::Relaxed) != 0 {
                return Err(MapError::Taken(at));
            }
            slot.store(entry::leaf(level, at, attributes), Ordering::Relaxed);
            at = at.checked_add(size(level)).ok_or(MapError::TooHigh(at))?;
        }
        Ok(())
    }

    /// The window's entry, with which one page at a time is looked at. Making the change known to
    /// the TLB, invalid entry first, is the caller's part.
    ///
    /// # Errors
    /// When the tables are used up.
    pub fn window(&mut self) -> Result<&'t AtomicU64, MapError> {
        self.slot(GuestPhys::new(WINDOW), 3)
    }

    /// The entry for `at` in the table at `level`; tables on the way are made.
    fn slot(&mut self, at: GuestPhys, level: u32) -> Result<&'t AtomicU64, MapError> {
        let tables = self.tables;
        let mut table = tables.first().ok_or(MapError::OutOfTables)?;
        for step in 1..level {
            let entry = entry_of(table, at, step)?;
            table = match entry::kind(step, entry.load(Ordering::Relaxed)) {
                Kind::Table(next) => self.table_at(next)?,
                Kind::Leaf(_) => return Err(MapError::Taken(at)),
                Kind::Invalid => {
                    let next = tables.get(self.used).ok_or(MapError::OutOfTables)?;
                    let index = u64::try_from(self.used).map_err(|_| MapError::OutOfTables)?;
                    let address = self.base.checked_add(index * PAGE);
                    let address = address.ok_or(MapError::OutOfTables)?;
                    entry.store(entry::table(address), Ordering::Relaxed);
                    self.used += 1;
                    next
                }
            };
        }
        entry_of(table, at, level)
    }

    fn table_at(&self, address: GuestPhys) -> Result<&'t Table, MapError> {
        let offset = address.get().wrapping_sub(self.base.get());
        let index = usize::try_from(offset / PAGE).map_err(|_| MapError::OutOfTables)?;
        self.tables.get(index).ok_or(MapError::OutOfTables)
    }

    /// What the hardware would find for `at`: the address and the raw entry. For tests and reports.
    #[must_use]
    pub fn translate(&self, at: GuestPhys) -> Option<(GuestPhys, u64)> {
        let mut table = self.tables.first()?;
        for level in 1..=3 {
            let raw = entry_of(table, at, level).ok()?.load(Ordering::Relaxed);
            match entry::kind(level, raw) {
                Kind::Invalid => return None,
                Kind::Table(next) => table = self.table_at(next).ok()?,
                Kind::Leaf(start) => {
                    let offset = at.get() & (size(level) - 1);
                    return Some((start.checked_add(offset)?, raw));
                }
            }
        }
        None
    }
}

/// Bytes that one entry at `level` covers.
const fn size(level: u32) -> u64 {
    PAGE << (9 * (3 - level))
}

fn entry_of(table: &Table, at: GuestPhys, level: u32) -> Result<&AtomicU64, MapError> {
    let index = usize::try_from(at.get() / size(level)).map_err(|_| MapError::TooHigh(at))?;
    table.0.get(index % ENTRIES).ok_or(MapError::TooHigh(at))
}
