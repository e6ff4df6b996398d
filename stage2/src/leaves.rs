//! Reading live tables back: every leaf, runs of leaves, and what two sets of tables have in common.
//!
//! This is the evidence of isolation: it reads the words that the hardware walks, not what somebody remembers of them.

use core::fmt;

use stage2_addr::{Address, HostPhys, HostRegion, PageCount, Region};

use crate::tables::{End, Slot, count_invalid, find_below};
use crate::{Attrs, Format, Level, TableMemory, Tables};

/// One leaf: a block or page that is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf<A> {
    /// The first input address.
    pub input: A,
    /// Where it leads.
    pub host: HostPhys,
    /// The level, hence the size.
    pub level: Level,
    /// What may be done there.
    pub attrs: Attrs,
}

/// Every leaf in ascending order of input addresses. Goes along a table entry by entry, and walks from the root where
/// one ends.
#[derive(Debug)]
pub struct Leaves<'a, F, M> {
    tables: &'a Tables<F>,
    memory: &'a M,
    at: u64,
    /// The table that translates `at`, unless the last one ended there.
    within: Option<(HostPhys, Level)>,
}

// Written out, because a derive would ask the format and the memory to be `Clone`.
impl<F, M> Clone for Leaves<'_, F, M> {
    fn clone(&self) -> Self {
        Self {
            tables: self.tables,
            memory: self.memory,
            at: self.at,
            within: self.within,
        }
    }
}

impl<F: Format, M: TableMemory> Leaves<'_, F, M> {
    /// The entry that decides about `at`.
    fn here(&self) -> Slot {
        match self.within {
            Some((table, level)) => find_below(self.memory, table, level, self.at),
            None => self.tables.find(self.memory, self.at),
        }
    }

    /// Leaves the entry of `slot` behind, and those beside it which are invalid.
    fn pass(&mut self, slot: &Slot) {
        let Slot { table, level, .. } = *slot;
        let (bytes, index) = (level.entry_bytes(), level.index(self.at));
        let most = level.leaves_in_table(self.at, u64::MAX) - 1;
        let invalid = count_invalid(self.memory, table, index.next(), level, most);
        self.at = self.at.saturating_add(bytes.saturating_mul(invalid + 1));
        self.within = (invalid < most).then_some((table, level));
    }
}

impl<F: Format, M: TableMemory> Iterator for Leaves<'_, F, M> {
    type Item = Leaf<F::Input>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.tables.shape.input_end() {
            let input = self.at;
            let slot = self.here();
            self.pass(&slot);
            if let End::Leaf { output, bits } = slot.end {
                let attrs = self.tables.format.decode(bits);
                return Some(Leaf {
                    input: F::Input::from_raw(input),
                    host: output,
                    level: slot.level,
                    attrs,
                });
            }
        }
        None
    }
}

/// Leaves that continue each other, as one mapping: what a person reads in a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run<A> {
    /// The input addresses.
    pub input: Region<A>,
    /// The frames they lead to, in the same order.
    pub host: HostRegion,
    /// What may be done there.
    pub attrs: Attrs,
}

impl<A: Address> fmt::Display for Run<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.input, self.host, self.attrs)
    }
}

/// Every run in ascending order of input addresses.
#[derive(Debug)]
pub struct Runs<'a, F: Format, M> {
    leaves: Leaves<'a, F, M>,
    next: Option<Leaf<F::Input>>,
}

impl<F: Format, M> Clone for Runs<'_, F, M> {
    fn clone(&self) -> Self {
        Self {
            leaves: self.leaves.clone(),
            next: self.next,
        }
    }
}

impl<F: Format, M: TableMemory> Iterator for Runs<'_, F, M> {
    type Item = Run<F::Input>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.next.take()?;
        let mut bytes = first.level.entry_bytes();
        self.next = self.leaves.next();
        while let Some(leaf) = self.next {
            let continues = leaf.attrs == first.attrs
                && leaf.input.to_raw().checked_sub(first.input.to_raw()) == Some(bytes)
                && leaf.host.offset_from(first.host) == Some(bytes);
            if !continues {
                break;
            }
            bytes = bytes.saturating_add(leaf.level.entry_bytes());
            self.next = self.leaves.next();
        }
        let input = Region::from_bytes(first.input, bytes).ok()?;
        Some(Run {
            input,
            host: HostRegion::from_bytes(first.host, bytes).ok()?,
            attrs: first.attrs,
        })
    }
}

impl<F: Format> Tables<F> {
    /// Every leaf, in ascending order of input addresses.
    pub fn leaves<'a, M: TableMemory>(&'a self, memory: &'a M) -> Leaves<'a, F, M> {
        Leaves {
            tables: self,
            memory,
            at: 0,
            within: None,
        }
    }

    /// Every run of leaves that continue each other, in ascending order of input addresses.
    pub fn runs<'a, M: TableMemory>(&'a self, memory: &'a M) -> Runs<'a, F, M> {
        let mut leaves = self.leaves(memory);
        let next = leaves.next();
        Runs { leaves, next }
    }

    /// How many pages are mapped.
    pub fn mapped<M: TableMemory>(&self, memory: &M) -> PageCount {
        let bytes = self.leaves(memory).map(|leaf| leaf.level.entry_bytes());
        PageCount::covering(bytes.fold(0, u64::saturating_add))
    }
}

/// The first frames that both sides lead to, or `None` when they are disjoint. The sides are the `host` of two
/// [`Runs`], or any other lists of regions, such as the frames of tables.
pub fn shared_frames(
    one: impl IntoIterator<Item = HostRegion>,
    other: impl IntoIterator<Item = HostRegion, IntoIter: Clone>,
) -> Option<HostRegion> {
    let other = other.into_iter();
    one.into_iter()
        .find_map(|a| other.clone().find_map(|b| a.intersection(&b)))
}
