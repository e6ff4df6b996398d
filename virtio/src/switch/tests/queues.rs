//! How frames lie in buffers, budgets, and several pairs of queues.

use std::vec::Vec;

use super::lan::{Card, PLAIN, frame, guest, lan, mac, pattern, switch};
use crate::device::Device;
use crate::features::Features;
use crate::net::{HEADER, NetFeatures};
use crate::switch::{Reason, Vlan};

#[test]
fn a_frame_is_spread_over_small_buffers_or_over_none() {
    for rings in [Features::empty(), Features::RING_PACKED, Features::IN_ORDER] {
        let lan = switch([guest(0, 0, Vlan::Access(0)), guest(1, 0, Vlan::Access(0))].into());
        let mut from = Card::new(lan, 0, PLAIN);
        let mut to = Card::idle(lan, 1, PLAIN, rings, 100, 1);
        let whole = frame(mac(1), mac(0), 0x88b5, &pattern(500, 0));
        // 526 bytes want six buffers.
        for _ in 0..5 {
            let _ = to.receive[0].send(&[], &[100]);
        }
        let served = from.frame(&whole);
        assert_eq!(served.ports, 0);
        assert_eq!(lan.ports()[1].received().dropped(Reason::Full), 1);
        assert!(to.frames().is_empty());
        let _ = to.receive[0].send(&[], &[100]);
        let served = from.frame(&whole);
        assert_eq!(served.ports, 2);
        let got = to.received_on(0);
        assert_eq!(got[0].header[10..], [6, 0]);
        assert_eq!(got[0].frame, whole);
        let (received, sent) = (lan.ports()[1].received(), lan.ports()[0].sent());
        assert_eq!((received.frames, sent.frames), (1, 2));
        // Without virtio's header, which is in the receiver's buffers.
        assert_eq!((received.bytes, sent.bytes), (514, 2 * 514));
    }
}

#[test]
fn a_frame_that_does_not_fit_leaves_the_buffers_to_the_next() {
    let lan = switch([guest(0, 0, Vlan::Access(0)), guest(1, 0, Vlan::Access(0))].into());
    let mut from = Card::new(lan, 0, PLAIN);
    let mut to = Card::idle(lan, 1, NetFeatures::MAC, Features::empty(), 200, 1);
    to.refill();
    for _ in 0..200 {
        let _ = from.frame(&frame(mac(1), mac(0), 0x88b5, &pattern(200, 0)));
    }
    assert_eq!(lan.ports()[1].received().dropped(Reason::Full), 200);
    for _ in 0..64 {
        let _ = from.frame(&frame(mac(1), mac(0), 0x88b5, &pattern(174, 0)));
    }
    assert_eq!(to.frames().len(), 64);
}

#[test]
fn buffers_too_small_for_a_header_are_survived() {
    for room in 1..HEADER {
        let lan = switch([guest(0, 0, Vlan::Access(0)), guest(1, 0, Vlan::Access(0))].into());
        let mut from = Card::new(lan, 0, PLAIN);
        let mut to = Card::idle(lan, 1, PLAIN, Features::empty(), room, 1);
        to.refill();
        let served = from.frame(&frame(
            mac(1),
            mac(0),
            0x88b5,
            &pattern(2000 / room.max(4), 0),
        ));
        assert!(!served.broken);
        assert!(to.receive[0].receive().is_none());
    }
}

#[test]
fn a_burst_is_one_interrupt_and_stops_at_the_budget() {
    let (_, mut cards) = lan(2);
    let whole = frame(mac(1), mac(0), 0x88b5, &pattern(60, 0));
    for _ in 0..60 {
        cards[0].post(0, &[&[&[0; HEADER][..], &whole].concat()]);
    }
    let mut rounds = 0;
    loop {
        let served = cards[0].kick(0);
        assert_eq!(served.ports, 2);
        rounds += 1;
        if !served.more {
            break;
        }
    }
    // A frame that is sent and received counts twice: looking at it costs, too.
    assert_eq!(rounds, 2);
    assert_eq!(cards[1].frames().len(), 60);
}

#[test]
fn the_budget_also_counts_bytes_and_receivers() {
    let (switch, mut cards) = lan(20);
    let everybody = frame([0xff; 6], mac(0), 0x88b5, &pattern(60, 0));
    for _ in 0..10 {
        cards[0].post(0, &[&[0; HEADER], &everybody]);
    }
    assert!(cards[0].kick(0).more);
    assert_eq!(switch.ports()[0].sent().frames, 4);
}

fn flow(port: u16) -> Vec<u8> {
    let mut packet = Vec::from([
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    packet.extend(port.to_be_bytes());
    packet.extend([0, 80]);
    packet.extend([0; 16]);
    packet
}

fn back(port: u16) -> Vec<u8> {
    let mut packet = flow(port);
    packet[12..20].rotate_left(4);
    packet[20..24].rotate_left(2);
    packet
}

#[test]
fn answers_come_to_the_pair_that_a_flow_was_sent_on() {
    let lan = switch([guest(0, 0, Vlan::Access(0)), guest(1, 0, Vlan::Access(0))].into());
    let features = PLAIN | NetFeatures::CTRL_VQ | NetFeatures::MQ;
    let mut one = Card::idle(lan, 0, features, Features::empty(), 1526, 4);
    let mut other = Card::new(lan, 1, PLAIN);
    one.refill();
    // One pair, until the driver says so.
    let _ = other.frame(&frame(mac(0), mac(1), 0x800, &back(7)));
    assert_eq!(one.received_on(0).len(), 1);
    assert!(!one.command(4, 0, &[0, 0]));
    assert!(!one.command(4, 0, &[5, 0]));
    assert!(!one.command(4, 0, &[0, 1]));
    assert!(one.command(4, 0, &[4, 0]));
    for pair in 0..4 {
        one.post(
            pair,
            &[&[0; HEADER], &frame(mac(1), mac(0), 0x800, &flow(1000))],
        );
        let _ = one.kick(pair);
        let _ = other.frame(&frame(mac(0), mac(1), 0x800, &back(1000)));
        assert_eq!(one.received_on(pair).len(), 1, "pair {pair}");
    }
    // Flows of others are spread.
    let mut seen = [0; 4];
    for port in 2000..2060 {
        let _ = other.frame(&frame(mac(0), mac(1), 0x800, &back(port)));
        for (pair, seen) in seen.iter_mut().enumerate() {
            *seen += one.received_on(pair).len();
        }
    }
    assert_eq!(seen.iter().sum::<usize>(), 60);
    assert!(seen.iter().all(|seen| *seen > 3), "{seen:?}");
}

#[test]
fn without_several_pairs_the_third_queue_is_for_commands() {
    let lan = switch([guest(0, 0, Vlan::Access(0)), guest(1, 0, Vlan::Access(0))].into());
    let mut one = Card::idle(
        lan,
        0,
        PLAIN | NetFeatures::CTRL_VQ | NetFeatures::CTRL_RX,
        Features::empty(),
        1526,
        4,
    );
    let sent = one.receive[1].send(&[&[0, 0], &[1]], &[1]);
    assert!(sent.is_some());
    let served = one.net.serve(2, &mut one.env());
    assert!(!served.broken);
    assert_eq!(one.receive[1].receive().expect("an answer").data, [0]);
}
