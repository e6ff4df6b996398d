//! A guest's load or store that a device answers: what travels on the bus, and what ends up in the register.
//!
//! The same functions serve the slow path and the hot path. SRT = 31 is XZR; SSE, SF and SAS are all honoured.

use stage2_addr::Ipa;

use crate::context::{Context, Reg, spsr};

/// The width of an access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Width {
    /// One byte.
    Byte = 0,
    /// Two bytes.
    Half = 1,
    /// Four bytes.
    Word = 2,
    /// Eight bytes.
    Double = 3,
}

impl Width {
    /// The width that SAS, or the size field of an instruction, gives; only the low two bits count.
    #[inline]
    #[must_use]
    pub const fn from_sas(sas: u64) -> Self {
        match sas & 3 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    /// Bytes: 1, 2, 4 or 8.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self as u32
    }

    /// The number of bytes, as devices take it.
    #[inline]
    #[must_use]
    pub const fn byte_count(self) -> u32 {
        1 << self as u32
    }

    /// Bits: 8, 16, 32 or 64.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// A mask of that many low bits.
    #[inline]
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// The byte order of a guest's data accesses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endian {
    /// Little-endian.
    Little,
    /// Big-endian.
    Big,
}

impl Endian {
    /// The order in force for a guest with this PSTATE and SCTLR_EL1 (Arm ARM J1.2, BigEndian).
    #[inline]
    #[must_use]
    pub const fn of(pstate: u64, sctlr_el1: u64) -> Self {
        let big = if pstate & spsr::AARCH32 != 0 {
            pstate & spsr::E32 != 0
        } else if pstate & spsr::MODE == spsr::EL0T {
            sctlr_el1 & (1 << 24) != 0
        } else {
            sctlr_el1 & (1 << 25) != 0
        };
        if big { Self::Big } else { Self::Little }
    }

    /// What a value of this width becomes between register and bus.
    #[inline]
    #[must_use]
    pub const fn swap(self, value: u64, width: Width) -> u64 {
        match self {
            Self::Little => value,
            Self::Big => value.swap_bytes() >> (64 - width.bits()),
        }
    }
}

/// One load or store that the hardware has described in full (ISV = 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MmioAccess {
    /// The byte that is accessed.
    pub ipa: Ipa,
    /// The guest's virtual address of it, for FAR_EL1 should the access be refused.
    pub va: u64,
    /// SAS
    pub width: Width,
    /// WnR: a store.
    pub write: bool,
    /// SSE: the load extends the sign.
    pub sign_extend: bool,
    /// SF: the register is 64 bits wide.
    pub sixty_four: bool,
    /// SRT
    pub reg: Reg,
}

impl MmioAccess {
    /// What a store puts on the bus: the low `width` bits of its register, zero for XZR.
    #[inline]
    #[must_use]
    pub fn store_value(&self, context: &Context, endian: Endian) -> u64 {
        let value = context.get(self.reg) & self.width.mask();
        endian.swap(value, self.width)
    }

    /// What a load leaves in its register when the device answered `bus`.
    #[inline]
    #[must_use]
    pub const fn load_value(&self, bus: u64, endian: Endian) -> u64 {
        extend(
            endian.swap(bus & self.width.mask(), self.width),
            self.width,
            self.sign_extend,
            self.sixty_four,
        )
    }

    /// Ends a load: the answer goes into the register, and nothing else changes.
    #[inline]
    pub fn complete_load(&self, context: &mut Context, bus: u64, endian: Endian) {
        context.set(self.reg, self.load_value(bus, endian));
    }

    /// Whether the access is a multiple of its own width. A device answers no other.
    #[inline]
    #[must_use]
    pub const fn is_aligned(&self) -> bool {
        self.ipa.raw() & (self.width.bytes() - 1) == 0
    }
}

/// Widens a value of `width`: with its sign if asked, to 32 or 64 bits. A 32-bit register write clears the upper half.
#[inline]
pub(crate) const fn extend(value: u64, width: Width, sign: bool, sixty_four: bool) -> u64 {
    let shift = 64 - width.bits();
    let wide = if sign {
        ((value << shift).cast_signed() >> shift).cast_unsigned()
    } else {
        value
    };
    if sixty_four { wide } else { wide & 0xffff_ffff }
}

#[cfg(test)]
mod tests;
