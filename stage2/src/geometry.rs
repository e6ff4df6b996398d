//! How many levels a walk has and how large its root is, from the sizes of the address spaces.

use core::fmt;

use stage2_addr::{HostPhys, PAGE_SHIFT, PAGE_SIZE, PageCount};

use crate::{Level, VmidWidth};

/// The size of a walk, whatever the regime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    start: Level,
    input_bits: u32,
    output_bits: u32,
}

impl Shape {
    /// The level of the root.
    #[must_use]
    pub const fn start_level(&self) -> Level {
        self.start
    }

    /// How many tables stand side by side at the root: up to 16 at stage 2.
    #[must_use]
    pub const fn root_pages(&self) -> PageCount {
        PageCount::new(1 << self.input_bits.saturating_sub(self.start.shift() + 9))
    }

    /// How many bits of the input are translated.
    #[must_use]
    pub const fn input_bits(&self) -> u32 {
        self.input_bits
    }

    /// How many bits an output address may have.
    #[must_use]
    pub const fn output_bits(&self) -> u32 {
        self.output_bits
    }

    /// The first input past the range.
    pub(crate) const fn input_end(&self) -> u64 {
        1 << self.input_bits
    }

    /// The first output past the range.
    pub(crate) const fn output_end(&self) -> u64 {
        1 << self.output_bits
    }

    /// The bytes of the root, which is aligned to them.
    pub(crate) const fn root_bytes(&self) -> u64 {
        self.root_pages().raw() << PAGE_SHIFT
    }

    /// The root table that translates `input`, which is within the range.
    pub(crate) const fn root_table(&self, root: HostPhys, input: u64) -> HostPhys {
        let nth = input >> (self.start.shift() + 9);
        HostPhys::new(root.raw().saturating_add(nth.saturating_mul(PAGE_SIZE)))
    }

    /// Table frames, the root not counted, that a mapping of `bytes` from `input` to `output` takes in empty tables.
    #[must_use]
    pub fn tables_to_map(&self, input: u64, output: u64, bytes: u64) -> u64 {
        let (mut at, mut tables) = (0, 0);
        while at < bytes {
            let (from, to) = (input.saturating_add(at), output.saturating_add(at));
            let leaf = Level::largest_leaf(from, to, bytes - at);
            tables += new_tables(self.start, leaf, from, at == 0);
            let leaves = leaf.leaves_in_table(from, bytes - at).max(1);
            at = at.saturating_add(leaves.saturating_mul(leaf.entry_bytes()));
        }
        tables
    }

    /// The most table frames that the mapping of `bytes` from `input` can ever take, root and its alignment included:
    /// every page on its own. What a quota is sized by when blocks may be split later.
    #[must_use]
    pub fn worst_case_tables(&self, input: u64, bytes: u64) -> PageCount {
        let root = self.root_pages().raw();
        let last = input.saturating_add(bytes.saturating_sub(1));
        let mut tables = root + (root - 1);
        let mut level = self.start;
        while let Some(next) = level.down() {
            tables += (last >> level.shift()) - (input >> level.shift()) + 1;
            level = next;
        }
        PageCount::new(tables)
    }
}

/// Tables that a leaf of level `leaf` at `input` needs below an invalid entry of level `hole`. Those that an earlier
/// leaf of the same mapping has brought are not counted again: it ended at `input`, so it lay in the same table unless
/// `input` is where that table begins.
pub(crate) fn new_tables(hole: Level, leaf: Level, input: u64, first: bool) -> u64 {
    let (mut tables, mut above) = (0, hole);
    while above < leaf {
        tables += u64::from(first || input.is_multiple_of(above.entry_bytes()));
        let Some(next) = above.down() else { break };
        above = next;
    }
    tables
}

/// Stage 2 for one size of guest and machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    shape: Shape,
    ps: u64,
}

/// Why two sizes make no geometry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GeometryError {
    /// Input sizes from 32 to 48 bits are supported.
    InputBits {
        /// The size asked for.
        bits: u32,
    },
    /// Not a size that `ID_AA64MMFR0_EL1.PARange` can say.
    OutputBits {
        /// The size asked for.
        bits: u32,
    },
    /// A guest's physical space may not be larger than the machine's (DDI 0487, "VTCR_EL2", T0SZ).
    BeyondMachine {
        /// The guest's.
        ipa_bits: u32,
        /// The machine's.
        pa_bits: u32,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, bits) = match *self {
            Self::InputBits { bits } => ("input address bits are 32 to 48, not ", bits),
            Self::OutputBits { bits } => ("no machine's physical address bits are ", bits),
            Self::BeyondMachine { pa_bits, .. } => (
                "a guest has more address bits than the machine, which has ",
                pa_bits,
            ),
        };
        write!(f, "{text}{}", u64::from(bits))
    }
}

impl core::error::Error for GeometryError {}

/// What the root and start level must be, and PS, for these sizes. Concatenation is used from 40 to 43 bits, where it
/// saves level 0 (which a machine below 44 bits does not even have at stage 2); below, one table at level 1 does.
pub(crate) fn shape(
    input_bits: u32,
    pa_bits: u32,
    concatenate: bool,
) -> Result<(Shape, u64), GeometryError> {
    let (ps, output_bits) = match pa_bits {
        32 => (0b000, 32),
        36 => (0b001, 36),
        40 => (0b010, 40),
        42 => (0b011, 42),
        44 => (0b100, 44),
        // Without FEAT_LPA2 a descriptor of the 4 KiB granule holds 48 bits, however many the machine has.
        48 | 52 | 56 => (0b101, 48),
        _ => return Err(GeometryError::OutputBits { bits: pa_bits }),
    };
    let start = match input_bits {
        32..=39 => Level::L1,
        40..=43 if concatenate => Level::L1,
        40..=48 => Level::L0,
        _ => return Err(GeometryError::InputBits { bits: input_bits }),
    };
    Ok((
        Shape {
            start,
            input_bits,
            output_bits,
        },
        ps,
    ))
}

/// SH0, ORGN0, IRGN0, at the same place in VTCR_EL2 and TCR_EL2: walks are inner shareable and write-back cacheable.
pub(crate) const WALK_CACHEABLE: u64 = 0b11 << 12 | 0b01 << 10 | 0b01 << 8;

impl Geometry {
    /// The geometry for guests of `ipa_bits` on a machine of `pa_bits`.
    ///
    /// # Errors
    /// When a size is out of range or the guest's exceeds the machine's.
    pub fn new(ipa_bits: u32, pa_bits: u32) -> Result<Self, GeometryError> {
        let (shape, ps) = shape(ipa_bits, pa_bits, true)?;
        if ipa_bits > shape.output_bits {
            return Err(GeometryError::BeyondMachine { ipa_bits, pa_bits });
        }
        Ok(Self { shape, ps })
    }

    /// The size of the walk.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// How many contiguous frames the root takes, aligned to their size.
    #[must_use]
    pub const fn root_pages(&self) -> PageCount {
        self.shape.root_pages()
    }

    /// The value of VTCR_EL2 (DDI 0487, "VTCR_EL2"): TG0 is 0 for 4 KiB, HA and HD stay 0.
    #[must_use]
    pub const fn vtcr(&self, width: VmidWidth) -> u64 {
        const RES1: u64 = 1 << 31;
        let sl0 = match self.shape.start {
            Level::L0 => 0b10 << 6,
            Level::L1 => 0b01 << 6,
            Level::L2 | Level::L3 => 0,
        };
        let vs = match width {
            VmidWidth::Eight => 0,
            VmidWidth::Sixteen => 1 << 19,
        };
        let t0sz = (64 - self.shape.input_bits) as u64;
        RES1 | vs | self.ps << 16 | WALK_CACHEABLE | sl0 | t0sz
    }
}

impl From<Geometry> for Shape {
    fn from(geometry: Geometry) -> Self {
        geometry.shape
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    /// IPA bits, PA bits, start level, root pages, VTCR_EL2 with 8-bit VMIDs. Worked out by hand from the register's
    /// description.
    const GOLDEN: [(u32, u32, u8, u64, u64); 20] = [
        (32, 32, 1, 1, 0x8000_3560),
        (33, 36, 1, 1, 0x8001_355f),
        (34, 36, 1, 1, 0x8001_355e),
        (35, 36, 1, 1, 0x8001_355d),
        (36, 36, 1, 1, 0x8001_355c),
        (37, 40, 1, 1, 0x8002_355b),
        (38, 40, 1, 1, 0x8002_355a),
        (39, 40, 1, 1, 0x8002_3559),
        (40, 40, 1, 2, 0x8002_3558),
        (40, 44, 1, 2, 0x8004_3558),
        (40, 48, 1, 2, 0x8005_3558),
        (41, 42, 1, 4, 0x8003_3557),
        (42, 42, 1, 8, 0x8003_3556),
        (43, 44, 1, 16, 0x8004_3555),
        (44, 44, 0, 1, 0x8004_3594),
        (45, 48, 0, 1, 0x8005_3593),
        (46, 48, 0, 1, 0x8005_3592),
        (47, 48, 0, 1, 0x8005_3591),
        (48, 48, 0, 1, 0x8005_3590),
        (48, 52, 0, 1, 0x8005_3590),
    ];

    #[test]
    fn golden() {
        for (ipa, pa, level, pages, vtcr) in GOLDEN {
            let geometry = Geometry::new(ipa, pa).unwrap();
            let shape = geometry.shape();
            assert_eq!(
                (shape.start_level().number(), geometry.root_pages().raw()),
                (level, pages),
                "{ipa}"
            );
            assert_eq!(geometry.vtcr(VmidWidth::Eight), vtcr, "{ipa} on {pa}");
            assert_eq!(geometry.vtcr(VmidWidth::Sixteen), vtcr | 1 << 19);
            // The root covers the input exactly, or more with a single table.
            let covered = shape.start_level().table_bytes() * pages;
            assert!(
                covered == 1 << ipa || (pages == 1 && covered > 1 << ipa),
                "{ipa}"
            );
            assert_eq!((shape.input_bits(), shape.output_bits()), (ipa, pa.min(48)));
        }
    }

    #[test]
    fn refusals_name_the_size() {
        for bits in (0..32).chain(49..70) {
            assert_eq!(
                Geometry::new(bits, 48),
                Err(GeometryError::InputBits { bits })
            );
        }
        for bits in (0..70).filter(|bits| ![32, 36, 40, 42, 44, 48, 52, 56].contains(bits)) {
            assert_eq!(
                Geometry::new(32, bits),
                Err(GeometryError::OutputBits { bits })
            );
        }
        let beyond = Geometry::new(41, 40).unwrap_err();
        assert_eq!(
            beyond,
            GeometryError::BeyondMachine {
                ipa_bits: 41,
                pa_bits: 40
            }
        );
        assert_eq!(
            format!("{beyond}"),
            "a guest has more address bits than the machine, which has 40"
        );
        assert_eq!(
            format!("{}", Geometry::new(31, 40).unwrap_err()),
            "input address bits are 32 to 48, not 31"
        );
        assert_eq!(
            format!("{}", Geometry::new(32, 41).unwrap_err()),
            "no machine's physical address bits are 41"
        );
    }

    #[test]
    fn table_counts() {
        const G: u64 = 1 << 30;
        let shape = Geometry::new(40, 40).unwrap().shape();
        assert_eq!(shape.tables_to_map(G, 2 * G, G), 0);
        assert_eq!(shape.tables_to_map(G, 2 * G, G / 2), 1);
        assert_eq!(shape.tables_to_map(G, 2 * G, G + 4096), 2);
        assert_eq!(shape.tables_to_map(G, 2 * G + 4096, G), 1 + 512);
        assert_eq!(shape.tables_to_map(G - 4096, 0, 8192), 4);
        assert_eq!(shape.worst_case_tables(G, G), PageCount::new(3 + 1 + 512));
        assert_eq!(
            shape.worst_case_tables(G - 4096, 8192),
            PageCount::new(3 + 2 + 2)
        );
    }
}
