//! The machine's side of the ports, for tests.

mod tlb;

use std::collections::HashMap;
use std::vec::Vec;

use stage2_addr::HostPhys;

use crate::{TableIndex, TableMemory};

pub use tlb::FakeTlb;

/// One thing that happened to table memory, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Write {
        table: HostPhys,
        index: TableIndex,
        old: u64,
        new: u64,
    },
    Zero {
        table: HostPhys,
    },
    Publish,
}

/// Table frames that remember what was written to them. Frames begin as garbage, as at boot.
#[derive(Default)]
pub struct FakeMemory {
    frames: HashMap<HostPhys, [u64; 512]>,
    pub log: Vec<Event>,
}

const GARBAGE: u64 = 0xdead_beef_dead_bee7;

impl FakeMemory {
    pub fn new() -> Self {
        Self::default()
    }
}

impl TableMemory for FakeMemory {
    fn read(&self, table: HostPhys, index: TableIndex) -> u64 {
        self.frames
            .get(&table)
            .map_or(GARBAGE, |frame| frame[index.get()])
    }

    fn write(&mut self, table: HostPhys, index: TableIndex, new: u64) {
        assert!(table.is_aligned(4096));
        let entry = &mut self.frames.entry(table).or_insert([GARBAGE; 512])[index.get()];
        let old = core::mem::replace(entry, new);
        self.log.push(Event::Write {
            table,
            index,
            old,
            new,
        });
    }

    fn zero(&mut self, table: HostPhys) {
        self.frames.insert(table, [0; 512]);
        self.log.push(Event::Zero { table });
    }

    fn publish(&mut self) {
        self.log.push(Event::Publish);
    }
}

impl FakeMemory {
    /// The entry as the walker of another CPU reads it.
    pub fn entry(
        &self,
        table: HostPhys,
        index: TableIndex,
        level: crate::Level,
    ) -> crate::descriptor::Entry {
        crate::descriptor::Entry::decode(self.read(table, index), level)
    }
}
