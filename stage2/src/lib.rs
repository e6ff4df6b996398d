//! Stage-2 page tables and the ledger of who owns which frame.
//!
//! Isolation between guests is this crate: which frames a guest reaches is written in its tables, and which frames may
//! be written there is written in the [`Ledger`]. It is pure, so that both can be held against naive models on the host
//! by the thousand; what it needs of the machine it declares as two ports, [`TableMemory`] and [`Tlb`].
//!
//! # A change of a live entry
//!
//! ```text
//!  tables.unmap(memory, region)?  ─► FlushDebt ─► debt.pay(&tlb) ─► Receipt ─► tables.settle(memory, receipt)?
//! ```
//!
//! The debt is all a caller gets, only a [`Tlb`] turns it into a [`Receipt`], and until the receipt has come back the
//! tables take no other change, link no replacement and reuse no freed frame. So break-before-make (Arm DDI 0487, "Using
//! break-before-make when updating translation table entries") cannot be skipped by accident: a forgotten debt leaves
//! the tables closed, never wrong.
//!
//! Filling an invalid entry needs no flush, because a TLB does not hold entries that fault, so
//! [`Tables::map`] returns nothing to pay, and refuses to touch a valid entry.
//!
//! While a change is open, a guest's lane may fault on a page whose block has been broken and not yet replaced. Whoever
//! handles the fault takes the same lock, finds the page mapped again and lets the guest retry.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod attrs;
mod change;
mod descriptor;
pub mod el2;
mod flush;
mod format;
mod geometry;
mod leaves;
mod ledger;
mod map;
mod ports;
mod quota;
mod tables;
mod vmid;

#[cfg(test)]
mod fakes;
#[cfg(test)]
mod tests;

pub use attrs::{Access, Attrs, MemoryType};
pub use change::{ChangeError, SettleError};
pub use descriptor::Level;
pub use flush::{FlushDebt, Receipt, Stale};
pub use format::{Format, Stage2};
pub use geometry::{Geometry, GeometryError, Shape};
pub use leaves::{Leaf, Leaves, Run, Runs, shared_frames};
pub use ledger::{Extent, Ledger, LedgerError};
pub use map::MapError;
pub use ports::{TableIndex, TableMemory, Tlb};
pub use quota::TableQuota;
pub use tables::{GuestTables, Tables, TablesError, Translation};
pub use vmid::{Lease, Vmid, VmidAllocator, VmidError, VmidSlot, VmidWidth};
