//! The trees of QEMU 7.2 and 10.0 (see fixtures/README.md).

extern crate std;

use std::string::ToString;
use std::vec::Vec;

use super::build::read_bytes;
use crate::{Machine, PsciConduit, TimerIrqs, total_size};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../fixtures/", $name, ".dtb"))
    };
}

fn ram(machine: &Machine) -> Vec<(u64, u64)> {
    machine
        .ram
        .iter()
        .map(|r| (r.base().raw(), r.bytes()))
        .collect()
}

fn common(machine: &Machine) {
    assert_eq!(machine.gicd.to_string(), "0x8000000..0x8010000");
    assert_eq!(machine.gicr[0].to_string(), "0x80a0000..0x9000000");
    assert_eq!(machine.uart.to_string(), "0x9000000..0x9001000");
    assert_eq!(machine.uart_irq, Some(33));
    assert_eq!(machine.rtc.map(|rtc| rtc.base().raw()), Some(0x0901_0000));
    let (secure, phys, virt, hyp) = (29, 30, 27, 26);
    assert_eq!(
        machine.timer_irqs,
        TimerIrqs {
            secure,
            phys,
            virt,
            hyp
        }
    );
    assert!(machine.reserved.is_empty());
}

#[test]
fn four_processors() {
    for bytes in [&fixture!("qemu-7.2-smp4")[..], fixture!("qemu-10.0-smp4")] {
        let machine = read_bytes(bytes).unwrap();
        common(&machine);
        assert_eq!(ram(&machine), [(0x4000_0000, 0x8000_0000)]);
        assert_eq!(machine.cpus.as_slice(), [0, 1, 2, 3]);
        assert_eq!(machine.psci, PsciConduit::Smc);
        assert_eq!((machine.gicr.len(), machine.bundle), (1, None));
    }
}

#[test]
fn the_megabyte_that_qemu_really_hands_over() {
    let mut bytes = fixture!("qemu-10.0-smp4").to_vec();
    let packed = read_bytes(&bytes).unwrap();
    bytes.resize(0x10_0000, 0);
    bytes[4..8].copy_from_slice(&0x10_0000_u32.to_be_bytes());
    assert_eq!(total_size(bytes.first_chunk().unwrap()), Ok(0x10_0000));
    assert_eq!(read_bytes(&bytes), Ok(packed));
}

#[test]
fn sixty_four_processors_in_two_clusters_and_gicr_ranges_and_not_more() {
    for bytes in [&fixture!("qemu-7.2-smp64")[..], fixture!("qemu-10.0-smp64")] {
        let machine = read_bytes(bytes).unwrap();
        common(&machine);
        let wanted: Vec<u64> = (0..64).map(|n| ((n / 16) << 8) | (n % 16)).collect();
        assert_eq!(machine.cpus.as_slice(), wanted);
    }
    let many = read_bytes(fixture!("qemu-10.0-smp200")).unwrap_err();
    let said = many.to_string();
    assert!(
        said.ends_with("reg has more entries than there is room for: 0x40"),
        "{said}"
    );
}

#[test]
fn memory_in_two_nodes() {
    for bytes in [&fixture!("qemu-7.2-numa")[..], fixture!("qemu-10.0-numa")] {
        let machine = read_bytes(bytes).unwrap();
        common(&machine);
        let mut ram = ram(&machine);
        ram.sort_unstable();
        assert_eq!(
            ram,
            [(0x4000_0000, 0x4000_0000), (0x8000_0000, 0x4000_0000)]
        );
    }
}

#[test]
fn an_initrd_is_the_bundle() {
    for bytes in [
        &fixture!("qemu-7.2-initrd")[..],
        fixture!("qemu-10.0-initrd"),
    ] {
        let machine = read_bytes(bytes).unwrap();
        common(&machine);
        let bundle = machine.bundle.unwrap();
        assert_eq!((bundle.len, bundle.base.raw() & 0xfff), (5000, 0));
        assert!(machine.ram[0].contains(bundle.base));
    }
}

#[test]
fn a_machine_without_el2_calls_psci_by_hvc() {
    for bytes in [&fixture!("qemu-7.2-el1")[..], fixture!("qemu-10.0-el1")] {
        let machine = read_bytes(bytes).unwrap();
        common(&machine);
        assert_eq!(machine.psci, PsciConduit::Hvc);
    }
}

#[test]
fn gicv2_is_refused_in_words() {
    for bytes in [&fixture!("qemu-7.2-gicv2")[..], fixture!("qemu-10.0-gicv2")] {
        let said = read_bytes(bytes).unwrap_err().to_string();
        let wanted = "device tree: arm,cortex-a15-gic is what this machine has; EL2 needs a GICv3";
        assert_eq!(said, wanted);
    }
}

/// With a secure world QEMU leaves PSCI to firmware; the secure memory and serial port are `disabled`, and not taken.
#[test]
fn a_secure_world_is_not_ours() {
    for bytes in [
        &fixture!("qemu-7.2-secure")[..],
        fixture!("qemu-10.0-secure"),
    ] {
        let said = read_bytes(bytes).unwrap_err().to_string();
        assert!(said.contains("psci"), "{said}");
    }
}
