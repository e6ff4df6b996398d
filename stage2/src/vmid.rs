//! Hardware tags for guests' translations, recycled in generations.
//!
//! There are fewer VMIDs than a machine may see guests, so a tag is on loan. Tags are handed out until none is left;
//! then a new *generation* begins: every TLB is flushed once, every loan ends, and guests come for a tag again before
//! they run. Only the tags of guests that are on a CPU at that moment stay with them, since those CPUs go on running.
//! So a tag never means two guests between two flushes, and with fewer CPUs than tags there is always one to be had.
//!
//! The scheme is that of Linux's ASID allocator, with the lock outside and the flush made explicit.

use core::fmt;

use crate::flush::Ticket;
use crate::{FlushDebt, Receipt, Stale};

/// A VMID: the tag in VTTBR_EL2 under which TLBs keep a guest's translations. It is not the guest's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vmid(u16);

impl Vmid {
    /// The tag that no guest gets: tables that no CPU has run on.
    pub const NONE: Self = Self(0);

    /// The number for the register.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many bits of VMID the machine has: `ID_AA64MMFR1_EL1.VMIDBits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmidWidth {
    /// 255 tags, beside [`Vmid::NONE`].
    Eight,
    /// 65,535 tags. Needs VTCR_EL2.VS.
    Sixteen,
}

impl VmidWidth {
    const fn last(self) -> u16 {
        match self {
            Self::Eight => u8::MAX as u16,
            Self::Sixteen => u16::MAX,
        }
    }
}

/// A tag with the generation it was lent in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Loan {
    generation: u64,
    vmid: Vmid,
}

/// A guest's loan, kept with the guest. Empty at first.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct VmidSlot(Option<Loan>);

impl VmidSlot {
    /// A guest that has not run yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }
}

/// What a guest that is about to run gets.
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub enum Lease {
    /// The tag to run with. If it is not the tag that the guest's tables have, set it there.
    Ready(Vmid),
    /// No tag until all TLBs are flushed: pay, [`settle`](VmidAllocator::settle), and ask again. Every CPU that asks
    /// meanwhile is told the same, and it does no harm if several pay.
    FlushFirst(FlushDebt),
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmidError {
    /// The allocator was made for fewer CPUs.
    NoSuchCpu {
        /// The CPU that asked.
        cpu: usize,
    },
    /// The receipt is not for a rollover.
    WrongReceipt,
}

impl fmt::Display for VmidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchCpu { cpu } => write!(f, "no VMIDs are kept for CPU {cpu}"),
            Self::WrongReceipt => f.write_str("the receipt is not for a rollover of the VMIDs"),
        }
    }
}

impl core::error::Error for VmidError {}

const WORDS: usize = 1 << 10;

/// Lends VMIDs to guests on `CPUS` CPUs. Wants a lock around it; a CPU whose guest stays need not ask again until
/// [`generation`](Self::generation) changes, and not even then if it never leaves the guest.
#[derive(Debug)]
pub struct VmidAllocator<const CPUS: usize> {
    width: VmidWidth,
    generation: u64,
    /// A rollover whose flush is unpaid.
    flush_owed: bool,
    /// One bit a tag: lent in this generation, or reserved.
    taken: [u64; WORDS],
    /// Where the search goes on.
    cursor: u16,
    /// What each CPU runs with.
    on_cpu: [Option<Loan>; CPUS],
}

impl<const CPUS: usize> VmidAllocator<CPUS> {
    /// All tags free.
    #[must_use]
    pub const fn new(width: VmidWidth) -> Self {
        // After a rollover each CPU keeps at most one tag, so one more is always there for whoever asked.
        const {
            assert!(
                CPUS < 255,
                "fewer CPUs than VMIDs, or a guest might find none"
            )
        };
        Self {
            width,
            generation: 1,
            flush_owed: false,
            taken: [0; WORDS],
            cursor: 0,
            on_cpu: [None; CPUS],
        }
    }

    /// Counts rollovers. A loan is good in its own generation.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The tag with which `cpu` is to run the guest of `slot`, which counts as running there from now on.
    ///
    /// # Errors
    /// When there is no such CPU.
    pub fn acquire(&mut self, cpu: usize, slot: &mut VmidSlot) -> Result<Lease, VmidError> {
        if cpu >= CPUS {
            return Err(VmidError::NoSuchCpu { cpu });
        }
        if self.flush_owed {
            return Ok(Lease::FlushFirst(self.debt()));
        }
        let Some(vmid) = self.renew(slot).or_else(|| self.next_free()) else {
            // The asking CPU is leaving its guest, and needs nothing kept.
            self.release(cpu)?;
            self.roll_over();
            return Ok(Lease::FlushFirst(self.debt()));
        };
        let loan = Loan {
            generation: self.generation,
            vmid,
        };
        self.mark(vmid);
        *slot = VmidSlot(Some(loan));
        *self
            .on_cpu
            .get_mut(cpu)
            .ok_or(VmidError::NoSuchCpu { cpu })? = Some(loan);
        Ok(Lease::Ready(vmid))
    }

    /// `cpu` runs no guest for now: nothing has to be kept for it at a rollover.
    ///
    /// # Errors
    /// When there is no such CPU.
    pub fn release(&mut self, cpu: usize) -> Result<(), VmidError> {
        *self
            .on_cpu
            .get_mut(cpu)
            .ok_or(VmidError::NoSuchCpu { cpu })? = None;
        Ok(())
    }

    /// Every TLB has been flushed: tags of the new generation can be lent.
    ///
    /// # Errors
    /// When the receipt is for something else. One for an earlier rollover, of two CPUs that both paid, is taken and
    /// changes nothing.
    pub fn settle(&mut self, receipt: Receipt) -> Result<(), VmidError> {
        match receipt.ticket() {
            Ticket::Rollover { generation } => {
                self.flush_owed &= generation != self.generation;
                Ok(())
            }
            Ticket::Tables { .. } => Err(VmidError::WrongReceipt),
        }
    }

    fn debt(&self) -> FlushDebt {
        FlushDebt::new(
            Stale::AllGuests,
            Ticket::Rollover {
                generation: self.generation,
            },
        )
    }

    /// The tag that the slot already has, if it may go on with it.
    fn renew(&mut self, slot: &VmidSlot) -> Option<Vmid> {
        let old = slot.0?;
        if old.generation == self.generation {
            return Some(old.vmid);
        }
        // It was running at the rollover: the tag was reserved for it, on every CPU it was running on.
        let mut reserved = false;
        for loan in self
            .on_cpu
            .iter_mut()
            .flatten()
            .filter(|loan| **loan == old)
        {
            loan.generation = self.generation;
            reserved = true;
        }
        // Or nobody has taken its tag since: it keeps it.
        (reserved || !self.is_taken(old.vmid)).then_some(old.vmid)
    }

    fn roll_over(&mut self) {
        self.generation += 1;
        self.flush_owed = true;
        self.taken = [0; WORDS];
        self.cursor = 0;
        for vmid in self
            .on_cpu
            .map(|loan| loan.map(|loan| loan.vmid))
            .into_iter()
            .flatten()
        {
            self.mark(vmid);
        }
    }

    fn next_free(&mut self) -> Option<Vmid> {
        while self.cursor < self.width.last() {
            self.cursor += 1;
            let vmid = Vmid(self.cursor);
            if !self.is_taken(vmid) {
                return Some(vmid);
            }
        }
        None
    }

    fn is_taken(&self, vmid: Vmid) -> bool {
        let word = self
            .taken
            .get(usize::from(vmid.0 >> 6))
            .copied()
            .unwrap_or(u64::MAX);
        word >> (vmid.0 & 63) & 1 != 0
    }

    fn mark(&mut self, vmid: Vmid) {
        if let Some(word) = self.taken.get_mut(usize::from(vmid.0 >> 6)) {
            *word |= 1 << (vmid.0 & 63);
        }
    }
}

#[cfg(test)]
mod tests;
