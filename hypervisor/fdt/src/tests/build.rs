//! Trees built by hand, so that every rule of the format can be broken.

extern crate std;

use std::string::{String, ToString};
use std::vec::Vec;

use crate::{FdtError, Machine, read};

/// A node that may be anything.
#[derive(Clone, Default)]
pub struct Node {
    pub name: Vec<u8>,
    pub props: Vec<(Vec<u8>, Vec<u8>)>,
    pub children: Vec<Node>,
}

/// A length as the format has it.
fn small(len: usize) -> u32 {
    u32::try_from(len).expect("test trees are small")
}

/// Big-endian cells.
pub fn cells(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

impl Node {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            ..Self::default()
        }
    }

    pub fn raw(mut self, name: &str, value: &[u8]) -> Self {
        self.props.retain(|(old, _)| old != name.as_bytes());
        self.props.push((name.as_bytes().to_vec(), value.to_vec()));
        self
    }

    pub fn cells(self, name: &str, values: &[u32]) -> Self {
        self.raw(name, &cells(values))
    }

    pub fn text(self, name: &str, value: &str) -> Self {
        self.raw(name, std::format!("{value}\0").as_bytes())
    }

    pub fn without(mut self, name: &str) -> Self {
        self.props.retain(|(old, _)| old != name.as_bytes());
        self
    }

    pub fn child(mut self, child: Node) -> Self {
        self.children.push(child);
        self
    }

    /// Changes the node at `path`, which is there.
    pub fn edit(mut self, path: &str, change: impl FnOnce(Node) -> Node) -> Self {
        let mut node = &mut self;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = node.children.iter_mut().find(|c| c.name == part.as_bytes());
            node = found.expect("the path exists");
        }
        *node = change(std::mem::take(node));
        self
    }

    /// Drops the child `name`.
    pub fn drop(mut self, name: &str) -> Self {
        self.children.retain(|c| c.name != name.as_bytes());
        self
    }

    fn write(&self, out: &mut Vec<u8>, strings: &mut Vec<u8>) {
        out.extend(cells(&[1]));
        out.extend(&self.name);
        out.push(0);
        pad(out);
        for (name, value) in &self.props {
            let at = strings.len();
            strings.extend(name);
            strings.push(0);
            out.extend(cells(&[3, small(value.len()), small(at)]));
            out.extend(value);
            pad(out);
        }
        for child in &self.children {
            child.write(out, strings);
        }
        out.extend(cells(&[2]));
    }

    pub fn blob(&self) -> Vec<u8> {
        blob(self, &[])
    }

    pub fn read(&self) -> Result<Machine, FdtError> {
        read_bytes(&self.blob())
    }

    /// What EL2 prints when it refuses this tree.
    pub fn refusal(&self) -> String {
        self.read().expect_err("refused").to_string()
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The whole blob of one root.
pub fn blob(root: &Node, reservations: &[(u64, u64)]) -> Vec<u8> {
    let (mut structure, mut strings) = (Vec::new(), Vec::new());
    root.write(&mut structure, &mut strings);
    structure.extend(cells(&[9]));
    assemble(&structure, &strings, reservations)
}

/// A blob of blocks that may hold anything.
pub fn assemble(structure: &[u8], strings: &[u8], reservations: &[(u64, u64)]) -> Vec<u8> {
    let off_structure = 40 + 16 * (small(reservations.len()) + 1);
    let off_strings = off_structure + small(structure.len());
    let total = off_strings + small(strings.len());
    let (size_structure, size_strings) = (small(structure.len()), small(strings.len()));
    let mut out = cells(&[
        0xd00d_feed,
        total,
        off_structure,
        off_strings,
        40,
        17,
        16,
        0,
    ]);
    out.extend(cells(&[size_strings, size_structure]));
    for (base, size) in reservations.iter().chain(&[(0, 0)]) {
        out.extend(base.to_be_bytes());
        out.extend(size.to_be_bytes());
    }
    out.extend(structure);
    out.extend(strings);
    out
}

/// Reads a copy of `bytes` that is aligned as the boot protocol demands.
pub fn read_bytes(bytes: &[u8]) -> Result<Machine, FdtError> {
    let mut room = std::vec![0_u8; bytes.len() + 8];
    let from = room.as_ptr().align_offset(8);
    let copy = &mut room[from..from + bytes.len()];
    copy.copy_from_slice(bytes);
    read(copy)
}

/// A small machine with which nothing is wrong.
pub fn good() -> Node {
    let cpu = |n: u32| {
        Node::new(&std::format!("cpu@{n}"))
            .text("device_type", "cpu")
            .text("enable-method", "psci")
            .cells("reg", &[n])
    };
    Node::new("")
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2])
        .child(
            Node::new("memory@40000000")
                .text("device_type", "memory")
                .cells("reg", &[0, 0x4000_0000, 0, 0x4000_0000]),
        )
        .child(
            Node::new("cpus")
                .cells("#address-cells", &[1])
                .cells("#size-cells", &[0])
                .child(cpu(0))
                .child(cpu(1)),
        )
        .child(
            Node::new("intc@8000000")
                .text("compatible", "arm,gic-v3")
                .cells("#interrupt-cells", &[3])
                .raw("interrupt-controller", &[])
                .cells("#redistributor-regions", &[1])
                .cells(
                    "reg",
                    &[0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000],
                ),
        )
        .child(
            Node::new("timer")
                .text("compatible", "arm,armv8-timer")
                .cells("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]),
        )
        .child(
            Node::new("psci")
                .text("compatible", "arm,psci-1.0\0arm,psci-0.2")
                .text("method", "smc"),
        )
        .child(
            Node::new("pl011@9000000")
                .text("compatible", "arm,pl011\0arm,primecell")
                .cells("reg", &[0, 0x900_0000, 0, 0x1000]),
        )
        .child(Node::new("chosen").text("stdout-path", "/pl011@9000000"))
}

#[test]
fn the_machine_that_all_others_are_made_of_is_good() {
    let machine = good().read().unwrap();
    assert_eq!(machine.cpus.as_slice(), [0, 1]);
    assert_eq!(machine.uart.base().raw(), 0x900_0000);
    assert_eq!(machine.bundle, None);
    assert!(machine.reserved.is_empty());
}
