//! Places for virtio devices: QEMU's are found, and none that EL2 could not use safely.

extern crate std;

use std::vec::Vec;

use super::build::{Node, good, read_bytes};
use crate::{Interrupt, MAX_VIRTIO, Virtio};

/// The reader wants its bytes aligned.
fn find(bytes: &[u8]) -> Vec<(u64, u64, Interrupt)> {
    let mut room = std::vec![0_u8; bytes.len() + 8];
    let from = room.as_ptr().align_offset(8);
    let copy = &mut room[from..from + bytes.len()];
    copy.copy_from_slice(bytes);
    let found = read_bytes(bytes).unwrap().virtio(copy);
    let short = |place: &Virtio| {
        let registers = place.registers;
        (registers.base.raw(), registers.len, place.interrupt)
    };
    found.iter().map(short).collect()
}

fn place(base: u32, change: impl FnOnce(Node) -> Node) -> Node {
    let node = Node::new(&std::format!("virtio@{base:x}"))
        .text("compatible", "virtio,mmio")
        .cells("reg", &[0, base, 0, 0x200])
        .raw("dma-coherent", &[])
        .cells("interrupts", &[0, 7, 1]);
    change(node)
}

fn is_found(change: impl FnOnce(Node) -> Node) -> bool {
    !find(&good().child(place(0xa00_0000, change)).blob()).is_empty()
}

#[test]
fn qemu_has_thirty_two() {
    for virt in [
        &include_bytes!("../fixtures/qemu-7.2-smp4.dtb")[..],
        include_bytes!("../fixtures/qemu-10.0-smp4.dtb"),
        include_bytes!("../fixtures/qemu-7.2-numa.dtb"),
        include_bytes!("../fixtures/qemu-10.0-initrd.dtb"),
    ] {
        let edge = true;
        let wanted: Vec<_> = (0..32_u32)
            .map(|n| {
                let intid = 48 + n;
                let base = 0xa00_0000 + 0x200 * u64::from(n);
                (base, 0x200, Interrupt { intid, edge })
            })
            .collect();
        assert_eq!(find(virt), wanted);
    }
}

#[test]
fn each_condition_counts() {
    assert!(is_found(|n| n));
    assert!(is_found(|n| n.text("status", "okay")));
    assert!(is_found(
        |n| n.text("compatible", "acme,virtio\0virtio,mmio")
    ));
    assert!(!is_found(|n| n.text("status", "disabled")));
    assert!(!is_found(|n| n.text("compatible", "virtio,mmi")));
    assert!(!is_found(|n| n.without("dma-coherent")));
    assert!(!is_found(|n| n.cells("iommus", &[1, 0])));
    assert!(!is_found(|n| n.without("interrupts")));
    assert!(!is_found(|n| n.cells("interrupts", &[1, 7, 1])));
    assert!(!is_found(|n| n.cells("interrupts", &[0, 988, 1])));
    assert!(!is_found(|n| n.cells("interrupts", &[0, 7, 1, 0, 8, 1])));
    assert!(!is_found(
        |n| n.raw("interrupts", &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0])
    ));
    assert!(!is_found(|n| n.without("reg")));
    for reg in [
        &[0, 0xa00_0000, 0, 0][..],
        &[0, 0xa00_0000, 0, 0x107],
        &[0, 0xa00_0004, 0, 0x200],
        &[0, 0xa00_0000, 0, 0x1_0001],
        &[0, 0xa00_0000, 1, 0x200],
        &[0xffff_ffff, 0xffff_ff00, 0, 0x100],
        &[0, 0xa00_0000, 0, 0x200, 0, 0xb00_0000, 0, 0x200],
        &[0, 0xa00_0000, 0],
    ] {
        assert!(!is_found(|n| n.cells("reg", reg)), "{reg:x?}");
    }
}

#[test]
fn no_place_is_in_pages_that_are_taken() {
    let machine = read_bytes(&good().blob()).unwrap();
    let ends = machine.ram.iter().map(|ram| ram.end().raw());
    let mut taken: Vec<u64> = ends.map(|end| end - 0x200).collect();
    for device in machine.gicr.iter().chain([&machine.gicd, &machine.uart]) {
        taken.push(device.base().raw());
        taken.push(device.end().raw() - 0x200);
    }
    for base in taken {
        let low = u32::try_from(base & 0xffff_ffff).unwrap();
        let high = u32::try_from(base >> 32).unwrap();
        assert!(
            !is_found(|n| n.cells("reg", &[high, low, 0, 0x200])),
            "{base:#x}"
        );
    }
}

#[test]
fn places_share_pages_but_no_register() {
    let at = |base| place(base, |n| n);
    let bases = |root: Node| -> Vec<u64> { find(&root.blob()).iter().map(|p| p.0).collect() };
    let apart = good().child(at(0xa00_0200)).child(at(0xa00_0000));
    assert_eq!(bases(apart), [0xa00_0200, 0xa00_0000]);
    for base in [0xa00_0000, 0xa00_01f8, 0x9ff_fe08] {
        let both = good().child(at(0xa00_0000)).child(at(base));
        assert_eq!(bases(both), [0xa00_0000], "{base:#x}");
    }
}

#[test]
fn there_is_an_end_to_them() {
    let mut root = good();
    for n in 0..40 {
        root = root.child(place(0xa00_0000 + 0x200 * n, |node| node));
    }
    assert_eq!(find(&root.blob()).len(), MAX_VIRTIO);
}

#[test]
fn damaged_trees_are_no_panic_and_give_nothing_that_is_el2s() {
    let good = good().child(place(0xa00_0000, |n| n)).blob();
    let machine = read_bytes(&good).unwrap();
    let mut room: Vec<u8> = std::vec![0; good.len() + 8];
    let from = room.as_ptr().align_offset(8);
    let mut fewer = 0;
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let copy = &mut room[from..from + good.len()];
            copy.copy_from_slice(&good);
            copy[at] ^= flip;
            let found = machine.virtio(copy);
            fewer += usize::from(found.is_empty());
            for place in found {
                let base = place.registers.base;
                assert!(!machine.ram.iter().any(|ram| ram.contains(base)));
                assert!(!machine.gicd.contains(base) && !machine.uart.contains(base));
            }
        }
    }
    assert!(fewer > 100);
}
