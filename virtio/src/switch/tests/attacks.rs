//! Guests that send what no guest may: VIO-26 and VIO-27.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::lan::{
    ALL, Card, OFFLOADS, PLAIN, SECOND, frame, guest, lan, mac, pattern, switch, tagged,
};
use crate::device::Device;
use crate::features::Features;
use crate::net::{HEADER, NetFeatures};
use crate::switch::{Peer, Port, Reason, Vlan};

#[test]
fn vio_26_frames_too_short_or_too_long() {
    let (switch, mut cards) = lan(2);
    cards[0] = Card::new(switch, 0, OFFLOADS);
    let sent = || switch.ports()[0].sent();
    let whole = frame(mac(1), mac(0), 0x88b5, &pattern(1501, 0));
    // Less than virtio's own header; that alone; less than Ethernet's.
    let _ = cards[0].packet(&[&[0; 5]]);
    let _ = cards[0].packet(&[&[0; HEADER]]);
    for len in 1..14 {
        let served = cards[0].frame(&whole[..len]);
        assert!(served.ports == 0 && !served.broken && !served.more);
    }
    assert_eq!(sent().dropped(Reason::Malformed), 15);
    assert_eq!(sent().frames, 0);
    let _ = cards[0].frame(&whole);
    assert_eq!(sent().dropped(Reason::TooLong), 1);
    // In many buffers of 64 KiB in all.
    let chunk = pattern(16_000, 1);
    let _ = cards[0].packet(&[&[0; HEADER], &whole, &chunk, &chunk, &chunk, &chunk]);
    assert_eq!(sent().dropped(Reason::TooLong), 2);
    assert_eq!(cards[1].frames(), Vec::<Vec<u8>>::new());
    let _ = cards[0].frame(&whole[..14]);
    let _ = cards[0].frame(&whole[..1514]);
    assert_eq!(cards[1].frames(), [&whole[..14], &whole[..1514]]);
}

#[test]
fn vio_26_a_piece_that_is_too_long_for_ip() {
    let ports = (0..2).map(|port| guest(port, 0, Vlan::Access(0)));
    let lan = switch(ports.collect());
    let mut from = Card::new(lan, 0, OFFLOADS);
    let mut to = Card::new(lan, 1, OFFLOADS);
    let header = [1, 1, 0, 0, 100, 0, 34, 0, 16, 0, 0, 0];
    let whole = frame(mac(1), mac(0), 0x800, &pattern(65_536, 1));
    let _ = from.packet(&[&header, &whole]);
    assert_eq!(lan.ports()[0].sent().dropped(Reason::TooLong), 1);
    let _ = from.packet(&[&header, &whole[..whole.len() - 1]]);
    assert_eq!(to.frames().len(), 1);
}

#[test]
fn vio_26_what_num_buffers_says_is_not_believed() {
    let (_, mut cards) = lan(2);
    let whole = frame(mac(1), mac(0), 0x88b5, &pattern(60, 0));
    for lie in [0_u16, 2, 63, u16::MAX] {
        let mut header = [0; HEADER];
        header[10..].copy_from_slice(&lie.to_le_bytes());
        let _ = cards[0].packet(&[&header, &whole]);
        let got = cards[1].received_on(0);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(got[0].frame, whole);
    }
}

#[test]
fn vio_26_who_never_refills_misses_frames_and_nobody_else_does() {
    let (switch, mut cards) = lan(3);
    let first = frame(mac(1), mac(0), 0x88b5, &pattern(60, 0));
    let second = frame(mac(2), mac(0), 0x88b5, &pattern(60, 1));
    for round in 0..200 {
        let _ = cards[0].frame(&first);
        let _ = cards[0].frame(&second);
        assert_eq!(cards[2].frames(), [&second[..]], "round {round}");
        cards[2].refill();
    }
    assert_eq!(cards[1].frames().len(), 64);
    assert_eq!(switch.ports()[1].received().dropped(Reason::Full), 136);
    cards[1].refill();
    let _ = cards[0].frame(&first);
    assert_eq!(cards[1].frames(), [first]);
}

#[test]
fn vio_26_a_receiver_that_is_broken_is_told_and_left_alone() {
    let (switch, mut cards) = lan(3);
    // The available index jumps by more than the queue is long.
    let at = cards[1].receive[0].config().driver + 2;
    let index = cards[1].ram.peek_u16(at);
    cards[1].ram.poke_u16(at, index.wrapping_add(100));
    let everybody = frame(ALL, mac(0), 0x88b5, &pattern(60, 0));
    for _ in 0..3 {
        let _ = cards[0].frame(&everybody);
    }
    assert!(cards[1].net.is_broken());
    assert_eq!(switch.ports()[1].received().dropped(Reason::Down), 3);
    assert_eq!(cards[2].frames().len(), 3);
    cards[1].net.reset();
    assert!(!cards[1].net.is_broken());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn vio_26_whatever_a_header_says_a_receiver_gets_sense(
        header: [u8; HEADER],
        few in 0..4_u8,
        gso in prop::sample::select(vec![0_u8, 1, 3, 4, 5, 0x81, 0x84]),
        features: u64,
        len in 0..3000_usize,
        ip in prop::sample::select(vec![0x800_u16, 0x86dd, 0x806]),
        payload in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let ports = (0..3).map(|port| guest(port, 0, Vlan::Access(0)));
        let lan = switch(ports.collect());
        let mut from = Card::new(lan, 0, OFFLOADS);
        let features = (NetFeatures::from_bits_truncate(features) & OFFLOADS) | PLAIN;
        let mut some = Card::idle(lan, 1, features, Features::empty(), 1526, 1);
        some.refill();
        let mut none = Card::new(lan, 2, PLAIN);
        let mut header = header;
        if few != 0 {
            // Mostly numbers that could be meant.
            header[0] = 1;
            header[1] = gso;
            header[3] = 0;
            header[5] &= few;
            header[7] = 0;
            header[9] = 0;
            header[8] &= 31;
        }
        let mut bytes = payload;
        bytes.resize(bytes.len().max(len), 0x45);
        for to in [1, 2] {
            let served = from.packet(&[&header, &frame(mac(to), mac(0), ip, &bytes)]);
            prop_assert!(!served.broken);
        }
        for got in none.received_on(0) {
            prop_assert_eq!(&got.header[..10], &[0; 10]);
            prop_assert!(got.frame.len() <= 1514);
        }
        for got in some.received_on(0) {
            let number = |at: usize| usize::from(u16::from_le_bytes([got.header[at], got.header[at + 1]]));
            if got.header[0] == 0 {
                prop_assert_eq!(&got.header[..10], &[0; 10]);
                prop_assert!(got.frame.len() <= 1514);
                continue;
            }
            prop_assert_eq!(got.header[0], 1);
            prop_assert!(features.contains(NetFeatures::GUEST_CSUM));
            prop_assert!(number(6) >= 14);
            prop_assert!(number(6) + number(8) + 2 <= got.frame.len());
            if got.header[1] == 0 {
                prop_assert_eq!(&got.header[2..6], &[0; 4]);
            } else {
                prop_assert!(number(2) > number(6) && number(2) <= number(6) + 60);
                prop_assert!(number(4) >= 8);
            }
        }
    }
}

/// Another lane of the sender changes the available index each time before it is looked at: the sender's turn ends.
#[test]
fn vio_21_an_index_that_never_stands_still_ends_the_turn() {
    let (_, mut cards) = lan(2);
    let at = cards[0].transmit[0].config().driver + 2;
    cards[0].ram.set_hook(move |ram, access| {
        if access.at == at {
            ram.poke_u16(at, 1 - ram.peek_u16(at));
        }
    });
    cards[0].ram.poke_u16(at, 1);
    let mut env = cards[0].env();
    assert!(cards[0].net.serve(1, &mut env).more);
}

#[test]
fn vio_27_nobody_speaks_with_the_victims_address() {
    let (switch, mut cards) = lan(3);
    let _ = cards[2].frame(&frame(mac(0), mac(1), 0x88b5, &pattern(60, 0)));
    assert_eq!(switch.ports()[2].sent().dropped(Reason::Spoofed), 1);
    // And nothing was learned of it.
    let _ = cards[0].frame(&frame(mac(1), mac(0), 0x88b5, &pattern(60, 0)));
    assert_eq!(cards[1].frames().len(), 1);
    assert!(cards[0].frames().is_empty() && cards[2].frames().is_empty());
    for nonsense in [ALL, [0; 6], [3, 0, 0, 0, 0, 3], mac(77)] {
        let _ = cards[2].frame(&frame(mac(0), nonsense, 0x88b5, &pattern(60, 0)));
    }
    assert_eq!(switch.ports()[2].sent().dropped(Reason::Spoofed), 5);
}

#[test]
fn vio_27_who_may_use_any_address_may_not_use_the_victims() {
    let open = Peer::Guest {
        mac: mac(2),
        is_open: true,
        rate: 0,
    };
    let lan = switch(vec![
        guest(0, 0, Vlan::Access(0)),
        guest(1, 0, Vlan::Access(0)),
        Port::new(0, Vlan::Access(0), open),
    ]);
    let mut cards: Vec<Card> = (0..3).map(|port| Card::new(lan, port, PLAIN)).collect();
    let _ = cards[2].frame(&frame(mac(0), mac(1), 0x88b5, &pattern(60, 0)));
    assert_eq!(lan.ports()[2].sent().dropped(Reason::Spoofed), 1);
    let _ = cards[2].frame(&frame(mac(0), mac(9), 0x88b5, &pattern(60, 0)));
    assert_eq!(cards[0].frames().len(), 1);
    let _ = cards[0].frame(&frame(mac(9), mac(0), 0x88b5, &pattern(60, 0)));
    assert_eq!(cards[2].frames().len(), 1);
    assert!(cards[1].frames().is_empty());
}

#[test]
fn vio_27_the_address_is_judged_as_it_goes_on() {
    // Between the header's copy and the rest's the sender changes it: the receiver sees what was judged.
    let (_, mut cards) = lan(2);
    let whole = frame(mac(1), mac(0), 0x88b5, &pattern(60, 0));
    cards[0].post(0, &[&[&[0; HEADER][..], &whole].concat()]);
    let mut copied = None;
    cards[0].ram.set_hook(move |ram, access| {
        if let Some(at) = copied {
            ram.poke(at, &[0xee; 26]);
        }
        if !access.write && access.len == HEADER + 14 {
            copied = Some(access.at);
        }
    });
    let _ = cards[0].kick(0);
    cards[0].ram.clear_hook();
    assert_eq!(cards[1].frames(), [whole]);
}

#[test]
fn vio_27_a_storm_is_limited_and_what_is_for_one_is_not() {
    let (switch, mut cards) = lan(2);
    let everybody = frame(ALL, mac(0), 0x88b5, &pattern(60, 0));
    for _ in 0..1000 {
        let _ = cards[0].frame(&everybody);
    }
    assert_eq!(switch.ports()[0].sent().frames, 256);
    assert_eq!(switch.ports()[0].sent().dropped(Reason::Storm), 744);
    assert_eq!(cards[1].frames().len(), 64);
    cards[1].refill();
    let _ = cards[0].frame(&frame(mac(1), mac(0), 0x88b5, &pattern(60, 0)));
    assert_eq!(cards[1].frames().len(), 1);
    cards[0].now += SECOND / 10;
    for _ in 0..1000 {
        let _ = cards[0].frame(&everybody);
    }
    assert_eq!(switch.ports()[0].sent().frames, 257 + 100);
}

#[test]
fn vio_27_tags_behind_tags() {
    let lan = switch(vec![
        guest(0, 0, Vlan::Trunk),
        guest(1, 0, Vlan::Access(10)),
        guest(2, 0, Vlan::Access(0)),
    ]);
    let mut cards: Vec<Card> = (0..3).map(|port| Card::new(lan, port, PLAIN)).collect();
    for inner in [0x8100, 0x88a8, 0x9100, 0x9200] {
        let _ = cards[0].frame(&tagged(ALL, mac(0), 10, inner, &pattern(60, 0)));
    }
    let _ = cards[0].frame(&frame(ALL, mac(0), 0x88a8, &pattern(60, 0)));
    assert_eq!(lan.ports()[0].sent().dropped(Reason::Tagged), 5);
    // An access port bears none at all, not even its own.
    let _ = cards[1].frame(&tagged(ALL, mac(1), 10, 0x88b5, &pattern(60, 0)));
    let _ = cards[2].frame(&tagged(ALL, mac(2), 10, 0x88b5, &pattern(60, 0)));
    assert_eq!(lan.ports()[1].sent().dropped(Reason::Tagged), 1);
    assert_eq!(lan.ports()[2].sent().dropped(Reason::Tagged), 1);
    assert!(cards.iter_mut().all(|card| card.frames().is_empty()));
    // The tag itself is cut off: the header ends behind 16 bytes.
    let _ = cards[0].frame(&tagged(ALL, mac(0), 10, 0x88b5, &[])[..16]);
    assert!(cards[1].frames().is_empty());
    let _ = cards[0].frame(&tagged(ALL, mac(0), 10, 0x88b5, &[]));
    assert_eq!(cards[1].frames(), [frame(ALL, mac(0), 0x88b5, &[])]);
}

#[test]
fn a_port_keeps_to_its_rate() {
    let slow = Peer::Guest {
        mac: mac(0),
        is_open: false,
        rate: 1_000_000,
    };
    let lan = switch(vec![
        Port::new(0, Vlan::Access(0), slow),
        guest(1, 0, Vlan::Access(0)),
    ]);
    let mut cards: Vec<Card> = (0..2).map(|port| Card::new(lan, port, PLAIN)).collect();
    let whole = frame(mac(1), mac(0), 0x88b5, &pattern(986, 0));
    // In one buffer, as most drivers send.
    let whole = [&[0; HEADER][..], &whole].concat();
    for _ in 0..2000 {
        let _ = cards[0].packet(&[&whole]);
        cards[0].now += SECOND / 1000;
        let _ = cards[1].frames();
        cards[1].refill();
    }
    // Two seconds at a megabyte, and the burst that was saved up before: as much as was sent.
    assert_eq!(lan.ports()[0].sent().frames, 2000);
    for _ in 0..1000 {
        let _ = cards[0].packet(&[&whole]);
    }
    let sent = lan.ports()[0].sent();
    assert_eq!(sent.frames, 2000 + 131);
    assert_eq!(sent.dropped(Reason::Rate), 869);
}
