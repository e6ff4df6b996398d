//! Filling invalid entries. Nothing live is touched, so nothing has to be flushed.

use core::fmt;

use stage2_addr::{Address, HostPhys, HostRegion, PageCount, Region};

use crate::descriptor::{self, Level};
use crate::geometry::new_tables;
use crate::tables::{End, Slot, count_invalid, find_below};
use crate::{Attrs, Format, Shape, TableMemory, TableQuota, Tables};

/// Why a mapping was refused. The tables translate what they did before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// A valid entry is in the way; only unmapping removes one.
    AlreadyMapped {
        /// The first input address that is mapped already.
        ipa: u64,
    },
    /// The inputs reach past the walk's size.
    InputBeyondRange {
        /// The last input address.
        last: u64,
    },
    /// The frames begin inside a page or reach past what a descriptor can hold.
    BadFrames {
        /// Where they were to begin.
        base: HostPhys,
    },
    /// The regime does not map this: executable device memory, writable code at EL2, no access at all.
    Inadmissible {
        /// What was asked for.
        attrs: Attrs,
    },
    /// The quota has too few frames for the tables.
    QuotaExhausted {
        /// How many the mapping takes.
        needed: PageCount,
        /// How many there are.
        available: PageCount,
    },
    /// An earlier change waits for its receipt.
    Unsettled,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyMapped { ipa } => write!(f, "{ipa:#x} is mapped already"),
            Self::InputBeyondRange { last } => {
                write!(f, "{last:#x} is beyond the translated range")
            }
            Self::BadFrames { base } => write!(f, "no frames to map at {base}"),
            Self::Inadmissible { attrs } => write!(f, "{attrs} is not mapped here"),
            Self::QuotaExhausted { needed, available } => {
                write!(
                    f,
                    "the mapping takes {needed} table frames, {available} are left"
                )
            }
            Self::Unsettled => f.write_str("an earlier change is not settled"),
        }
    }
}

impl core::error::Error for MapError {}

impl<F: Format> Tables<F> {
    /// Maps the pages of `region` to the frames from `host` on, by leaves as large as alignment allows.
    ///
    /// # Errors
    /// See [`MapError`]. Everything is judged before the first write: an error leaves the tables as they were.
    pub fn map<M: TableMemory>(
        &mut self,
        memory: &mut M,
        region: Region<F::Input>,
        host: HostPhys,
        attrs: Attrs,
    ) -> Result<(), MapError> {
        if !self.is_settled() {
            return Err(MapError::Unsettled);
        }
        let bits = self
            .format
            .encode(attrs)
            .ok_or(MapError::Inadmissible { attrs })?;
        if !self.has_inputs(&region) {
            return Err(MapError::InputBeyondRange {
                last: region.last().to_raw(),
            });
        }
        let frames = HostRegion::new(host, region.pages())
            .map_err(|_| MapError::BadFrames { base: host })?;
        if frames.end().raw() > self.shape.output_end() {
            return Err(MapError::BadFrames { base: host });
        }
        let mut filling = Filling {
            shape: self.shape,
            root: self.root,
            quota: &mut self.quota,
        };
        filling.map(memory, Pieces::of(&region, host), bits)
    }
}

/// Tables that are being filled, whatever their format: so this is compiled once for all of them.
struct Filling<'a> {
    shape: Shape,
    root: HostPhys,
    quota: &'a mut TableQuota,
}

impl Filling<'_> {
    /// Maps all `pieces` by leaves of these attribute bits.
    #[inline(never)]
    fn map<M: TableMemory>(
        &mut self,
        memory: &mut M,
        mut pieces: Pieces,
        bits: u64,
    ) -> Result<(), MapError> {
        let needed = self.survey(memory, pieces)?;
        let available = self.quota.available();
        let exhausted = MapError::QuotaExhausted { needed, available };
        if needed > available {
            return Err(exhausted);
        }
        while let Some((input, output)) = pieces.here() {
            let slot = self.find(memory, input);
            let level = pieces.largest_leaf().max(slot.level);
            let leaves = vacant(memory, slot, level, input, pieces.leaves(level));
            let table = self.reach(memory, slot, input, level).ok_or(exhausted)?;
            let mut leaf = descriptor::leaf(level, output, bits);
            let mut index = level.index(input);
            for _ in 0..leaves {
                memory.write(table, index, leaf);
                // Both stay in range: the leaves fit the table, and the last frame was judged before.
                index = index.next();
                leaf = leaf.wrapping_add(level.entry_bytes());
            }
            pieces.advance(level, leaves);
        }
        memory.publish();
        Ok(())
    }

    fn find<M: TableMemory>(&self, memory: &M, input: u64) -> Slot {
        let root = self.shape.root_table(self.root, input);
        find_below(memory, root, self.shape.start_level(), input)
    }

    /// How many table frames the mapping takes, if nothing is in its way.
    fn survey<M: TableMemory>(
        &self,
        memory: &M,
        mut pieces: Pieces,
    ) -> Result<PageCount, MapError> {
        let mut needed = 0;
        while let Some((input, _)) = pieces.here() {
            let slot = self.find(memory, input);
            if let End::Leaf { .. } = slot.end {
                return Err(MapError::AlreadyMapped { ipa: input });
            }
            let level = pieces.largest_leaf().max(slot.level);
            needed += new_tables(slot.level, level, input, pieces.at == 0);
            let leaves = vacant(memory, slot, level, input, pieces.leaves(level));
            pieces.advance(level, leaves);
        }
        Ok(PageCount::new(needed))
    }

    /// The table of level `leaf` for `input`, whose walk ends at the invalid entry `slot`: that entry's own, or a new
    /// one with those that lead to it.
    fn reach<M: TableMemory>(
        &mut self,
        memory: &mut M,
        slot: Slot,
        input: u64,
        leaf: Level,
    ) -> Option<HostPhys> {
        let Slot {
            mut table,
            mut level,
            ..
        } = slot;
        while level < leaf {
            let next = self.quota.take(memory)?;
            // The walker must find the zeroes before it can find the table.
            memory.publish();
            memory.write(table, level.index(input), descriptor::table(next));
            (table, level) = (next, level.down()?);
        }
        Some(table)
    }
}

/// How many of `most` leaves of `level` can be written from `input` on, whose walk ends at the invalid entry `slot`:
/// below that entry all of them, beside it as many as are invalid too.
fn vacant<M: TableMemory>(memory: &M, slot: Slot, level: Level, input: u64, most: u64) -> u64 {
    if slot.level < level {
        most
    } else {
        count_invalid(memory, slot.table, level.index(input), level, most)
    }
}

/// How far a mapping has come.
#[derive(Clone, Copy)]
struct Pieces {
    input: u64,
    output: HostPhys,
    bytes: u64,
    at: u64,
}

impl Pieces {
    fn of<A: Address>(region: &Region<A>, host: HostPhys) -> Self {
        Self {
            input: region.base().to_raw(),
            output: host,
            bytes: region.bytes(),
            at: 0,
        }
    }

    /// Where the next leaf goes and leads to.
    fn here(&self) -> Option<(u64, HostPhys)> {
        let more = self.at < self.bytes;
        if more {
            Some((
                self.input.checked_add(self.at)?,
                self.output.checked_add(self.at)?,
            ))
        } else {
            None
        }
    }

    fn largest_leaf(&self) -> Level {
        let here = |base: u64| base.saturating_add(self.at);
        Level::largest_leaf(
            here(self.input),
            here(self.output.raw()),
            self.bytes - self.at,
        )
    }

    /// How many leaves of `level` come next in one table: at least one, as `level` is no larger than the largest.
    fn leaves(&self, level: Level) -> u64 {
        let input = self.input.saturating_add(self.at);
        level.leaves_in_table(input, self.bytes - self.at).max(1)
    }

    fn advance(&mut self, leaf: Level, leaves: u64) {
        let bytes = leaves.saturating_mul(leaf.entry_bytes());
        self.at = self.at.saturating_add(bytes);
    }
}
