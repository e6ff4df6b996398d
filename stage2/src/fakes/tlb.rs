//! A TLB that keeps whatever it may: every leaf it has walked, page by page, and every table on the way, until it is
//! told otherwise, and then drops no more than it was told.

use core::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use stage2_addr::{HostPhys, PAGE_SIZE, Region};

use crate::descriptor::Entry;
use crate::fakes::FakeMemory;
use crate::{Level, Shape, Stale, Tlb};

/// What a cached or walked page translates to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    pub host: HostPhys,
    pub bits: u64,
    pub level: Level,
}

#[derive(Default)]
pub struct FakeTlb {
    /// (tag, page) to what the leaf said.
    leaves: RefCell<HashMap<(u16, u64), Hit>>,
    /// (tag, level of the table, first input) to the table's frame.
    walks: RefCell<BTreeMap<(u16, Level, u64), HostPhys>>,
    pub paid: RefCell<u64>,
}

impl FakeTlb {
    /// What a CPU with this tag finds at `input`: by the cache if it has it, else by walking, from the deepest table
    /// that it remembers.
    pub fn access(
        &self,
        memory: &FakeMemory,
        shape: &Shape,
        root: HostPhys,
        tag: u16,
        input: u64,
    ) -> Option<Hit> {
        let page = input & !(PAGE_SIZE - 1);
        if let Some(hit) = self.leaves.borrow().get(&(tag, page)) {
            return Some(*hit);
        }
        let mut walks = self.walks.borrow_mut();
        let mut at = (shape.start_level(), shape.root_table(root, input));
        for level in [Level::L1, Level::L2, Level::L3] {
            let base = input & !(level.table_bytes() - 1);
            if let Some(table) = walks.get(&(tag, level, base)) {
                at = (level, *table);
            }
        }
        loop {
            let (level, table) = at;
            match memory.entry(table, level.index(input), level) {
                Entry::Invalid => return None,
                Entry::Table { frame, level } => {
                    walks.insert((tag, level, input & !(level.table_bytes() - 1)), frame);
                    at = (level, frame);
                }
                Entry::Leaf { output, bits } => {
                    let host = output
                        .checked_add(page & (level.entry_bytes() - 1))
                        .unwrap();
                    let hit = Hit { host, bits, level };
                    self.leaves.borrow_mut().insert((tag, page), hit);
                    return Some(hit);
                }
            }
        }
    }

    fn drop_range(&self, tag: u16, start: u64, end: u64, leaf_only: bool) {
        self.leaves
            .borrow_mut()
            .retain(|(t, page), _| *t != tag || *page < start || end <= *page);
        if !leaf_only {
            self.walks.borrow_mut().retain(|(t, level, base), _| {
                *t != tag || base + level.table_bytes() <= start || end <= *base
            });
        }
    }
}

fn bounds<A: stage2_addr::Address>(range: &Region<A>) -> (u64, u64) {
    (range.base().to_raw(), range.end().to_raw())
}

impl Tlb for FakeTlb {
    fn invalidate(&self, stale: &Stale) {
        *self.paid.borrow_mut() += 1;
        match stale {
            Stale::Guest {
                vmid,
                range,
                leaf_only,
            } => {
                let (start, end) = bounds(range);
                self.drop_range(vmid.raw(), start, end, *leaf_only);
            }
            Stale::El2 { range, leaf_only } => {
                let (start, end) = bounds(range);
                self.drop_range(0, start, end, *leaf_only);
            }
            Stale::AllGuests => {
                self.leaves.borrow_mut().clear();
                self.walks.borrow_mut().clear();
            }
        }
    }
}
