//! Bugs of packed rings.

use super::bugs::{DATA, INDIRECT, NEXT, WRITE, layout};
use super::*;

/// The rings of a packed queue, by hand.
fn packed(first: (u64, u32, u16, u16), second: Option<(u64, u32, u16, u16)>) -> Vec<&'static str> {
    let mut rig = Rig::new(4, 0);
    rig.begin((Features::VERSION_1 | Features::RING_PACKED).bits());
    let at = layout();
    rig.queue(0, &at);
    rig.store(STATUS, 15);
    for (index, (buffer, len, id, flags)) in
        (0u64..).zip([Some(first), second].into_iter().flatten())
    {
        let place = at.descriptors + 16 * index;
        rig.ram.poke_u64(place, buffer);
        rig.ram.poke_u32(place + 8, len);
        rig.ram.poke_u16(place + 12, id);
        rig.ram.poke_u16(place + 14, flags | 1 << 7);
    }
    rig.store(NOTIFY, 0);
    rig.found()
}

#[test]
fn packed_rings_are_judged_too() {
    assert_eq!(packed((DATA, 16, 3, WRITE), None), Vec::<&str>::new());
    for (rule, first, second) in [
        ("buffer-outside", (0x1000, 16, 3, WRITE), None),
        ("descriptor-flags", (DATA, 16, 3, WRITE | 8), None),
        ("indirect-unagreed", (DATA, 16, 3, INDIRECT), None),
        (
            "chain-order",
            (DATA, 16, 3, WRITE | NEXT),
            Some((DATA, 16, 3, 0)),
        ),
        (
            "head-reused",
            (DATA, 16, 3, WRITE),
            Some((DATA, 16, 3, WRITE)),
        ),
    ] {
        let found = packed(first, second);
        assert!(found.contains(&rule), "{rule}: {found:?}");
    }
}
