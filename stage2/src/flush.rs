//! What is owed to the TLBs after a live entry was changed, and the proof that it was paid.

use stage2_addr::{HostPhys, IpaRegion, Region};

use crate::el2::El2Virt;
use crate::{Tlb, Vmid};

/// The translations that the tables no longer say and a TLB may still hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stale {
    /// Stage-2 translations of one guest, and the combined ones made from them.
    Guest {
        /// The tag under which they are cached. [`Vmid::NONE`] when no CPU has run on the tables yet.
        vmid: Vmid,
        /// The guest's pages.
        range: IpaRegion,
        /// Only leaf entries were changed, so cached table entries may stay.
        leaf_only: bool,
    },
    /// Every translation of every guest: the VMIDs begin anew.
    AllGuests,
    /// EL2's own translations.
    El2 {
        /// EL2's pages.
        range: Region<El2Virt>,
        /// Only leaf entries were changed, so cached table entries may stay.
        leaf_only: bool,
    },
}

/// Whose change a debt or receipt belongs to: a receipt settles the change whose debt it paid, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ticket {
    Tables { root: HostPhys, sequence: u64 },
    Rollover { generation: u64 },
}

/// An invalidation that is owed. [`pay`](FlushDebt::pay) it.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "stale translations stay in use until the debt is paid, and the tables stay closed until its receipt is settled"]
pub struct FlushDebt {
    stale: Stale,
    ticket: Ticket,
}

impl FlushDebt {
    pub(crate) const fn new(stale: Stale, ticket: Ticket) -> Self {
        Self { stale, ticket }
    }

    /// What has to be invalidated.
    #[must_use]
    pub const fn stale(&self) -> &Stale {
        &self.stale
    }

    /// Invalidates, and gives the receipt that [`Tables::settle`](crate::Tables::settle) or
    /// [`VmidAllocator::settle`](crate::VmidAllocator::settle) asks for. There is no other way to one.
    pub fn pay<T: Tlb + ?Sized>(self, tlb: &T) -> Receipt {
        tlb.invalidate(&self.stale);
        Receipt {
            ticket: self.ticket,
        }
    }
}

/// Proof that one [`FlushDebt`] was paid.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the change stays open until its receipt is settled"]
pub struct Receipt {
    ticket: Ticket,
}

impl Receipt {
    pub(crate) const fn ticket(&self) -> Ticket {
        self.ticket
    }
}
