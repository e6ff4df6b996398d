//! Memory that nothing else uses.

use crate::image;
use core::slice;
use core::sync::atomic::AtomicU64;
use guest_kernel_core::addr::PhysRange;
use guest_kernel_core::machine::Machine;
use guest_kernel_core::ram::{self, Ranges};

/// RAM outside the image, the device tree and everything reserved. All of it is mapped.
pub struct Free {
    ranges: Ranges,
}

impl Free {
    pub(crate) fn new(machine: &Machine<'_>, tree: &'static [u8]) -> Option<Self> {
        let tree = PhysRange::new(
            image::address_of(tree.as_ptr()),
            u64::try_from(tree.len()).ok()?,
        )?;
        let mut used = Ranges::new();
        for range in machine.reserved.iter().chain([&tree, &image::whole()]) {
            used.try_push(*range).ok()?;
        }
        let ranges = ram::free(&machine.memory, &used)?;
        Some(Self { ranges })
    }

    /// Takes so many whole pages out of it, for good: the end of the largest range.
    pub fn take(&mut self, bytes: u64) -> Option<PhysRange> {
        let largest = self.ranges.iter_mut().max_by_key(|range| range.len())?;
        let rest = largest.len().checked_sub(bytes)? / ram::PAGE * ram::PAGE;
        let rest = PhysRange::new(largest.start(), rest)?;
        let taken = PhysRange::between(rest.end(), largest.end());
        *largest = rest;
        Some(taken)
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ranges
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// `lane`'s blocks, each with its address. Atomics, so lanes may look at each other's.
    pub fn share(
        &self,
        lane: usize,
        lanes: usize,
    ) -> impl Iterator<Item = (u64, &'static [AtomicU64])> {
        ram::share(&self.ranges, lane, lanes).filter_map(|block| {
            let address = usize::try_from(block.start().get()).ok()?;
            let count = usize::try_from(block.len() / 8).ok()?;
            let words = core::ptr::with_exposed_provenance::<AtomicU64>(address);
            // SAFETY: the block is page-aligned RAM by the device tree's word, mapped read-write by
            // `mmu::turn_on`, outside everything else that has an owner, and never unmapped. Any
            // bits are a valid `AtomicU64`.
            let words = unsafe { slice::from_raw_parts(words, count) };
            Some((block.start().get(), words))
        })
    }
}
