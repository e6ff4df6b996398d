//! Guests that do what no guest may: VIO-29.

use std::vec;

use proptest::prelude::*;

use super::guests::*;
use crate::device::Device;
use crate::features::Features;
use crate::vsock::{Exchange, Station};

fn two() -> (Sockets, Guest, Guest) {
    let sockets = sockets(2);
    (sockets, Guest::new(sockets, 0), Guest::new(sockets, 1))
}

#[test]
fn vio_29_nobody_speaks_with_anothers_context_id() {
    let sockets = sockets(3);
    let mut guests: vec::Vec<Guest> = (0..3).map(|at| Guest::new(sockets, at)).collect();
    for forged in [0, 1, HOST, FIRST + 1, FIRST + (1 << 32), u64::MAX] {
        let served = guests[0].send(&Packet::new((forged, 5), (FIRST + 2, 6), REQUEST));
        assert_eq!(served.ports, 0);
    }
    assert_eq!(sockets.station(0).unwrap().counts().refused, 6);
    assert!(guests.iter_mut().all(|guest| guest.received().is_empty()));
}

#[test]
fn vio_29_who_may_not_is_answered_by_a_reset() {
    let sockets = with_peers(&[0b110, 0b001, 0]);
    let mut guests: vec::Vec<Guest> = (0..3).map(|at| Guest::new(sockets, at)).collect();
    let us = (FIRST, 5);
    // To one that may, one that may not, oneself, nobody, and the host's other ports.
    assert_eq!(
        guests[0]
            .send(&Packet::new(us, (FIRST + 1, 6), REQUEST))
            .ports,
        1 << (PORTS + 1)
    );
    for to in [
        (FIRST + 2, 6),
        us,
        (99, 6),
        (1, 6),
        (HOST, 8),
        (u64::MAX, 6),
    ] {
        let request = Packet::new(us, to, REQUEST);
        let served = guests[0].send(&request);
        assert_eq!(guests[0].received(), [request.reset()]);
        assert!(served.used && served.ports == 0);
        // Resets have no answer.
        let _ = guests[0].send(&Packet::new(us, to, RESET));
        assert!(guests[0].received().is_empty());
    }
    assert_eq!(guests[1].received().len(), 1);
    assert!(guests[2].received().is_empty());
    let _ = guests[2].send(&Packet::new((FIRST + 2, 6), us, REQUEST));
    assert!(guests[0].received().is_empty());
    assert_eq!(guests[2].received()[0].op, RESET);
}

#[test]
fn vio_29_packets_that_make_no_sense() {
    let (sockets, mut one, mut other) = two();
    let good = Packet::data((FIRST, 1), (FIRST + 1, 2), &[7; 100]);
    let bytes = good.bytes();
    for len in [0, 1, 43, 44, 143] {
        if len != 0 {
            let _ = one.transmit.send(&[&bytes[..len]], &[]);
        } else {
            let _ = one.transmit.send(&[], &[100]);
        }
        let served = one.kick();
        assert!(!served.broken && !served.more);
    }
    for op in [0, 8, 0xffff] {
        let _ = one.send(&Packet { op, ..good.clone() });
    }
    assert_eq!(sockets.station(0).unwrap().counts().refused, 8);
    for kind in [0, 3] {
        let _ = one.send(&Packet {
            kind,
            ..good.clone()
        });
        assert_eq!(one.received()[0].op, RESET);
    }
    assert!(other.received().is_empty());
    // More bytes than are said are not sent along.
    let _ = one.transmit.send(&[&bytes, &[9; 50]], &[]);
    let _ = one.kick();
    assert_eq!(other.received(), std::slice::from_ref(&good));
    // Flags that mean nothing there are not passed on, nor data of what has none.
    let odd = Packet {
        flags: 0xffff_fffc,
        op: RESPONSE,
        ..good
    };
    let _ = one.send(&odd);
    let got = other.received().remove(0);
    assert_eq!((got.flags, got.data.len()), (0, 0));
}

#[test]
fn vio_29_credit_that_was_never_given_is_not_believed() {
    let (_, mut guest, _) = two();
    let (us, echo) = ((FIRST, 5), (HOST, 7));
    let connect = |guest: &mut Guest| {
        let _ = guest.send(&Packet::new(us, echo, REQUEST));
        let answer = guest.received().remove(0);
        assert_eq!(
            (answer.op, answer.buf_alloc, answer.fwd_cnt),
            (RESPONSE, 0x1_0000, 0)
        );
        let _ = guest.refill();
    };
    // It took out more than it was given.
    for fwd_cnt in [1, 1000, 1 << 31] {
        connect(&mut guest);
        let lie = Packet {
            fwd_cnt,
            ..Packet::data(us, echo, &[1; 10])
        };
        let _ = guest.send(&lie);
        assert_eq!(guest.received()[0].op, RESET);
    }
    // It sends more than it has room for to take back.
    connect(&mut guest);
    let lie = Packet {
        buf_alloc: 9,
        ..Packet::data(us, echo, &[1; 10])
    };
    let _ = guest.send(&lie);
    assert_eq!(guest.received()[0].op, RESET);
    // And without a connection.
    let _ = guest.send(&Packet::data(us, echo, &[1; 10]));
    assert_eq!(guest.received()[0].op, RESET);
}

#[test]
fn vio_29_half_open_connections_are_few() {
    let (sockets, mut guest, _) = two();
    let mut opened = 0;
    for port in 0..65_536 {
        let _ = guest.send(&Packet::new((FIRST, port), (HOST, 7), REQUEST));
        opened += guest
            .received()
            .iter()
            .filter(|one| one.op == RESPONSE)
            .count();
        let _ = guest.refill();
    }
    assert_eq!(opened, 16);
    // Those of other guests are their own, and limited in time.
    let (_, mut one, mut other) = two();
    let mut asked = 0;
    for port in 0..2000 {
        let _ = one.send(&Packet::new((FIRST, port), (FIRST + 1, 7), REQUEST));
        asked += other.received().len();
        let _ = (other.refill(), one.received(), one.refill());
    }
    assert_eq!(asked, 256);
    assert_eq!(sockets.station(0).unwrap().counts().reset, 65_536 - 256);
}

#[test]
fn vio_29_a_receiver_without_buffers_does_not_hold_others_for_ever() {
    let sockets = sockets(3);
    let mut one = Guest::new(sockets, 0);
    let mut deaf = Guest::idle(sockets, 1, Features::EVENT_IDX, 3);
    let mut other = Guest::new(sockets, 2);
    let _ = deaf.events.send(&[], &[8]);
    let lost = Packet::data((FIRST, 1), (FIRST + 1, 2), &[1; 100]);
    let fine = Packet::data((FIRST, 3), (FIRST + 2, 4), &[2; 100]);
    let _ = one.send(&lost);
    let _ = one.send(&fine);
    // What is behind it waits.
    assert!(other.received().is_empty());
    assert_eq!(sockets.expire(one.now + SECOND, SECOND), 0);
    assert!(other.received().is_empty());
    let wants = sockets.expire(one.now + SECOND + 1, SECOND);
    assert_eq!(wants, 0b111 << PORTS);
    assert_eq!(other.received(), std::slice::from_ref(&fine));
    assert_eq!(one.received(), [lost.reset()]);
    assert_eq!(deaf.events.receive().expect("an event").data[..4], [0; 4]);
    assert_eq!(sockets.station(0).unwrap().counts().lost, 1);
    // From now on nobody waits for it at all.
    let _ = one.send(&lost);
    let _ = one.send(&fine);
    assert_eq!(other.received(), std::slice::from_ref(&fine));
    assert_eq!(one.received(), [lost.reset()]);
    // Until it has buffers.
    let _ = deaf.refill();
    let _ = one.send(&lost);
    assert_eq!(deaf.received(), [lost]);
}

#[test]
fn vio_29_who_never_posts_an_event_buffer_hears_nothing_before() {
    let sockets = sockets(2);
    let mut one = Guest::new(sockets, 0);
    let mut deaf = Guest::idle(sockets, 1, Features::empty(), 3);
    let lost = Packet::data((FIRST, 1), (FIRST + 1, 2), &[1; 100]);
    let _ = one.send(&lost);
    let _ = sockets.expire(one.now + 2 * SECOND, SECOND);
    assert_eq!(one.received(), [lost.reset()]);
    let _ = deaf.refill();
    let _ = one.send(&lost);
    assert_eq!(one.received(), [lost.reset()]);
    assert!(deaf.received().is_empty());
    let _ = deaf.events.send(&[], &[8]);
    assert!(deaf.serve(2).used);
    let _ = one.send(&lost);
    assert_eq!(deaf.received(), [lost]);
}

#[test]
fn vio_29_buffers_that_hold_no_packet_need_a_reset() {
    for room in [1, 43] {
        let sockets = sockets(2);
        let mut one = Guest::new(sockets, 0);
        let mut other = Guest::idle(sockets, 1, Features::empty(), 3);
        let _ = other.receive.send(&[], &[room]);
        let packet = Packet::new((FIRST, 1), (FIRST + 1, 2), REQUEST);
        let served = one.send(&packet);
        assert_eq!(served.ports, 1 << (PORTS + 1));
        assert!(other.device.is_broken() && !one.device.is_broken());
        assert_eq!(one.received(), [packet.reset()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn vio_29_whatever_is_sent_is_survived(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), any::<u64>()), 1..50),
    ) {
        let (_, mut one, mut other) = two();
        for (mut bytes, how) in packets {
            if how & 1 != 0 && bytes.len() >= 44 {
                bytes[..8].copy_from_slice(&FIRST.to_le_bytes());
                let to = if how & 2 != 0 { FIRST + 1 } else { HOST };
                bytes[8..16].copy_from_slice(&to.to_le_bytes());
                bytes[20..24].copy_from_slice(&7_u32.to_le_bytes());
                bytes[28] = 1;
                bytes[29] = 0;
                bytes[30] &= 7;
                bytes[31] = 0;
                bytes[25..28].fill(0);
            }
            if bytes.is_empty() {
                continue;
            }
            let _ = one.transmit.send(&[&bytes], &[]);
            let served = one.kick();
            prop_assert!(!served.broken);
            for packet in one.received().into_iter().chain(other.received()) {
                prop_assert!((1..8).contains(&packet.op));
                prop_assert!(packet.flags < 4);
            }
            let _ = (one.refill(), other.refill());
        }
    }
}

#[test]
fn stations_that_make_no_exchange_are_refused() {
    let new = |cids: &[u64], first| {
        let stations: vec::Vec<Station<Memory>> =
            cids.iter().map(|&cid| Station::new(cid, 0)).collect();
        Exchange::new(&*stations.leak(), first).is_some()
    };
    assert!(new(&[], 0) && new(&[3, 4], 0) && new(&[3], 63) && new(&[u64::from(u32::MAX) - 1], 0));
    for bad in [
        &[3, 3][..],
        &[0],
        &[1],
        &[2],
        &[3, u64::from(u32::MAX)],
        &[1 << 32],
    ] {
        assert!(!new(bad, 0), "{bad:?}");
    }
    assert!(!new(&[3, 4], 63) && !new(&[3], usize::MAX));
}
