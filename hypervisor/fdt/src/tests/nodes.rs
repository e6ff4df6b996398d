//! BOOT-04 and BOOT-05: cells, addresses and memory.

extern crate std;

use std::string::ToString;
use std::vec::Vec;

use super::build::{Node, cells, good};

const MEMORY: &str = "memory@40000000";
const GIC: &str = "intc@8000000";
const UART: &str = "pl011@9000000";

#[test]
fn boot_04_cells() {
    for (name, bad) in [
        ("#address-cells", [0, 3, 255]),
        ("#size-cells", [3, 255, u32::MAX]),
    ] {
        for value in bad {
            let said = good().cells(name, &[value]).refusal();
            assert_eq!(
                said,
                std::format!("device tree: /: {name} has the unusable value {value:#x}")
            );
        }
    }
    for len in [0, 1, 3, 5, 8] {
        let said = good().raw("#address-cells", &std::vec![0; len]).refusal();
        assert!(said.ends_with(&std::format!(
            "#address-cells has the wrong length {len:#x}"
        )));
    }
    // Nobody asks for the address of what is on a PCI bus.
    let bus = Node::new("pcie@10000000")
        .cells("#address-cells", &[3])
        .child(Node::new("dev@0"));
    assert!(good().child(bus).read().is_ok());
    let said = good()
        .edit("cpus", |n| n.cells("#size-cells", &[1]))
        .refusal();
    assert!(
        said.starts_with("device tree: /cpus/cpu@0: reg has the wrong length 0x4"),
        "{said}"
    );
}

#[test]
fn boot_04_reg_is_whole_entries() {
    for path in [MEMORY, "cpus/cpu@1", GIC, UART] {
        let whole = good().blob();
        for len in [0, 1, 3, 7, 15, 17] {
            let said = good()
                .edit(path, |n| n.raw("reg", &std::vec![0x40; len]))
                .refusal();
            let wanted = std::format!("device tree: /{path}: reg has the wrong length {len:#x}");
            assert_eq!(said, wanted);
        }
        let said = good().edit(path, |n| n.without("reg")).refusal();
        assert_eq!(said, std::format!("device tree: /{path}: reg is missing"));
        assert_eq!(whole, good().blob());
    }
}

/// A bus at 0x8000_0000 that shows `ranges`, with the serial port at 0x1000 on it.
fn behind(ranges: Option<&[u32]>) -> Node {
    let port = Node::new("pl011@1000").text("compatible", "arm,pl011");
    let bus = Node::new("bus")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1]);
    let bus = bus.child(port.cells("reg", &[0x1000, 0x1000]));
    let bus = match ranges {
        Some(cells) => bus.cells("ranges", cells),
        None => bus,
    };
    good().drop(UART).drop("chosen").child(bus)
}

#[test]
fn boot_04_ranges() {
    let at = |tree: Node| tree.read().unwrap().uart.base().raw();
    assert_eq!(at(behind(Some(&[]))), 0x1000, "the same address space");
    assert_eq!(at(behind(Some(&[0, 0, 0x1_0000, 0x2000]))), 0x1_1000);
    assert_eq!(
        at(behind(Some(&[0x1000, 0xf, 0x8000_0000, 0x1000]))),
        0xf_8000_0000
    );
    let second = [0x8000, 0, 0x1_0000, 0x1000, 0x1000, 0, 0x2_0000, 0x1000];
    assert_eq!(at(behind(Some(&second))), 0x2_0000);
    let said = |ranges| behind(ranges).refusal();
    let nowhere = "device tree: /bus: ranges does not map the address 0x1000";
    assert_eq!(said(None), nowhere);
    assert_eq!(
        said(Some(&[0, 0, 0x1_0000, 0x1fff])),
        nowhere,
        "the end sticks out"
    );
    assert_eq!(
        said(Some(&[0x1001, 0, 0x1_0000, 0x9000])),
        nowhere,
        "the start sticks out"
    );
    assert!(said(Some(&[0, 0, 0])).ends_with("ranges has the wrong length 0xc"));
    assert!(said(Some(&[0, !0, !0 - 1, 0x2000])).contains("/bus: ranges wraps around"));
    let far = said(Some(&[0, !0, 0xffff_0000, 0x2_0000]));
    assert!(
        far.contains("/bus: ranges wraps around"),
        "the far side: {far}"
    );
    // Two buses, one above the other.
    let inner = behind(Some(&[0, 0x1_0000, 0x2000])).children.pop().unwrap();
    let outer = Node::new("outer")
        .cells("#address-cells", &[1])
        .cells("#size-cells", &[1]);
    let outer = outer
        .cells("ranges", &[0x1_0000, 0, 0x5_0000, 0x1_0000])
        .child(inner);
    assert_eq!(at(good().drop(UART).child(outer)), 0x5_1000);
}

#[test]
fn boot_04_nodes_and_properties_are_there_once() {
    let chosen = || Node::new("chosen");
    assert_eq!(
        good().child(chosen()).refusal(),
        "device tree: /chosen: a node of this name is there twice"
    );
    assert!(
        good()
            .child(Node::new("cpus"))
            .refusal()
            .ends_with("/cpus: a node of this name is there twice")
    );
    let copy = good().children.swap_remove(0);
    let said = good().child(copy).refusal();
    assert!(said.ends_with("/memory@40000000: reg overlaps RAM or another device at 0x40000000"));
    let twice = good().edit(MEMORY, |mut n| {
        n.props.push((b"reg".to_vec(), cells(&[0; 4])));
        n
    });
    assert_eq!(
        twice.refusal(),
        "device tree: /memory@40000000: reg is there twice"
    );
    // Nothing follows a phandle, so a cycle of them is nothing.
    let cycle = good()
        .cells("interrupt-parent", &[1])
        .cells("phandle", &[1]);
    assert!(cycle.read().is_ok());
}

#[test]
fn boot_05_memory() {
    let said = |reg: &[u32]| good().edit(MEMORY, |n| n.cells("reg", reg)).refusal();
    let starts = |text: &str, end: &str| {
        assert_eq!(
            text,
            std::format!("device tree: /memory@40000000: reg {end}")
        );
    };
    starts(
        &said(&[0, 0x4000_0000, 0, 0]),
        "has an empty region at 0x40000000",
    );
    let wraps = "wraps around from 0xfffffffffffff000";
    starts(&said(&[!0, !0xfff, 0, 0x2000]), wraps);
    starts(&said(&[0, 1, !0, !0]), "wraps around from 0x1");
    starts(
        &said(&[0, 0x4000_0001, 0, 0x1ffe]),
        "is too small, of this length: 0x1ffe",
    );
    let overlap = [0, 0x4000_0000, 0, 0x2000, 0, 0x4000_1000, 0, 0x2000];
    starts(
        &said(&overlap),
        "overlaps RAM or another device at 0x40001000",
    );
    let many: Vec<u32> = (0..17).flat_map(|n| [0, n << 24, 0, 0x1000]).collect();
    starts(
        &said(&many),
        "has more entries than there is room for: 0x10",
    );
    let odd = [0, 0x4000_0001, 0, 0x2fff];
    let machine = good()
        .edit(MEMORY, |n| n.cells("reg", &odd))
        .read()
        .unwrap();
    assert_eq!(
        machine.ram[0].to_string(),
        "0x40001000..0x40003000",
        "inwards"
    );
    assert_eq!(
        good().drop(MEMORY).refusal(),
        "device tree: an enabled memory node is missing"
    );
    let off = good().edit(MEMORY, |n| n.text("status", "disabled"));
    assert_eq!(
        off.refusal(),
        "device tree: an enabled memory node is missing"
    );
    let open = good().edit(MEMORY, |n| n.raw("device_type", b"memory"));
    assert!(
        open.edit(MEMORY, |n| n.raw("status", b"okay"))
            .refusal()
            .contains("without an end")
    );
}

#[test]
fn boot_05_devices_and_bundle() {
    let said = |path, reg: &[u32]| good().edit(path, |n| n.cells("reg", reg)).refusal();
    let uart = said(UART, &[0, 0x4000_0000, 0, 0x1000]);
    assert_eq!(
        uart,
        "device tree: the serial port overlaps RAM or another device at 0x40000000"
    );
    assert!(
        said(UART, &[0, 0x800_f000, 0, 0x1000])
            .contains("serial port overlaps RAM or another device at 0x800f000")
    );
    let gic = said(
        GIC,
        &[0, 0x800_0000, 0, 0x10_0000, 0, 0x80a_0000, 0, 0x2_0000],
    );
    assert!(
        gic.contains("a redistributor overlaps RAM or another device at 0x80a0000"),
        "{gic}"
    );
    let initrd = |start: &[u32], end: &[u32]| {
        let put = |n: Node| {
            n.cells("linux,initrd-start", start)
                .cells("linux,initrd-end", end)
        };
        good().edit("chosen", put)
    };
    let bundle = initrd(&[0x4800_0000], &[0, 0x4800_0123])
        .read()
        .unwrap()
        .bundle
        .unwrap();
    assert_eq!((bundle.base.raw(), bundle.len), (0x4800_0000, 0x123));
    assert!(initrd(&[0x7fff_ffff], &[0x8000_0000]).read().is_ok());
    for (start, end, why) in [
        (0, 0, "/chosen: linux,initrd-end has an empty region at 0x0"),
        (
            0x4800_0000,
            0x4700_0000,
            "linux,initrd-end has an empty region at 0x48000000",
        ),
        (
            0x3fff_ffff,
            0x4000_0001,
            "boot bundle is not in RAM at 0x3fffffff",
        ),
        (
            0x7fff_ffff,
            0x8000_0001,
            "boot bundle is not in RAM at 0x80000000",
        ),
    ] {
        let said = initrd(&[start], &[end]).refusal();
        assert!(said.ends_with(why), "{said}");
    }
    assert!(
        initrd(&[1, 2, 3], &[4])
            .refusal()
            .ends_with("initrd-start has the wrong length 0xc")
    );
    let half = good().edit("chosen", |n| n.cells("linux,initrd-start", &[0x4800_0000]));
    assert_eq!(
        half.refusal(),
        "device tree: /chosen: linux,initrd-end is missing"
    );
}

#[test]
fn reserved_memory() {
    let reserved = |ranges: bool, reg: &[u32]| {
        let area = Node::new("area@50000000").cells("reg", reg);
        let dynamic = Node::new("pool").cells("size", &[0, 0x1000]);
        let node = Node::new("reserved-memory")
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2]);
        let node = node.child(area).child(dynamic);
        good().child(if ranges {
            node.raw("ranges", &[])
        } else {
            node
        })
    };
    let machine = reserved(true, &[0, 0x5000_0fff, 0, 2]).read().unwrap();
    assert_eq!(
        machine.reserved[0].to_string(),
        "0x50000000..0x50002000",
        "outwards"
    );
    assert_eq!(machine.reserved.len(), 1);
    assert!(
        reserved(false, &[0, 0x5000_0000, 0, 2])
            .refusal()
            .contains("/reserved-memory: ranges")
    );
    let said = reserved(true, &[!0, !0, 0, 2]).refusal();
    assert!(said.starts_with("device tree: /reserved-memory/area@50000000: reg wraps around"));
    assert!(reserved(true, &[0; 4]).refusal().contains("empty region"));
    assert!(
        reserved(true, &[0, 4096, 0, 1].repeat(33))
            .refusal()
            .contains("more entries than there is room for: 0x20")
    );
}

#[test]
fn a_seed_counts_when_it_is_long_enough() {
    let seed = |bytes: &[u8]| {
        let tree = good().edit("chosen", |n| n.raw("rng-seed", bytes));
        tree.read().unwrap().seed
    };
    assert_eq!(good().read().unwrap().seed, None);
    assert_eq!(seed(&[]), None);
    assert_eq!(seed(&[1; 31]), None);
    assert_eq!(seed(&[1; 32]), Some([1; 32]));
    let mut folded = [3; 32];
    folded[31] = 1;
    let mut long = [1; 63];
    long[32..].fill(2);
    assert_eq!(seed(&long), Some(folded));
}
