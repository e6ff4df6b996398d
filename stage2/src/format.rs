//! How attributes are spelt in a leaf: the one thing in which stage 2 and EL2's stage 1 differ.

use stage2_addr::{Address, Ipa, Region};

use crate::{Access, Attrs, Geometry, MemoryType, Shape, Stale, Vmid};

/// The spelling of one translation regime. The mapper is written once, over this.
pub trait Format {
    /// The kind of address that the regime translates.
    type Input: Address;
    /// How large its walk is.
    type Geometry: Copy + Into<Shape>;

    /// The attribute bits of a leaf, or `None` when the regime must not map such a thing.
    fn encode(&self, attrs: Attrs) -> Option<u64>;

    /// The attributes that bits made by [`encode`](Format::encode) say.
    fn decode(&self, bits: u64) -> Attrs;

    /// Names the translations of `range` to the TLBs.
    fn stale(&self, range: Region<Self::Input>, leaf_only: bool) -> Stale;
}

/// Stage 2 of the EL1&0 regime with HCR_EL2.FWB = 0 (DDI 0487, "VMSAv8-64 Block and Page descriptors", stage 2
/// attribute fields; "Stage 2 memory type and cacheability attributes").
#[derive(Clone, Copy, Debug)]
pub struct Stage2 {
    pub(crate) vmid: Vmid,
}

// MemAttr[3:0], bits 5:2.
const MEMATTR: u64 = 0b1111 << 2;
const MEMATTR_NORMAL_WB: u64 = 0b1111 << 2;
// Device-nGnRnE: no write to a device is acknowledged early, so that a DSB waits for its errors too.
const MEMATTR_DEVICE: u64 = 0;
// S2AP[1:0], bits 7:6.
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
// SH[1:0], bits 9:8; ignored for Device memory.
pub(crate) const SH_INNER: u64 = 0b11 << 8;
pub(crate) const AF: u64 = 1 << 10;
// XN[1], bit 54. XN[0], bit 53, stays 0: no meaning without FEAT_XNX, and with it 0b10 still forbids EL1 and EL0.
const XN: u64 = 1 << 54;

impl Format for Stage2 {
    type Input = Ipa;
    type Geometry = Geometry;

    fn encode(&self, attrs: Attrs) -> Option<u64> {
        let Attrs { memory, access } = attrs;
        let execute = access.contains(Access::EXECUTE);
        // A fetch needs the read permission too, and a fetch from registers has side effects.
        let fetchable = access.contains(Access::READ) && memory == MemoryType::Normal;
        if !access.intersects(Access::RW) || (execute && !fetchable) {
            return None;
        }
        let kind = match memory {
            MemoryType::Normal => MEMATTR_NORMAL_WB | SH_INNER,
            MemoryType::Device => MEMATTR_DEVICE,
        };
        let read = if access.contains(Access::READ) {
            S2AP_READ
        } else {
            0
        };
        let write = if access.contains(Access::WRITE) {
            S2AP_WRITE
        } else {
            0
        };
        let never = if execute { 0 } else { XN };
        Some(kind | read | write | never | AF)
    }

    fn decode(&self, bits: u64) -> Attrs {
        let normal = bits & MEMATTR == MEMATTR_NORMAL_WB;
        let mut access = Access::empty();
        access.set(Access::READ, bits & S2AP_READ != 0);
        access.set(Access::WRITE, bits & S2AP_WRITE != 0);
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

    fn stale(&self, range: Region<Ipa>, leaf_only: bool) -> Stale {
        Stale::Guest {
            vmid: self.vmid,
            range,
            leaf_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Stage2 = Stage2 { vmid: Vmid::NONE };

    #[test]
    fn golden_bits() {
        assert_eq!(FORMAT.encode(Attrs::normal(Access::RWX)), Some(0x7fc));
        assert_eq!(
            FORMAT.encode(Attrs::normal(Access::RW)),
            Some(0x0040_0000_0000_07fc)
        );
        assert_eq!(FORMAT.encode(Attrs::normal(Access::RX)), Some(0x77c));
        assert_eq!(
            FORMAT.encode(Attrs::normal(Access::WRITE)),
            Some(0x0040_0000_0000_07bc)
        );
        assert_eq!(
            FORMAT.encode(Attrs::device(Access::RW)),
            Some(0x0040_0000_0000_04c0)
        );
    }

    #[test]
    fn every_combination_is_refused_or_survives() {
        for access in (0..8).map(Access::from_bits_retain) {
            for attrs in [Attrs::normal(access), Attrs::device(access)] {
                let sensible = access.intersects(Access::RW)
                    && (!access.contains(Access::EXECUTE)
                        || (access.contains(Access::READ) && attrs.memory == MemoryType::Normal));
                match FORMAT.encode(attrs) {
                    Some(bits) => assert_eq!((FORMAT.decode(bits), sensible), (attrs, true)),
                    None => assert!(!sensible, "{attrs} was refused"),
                }
            }
        }
    }
}
