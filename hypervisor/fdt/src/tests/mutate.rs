//! Mutated trees: whatever the bytes are, reading them ends without a panic, and a machine that is accepted holds what
//! its type promises.

extern crate std;

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::build::{Node, blob, good, read_bytes};
use crate::{Machine, read};

/// What every accepted machine has.
fn hold(machine: &Machine) {
    assert!(!machine.ram.is_empty() && !machine.cpus.is_empty() && !machine.gicr.is_empty());
    for (n, a) in machine.ram.iter().enumerate() {
        assert!(machine.ram.iter().skip(n + 1).all(|b| !a.overlaps(b)));
        assert!(!a.overlaps(&machine.gicd) && !a.overlaps(&machine.uart));
        assert!(machine.gicr.iter().all(|b| !a.overlaps(b)));
    }
    for (n, a) in machine.cpus.iter().enumerate() {
        assert!(machine.cpus.iter().skip(n + 1).all(|b| a != b));
    }
    if let Some(bundle) = machine.bundle {
        let last = bundle.base.checked_add(bundle.len - 1).unwrap();
        assert!(machine.ram.iter().any(|ram| ram.contains(bundle.base)));
        assert!(machine.ram.iter().any(|ram| ram.contains(last)));
    }
    let irqs = machine.timer_irqs;
    for intid in [irqs.secure, irqs.phys, irqs.virt, irqs.hyp] {
        assert!((16..32).contains(&intid));
    }
}

fn judge(bytes: &[u8]) -> bool {
    match read_bytes(bytes) {
        Ok(machine) => {
            hold(&machine);
            true
        }
        Err(error) => {
            assert!(error.to_string().starts_with("device tree: "));
            false
        }
    }
}

/// A tree with something of everything that the reader looks at.
fn rich() -> Vec<u8> {
    let port = Node::new("serial@1000").text("compatible", "arm,pl011");
    let port = port.cells("reg", &[0x1000, 0x1000]);
    let bus = Node::new("bus@a0000000-with-a-long-and-winding-name").cells("#address-cells", &[1]);
    let bus = bus
        .cells("#size-cells", &[1])
        .cells("ranges", &[0, 0, 0xa00_0000, 0x2000]);
    let area = Node::new("area").cells("reg", &[0, 0x5000_0000, 0, 0x1000]);
    let reserved = Node::new("reserved-memory").raw("ranges", &[]).child(area);
    let reserved = reserved
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2]);
    let path = "/bus@a0000000-with-a-long-and-winding-name/serial@1000";
    let tree = good().child(bus.child(port)).child(reserved);
    let tree = tree
        .child(Node::new("aliases").text("serial0", path))
        .edit("chosen", |n| {
            let n = n
                .text("stdout-path", "serial0:115200")
                .text("status", "okay");
            n.cells("linux,initrd-start", &[0x4800_0000])
                .cells("linux,initrd-end", &[0x4900_0000])
        });
    blob(&tree, &[(0x4000_0000, 0x1000)])
}

/// Words that are interesting anywhere in a tree.
const WORDS: [u32; 16] = [
    0,
    1,
    2,
    3,
    4,
    9,
    7,
    0x7f,
    0xff,
    0x1000,
    0x4000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_fffc,
    0xffff_ffff,
];

#[derive(Clone, Debug)]
enum Mutation {
    Byte(usize, u8),
    Word(usize, usize),
    Copy(usize, usize, usize),
    Cut(usize),
    Nudge(usize, i8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || any::<usize>();
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(a, b)| Mutation::Byte(a, b)),
        4 => (at(), 0..WORDS.len()).prop_map(|(a, w)| Mutation::Word(a, w)),
        2 => (at(), at(), 1..64_usize).prop_map(|(a, b, n)| Mutation::Copy(a, b, n)),
        1 => at().prop_map(Mutation::Cut),
        3 => (at(), any::<i8>()).prop_map(|(a, n)| Mutation::Nudge(a, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let len = bytes.len();
    let word = |at: usize| at % (len / 4) * 4;
    match *mutation {
        Mutation::Byte(at, value) => bytes[at % len] = value,
        Mutation::Word(at, n) => {
            let at = word(at);
            bytes[at..at + 4].copy_from_slice(&WORDS[n].to_be_bytes());
        }
        Mutation::Copy(from, to, count) => {
            let (from, to) = (word(from), word(to));
            let count = (count * 4).min(len - from).min(len - to);
            bytes.copy_within(from..from + count, to);
        }
        Mutation::Cut(at) => bytes.truncate((at % len).max(4)),
        Mutation::Nudge(at, by) => {
            let at = word(at);
            let old = u32::from_be_bytes(*bytes[at..].first_chunk().unwrap());
            let new = old.wrapping_add_signed(i32::from(by));
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    std::vec![
        rich(),
        good().blob(),
        include_bytes!("../fixtures/qemu-10.0-smp4.dtb").to_vec(),
        include_bytes!("../fixtures/qemu-7.2-initrd.dtb").to_vec(),
        include_bytes!("../fixtures/qemu-7.2-gicv2.dtb").to_vec(),
    ]
}

#[test]
fn the_seed_is_a_machine() {
    assert!(judge(&rich()));
    let machine = read_bytes(&rich()).unwrap();
    assert_eq!(machine.uart.base().raw(), 0xa00_1000);
}

#[test]
fn every_single_bit_flip_of_a_small_tree() {
    let bytes = rich();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        judge(&bytes);
    }
}

#[test]
fn every_interesting_word_everywhere() {
    let bytes = rich();
    for at in (0..bytes.len() - 3).step_by(4) {
        for word in WORDS {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
            judge(&bytes);
        }
    }
}

#[test]
fn every_prefix() {
    let bytes = rich();
    for len in 0..bytes.len() {
        assert!(!judge(&bytes[..len]));
        let mut cut = bytes[..len].to_vec();
        if len >= 8 {
            cut[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        }
        assert!(!judge(&cut));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_trees_never_panic(
        seed in 0..5_usize,
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for one in &mutations {
            apply(&mut bytes, one);
        }
        // The header's size would catch every cut: let it fit half of the time.
        let fits = u32::try_from(bytes.len()).unwrap();
        if mutations.len() % 2 == 0 && fits >= 8 {
            bytes[4..8].copy_from_slice(&fits.to_be_bytes());
        }
        judge(&bytes);
    }

    #[test]
    fn noise_never_panics(words in prop::collection::vec(0..WORDS.len(), 0..256)) {
        let mut structure = super::build::cells(&[1, 0]);
        structure.extend(words.iter().flat_map(|n| WORDS[*n].to_be_bytes()));
        judge(&super::build::assemble(&structure, b"\0reg\0compatible\0status\0ranges\0", &[]));
        let _ = read(&structure);
    }
}
