//! Page tables: one map from an address to itself, built once.
//!
//! Stage 1 of EL1, 4 KiB granule, 39-bit virtual addresses, so translation starts at level 1
//! (DDI 0487, "The AArch64 Virtual Memory System Architecture"). The tables live in an array of
//! atomics: the hardware walker reads them while the kernel still holds a reference.

pub mod entry;
mod map;
#[cfg(test)]
mod tests;

pub use entry::{Attributes, Kind};
pub use map::{AddressMap, MapError};

use core::sync::atomic::AtomicU64;

/// Virtual addresses have this many bits (`TCR_EL1.T0SZ` = 64 - 39).
pub const ADDRESS_BITS: u32 = 39;

/// A page whose address is set aside for looking at other addresses through: the last one.
pub const WINDOW: u64 = (1 << ADDRESS_BITS) - 4096;

/// Entries in a table.
pub const ENTRIES: usize = 512;

/// One table.
#[repr(C, align(4096))]
pub struct Table(pub [AtomicU64; ENTRIES]);

const _: () = assert!(size_of::<Table>() == 4096);

impl Table {
    /// A table in which nothing is mapped.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}
