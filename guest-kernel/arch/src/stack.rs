//! The lanes' stacks and the guard pages between them. `image.ld` reserves the memory; `boot.s` and
//! `vectors.s` use the same numbers.

use crate::image;
use guest_kernel_core::MAX_LANES;
use guest_kernel_core::addr::PhysRange;

const GUARD: u64 = 0x1000;
const LANE: u64 = 0x2_0000;
/// Where a lane's three stacks begin (with their guard) and end.
const PARTS: [(u64, u64); 3] = [(0, 0x1_0000), (0x1_0000, 0x1_8000), (0x1_8000, 0x2_0000)];

fn part(lane: usize, from: u64, to: u64) -> Option<PhysRange> {
    let lane = image::stacks_start().checked_add(u64::try_from(lane).ok()?.checked_mul(LANE)?)?;
    Some(PhysRange::between(
        lane.checked_add(from)?,
        lane.checked_add(to)?,
    ))
}

/// The stacks of all lanes, without their guard pages.
pub(crate) fn all() -> impl Iterator<Item = PhysRange> {
    (0..MAX_LANES)
        .flat_map(|lane| PARTS.map(|(from, to)| part(lane, from + GUARD, to)))
        .flatten()
}

/// Whether an address lies in a guard page.
pub(crate) fn is_guard(address: u64) -> bool {
    let offset = address.checked_sub(image::stacks_start().get());
    offset.is_some_and(|offset| {
        let lanes = u64::try_from(MAX_LANES).unwrap_or(0);
        let within = offset % LANE;
        offset < lanes * LANE
            && PARTS
                .iter()
                .any(|(from, _)| (*from..from + GUARD).contains(&within))
    })
}
