//! What a mapping allows and what kind of memory is behind it, apart from how a descriptor spells it.

use core::fmt;

bitflags::bitflags! {
    /// What may be done with a page. What is not named is refused by the hardware.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Access: u8 {
        /// Loads.
        const READ = 1 << 0;
        /// Stores.
        const WRITE = 1 << 1;
        /// Instruction fetches. Without it the descriptor says execute-never.
        const EXECUTE = 1 << 2;
    }
}

impl Access {
    /// Loads only.
    pub const RO: Self = Self::READ;
    /// Loads and stores.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Loads and instruction fetches.
    pub const RX: Self = Self::READ.union(Self::EXECUTE);
    /// Everything: what a guest may do with its own RAM.
    pub const RWX: Self = Self::RW.union(Self::EXECUTE);
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = [(Self::READ, "r"), (Self::WRITE, "w"), (Self::EXECUTE, "x")];
        for (right, letter) in rights {
            f.write_str(if self.contains(right) { letter } else { "-" })?;
        }
        Ok(())
    }
}

/// The kind of memory behind a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemoryType {
    /// RAM: inner and outer write-back cacheable, inner shareable.
    Normal,
    /// Registers: never gathered, never reordered. Device-nGnRE at EL2, Device-nGnRnE for guests.
    Device,
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Device => "device",
        })
    }
}

/// The attributes of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attrs {
    /// What is behind it.
    pub memory: MemoryType,
    /// What may be done with it.
    pub access: Access,
}

impl Attrs {
    /// RAM with this access.
    #[must_use]
    pub const fn normal(access: Access) -> Self {
        Self {
            memory: MemoryType::Normal,
            access,
        }
    }

    /// Registers with this access, of which execution is not a part: [`map`](crate::Tables::map) refuses it.
    #[must_use]
    pub const fn device(access: Access) -> Self {
        Self {
            memory: MemoryType::Device,
            access,
        }
    }
}

impl fmt::Display for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.access, self.memory)
    }
}
