//! The control queue, the configuration and resets.

use std::vec::Vec;

use super::lan::{ALL, Card, PLAIN, frame, guest, lan, mac, pattern, switch};
use crate::device::Device;
use crate::net::NetFeatures;
use crate::switch::{Peer, Port, Vlan};

const CONTROL: NetFeatures = PLAIN
    .union(NetFeatures::CTRL_VQ)
    .union(NetFeatures::CTRL_RX)
    .union(NetFeatures::CTRL_RX_EXTRA)
    .union(NetFeatures::CTRL_MAC_ADDR);

fn two(is_open: bool) -> (Card, Card) {
    let open = Peer::Guest {
        mac: mac(0),
        is_open,
        rate: 0,
    };
    let lan = switch(
        [
            Port::new(0, Vlan::Access(0), open),
            guest(1, 0, Vlan::Access(0)),
        ]
        .into(),
    );
    (Card::new(lan, 0, CONTROL), Card::new(lan, 1, CONTROL))
}

/// Whether a frame that is for an address arrives.
fn hears(one: &mut Card, other: &mut Card, to: [u8; 6]) -> bool {
    let _ = other.frame(&frame(to, mac(1), 0x88b5, &pattern(60, 0)));
    let heard = !one.frames().is_empty();
    one.refill();
    heard
}

const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 9];

#[test]
fn a_driver_chooses_what_it_receives() {
    let (mut one, mut other) = two(false);
    assert!(hears(&mut one, &mut other, mac(0)));
    assert!(hears(&mut one, &mut other, ALL));
    assert!(hears(&mut one, &mut other, GROUP));
    assert!(!hears(&mut one, &mut other, mac(9)));
    assert!(one.command(0, 1, &[0]));
    assert!(!hears(&mut one, &mut other, GROUP));
    let table = |unicast: &[[u8; 6]], group: &[[u8; 6]]| {
        let mut all = Vec::new();
        for list in [unicast, group] {
            all.extend((list.len() as u32).to_le_bytes());
            all.extend(list.concat());
        }
        all
    };
    assert!(one.command(1, 0, &table(&[mac(9)], &[GROUP])));
    assert!(hears(&mut one, &mut other, GROUP));
    assert!(hears(&mut one, &mut other, mac(9)));
    assert!(!hears(&mut one, &mut other, mac(8)));
    // More than are kept: all of them.
    let many: Vec<[u8; 6]> = (10..40).map(mac).collect();
    assert!(one.command(1, 0, &table(&many, &[])));
    assert!(hears(&mut one, &mut other, mac(8)));
    assert!(!hears(&mut one, &mut other, GROUP));
    assert!(one.command(1, 0, &table(&[], &[])));
    assert!(one.command(0, 0, &[1]));
    assert!(hears(&mut one, &mut other, mac(8)));
    assert!(one.command(0, 0, &[0]));
    assert!(!hears(&mut one, &mut other, mac(8)));
    assert!(one.command(0, 5, &[1]));
    assert!(!hears(&mut one, &mut other, ALL));
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let (mut one, mut other) = two(false);
    for (class, command, data) in [
        (0, 0, &[2][..]),
        (0, 6, &[1]),
        (1, 0, &[0, 0, 0, 0]),
        (1, 0, &[0xff; 64]),
        (1, 0, &[2, 0, 0, 0, 1, 2, 3, 4, 5, 6]),
        (1, 1, &[2, 0, 0]),
        (1, 2, &[0]),
        (2, 0, &[1, 0]),
        (3, 0, &[0]),
        (4, 0, &[1, 0]),
        (5, 0, &[0; 8]),
        (99, 99, &[0]),
    ] {
        assert!(!one.command(class, command, data), "{class} {command}");
    }
    assert!(hears(&mut one, &mut other, mac(0)));
    // A command that is cut off, one without room for the answer, and one that is all answer.
    for (readable, writable) in [
        (&[&[0_u8][..]][..], &[1_usize][..]),
        (&[&[0, 0, 1]], &[]),
        (&[], &[1]),
    ] {
        let _ = one.control.send(readable, writable);
        let served = one.net.serve(2, &mut one.env());
        assert!(!served.broken);
        let done = one.control.receive().expect("used");
        assert_eq!(done.written as usize, writable.len());
        assert!(done.data.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn vio_27_only_an_open_port_changes_its_address() {
    let (mut one, mut other) = two(false);
    assert!(one.command(1, 1, &mac(0)));
    assert!(!one.command(1, 1, &mac(5)));
    assert!(hears(&mut one, &mut other, mac(0)));
    let (mut one, mut other) = two(true);
    assert!(!one.command(1, 1, &mac(1)), "the neighbour's");
    assert!(!one.command(1, 1, &ALL));
    assert!(!one.command(1, 1, &[0; 6]));
    assert!(one.command(1, 1, &mac(5)));
    assert!(hears(&mut one, &mut other, mac(5)));
    assert!(!hears(&mut one, &mut other, mac(0)));
    one.net.reset();
    assert_eq!(one.net.features() & 1, 1);
}

#[test]
fn after_a_reset_nothing_is_written() {
    let (_, mut cards) = lan(2);
    let before = cards[1].ram.peek(crate::fake::BASE, 0x10_0000);
    cards[1].net.reset();
    let _ = cards[0].frame(&frame(mac(1), mac(0), 0x88b5, &pattern(60, 0)));
    assert_eq!(cards[1].ram.peek(crate::fake::BASE, 0x10_0000), before);
    assert!(cards[1].frames().is_empty());
}

#[test]
fn the_configuration_says_what_there_is() {
    let (lan, mut cards) = lan(1);
    let read = |card: &Card| {
        let mut config = [0xee; 20];
        card.net.read_config(0, &mut config);
        config
    };
    let expected = |up| {
        let mut all = [0xee; 20];
        all[..6].copy_from_slice(&mac(0));
        all[6..17].copy_from_slice(&[up, 0, 1, 0, 0xdc, 5, 0x10, 0x27, 0, 0, 1]);
        all
    };
    assert_eq!(read(&cards[0]), expected(1));
    let mut two = [0; 2];
    cards[0].net.read_config(10, &mut two);
    assert_eq!(two, 1500_u16.to_le_bytes());
    cards[0].net.read_config(u64::MAX, &mut two);
    lan.ports()[0].set_up(false);
    assert_eq!(read(&cards[0]), expected(1), "the driver is told first");
    let mut env = cards[0].env();
    assert!(cards[0].net.poll(&mut env).config);
    assert!(!cards[0].net.poll(&mut env).config);
    assert_eq!(read(&cards[0]), expected(0));
}
