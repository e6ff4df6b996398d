//! Devices that guests are to be given: found only where they are, alone, harmless and nobody else's.

extern crate std;

use std::vec::Vec;

use stage2_addr::{HostPhys, HostRegion};

use super::build::{Node, good, read_bytes};
use crate::{Device, Interrupt, Kind};

const VIRT: [&[u8]; 2] = [
    include_bytes!("../fixtures/qemu-7.2-smp4.dtb"),
    include_bytes!("../fixtures/qemu-10.0-smp4.dtb"),
];
const RTC: Kind = Kind::Pl031;

/// The reader wants its bytes aligned.
fn find(bytes: &[u8], base: u64, size: u64, kind: Kind) -> Option<Device> {
    let mut room = std::vec![0_u8; bytes.len() + 8];
    let from = room.as_ptr().align_offset(8);
    let copy = &mut room[from..from + bytes.len()];
    copy.copy_from_slice(bytes);
    let pages = HostRegion::from_bytes(HostPhys::new(base), size).unwrap();
    read_bytes(bytes).unwrap().device(copy, &pages, kind)
}

/// The good machine with a clock, changed.
fn clock(change: impl FnOnce(Node) -> Node) -> Node {
    let node = Node::new("rtc@a000000")
        .text("compatible", "acme,rtc\0arm,pl031\0arm,primecell")
        .cells("reg", &[0, 0xa00_0000, 0, 0x1000])
        .cells("interrupts", &[0, 7, 4]);
    good().child(change(node))
}

fn is_given(root: &Node) -> bool {
    find(&root.blob(), 0xa00_0000, 0x1000, RTC).is_some()
}

#[test]
fn qemus_clock_and_pins_are_found_and_nothing_else() {
    for virt in VIRT {
        let given = |base, size, kind| find(virt, base, size, kind);
        let level = |intid| {
            let edge = false;
            let interrupt = Some(Interrupt { intid, edge });
            Some(Device { interrupt })
        };
        assert_eq!(given(0x901_0000, 0x1000, RTC), level(34));
        assert_eq!(given(0x903_0000, 0x1000, Kind::Pl061), level(39));
        // Of another kind, of another size, elsewhere.
        assert_eq!(given(0x901_0000, 0x1000, Kind::Pl061), None);
        assert_eq!(given(0x901_0000, 0x2000, RTC), None);
        assert_eq!(given(0x900_f000, 0x2000, RTC), None);
        assert_eq!(given(0x902_0000, 0x1000, RTC), None);
        assert_eq!(given(0x904_0000, 0x1000, RTC), None);
        // EL2's own: the serial port, the interrupt controller, RAM; and what does DMA.
        for base in [
            0x900_0000u64,
            0x800_0000,
            0x80a_0000,
            0x4000_0000,
            0x902_0000,
            0xa00_0000,
        ] {
            for kind in [Kind::Pl011, Kind::Pl031, Kind::Pl061] {
                assert_eq!(given(base, 0x1000, kind), None, "{base:#x}");
            }
        }
    }
}

#[test]
fn each_condition_counts() {
    assert!(is_given(&clock(|n| n)));
    assert!(is_given(&clock(|n| n.text("status", "okay"))));
    // Registers that end inside the page are alone in it all the same.
    assert!(is_given(&clock(
        |n| n.cells("reg", &[0, 0xa00_0000, 0, 0x20])
    )));
    assert!(!is_given(&clock(|n| n.text("status", "disabled"))));
    assert!(!is_given(&clock(|n| n.text("compatible", "arm,pl03"))));
    assert!(!is_given(&clock(|n| n.text("compatible", "arm,pl0311"))));
    assert!(!is_given(&clock(|n| n.raw("dma-coherent", &[]))));
    assert!(!is_given(&clock(|n| n.cells("iommus", &[1, 0]))));
    for reg in [
        &[0, 0xa00_0000, 0, 0x1001][..],
        &[0, 0xa00_0ffc, 0, 8],
        &[0, 0x9ff_fffc, 0, 8],
        &[0, 0xa00_0000, 0, 0],
        &[0, 0xa00_0000, 0, 0x1000, 0, 0xb00_0000, 0, 0x1000],
        &[0, 0xb00_0000, 0, 0x1000, 0, 0xa00_0000, 0, 0x1000],
        &[0, 0xa00_0000, 0],
    ] {
        assert!(!is_given(&clock(|n| n.cells("reg", reg))), "{reg:x?}");
    }
}

#[test]
fn neighbours_in_the_page_forbid_it_whoever_they_are() {
    let neighbour = |base: u32, size: u32| Node::new("other").cells("reg", &[0, base, 0, size]);
    for (base, size) in [
        (0xa00_0ffc, 4),
        (0x9ff_0000, 0x1_0001),
        (0xa00_0000, 0x1000),
        (0x900_8000, 0x200_0000),
    ] {
        let other = neighbour(base, size);
        assert!(!is_given(&clock(|n| n).child(other.clone())), "{base:#x}");
        // Before it, and not in use.
        let first = good().child(other.text("status", "disabled"));
        let clock = clock(|n| n);
        let both = clock.children.last().unwrap().clone();
        assert!(!is_given(&first.child(both)), "{base:#x}");
    }
    for (base, size) in [(0xa00_1000, 0x1000), (0x9ff_0000, 0x1_0000)] {
        assert!(is_given(&clock(|n| n).child(neighbour(base, size))));
    }
    // Behind a bus, and on one that the processors do not see.
    let bus = |ranges: &[u32]| {
        let inner = Node::new("inner").cells("reg", &[0x800, 8]);
        let bus = Node::new("bus")
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[1]);
        bus.cells("ranges", ranges).child(inner)
    };
    let here = [0, 0, 0xa00_0000, 0x1000];
    assert!(!is_given(&clock(|n| n).child(bus(&here))));
    let there = [0, 0, 0xb00_0000, 0x1000];
    assert!(is_given(&clock(|n| n).child(bus(&there))));
    let nowhere = bus(&there).without("ranges");
    assert!(is_given(&clock(|n| n).child(nowhere)));
}

#[test]
fn its_interrupt_is_one_that_all_share_or_none() {
    let interrupt = |cells: &[u32]| {
        let root = clock(|n| n.cells("interrupts", cells));
        find(&root.blob(), 0xa00_0000, 0x1000, RTC)
            .unwrap()
            .interrupt
    };
    let is = |intid, edge| Some(Interrupt { intid, edge });
    assert_eq!(interrupt(&[0, 7, 4]), is(39, false));
    assert_eq!(interrupt(&[0, 7, 8]), is(39, false));
    assert_eq!(interrupt(&[0, 0, 1]), is(32, true));
    assert_eq!(interrupt(&[0, 987, 2]), is(1019, true));
    assert_eq!(interrupt(&[0, 7, 4, 0]), is(39, false));
    for none in [
        &[0, 988, 4][..],
        &[1, 7, 4],
        &[2, 7, 4],
        &[0, 7],
        &[],
        &[0, 7, 4, 0, 8, 4],
        &[0, u32::MAX, 4],
    ] {
        assert_eq!(interrupt(none), None, "{none:?}");
    }
    let without = clock(|n| n.without("interrupts"));
    let found = find(&without.blob(), 0xa00_0000, 0x1000, RTC);
    assert_eq!(found, Some(Device { interrupt: None }));
}

#[test]
fn damaged_trees_are_no_panic_and_give_nothing_that_is_el2s() {
    let good = clock(|n| n).blob();
    let machine = read_bytes(&good).unwrap();
    let mut room: Vec<u8> = std::vec![0; good.len() + 8];
    let from = room.as_ptr().align_offset(8);
    let pages = |base: u64| HostRegion::from_bytes(HostPhys::new(base), 0x1000).unwrap();
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let copy = &mut room[from..from + good.len()];
            copy.copy_from_slice(&good);
            copy[at] ^= flip;
            let _ = machine.device(copy, &pages(0xa00_0000), RTC);
            let uart = machine.device(copy, &pages(0x900_0000), Kind::Pl011);
            assert_eq!(uart, None);
        }
    }
}
