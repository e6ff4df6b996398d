//! The way out and in, and the station that answers.

use std::boxed::Box;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use super::lan::{
    ALL, Card, Lan, OFFLOADS, PLAIN, SECOND, frame, guest, mac, pattern, switch, tagged,
};
use crate::net::HEADER;
use crate::switch::{BadSwitch, Ingress, Peer, Port, Reason, Switch, Uplink, Vlan};

#[derive(Default)]
struct Outside {
    frames: Mutex<Vec<Vec<u8>>>,
    flushed: Mutex<usize>,
    full: Mutex<bool>,
}

impl Uplink for Outside {
    fn transmit(&self, len: usize, fill: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
        if *self.full.lock().unwrap() {
            return false;
        }
        let mut bytes = vec![0xee; len];
        assert!(fill(&mut bytes));
        self.frames.lock().unwrap().push(bytes);
        true
    }

    fn flush(&self) {
        *self.flushed.lock().unwrap() += 1;
    }
}

impl Outside {
    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames.lock().unwrap())
    }
}

fn world(vlan: Vlan) -> (Lan, &'static Outside, Vec<Card>) {
    let outside: &'static Outside = Box::leak(Box::default());
    let lan = switch(vec![
        guest(0, 0, vlan),
        guest(1, 0, Vlan::Access(0)),
        Port::new(0, Vlan::Trunk, Peer::Uplink(outside)),
        guest(3, 1, Vlan::Access(0)),
    ]);
    let cards = [0, 1, 3].map(|port| Card::new(lan, port, OFFLOADS));
    (lan, outside, cards.into())
}

#[test]
fn frames_leave_and_come_and_addresses_outside_are_learned() {
    let (lan, outside, mut cards) = world(Vlan::Access(0));
    let mut ingress = Ingress::new(lan, 2).unwrap();
    assert!(Ingress::new(lan, 1).is_none());
    // Whom nobody knows may be outside.
    let out = frame(mac(50), mac(0), 0x800, &pattern(300, 0));
    let _ = cards[0].frame(&out);
    assert_eq!(outside.take(), [out]);
    assert_eq!(*outside.flushed.lock().unwrap(), 1);
    let back = frame(mac(0), mac(50), 0x800, &pattern(300, 1));
    assert!(!ingress.frame(&back, SECOND, SECOND));
    assert_eq!(ingress.finish(), 1);
    assert_eq!(cards[0].frames(), [back]);
    // Among guests nothing goes outside.
    let _ = cards[0].frame(&frame(mac(1), mac(0), 0x800, &[1; 50]));
    assert!(outside.take().is_empty());
    assert_eq!(cards[1].frames().len(), 1);
    // Outside nobody has a guest's address, or speaks to who is outside.
    ingress.frame(&frame(mac(0), mac(1), 0x800, &[1; 50]), SECOND, SECOND);
    ingress.frame(&frame(mac(50), mac(51), 0x800, &[1; 50]), SECOND, SECOND);
    ingress.frame(&[1; 13], SECOND, SECOND);
    ingress.frame(&frame(mac(0), mac(50), 0x800, &[1; 1501]), SECOND, SECOND);
    assert_eq!(ingress.finish(), 0);
    let sent = lan.ports()[2].sent();
    for reason in [
        Reason::Spoofed,
        Reason::Nobody,
        Reason::Malformed,
        Reason::TooLong,
    ] {
        assert_eq!(sent.dropped(reason), 1, "{reason:?}");
    }
    // Everybody is everybody of the network.
    let everybody = frame(ALL, mac(50), 0x806, &pattern(28, 0));
    ingress.frame(&everybody, SECOND, SECOND);
    assert_eq!(ingress.finish(), 3);
    assert!(cards[2].frames().is_empty());
}

#[test]
fn outside_a_vlan_has_its_tag() {
    let (lan, outside, mut cards) = world(Vlan::Access(10));
    let mut ingress = Ingress::new(lan, 2).unwrap();
    let _ = cards[0].frame(&frame(ALL, mac(0), 0x800, &pattern(100, 0)));
    assert_eq!(
        outside.take(),
        [tagged(ALL, mac(0), 10, 0x800, &pattern(100, 0))]
    );
    assert!(cards[1].frames().is_empty());
    ingress.frame(
        &tagged(ALL, mac(50), 10, 0x800, &pattern(100, 2)),
        SECOND,
        SECOND,
    );
    ingress.frame(
        &tagged(ALL, mac(50), 11, 0x800, &pattern(100, 2)),
        SECOND,
        SECOND,
    );
    assert_eq!(ingress.finish(), 1);
    assert_eq!(
        cards[0].frames(),
        [frame(ALL, mac(50), 0x800, &pattern(100, 2))]
    );
}

#[test]
fn a_piece_is_cut_before_it_leaves_and_a_full_card_loses_it() {
    let (lan, outside, mut cards) = world(Vlan::Access(0));
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([0; 12]);
    packet.extend([0x50, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend(pattern(3000, 0));
    let mut header = [0; HEADER];
    header[..10].copy_from_slice(&[1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0]);
    let bytes = frame(mac(50), mac(0), 0x800, &packet);
    let _ = cards[0].packet(&[&header, &bytes]);
    let left = outside.take();
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|one| one.len() == 1054));
    *outside.full.lock().unwrap() = true;
    let _ = cards[0].packet(&[&header, &bytes]);
    assert_eq!(lan.ports()[2].received().dropped(Reason::Full), 1);
}

const US: [u8; 4] = [10, 0, 0, 254];

fn with_echo() -> (Lan, Card) {
    let echo = Peer::Echo {
        mac: mac(9),
        ip: US,
    };
    let lan = switch(vec![
        guest(0, 0, Vlan::Access(0)),
        Port::new(0, Vlan::Access(0), echo),
    ]);
    (lan, Card::new(lan, 0, PLAIN))
}

#[test]
fn the_station_answers_questions() {
    let (_, mut card) = with_echo();
    let ask = |target: [u8; 4]| {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend(mac(0));
        arp.extend([10, 0, 0, 1]);
        arp.extend([0; 6]);
        arp.extend(target);
        frame(ALL, mac(0), 0x806, &arp)
    };
    let _ = card.frame(&ask([10, 0, 0, 7]));
    assert!(card.frames().is_empty());
    // It is seen with the interrupt for what was sent, and nobody else is told.
    let served = card.frame(&ask(US));
    assert!(served.used && served.ports == 0);
    let answer = card.frames().remove(0);
    let mut expected = vec![0, 1, 8, 0, 6, 4, 0, 2];
    expected.extend(mac(9));
    expected.extend(US);
    expected.extend(mac(0));
    expected.extend([10, 0, 0, 1]);
    assert_eq!(answer, frame(mac(0), mac(9), 0x806, &expected));
}

/// A packet of IPv4, without its checksum.
fn ip(protocol: u8, from: [u8; 4], to: [u8; 4], carried: &[u8]) -> Vec<u8> {
    let len = (20 + carried.len() as u16).to_be_bytes();
    let mut all = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    all.extend(from);
    all.extend(to);
    all.extend(carried);
    all
}

#[test]
fn the_station_answers_pings_and_datagrams() {
    let (_, mut card) = with_echo();
    let me = [10, 0, 0, 1];
    let data = pattern(900, 4);
    let udp = |from: [u8; 2], to: [u8; 2]| [&from[..], &to, &[3, 0x8c, 0xab, 0xcd], &data].concat();
    let _ = card.frame(&frame(
        mac(9),
        mac(0),
        0x800,
        &ip(17, me, US, &udp([9, 9], [0, 7])),
    ));
    let expected = ip(17, US, me, &udp([0, 7], [9, 9]));
    assert_eq!(card.frames(), [frame(mac(0), mac(9), 0x800, &expected)]);
    // Another port, another address, a fragment, one cut off.
    let _ = card.frame(&frame(
        mac(9),
        mac(0),
        0x800,
        &ip(17, me, US, &udp([9, 9], [0, 8])),
    ));
    let _ = card.frame(&frame(
        mac(9),
        mac(0),
        0x800,
        &ip(17, me, me, &udp([9, 9], [0, 7])),
    ));
    let mut fragment = ip(17, me, US, &udp([9, 9], [0, 7]));
    fragment[7] = 1;
    let _ = card.frame(&frame(mac(9), mac(0), 0x800, &fragment));
    let _ = card.frame(&frame(
        mac(9),
        mac(0),
        0x800,
        &ip(17, me, US, &[9, 9, 0, 7]),
    ));
    assert!(card.frames().is_empty());
    let _ = card.frame(&frame(
        mac(9),
        mac(0),
        0x800,
        &ip(1, me, US, &[8, 0, 0xf8, 1, 0, 1, 0, 2, 5]),
    ));
    let expected = ip(1, US, me, &[0, 0, 0, 2, 0, 1, 0, 2, 5]);
    assert_eq!(card.frames(), [frame(mac(0), mac(9), 0x800, &expected)]);
}

#[test]
fn ports_that_make_no_switch_are_refused() {
    let bad = |ports: Vec<Port<'static, super::lan::Memory>>| {
        let ports = Box::leak(ports.into_boxed_slice());
        Switch::new(ports).err()
    };
    let at = |mac, network, vlan| {
        Port::new(
            network,
            vlan,
            Peer::Guest {
                mac,
                is_open: false,
                rate: 0,
            },
        )
    };
    let zero = Vlan::Access(0);
    assert_eq!(bad(vec![at(mac(0), 8, zero)]), Some(BadSwitch::Network(0)));
    assert_eq!(bad(vec![at(ALL, 0, zero)]), Some(BadSwitch::Address(0)));
    assert_eq!(
        bad(vec![at(mac(0), 0, zero), at(mac(0), 0, zero)]),
        Some(BadSwitch::Address(0))
    );
    assert_eq!(bad(vec![at(mac(0), 0, zero), at(mac(0), 1, zero)]), None);
    assert_eq!(
        bad(vec![at(mac(0), 0, Vlan::Access(4095))]),
        Some(BadSwitch::Vlan(0))
    );
    assert_eq!(
        bad((0..65).map(|port| guest(port, 0, zero)).collect()),
        Some(BadSwitch::TooMany)
    );
    assert_eq!(
        bad((0..64).map(|port| guest(port, 0, zero)).collect()),
        None
    );
}
