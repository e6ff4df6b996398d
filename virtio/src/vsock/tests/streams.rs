//! Data between guests: nothing is lost, and nothing is turned round.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

use proptest::prelude::*;

use super::guests::*;
use crate::device::Device;
use crate::features::Features;

fn rings(bits: u64) -> Features {
    let all =
        Features::RING_PACKED | Features::EVENT_IDX | Features::INDIRECT_DESC | Features::IN_ORDER;
    Features::from_bits_truncate(bits) & all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever has posted buffers, whenever, of whatever size: all bytes of a stream arrive in order, if both sides notify
    /// when they are asked to.
    #[test]
    fn a_stream_arrives_whole(
        one: u64,
        other: u64,
        steps in prop::collection::vec((any::<bool>(), 1..5000_usize), 1..120),
    ) {
        let sockets = sockets(2);
        let mut from = Guest::idle(sockets, 0, rings(one), 3);
        let mut to = Guest::idle(sockets, 1, rings(other), 3);
        let (mut sent, mut got) = (Vec::<u8>::new(), Vec::<u8>::new());
        let ends = ((FIRST, 1), (FIRST + 1, 2));
        let mut hear = |to: &mut Guest| {
            for packet in to.received() {
                assert_eq!((packet.from, packet.to, packet.op), (ends.0, ends.1, DATA));
                got.extend(packet.data);
            }
        };
        for (is_send, len) in steps {
            if is_send && from.transmit.in_flight() < 30 {
                let data: Vec<u8> = (0..len).map(|n| (n + sent.len()) as u8).collect();
                sent.extend(&data);
                if from.post(&Packet::data(ends.0, ends.1, &data)) {
                    while from.kick().more {}
                }
            } else if to.receive.in_flight() < 60 {
                let room = 45 + len;
                let (_, wants) = to.receive.send(&[], &[room]).expect("room");
                if wants {
                    while to.serve(0).more {}
                }
                from.reap();
            }
            hear(&mut to);
        }
        while drain(&mut to, &mut hear) {
            from.reap();
        }
        prop_assert_eq!(from.transmit.in_flight(), 0);
        prop_assert_eq!(sent, got);
        prop_assert!(sockets.station(0).unwrap().counts().lost == 0);
    }
}

/// Posts more buffers. Whether something came.
fn drain(to: &mut Guest, hear: &mut impl FnMut(&mut Guest)) -> bool {
    if let Some(served) = to.refill() {
        let mut more = served.more;
        while more {
            more = to.serve(0).more;
        }
    }
    let posted = to.receive.in_flight();
    hear(to);
    to.receive.in_flight() < posted
}

#[test]
fn the_end_of_a_message_is_in_its_last_piece() {
    let sockets = sockets(2);
    let (mut one, mut other) = (Guest::new(sockets, 0), Guest::new(sockets, 1));
    let message = Packet {
        kind: 2,
        flags: 3,
        ..Packet::data((FIRST, 1), (FIRST + 1, 2), &[1; 10_000])
    };
    let served = one.send(&message);
    assert_eq!(served.ports, 2 << PORTS);
    let got: Vec<(usize, u32, u16)> = other
        .received()
        .iter()
        .map(|one| (one.data.len(), one.flags, one.kind))
        .collect();
    assert_eq!(got, [(4052, 0, 2), (4052, 0, 2), (1896, 3, 2)]);
    // Who has not agreed to messages gets none.
    let mut plain = Guest::idle(sockets, 1, Features::empty(), 1);
    let _ = plain.refill();
    let _ = one.send(&message);
    assert!(plain.received().is_empty());
    assert_eq!(one.received(), [message.reset()]);
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let sockets = sockets(2);
    let mut one = Guest::new(sockets, 0);
    let packet = Packet::data((FIRST, 1), (FIRST + 1, 2), &[1; 10]);
    let _ = one.send(&packet);
    assert_eq!(one.received(), [packet.reset()]);
    let mut other = Guest::idle(sockets, 1, Features::empty(), 3);
    let _ = one.send(&packet);
    assert!(one.received().is_empty());
    // It begins anew while somebody waits for it, and gets what waited.
    other.device.reset();
    let mut other = Guest::idle(sockets, 1, Features::EVENT_IDX, 3);
    let served = other.refill().expect("somebody waits");
    assert!(served.used && served.ports == 1 << PORTS);
    assert_eq!(other.received(), [packet]);
    one.reap();
    assert_eq!(one.transmit.in_flight(), 0);
}

#[test]
fn the_configuration_is_the_context_id() {
    let guest = Guest::new(sockets(1), 0);
    let mut read = [0xee; 10];
    guest.device.read_config(0, &mut read);
    assert_eq!(read, [10, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee]);
    let mut high = [0xee; 4];
    guest.device.read_config(4, &mut high);
    assert_eq!(high, [0; 4]);
}

/// Everybody streams to everybody at the same time, with few buffers: neither a hang nor a byte lost (VIO-20).
#[test]
fn all_at_once() {
    let guests = 3;
    let sockets = sockets(guests);
    let all: Vec<Mutex<Guest>> = (0..guests)
        .map(|at| Mutex::new(Guest::idle(sockets, at, Features::EVENT_IDX, 3)))
        .collect();
    let rounds = 400_usize;
    thread::scope(|scope| {
        for (at, guest) in all.iter().enumerate() {
            scope.spawn(move || {
                let own = (FIRST + at as u64, 1);
                let (mut sent, mut got) = (std::vec![0; guests], std::vec![0; guests]);
                let total = rounds * (guests - 1);
                let mut heard = Instant::now();
                while sent.iter().sum::<usize>() < total || got.iter().sum::<usize>() < total {
                    let mut guest = guest.lock().unwrap();
                    guest.reap();
                    for to in (0..guests).filter(|to| *to != at) {
                        if sent[to] < rounds && guest.transmit.in_flight() < 30 {
                            let number = [sent[to] as u8; 100];
                            let packet = Packet::data(own, (FIRST + to as u64, 1), &number);
                            if guest.post(&packet) {
                                while guest.kick().more {}
                            }
                            sent[to] += 1;
                        }
                    }
                    // Few buffers, so that others wait; at most four at a time.
                    while guest.receive.in_flight() < 4 {
                        let (_, wants) = guest.receive.send(&[], &[200]).expect("room");
                        if wants {
                            while guest.serve(0).more {}
                        }
                    }
                    let packets = guest.received();
                    if !packets.is_empty() {
                        heard = Instant::now();
                    }
                    let hangs = heard.elapsed() > Duration::from_secs(300);
                    assert!(!hangs, "{at} hangs: {sent:?} {got:?}");
                    for packet in packets {
                        let from = (packet.from.0 - FIRST) as usize;
                        assert_eq!(packet.data, [got[from] as u8; 100]);
                        got[from] += 1;
                    }
                    drop(guest);
                    thread::yield_now();
                }
            });
        }
    });
}
