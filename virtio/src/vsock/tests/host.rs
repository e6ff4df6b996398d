//! The host's echo, spoken to by a guest that keeps to its credit.

use std::vec::Vec;

use proptest::prelude::*;

use super::guests::*;
use crate::device::Device;

const US: (u64, u32) = (FIRST, 1234);
const ECHO: (u64, u32) = (HOST, 7);

/// One end of a stream as the specification has it (5.10.6.3).
struct Socket {
    room: u32,
    /// Bytes received and not taken out.
    held: u32,
    taken: u32,
    sent: u32,
    peer_alloc: u32,
    peer_fwd: u32,
    back: Vec<u8>,
}

impl Socket {
    fn says(&self, packet: Packet) -> Packet {
        Packet {
            buf_alloc: self.room,
            fwd_cnt: self.taken,
            ..packet
        }
    }

    fn credit(&self) -> u32 {
        self.peer_alloc - (self.sent - self.peer_fwd)
    }

    fn hear(&mut self, packet: &Packet) {
        self.peer_alloc = packet.buf_alloc;
        self.peer_fwd = packet.fwd_cnt;
        self.held += packet.data.len() as u32;
        assert!(self.held <= self.room, "the host keeps to the credit");
        self.back.extend(&packet.data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_sent_comes_back_within_the_credit(
        room in 1..100_000_u32,
        steps in prop::collection::vec((0..4_u8, 0..40_000_u32), 1..100),
    ) {
        let sockets = sockets(1);
        let mut guest = Guest::new(sockets, 0);
        let mut socket = Socket { room, held: 0, taken: 0, sent: 0, peer_alloc: 0, peer_fwd: 0, back: Vec::new() };
        let mut sent = Vec::new();
        let _ = guest.send(&socket.says(Packet::new(US, ECHO, REQUEST)));
        let answer = guest.received().remove(0);
        prop_assert_eq!(answer.op, RESPONSE);
        socket.hear(&answer);
        for (step, amount) in steps {
            match step {
                0 | 1 => {
                    let len = amount.min(socket.credit());
                    if len == 0 {
                        continue;
                    }
                    let data: Vec<u8> = (0..len).map(|n| (n + socket.sent) as u8).collect();
                    sent.extend(&data);
                    socket.sent += len;
                    let _ = guest.send(&socket.says(Packet::data(US, ECHO, &data)));
                }
                2 => {
                    let taken = amount.min(socket.held);
                    socket.held -= taken;
                    socket.taken += taken;
                    let _ = guest.send(&socket.says(Packet::new(US, ECHO, CREDIT_UPDATE)));
                }
                _ => {
                    let _ = guest.send(&socket.says(Packet::new(US, ECHO, CREDIT_REQUEST)));
                }
            }
            loop {
                let got = guest.received();
                for packet in &got {
                    prop_assert!(packet.op == DATA || packet.op == CREDIT_UPDATE);
                    prop_assert_eq!((packet.from, packet.to), (ECHO, US));
                    socket.hear(packet);
                }
                let _ = guest.refill();
                guest.reap();
                if got.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&socket.back, &sent);
            prop_assert_eq!(socket.credit(), socket.room - socket.held);
        }
    }
}

#[test]
fn connections_end() {
    let sockets = sockets(1);
    let mut guest = Guest::new(sockets, 0);
    let mut ask = |op, flags| {
        let _ = guest.send(&Packet {
            flags,
            ..Packet::new(US, ECHO, op)
        });
        let got: Vec<(u16, u32)> = guest
            .received()
            .iter()
            .map(|one| (one.op, one.flags))
            .collect();
        let _ = guest.refill();
        got
    };
    for _ in 0..50 {
        assert_eq!(ask(REQUEST, 0), [(RESPONSE, 0)]);
        assert_eq!(ask(SHUTDOWN, 2), [(SHUTDOWN, 3)]);
        assert_eq!(ask(RESET, 0), []);
        assert_eq!(ask(REQUEST, 0), [(RESPONSE, 0)]);
        assert_eq!(ask(SHUTDOWN, 3), [(RESET, 0)]);
        // Asking twice is no way to have two.
        assert_eq!(ask(REQUEST, 0), [(RESPONSE, 0)]);
        assert_eq!(ask(REQUEST, 0), [(RESET, 0)]);
        assert_eq!(ask(CREDIT_REQUEST, 0), [(RESET, 0)]);
        assert_eq!(ask(RESPONSE, 0), [(RESET, 0)]);
    }
    assert_eq!(ask(REQUEST, 0), [(RESPONSE, 0)]);
    guest.device.reset();
    let mut guest = Guest::new(sockets, 0);
    let _ = guest.send(&Packet::data(US, ECHO, &[1]));
    assert_eq!(guest.received()[0].op, RESET);
}

#[test]
fn a_guest_without_buffers_waits_for_its_own_and_loses_nothing() {
    let sockets = sockets(1);
    let mut guest = Guest::idle(sockets, 0, crate::features::Features::empty(), 3);
    let _ = guest.send(&Packet::new(US, ECHO, REQUEST));
    let _ = guest.send(&Packet::data(US, ECHO, &[5; 9000]));
    assert_eq!(guest.transmit.in_flight(), 2);
    assert_eq!(sockets.expire(guest.now + 100 * SECOND, SECOND), 0);
    assert!(guest.refill().expect("it wants to know").used);
    guest.reap();
    assert_eq!(guest.transmit.in_flight(), 0);
    let got = guest.received();
    assert_eq!(got[0].op, RESPONSE);
    let lens: Vec<usize> = got[1..].iter().map(|one| one.data.len()).collect();
    assert_eq!(lens, [4052, 4052, 896]);
}
