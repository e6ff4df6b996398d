use super::*;
use crate::addr::GuestPhys;
use proptest::prelude::*;
use vm_fdt::{FdtReserveEntry, FdtWriter};

/// What can be varied in the tree that the tests build.
struct Tree {
    cpus: u32,
    cpu_address_cells: u32,
    memory: bool,
    gic: &'static str,
    gic_reg: Vec<u64>,
    method: Option<&'static str>,
    timer: Vec<u32>,
    uart_status: Option<&'static str>,
    chosen: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            cpus: 2,
            cpu_address_cells: 1,
            memory: true,
            gic: "arm,gic-v3",
            gic_reg: vec![0x0800_0000, 0x1_0000, 0x080A_0000, 0x4_0000],
            method: Some("hvc"),
            timer: vec![1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4],
            uart_status: None,
            chosen: true,
        }
    }
}

impl Tree {
    fn build(&self) -> Vec<u8> {
        let reservation = FdtReserveEntry::new(0x43F0_0000, 0x1000).unwrap();
        let mut w = FdtWriter::new_with_mem_reserv(&[reservation]).unwrap();
        let root = w.begin_node("").unwrap();
        w.property_u32("#address-cells", 2).unwrap();
        w.property_u32("#size-cells", 2).unwrap();
        if self.memory {
            let node = w.begin_node("memory@40000000").unwrap();
            w.property_string("device_type", "memory").unwrap();
            w.property_array_u64("reg", &[0x4000_0000, 64 << 20])
                .unwrap();
            w.end_node(node).unwrap();
        }
        self.cpus(&mut w);
        self.devices(&mut w);
        if self.chosen {
            let node = w.begin_node("chosen").unwrap();
            w.property_string("bootargs", "selfcheck=quick").unwrap();
            w.property_string("xdv,guest-name", "alpha").unwrap();
            w.property_u32("linux,initrd-start", 0x4200_0000).unwrap();
            w.property_u64("linux,initrd-end", 0x4210_0000).unwrap();
            w.end_node(node).unwrap();
        }
        w.end_node(root).unwrap();
        w.finish().unwrap()
    }

    fn cpus(&self, w: &mut FdtWriter) {
        let cpus = w.begin_node("cpus").unwrap();
        w.property_u32("#address-cells", self.cpu_address_cells)
            .unwrap();
        w.property_u32("#size-cells", 0).unwrap();
        let map = w.begin_node("cpu-map").unwrap();
        w.end_node(map).unwrap();
        for n in 0..self.cpus {
            let node = w.begin_node(&format!("cpu@{n}")).unwrap();
            w.property_string("device_type", "cpu").unwrap();
            match self.cpu_address_cells {
                1 => w.property_u32("reg", n).unwrap(),
                _ => w.property_u64("reg", 1 << 32 | u64::from(n)).unwrap(),
            }
            w.end_node(node).unwrap();
        }
        w.end_node(cpus).unwrap();
    }

    fn devices(&self, w: &mut FdtWriter) {
        let node = w.begin_node("intc@8000000").unwrap();
        w.property_string("compatible", self.gic).unwrap();
        w.property_array_u64("reg", &self.gic_reg).unwrap();
        w.end_node(node).unwrap();
        let node = w.begin_node("pl011@9000000").unwrap();
        w.property_string_list(
            "compatible",
            vec!["arm,pl011".into(), "arm,primecell".into()],
        )
        .unwrap();
        w.property_array_u64("reg", &[0x0900_0000, 0x1000]).unwrap();
        if let Some(status) = self.uart_status {
            w.property_string("status", status).unwrap();
        }
        w.end_node(node).unwrap();
        let node = w.begin_node("timer").unwrap();
        w.property_string("compatible", "arm,armv8-timer").unwrap();
        w.property_array_u32("interrupts", &self.timer).unwrap();
        w.end_node(node).unwrap();
        let node = w.begin_node("psci").unwrap();
        w.property_string_list(
            "compatible",
            vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()],
        )
        .unwrap();
        if let Some(method) = self.method {
            w.property_string("method", method).unwrap();
        }
        w.end_node(node).unwrap();
    }

    fn error(&self) -> MachineError {
        Machine::from_fdt(&self.build()).unwrap_err()
    }
}

/// A tree like XDV's own, for other modules' tests.
pub(crate) fn two_lanes() -> Vec<u8> {
    Tree::default().build()
}

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::new(GuestPhys::new(start), len).unwrap()
}

#[test]
fn the_machine_is_what_the_tree_says() {
    let tree = two_lanes();
    let machine = Machine::from_fdt(&tree).unwrap();
    assert_eq!(
        (machine.name, machine.command_line),
        ("alpha", "selfcheck=quick")
    );
    assert_eq!(machine.memory.as_slice(), [range(0x4000_0000, 64 << 20)]);
    assert_eq!(machine.memory_bytes(), 64 << 20);
    let cpus: Vec<_> = machine.cpus.iter().map(|cpu| cpu.get()).collect();
    assert_eq!(
        (cpus.as_slice(), machine.cpus_left_out),
        ([0, 1].as_slice(), 0)
    );
    assert_eq!(machine.distributor, range(0x0800_0000, 0x1_0000));
    assert_eq!(machine.redistributors, range(0x080A_0000, 0x4_0000));
    assert_eq!(machine.uart, Some(range(0x0900_0000, 0x1000)));
    assert_eq!((machine.timer_intid, machine.conduit), (27, Conduit::Hvc));
    let reserved = [range(0x43F0_0000, 0x1000), range(0x4200_0000, 0x10_0000)];
    assert_eq!(machine.reserved.as_slice(), reserved);
    assert_eq!(machine.claimed.len(), 4);
}

#[test]
fn names_and_words_are_optional() {
    let tree = Tree {
        chosen: false,
        ..Tree::default()
    }
    .build();
    let machine = Machine::from_fdt(&tree).unwrap();
    assert_eq!((machine.name, machine.command_line), ("guest", ""));
    assert_eq!(machine.reserved.len(), 1);
}

#[test]
fn a_disabled_uart_is_none_and_two_cell_affinities_read() {
    let tree = Tree {
        uart_status: Some("disabled"),
        cpu_address_cells: 2,
        method: Some("smc"),
        ..Tree::default()
    };
    let tree = tree.build();
    let machine = Machine::from_fdt(&tree).unwrap();
    assert_eq!(machine.uart, None);
    assert_eq!(machine.conduit, Conduit::Smc);
    assert_eq!(machine.cpus[1].levels(), [1, 0, 0, 1]);
    assert_eq!(
        Affinity::from_mpidr(0x8000_0003).get(),
        3,
        "flag bits are dropped"
    );
}

#[test]
fn cpus_beyond_the_limit_are_counted() {
    let tree = Tree {
        cpus: 11,
        ..Tree::default()
    }
    .build();
    let machine = Machine::from_fdt(&tree).unwrap();
    assert_eq!((machine.cpus.len(), machine.cpus_left_out), (8, 3));
}

#[test]
fn what_is_missing_is_named() {
    use MachineError::Missing;
    let gic = Missing("a GICv3 (arm,gic-v3)");
    assert_eq!(
        Tree {
            gic: "arm,cortex-a15-gic",
            ..Tree::default()
        }
        .error(),
        gic
    );
    assert_eq!(
        Tree {
            gic_reg: vec![0x0800_0000, 0x1_0000],
            ..Tree::default()
        }
        .error(),
        gic
    );
    assert_eq!(
        Tree {
            gic_reg: vec![1; 3],
            ..Tree::default()
        }
        .error(),
        gic
    );
    assert_eq!(
        Tree {
            memory: false,
            ..Tree::default()
        }
        .error(),
        Missing("memory")
    );
    assert_eq!(
        Tree {
            cpus: 0,
            ..Tree::default()
        }
        .error(),
        Missing("any CPU")
    );
    assert_eq!(
        Tree {
            method: None,
            ..Tree::default()
        }
        .error(),
        Missing("PSCI's method")
    );
    let timer = Missing("the timer's virtual interrupt");
    for interrupts in [vec![1, 13, 4], vec![0; 9], vec![1, 1, 4, 1, 1, 4, 1, 16, 4]] {
        assert_eq!(
            Tree {
                timer: interrupts,
                ..Tree::default()
            }
            .error(),
            timer
        );
    }
    assert!(gic.to_string().contains("arm,gic-v3"));
    assert!(
        MachineError::TooMany("devices")
            .to_string()
            .contains("devices")
    );
}

#[test]
fn what_is_no_tree_is_refused() {
    for bytes in [vec![], vec![0xD0, 0x0D, 0xFE, 0xED], vec![0; 4096]] {
        let error = Machine::from_fdt(&bytes).unwrap_err();
        assert_eq!(error, MachineError::NotADeviceTree);
        assert!(error.to_string().contains("x0"));
    }
    let mut cut = two_lanes();
    cut.truncate(100);
    assert!(Machine::from_fdt(&cut).is_err());
}

#[test]
fn a_header_tells_its_length_only_if_it_can_be_right() {
    let tree = two_lanes();
    let head = |bytes: &[u8]| <[u8; 8]>::try_from(&bytes[..8]).unwrap();
    assert_eq!(tree_length(head(&tree)), Some(tree.len()));
    assert_eq!(tree_length([0; 8]), None);
    assert_eq!(tree_length([0xD0, 0x0D, 0xFE, 0xED, 0, 0, 0, 39]), None);
    assert_eq!(tree_length([0xD0, 0x0D, 0xFE, 0xED, 0, 0x20, 0, 1]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The tree comes from outside: whatever it holds, reading it ends with an answer.
    #[test]
    fn a_damaged_tree_never_upsets_the_reader(
        damage in proptest::collection::vec((0usize..2000, any::<u8>()), 1..12)
    ) {
        let mut tree = two_lanes();
        for (at, byte) in damage {
            let at = at % tree.len();
            tree[at] = byte;
        }
        let _ = Machine::from_fdt(&tree);
    }
}
