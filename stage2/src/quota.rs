//! The frames that one VM's tables may take, and no more.

use stage2_addr::{HostPhys, HostRegion, PAGE_SIZE, PageCount};

use crate::{TableIndex, TableMemory};

/// A list of frames threaded through their own first entries. A link is page aligned, so to a walker that still holds
/// the frame it is an invalid descriptor.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    head: Option<HostPhys>,
    tail: Option<HostPhys>,
    len: u64,
}

impl Chain {
    /// What the last frame links to: an address in the top page, where no region reaches.
    const END: u64 = !(PAGE_SIZE - 1);

    fn push<M: TableMemory>(&mut self, memory: &mut M, frame: HostPhys) {
        memory.write(
            frame,
            TableIndex::FIRST,
            self.head.map_or(Self::END, HostPhys::raw),
        );
        self.head = Some(frame);
        self.tail = self.tail.or(Some(frame));
        self.len += 1;
    }

    fn pop<M: TableMemory>(&mut self, memory: &M) -> Option<HostPhys> {
        let frame = self.head?;
        let next = memory.read(frame, TableIndex::FIRST);
        self.head = (next != Self::END).then_some(HostPhys::new(next));
        self.len -= 1;
        if self.head.is_none() {
            *self = Self::default();
        }
        Some(frame)
    }

    /// Puts all of `other` in front.
    fn prepend<M: TableMemory>(&mut self, memory: &mut M, other: Self) {
        let (Some(head), Some(tail)) = (other.head, other.tail) else {
            return;
        };
        memory.write(
            tail,
            TableIndex::FIRST,
            self.head.map_or(Self::END, HostPhys::raw),
        );
        self.head = Some(head);
        self.tail = self.tail.or(Some(tail));
        self.len += other.len;
    }
}

/// The frames for one set of tables: free, in use, or in limbo.
///
/// In limbo are frames that the tables have let go while a TLB's walk cache may still lead into them. They come back
/// when the receipt of that change is settled, and cannot be taken before.
#[derive(Debug)]
pub struct TableQuota {
    region: HostRegion,
    /// The first frame that was never taken; those above it were not either.
    fresh: HostPhys,
    free: Chain,
    limbo: Chain,
}

impl TableQuota {
    /// A quota of the frames of `region`, which belong to the tables from now on. What is in them does not matter.
    #[must_use]
    pub fn new(region: HostRegion) -> Self {
        Self {
            region,
            fresh: region.base(),
            free: Chain::default(),
            limbo: Chain::default(),
        }
    }

    /// The frames, whatever they are used for.
    #[must_use]
    pub fn region(&self) -> HostRegion {
        self.region
    }

    /// How many frames can be taken.
    #[must_use]
    pub fn available(&self) -> PageCount {
        PageCount::new(self.never_taken() + self.free.len)
    }

    /// How many frames wait for a flush.
    #[must_use]
    pub fn in_limbo(&self) -> PageCount {
        PageCount::new(self.limbo.len)
    }

    /// How many frames hold tables.
    #[must_use]
    pub fn in_use(&self) -> PageCount {
        let idle = self.never_taken() + self.free.len + self.limbo.len;
        PageCount::new(self.region.pages().raw().saturating_sub(idle))
    }

    fn never_taken(&self) -> u64 {
        self.region.end().offset_from(self.fresh).unwrap_or(0) / PAGE_SIZE
    }

    /// A zeroed frame.
    pub(crate) fn take<M: TableMemory>(&mut self, memory: &mut M) -> Option<HostPhys> {
        let frame = match self.free.pop(memory) {
            Some(frame) => frame,
            None => self.take_fresh()?,
        };
        memory.zero(frame);
        Some(frame)
    }

    fn take_fresh(&mut self) -> Option<HostPhys> {
        let frame = self.fresh;
        let next = frame.checked_add(PAGE_SIZE)?;
        if next > self.region.end() {
            return None;
        }
        self.fresh = next;
        Some(frame)
    }

    /// Zeroed contiguous frames of `bytes`, aligned to their size, a power of two. Works while nothing was taken.
    pub(crate) fn take_root<M: TableMemory>(
        &mut self,
        memory: &mut M,
        bytes: u64,
    ) -> Option<HostPhys> {
        let root = HostPhys::new(self.fresh.raw().checked_next_multiple_of(bytes)?);
        if root.checked_add(bytes)? > self.region.end() {
            return None;
        }
        while self.fresh < root {
            let skipped = self.take_fresh()?;
            self.free.push(memory, skipped);
        }
        for _ in 0..bytes / PAGE_SIZE {
            let frame = self.take_fresh()?;
            memory.zero(frame);
        }
        Some(root)
    }

    /// Lets go of a frame that the tables have unlinked and a walker may still reach.
    pub(crate) fn release<M: TableMemory>(&mut self, memory: &mut M, frame: HostPhys) {
        self.limbo.push(memory, frame);
    }

    /// The flush has happened: what was in limbo is free.
    pub(crate) fn reclaim<M: TableMemory>(&mut self, memory: &mut M) {
        let limbo = core::mem::take(&mut self.limbo);
        self.free.prepend(memory, limbo);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fakes::FakeMemory;

    fn quota(base: u64, pages: u64) -> TableQuota {
        TableQuota::new(HostRegion::new(HostPhys::new(base), PageCount::new(pages)).unwrap())
    }

    #[test]
    fn every_frame_is_given_once_and_comes_back_after_limbo() {
        let mut memory = FakeMemory::new();
        let mut quota = quota(0x10_0000, 5);
        let taken: BTreeSet<_> = core::iter::from_fn(|| quota.take(&mut memory)).collect();
        assert_eq!(taken.len(), 5);
        assert!(taken.iter().all(|frame| quota.region().contains(*frame)));
        assert_eq!((quota.available().raw(), quota.in_use().raw()), (0, 5));
        for frame in &taken {
            quota.release(&mut memory, *frame);
        }
        assert_eq!((quota.in_limbo().raw(), quota.in_use().raw()), (5, 0));
        assert_eq!(
            quota.take(&mut memory),
            None,
            "frames in limbo are not given"
        );
        quota.reclaim(&mut memory);
        let again: BTreeSet<_> = core::iter::from_fn(|| quota.take(&mut memory)).collect();
        assert_eq!(again, taken);
    }

    #[test]
    fn chains_join_in_any_state() {
        let mut memory = FakeMemory::new();
        let mut quota = quota(0x10_0000, 4);
        let [a, b, c] = [(); 3].map(|()| quota.take(&mut memory).unwrap());
        quota.reclaim(&mut memory);
        quota.release(&mut memory, a);
        quota.reclaim(&mut memory);
        quota.release(&mut memory, b);
        quota.release(&mut memory, c);
        quota.reclaim(&mut memory);
        let again: BTreeSet<_> = core::iter::from_fn(|| quota.take(&mut memory)).collect();
        assert_eq!(again.len(), 4);
    }

    #[test]
    fn the_root_is_aligned_and_the_frames_before_it_are_not_lost() {
        let mut memory = FakeMemory::new();
        let mut quota = quota(0x10_1000, 8);
        assert_eq!(
            quota.take_root(&mut memory, 0x4000),
            Some(HostPhys::new(0x10_4000))
        );
        assert_eq!((quota.available().raw(), quota.in_use().raw()), (4, 4));
        assert_eq!(core::iter::from_fn(|| quota.take(&mut memory)).count(), 4);
    }

    #[test]
    fn a_root_that_does_not_fit_is_refused() {
        let mut memory = FakeMemory::new();
        assert_eq!(quota(0x10_1000, 6).take_root(&mut memory, 0x4000), None);
        assert_eq!(quota(0x10_0000, 3).take_root(&mut memory, 0x4000), None);
    }
}
