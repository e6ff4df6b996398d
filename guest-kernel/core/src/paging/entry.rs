//! Descriptors (DDI 0487, "VMSAv8-64 translation table format descriptors").

use crate::addr::GuestPhys;

/// What memory is for. There is nothing that can be both written and executed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attributes {
    /// Code: read and execute.
    Text,
    /// Constants: read.
    Constant,
    /// Data: read and write.
    Data,
    /// Registers: read and write, device nGnRE.
    Device,
}

/// Values for `MAIR_EL1`, by the index that [`Attributes`] uses: 0 = normal memory, write-back,
/// allocating; 1 = device nGnRE.
pub const MAIR: u64 = 0x04FF;

const VALID: u64 = 1;
/// At levels 1 and 2, and of a page at level 3.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTR_DEVICE: u64 = 1 << 2;
/// AP\[2]: read-only. AP\[1] stays 0: no access from EL0.
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const PRIVILEGED_NEVER_EXECUTE: u64 = 1 << 53;
const USER_NEVER_EXECUTE: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;

impl Attributes {
    const fn bits(self) -> u64 {
        let common = ACCESSED | USER_NEVER_EXECUTE;
        common
            | match self {
                Self::Text => INNER_SHAREABLE | READ_ONLY,
                Self::Constant => INNER_SHAREABLE | READ_ONLY | PRIVILEGED_NEVER_EXECUTE,
                Self::Data => INNER_SHAREABLE | PRIVILEGED_NEVER_EXECUTE,
                Self::Device => ATTR_DEVICE | PRIVILEGED_NEVER_EXECUTE,
            }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Nothing.
    Invalid,
    /// A pointer to the next table.
    Table(GuestPhys),
    /// Memory.
    Leaf(GuestPhys),
}

/// The entry that points to a table.
#[must_use]
pub const fn table(address: GuestPhys) -> u64 {
    (address.get() & ADDRESS) | TABLE_OR_PAGE | VALID
}

/// The entry that maps memory at `level`: 1 GiB at 1, 2 MiB at 2, 4 KiB at 3.
#[must_use]
pub const fn leaf(level: u32, address: GuestPhys, attributes: Attributes) -> u64 {
    let page = if level == 3 { TABLE_OR_PAGE } else { 0 };
    (address.get() & ADDRESS) | attributes.bits() | page | VALID
}

/// Reads an entry of a table at `level`.
#[must_use]
pub const fn kind(level: u32, entry: u64) -> Kind {
    let address = GuestPhys::new(entry & ADDRESS);
    if entry & VALID == 0 {
        Kind::Invalid
    } else if level < 3 && entry & TABLE_OR_PAGE != 0 {
        Kind::Table(address)
    } else {
        Kind::Leaf(address)
    }
}
