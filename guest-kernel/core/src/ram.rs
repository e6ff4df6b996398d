//! Which RAM nobody uses, and who checks which part of it.

use crate::addr::{GuestPhys, PhysRange};
use arrayvec::ArrayVec;

/// Ranges of RAM.
pub type Ranges = ArrayVec<PhysRange, 32>;

/// The granule in which memory is mapped and shared out.
pub const PAGE: u64 = 4096;

/// How much one lane takes at a time. Small against any guest's memory, so that shares are even.
const BLOCK: u64 = 256 << 10;

/// `memory` without `used`, in whole pages. `None` when the rest is in too many pieces.
#[must_use]
pub fn free(memory: &[PhysRange], used: &[PhysRange]) -> Option<Ranges> {
    let mut free = Ranges::new();
    for range in memory {
        free.try_push(range.shrink_to(PAGE)).ok()?;
    }
    for hole in used.iter().filter(|hole| !hole.is_empty()) {
        let hole = hole.grow_to(PAGE)?;
        let mut rest = Ranges::new();
        for range in free {
            if !range.overlaps(hole) {
                rest.try_push(range).ok()?;
                continue;
            }
            let below = PhysRange::between(range.start(), hole.start());
            let above = PhysRange::between(hole.end(), range.end());
            for part in [below, above] {
                if !part.is_empty() {
                    rest.try_push(part).ok()?;
                }
            }
        }
        free = rest;
    }
    free.retain(|range| !range.is_empty());
    Some(free)
}

/// The blocks of `ranges` that are `lane`'s, of `lanes` that share them. Every byte belongs to
/// exactly one lane.
pub fn share(ranges: &[PhysRange], lane: usize, lanes: usize) -> impl Iterator<Item = PhysRange> {
    ranges
        .iter()
        .flat_map(|range| blocks(*range))
        .enumerate()
        .filter(move |(index, _)| index % lanes.max(1) == lane)
        .map(|(_, block)| block)
}

fn blocks(range: PhysRange) -> impl Iterator<Item = PhysRange> {
    let first = (!range.is_empty()).then_some(range.start());
    let starts = core::iter::successors(first, move |start: &GuestPhys| {
        start.checked_add(BLOCK).filter(|next| *next < range.end())
    });
    starts.map(move |start| {
        let end = start.checked_add(BLOCK).unwrap_or(range.end());
        PhysRange::between(start, end.min(range.end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::between(GuestPhys::new(start), GuestPhys::new(end))
    }

    #[test]
    fn what_is_used_is_cut_out_page_by_page() {
        let memory = [range(0x4000_0000, 0x4010_0000)];
        let used = [
            range(0x4000_0000, 0x4000_1001),
            range(0x4008_0010, 0x4008_0020),
        ];
        let free = free(&memory, &used).unwrap();
        let wanted = [
            range(0x4000_2000, 0x4008_0000),
            range(0x4008_1000, 0x4010_0000),
        ];
        assert_eq!(free.as_slice(), wanted);
    }

    #[test]
    fn nothing_is_left_of_memory_that_is_all_used() {
        let memory = [range(0x1000, 0x3000)];
        assert!(free(&memory, &[range(0, 0x10_0000)]).unwrap().is_empty());
    }

    #[test]
    fn too_many_pieces_are_reported() {
        let memory = [range(0, 0x100_0000)];
        let used: Vec<_> = (0..40).map(|n| range(n * 0x4000, n * 0x4000 + 1)).collect();
        assert!(free(&memory, &used).is_none());
    }

    proptest! {
        /// Against a naive model with one flag per page.
        #[test]
        fn free_memory_matches_the_page_by_page_model(
            used in proptest::collection::vec((0u64..64, 0u64..8), 0..6)
        ) {
            let memory = [range(0x3000, 0x2_0000), range(0x2_8000, 0x4_0000)];
            let used: Vec<_> = used.iter().map(|(p, n)| range(p * 0x1000 + 8, (p + n) * 0x1000 + 9)).collect();
            let free = free(&memory, &used).unwrap();
            for page in 0..0x44u64 {
                let this = range(page * 0x1000, (page + 1) * 0x1000);
                let wanted = memory.iter().any(|m| m.overlaps(this))
                    && !used.iter().any(|u| u.overlaps(this));
                prop_assert_eq!(free.iter().any(|f| f.overlaps(this)), wanted, "page {}", page);
            }
        }

        #[test]
        fn shares_cover_everything_once(lanes in 1usize..9, len in 0u64..40) {
            let ranges = [range(0x1000, 0x1000 + len * 0x1_1000), range(0x800_0000, 0x810_0000)];
            let mut blocks: Vec<_> = (0..lanes).flat_map(|lane| share(&ranges, lane, lanes)).collect();
            blocks.sort_by_key(|block| block.start());
            let total: u64 = blocks.iter().map(|block| block.len()).sum();
            prop_assert_eq!(total, ranges.iter().map(|r| r.len()).sum::<u64>());
            prop_assert!(blocks.windows(2).all(|pair| pair[0].end() <= pair[1].start()));
            prop_assert!(blocks.iter().all(|b| !b.is_empty() && ranges.iter().any(|r| r.contains(b.start()))));
        }
    }
}
