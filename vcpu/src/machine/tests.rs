use super::*;
use crate::rig::{RAM, machine};
use vcpu_board::{GICD_BASE, GICR_BASE, PL011_BASE};

#[test]
fn ram_is_ram_and_nothing_else_is() {
    let machine = machine(2);
    let is_ram = |ipa| machine.is_ram(Ipa::new(ipa));
    assert!(is_ram(RAM_BASE));
    assert!(is_ram(RAM_BASE + RAM - 1));
    for outside in [
        0,
        RAM_BASE - 1,
        RAM_BASE + RAM,
        GICD_BASE,
        GICR_BASE,
        PL011_BASE,
        1 << 47,
    ] {
        assert!(!is_ram(outside), "{outside:#x}");
    }
}

#[test]
fn a_new_machine_is_quiet() {
    let machine = machine(3);
    assert_eq!(machine.vgic.lanes(), 3);
    assert_eq!(machine.board.lanes(), 3);
    let console = machine.console.lock();
    assert!(console.line.is_empty());
    assert!(!console.uart.line());
}

#[test]
fn the_number_of_lanes_is_the_same_for_all_devices() {
    for lanes in 1..=8 {
        let machine = machine(lanes);
        assert_eq!(
            (machine.vgic.lanes(), machine.board.lanes()),
            (lanes, lanes)
        );
    }
}

#[test]
fn a_write_stops_behind_the_line_that_it_ends() {
    let machine = machine(1);
    let console = &mut *machine.console.lock();
    let mut shown = std::vec::Vec::new();
    let mut write = |bytes: &[u8]| {
        let emit = &mut |text: &str| shown.push(text.len());
        console.write(bytes, emit)
    };
    assert_eq!(write(b""), 0);
    assert_eq!(write(b"abc"), 3);
    assert_eq!(write(b"d\nef\n"), 2);
    assert_eq!(write(b"ef\n"), 3);
    assert_eq!(write(&[b'x'; 4096]), 256);
    assert_eq!(
        write(b"\n\n"),
        2,
        "the end of the line that was cut is silent"
    );
    assert_eq!(write(&[7; 4096]), 64, "four characters each");
    assert_eq!(shown, [4, 2, 256, 0, 256]);
}
