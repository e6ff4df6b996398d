//! The part of a descriptor that stage 1 and stage 2 share: its type and its address (Arm DDI 0487, "VMSAv8-64
//! translation table format descriptors", 4 KiB granule, 48-bit output).

use stage2_addr::{HostPhys, PAGE_SHIFT};

use crate::TableIndex;
use crate::ports::ENTRIES;

const VALID: u64 = 1 << 0;
/// At levels 0 to 2 a table rather than a block; at level 3 a page, and reserved without.
const TABLE_OR_PAGE: u64 = 1 << 1;
const TYPE: u64 = VALID | TABLE_OR_PAGE;
/// Bits 47:12, the output address or the next table.
pub(crate) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// An entry that translates nothing.
pub(crate) const INVALID: u64 = 0;

/// A level of the walk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Each entry covers 512 GiB, and only leads to tables.
    L0,
    /// Each entry covers 1 GiB.
    L1,
    /// Each entry covers 2 MiB.
    L2,
    /// Each entry covers 4 KiB, and is a page or nothing.
    L3,
}

impl Level {
    /// The next level of the walk.
    #[must_use]
    pub const fn down(self) -> Option<Self> {
        match self {
            Self::L0 => Some(Self::L1),
            Self::L1 => Some(Self::L2),
            Self::L2 => Some(Self::L3),
            Self::L3 => None,
        }
    }

    /// log2 of what one entry covers.
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::L0 => PAGE_SHIFT + 27,
            Self::L1 => PAGE_SHIFT + 18,
            Self::L2 => PAGE_SHIFT + 9,
            Self::L3 => PAGE_SHIFT,
        }
    }

    /// How many bytes one entry covers.
    #[must_use]
    pub const fn entry_bytes(self) -> u64 {
        1 << self.shift()
    }

    /// How many bytes one table covers.
    pub(crate) const fn table_bytes(self) -> u64 {
        1 << (self.shift() + 9)
    }

    /// The entry of a table of this level that translates `input`.
    pub(crate) const fn index(self, input: u64) -> TableIndex {
        TableIndex::from_low_bits(input >> self.shift())
    }

    /// The level's number, as fault status codes and SL0 count it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::L0 => 0,
            Self::L1 => 1,
            Self::L2 => 2,
            Self::L3 => 3,
        }
    }

    /// The level at which `remaining` bytes from `input` to `output` may begin with one leaf, as large as alignment
    /// allows.
    pub(crate) const fn largest_leaf(input: u64, output: u64, remaining: u64) -> Self {
        let both = input | output;
        if both.is_multiple_of(Self::L1.entry_bytes()) && remaining >= Self::L1.entry_bytes() {
            Self::L1
        } else if both.is_multiple_of(Self::L2.entry_bytes()) && remaining >= Self::L2.entry_bytes()
        {
            Self::L2
        } else {
            Self::L3
        }
    }

    /// How many leaves of this level, laid side by side from `input` on, fill its table or use up `remaining` bytes,
    /// whichever comes first. None of them could be a larger leaf: those begin where a table does.
    pub(crate) const fn leaves_in_table(self, input: u64, remaining: u64) -> u64 {
        let room = ENTRIES - self.index(input).get() as u64;
        let wanted = remaining >> self.shift();
        if wanted < room { wanted } else { room }
    }
}

/// A descriptor, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// Translates nothing: invalid, or an encoding reserved at its level, which the walker faults on as well.
    Invalid,
    /// Leads to a table of `level`.
    Table { frame: HostPhys, level: Level },
    /// Translates: a block or a page. `bits` are the attributes, in place.
    Leaf { output: HostPhys, bits: u64 },
}

impl Entry {
    pub(crate) const fn decode(descriptor: u64, level: Level) -> Self {
        if descriptor & VALID == 0 {
            return Self::Invalid;
        }
        let address = HostPhys::new(descriptor & ADDRESS);
        let leaf = Self::Leaf {
            output: address,
            bits: descriptor & !(ADDRESS | TYPE),
        };
        match (level, level.down(), descriptor & TABLE_OR_PAGE != 0) {
            (_, Some(level), true) => Self::Table {
                frame: address,
                level,
            },
            (_, None, true) | (Level::L1 | Level::L2, _, false) => leaf,
            (Level::L0 | Level::L3, _, false) => Self::Invalid,
        }
    }

    /// Whether the entry translates or leads on.
    pub(crate) const fn is_valid(self) -> bool {
        !matches!(self, Self::Invalid)
    }
}

/// The descriptor of a table. Hierarchical permissions stay off: leaves say everything.
pub(crate) const fn table(frame: HostPhys) -> u64 {
    (frame.raw() & ADDRESS) | TYPE
}

/// The descriptor of a leaf at `level`. There is none at level 0, where the walk has no use for it.
pub(crate) const fn leaf(level: Level, output: HostPhys, bits: u64) -> u64 {
    let kind = match level {
        Level::L0 => return INVALID,
        Level::L1 | Level::L2 => VALID,
        Level::L3 => TYPE,
    };
    (output.raw() & ADDRESS) | (bits & !(ADDRESS | TYPE)) | kind
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [Level; 4] = [Level::L0, Level::L1, Level::L2, Level::L3];

    #[test]
    fn sizes_follow_from_the_granule() {
        assert_eq!(
            LEVELS.map(Level::entry_bytes),
            [512 << 30, 1 << 30, 2 << 20, 4 << 10]
        );
        for level in LEVELS {
            assert_eq!(level.table_bytes(), 512 * level.entry_bytes());
            assert_eq!(level.down().map_or(4, Level::number), level.number() + 1);
        }
        assert_eq!(Level::L2.index(0x4060_1000).get(), 3);
    }

    #[test]
    fn every_type_at_every_level() {
        let at = HostPhys::new(0x1234_5000);
        let raw = |kind: u64| at.raw() | 1 << 10 | kind;
        let leaf = Entry::Leaf {
            output: at,
            bits: 1 << 10,
        };
        let table = |level| Entry::Table { frame: at, level };
        for level in LEVELS {
            assert_eq!(Entry::decode(raw(0b00), level), Entry::Invalid);
            assert_eq!(Entry::decode(raw(0b10), level), Entry::Invalid);
        }
        let block = LEVELS.map(|level| Entry::decode(raw(0b01), level));
        assert_eq!(block, [Entry::Invalid, leaf, leaf, Entry::Invalid]);
        let other = LEVELS.map(|level| Entry::decode(raw(0b11), level));
        assert_eq!(
            other,
            [table(Level::L1), table(Level::L2), table(Level::L3), leaf]
        );
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let at = HostPhys::new(0x8000_0000);
        for level in [Level::L1, Level::L2, Level::L3] {
            let bits = 0x7fc | 1 << 54;
            assert_eq!(
                Entry::decode(leaf(level, at, bits), level),
                Entry::Leaf { output: at, bits }
            );
        }
        assert_eq!(leaf(Level::L0, at, 0), INVALID);
        assert_eq!(
            Entry::decode(table(at), Level::L2),
            Entry::Table {
                frame: at,
                level: Level::L3
            }
        );
    }

    #[test]
    fn the_largest_leaf_needs_both_alignments_and_the_length() {
        const G: u64 = 1 << 30;
        const M: u64 = 1 << 20;
        assert_eq!(Level::largest_leaf(G, 4 * G, G), Level::L1);
        assert_eq!(Level::largest_leaf(G, 4 * G, G - 1), Level::L2);
        assert_eq!(Level::largest_leaf(G, 4 * G + 2 * M, G), Level::L2);
        assert_eq!(Level::largest_leaf(G + 2 * M, 4 * G, G), Level::L2);
        assert_eq!(Level::largest_leaf(G + 4096, 4 * G, G), Level::L3);
        assert_eq!(Level::largest_leaf(0, 0, 2 * M - 1), Level::L3);
    }

    #[test]
    fn a_row_of_leaves_ends_with_its_table_or_with_the_bytes() {
        const M: u64 = 1 << 20;
        let row = |level: Level, input, bytes| level.leaves_in_table(input, bytes);
        assert_eq!(row(Level::L3, 0, 2 * M), 512);
        assert_eq!(row(Level::L3, 2 * M - 4096, 2 * M), 1);
        assert_eq!(row(Level::L3, 4096, 3 * 4096 + 1), 3);
        assert_eq!(row(Level::L2, 1022 * M, 8 * M), 1);
        assert_eq!(row(Level::L2, 0, 2 * M - 1), 0);
    }
}
