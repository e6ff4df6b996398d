//! EL2's own stage 1, by the same mapper: the non-VHE EL2 regime (HCR_EL2.E2H = 0), which has one range of addresses and
//! no privileged/unprivileged split.
//!
//! W^X is law here: a page that is writable and executable is refused, and device memory is never executable.

use core::fmt;

use stage2_addr::{Address, Region};

use crate::format::{AF, Format, SH_INNER};
use crate::geometry::{self, GeometryError, Shape, WALK_CACHEABLE};
use crate::tables::Tables;
use crate::{Access, Attrs, MemoryType, Stale};

/// MAIR_EL2 as [`El2`] indexes it: attribute 0 is Device-nGnRE, attribute 1 is Normal, write-back, read- and
/// write-allocating.
pub const MAIR: u64 = 0x04 | 0xff << 8;

/// A virtual address of EL2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct El2Virt(u64);

impl El2Virt {
    /// The address with this numeric value.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The numeric value.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl Address for El2Virt {
    fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
    fn to_raw(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for El2Virt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "El2Virt({:#x})", self.0)
    }
}

impl fmt::LowerHex for El2Virt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// The size of EL2's own walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct El2Geometry {
    shape: Shape,
    ps: u64,
}

impl El2Geometry {
    /// The geometry for `va_bits` of virtual addresses on a machine of `pa_bits`.
    ///
    /// # Errors
    /// When a size is out of range.
    pub fn new(va_bits: u32, pa_bits: u32) -> Result<Self, GeometryError> {
        let (shape, ps) = geometry::shape(va_bits, pa_bits, false)?;
        Ok(Self { shape, ps })
    }

    /// The size of the walk.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The value of TCR_EL2 with E2H = 0 (DDI 0487, "TCR_EL2"): bits 31 and 23 are RES1, TG0 is 0 for 4 KiB.
    #[must_use]
    pub const fn tcr(&self) -> u64 {
        const RES1: u64 = 1 << 31 | 1 << 23;
        RES1 | self.ps << 16 | WALK_CACHEABLE | (64 - self.shape.input_bits()) as u64
    }
}

impl From<El2Geometry> for Shape {
    fn from(geometry: El2Geometry) -> Self {
        geometry.shape
    }
}

/// The spelling of EL2's stage 1 (DDI 0487, "VMSAv8-64 Block and Page descriptors", stage 1 attribute fields).
#[derive(Clone, Copy, Debug, Default)]
pub struct El2;

/// EL2's own tables.
pub type El2Tables = Tables<El2>;

// AttrIndx[2:0], bits 4:2.
const ATTR_DEVICE: u64 = 0 << 2;
const ATTR_NORMAL: u64 = 1 << 2;
const ATTR_INDEX: u64 = 0b111 << 2;
// AP[1], bit 6, is RES1 in a regime of one exception level.
const AP1_RES1: u64 = 1 << 6;
const AP2_READ_ONLY: u64 = 1 << 7;
const XN: u64 = 1 << 54;

impl Format for El2 {
    type Input = El2Virt;
    type Geometry = El2Geometry;

    fn encode(&self, attrs: Attrs) -> Option<u64> {
        let Attrs { memory, access } = attrs;
        let (write, execute) = (
            access.contains(Access::WRITE),
            access.contains(Access::EXECUTE),
        );
        // Stage 1 cannot take the read permission away.
        if !access.contains(Access::READ) || (execute && (write || memory == MemoryType::Device)) {
            return None;
        }
        let kind = match memory {
            MemoryType::Normal => ATTR_NORMAL | SH_INNER,
            MemoryType::Device => ATTR_DEVICE,
        };
        let read_only = if write { 0 } else { AP2_READ_ONLY };
        let never = if execute { 0 } else { XN };
        Some(kind | AP1_RES1 | read_only | never | AF)
    }

    fn decode(&self, bits: u64) -> Attrs {
        let normal = bits & ATTR_INDEX == ATTR_NORMAL;
        let mut access = Access::READ;
        access.set(Access::WRITE, bits & AP2_READ_ONLY == 0);
        access.set(Access::EXECUTE, bits & XN == 0);
        Attrs {
            memory: if normal {
                MemoryType::Normal
            } else {
                MemoryType::Device
            },
            access,
        }
    }

    fn stale(&self, range: Region<El2Virt>, leaf_only: bool) -> Stale {
        Stale::El2 { range, leaf_only }
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::Level;

    #[test]
    fn golden_bits() {
        assert_eq!(El2.encode(Attrs::normal(Access::RX)), Some(0x7c4));
        assert_eq!(
            El2.encode(Attrs::normal(Access::RO)),
            Some(0x0040_0000_0000_07c4)
        );
        assert_eq!(
            El2.encode(Attrs::normal(Access::RW)),
            Some(0x0040_0000_0000_0744)
        );
        assert_eq!(
            El2.encode(Attrs::device(Access::RW)),
            Some(0x0040_0000_0000_0440)
        );
        assert_eq!(MAIR, 0xff04);
    }

    #[test]
    fn writable_code_does_not_exist() {
        for access in (0..8).map(Access::from_bits_retain) {
            for attrs in [Attrs::normal(access), Attrs::device(access)] {
                let sensible = access.contains(Access::READ)
                    && !access.contains(Access::WRITE | Access::EXECUTE)
                    && (attrs.memory == MemoryType::Normal || !access.contains(Access::EXECUTE));
                match El2.encode(attrs) {
                    Some(bits) => assert_eq!((El2.decode(bits), sensible), (attrs, true)),
                    None => assert!(!sensible, "{attrs} was refused"),
                }
            }
        }
    }

    #[test]
    fn geometry() {
        let of = |va, pa| El2Geometry::new(va, pa).unwrap();
        assert_eq!(of(48, 48).tcr(), 0x8085_3510);
        assert_eq!(of(39, 40).tcr(), 0x8082_3519);
        assert_eq!(of(39, 40).shape().start_level(), Level::L1);
        assert_eq!(
            of(40, 40).shape().start_level(),
            Level::L0,
            "stage 1 has no concatenation"
        );
        assert_eq!(Shape::from(of(48, 36)).root_pages().raw(), 1);
        assert_eq!(
            El2Geometry::new(52, 48),
            Err(GeometryError::InputBits { bits: 52 })
        );
    }

    #[test]
    fn addresses() {
        let at = El2Virt::new(0x1000);
        assert_eq!(
            (at.raw(), format!("{at:?}"), format!("{at:#x}")),
            (0x1000, "El2Virt(0x1000)".into(), "0x1000".into())
        );
        assert_eq!(El2Virt::from_raw(at.to_raw()), at);
    }
}
