//! Judges the log of table writes by the rules of break-before-make, knowing nothing of the mapper.

use std::collections::{HashMap, HashSet};

use stage2_addr::HostPhys;

use crate::TableIndex;
use crate::descriptor::ADDRESS;
use crate::fakes::Event;

/// S2AP, AP[2] and XN: what may differ between two valid descriptors without a break.
const PERMISSIONS: u64 = 0b11 << 6 | 0b11 << 53;

/// Watches writes and flushes in order.
#[derive(Default)]
pub struct Judge {
    pub roots: HashSet<HostPhys>,
    /// Valid entries that were cleared, and no flush has happened since.
    broken: HashSet<(HostPhys, TableIndex)>,
    /// Frames written since the last barrier: a walker might not see it yet.
    unpublished: HashSet<HostPhys>,
    linked: HashMap<(HostPhys, TableIndex), HostPhys>,
    pub in_place: usize,
    pub breaks: usize,
}

impl Judge {
    /// Takes the events since the last call, all of them before any flush that is announced later.
    pub fn watch(&mut self, events: &[Event]) {
        for event in events {
            match *event {
                Event::Publish => self.unpublished.clear(),
                Event::Zero { table } => {
                    let live = self.broken.iter().any(|(frame, _)| *frame == table);
                    assert!(!live, "{table} is reused while a TLB may walk it");
                    assert!(
                        !self.linked.values().any(|child| *child == table),
                        "{table} is reused while linked"
                    );
                    self.linked.retain(|(frame, _), _| *frame != table);
                    self.unpublished.insert(table);
                }
                Event::Write {
                    table,
                    index,
                    old,
                    new,
                } => self.write(table, index, old, new),
            }
        }
    }

    fn write(&mut self, table: HostPhys, index: TableIndex, old: u64, new: u64) {
        let (was, is) = (old & 1 != 0, new & 1 != 0);
        let at = (table, index);
        if was && is && old != new {
            let differ = old ^ new;
            assert_eq!(
                differ & !PERMISSIONS,
                0,
                "{old:#x} became {new:#x} without a break"
            );
            self.in_place += 1;
        }
        if was && !is {
            self.broken.insert(at);
            self.breaks += 1;
            self.linked.remove(&at);
        }
        if !was && is {
            assert!(
                !self.broken.contains(&at),
                "an entry of {table} was broken and made without a flush"
            );
            // A page looks like a table, but no guest's page is a frame that was written here.
            let child = HostPhys::new(new & ADDRESS);
            if self.is_reachable(table) {
                assert!(
                    self.is_published(child),
                    "{child} was linked before it was published"
                );
            }
            self.linked.insert(at, child);
        }
        self.unpublished.insert(table);
    }

    fn is_reachable(&self, table: HostPhys) -> bool {
        self.roots.contains(&table) || self.linked.values().any(|child| *child == table)
    }

    /// Whether a walker that comes to `table` sees it, and what it links to, as written.
    fn is_published(&self, table: HostPhys) -> bool {
        let mut below = self
            .linked
            .iter()
            .filter(|((frame, _), _)| *frame == table)
            .map(|(_, child)| *child);
        !self.unpublished.contains(&table) && below.all(|child| self.is_published(child))
    }

    /// A flush that covers everything broken so far has completed.
    pub fn flushed(&mut self) {
        self.broken.clear();
        self.unpublished.clear();
    }
}
