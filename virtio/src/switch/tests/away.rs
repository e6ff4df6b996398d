//! Memory that is not a card's, or is not any more, while frames go from one guest to another: VIO-07.

use std::vec;
use std::vec::Vec;

use super::lan::{self, Card, OFFLOADS, PLAIN, SECOND, frame, guest, mac, pattern};
use crate::device::{Device, Env, Event, Served};
use crate::fake::Ram;
use crate::features::Features;
use crate::net::{HEADER, Net};
use crate::rig::away::{self, Range, Thief};
use crate::switch::Vlan;

/// The ways of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Short,
    Long,
    /// Into several buffers.
    Merged,
    /// Cut for a receiver that does not take it as it is.
    Pieces,
}

/// Who sends, who receives, and who is none of their business.
const FROM: usize = 0;
const TO: usize = 1;
const OTHER: usize = 2;

const RINGS: [Features; 4] = [
    Features::empty(),
    Features::EVENT_IDX,
    Features::RING_PACKED,
    Features::RING_PACKED.union(Features::EVENT_IDX),
];

struct World {
    cards: Vec<Card>,
    way: Way,
}

/// A frame as its sender hands it over.
fn whole(from: usize, to: usize, len: usize) -> Vec<u8> {
    let carried = pattern(len, from);
    [
        &[0; HEADER][..],
        &frame(mac(to), mac(from), 0x88b5, &carried),
    ]
    .concat()
}

/// 2500 bytes in datagrams of 1000, over IPv4 and UDP.
fn datagrams() -> Vec<u8> {
    let len = 2500_u16;
    let mut carried = vec![0x45, 0];
    carried.extend((28 + len).to_be_bytes());
    carried.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    carried.extend([0, 9, 0, 9]);
    carried.extend((8 + len).to_be_bytes());
    carried.extend([0, 0]);
    carried.extend(pattern(len.into(), 3));
    let header = [1, 5, 42, 0, 0xe8, 3, 34, 0, 6, 0, 1, 0];
    [&header[..], &frame(mac(TO), mac(FROM), 0x800, &carried)].concat()
}

impl World {
    /// Guests that know each other; the first one has something to send.
    fn new(way: Way, ring: Features) -> Self {
        let ports = (0..3).map(|at| guest(at, 0, Vlan::Access(0)));
        let lan = lan::switch(ports.collect());
        let room = if way == Way::Merged { 200 } else { 1526 };
        let cards = (0..3).map(|at| {
            let features = match (way, at) {
                (Way::Pieces, FROM) => OFFLOADS,
                _ => PLAIN,
            };
            let mut card = Card::idle(lan, at, features, ring, room, 1);
            for _ in 0..12 {
                let _ = card.receive[0].send(&[], &[room]);
            }
            card
        });
        let cards = cards.collect();
        let mut world = Self { cards, way };
        world.arrives(FROM, TO);
        let bytes = match way {
            Way::Short | Way::Long => whole(FROM, TO, 300),
            Way::Merged => whole(FROM, TO, 500),
            Way::Pieces => datagrams(),
        };
        world.post(FROM, &bytes);
        world
    }

    fn post(&mut self, by: usize, bytes: &[u8]) {
        let sent = self.cards[by].transmit[0].send(&[bytes], &[]);
        assert!(sent.is_some());
    }

    /// Has a device send what there is, and look at what it receives.
    fn serve(&mut self, by: usize) -> Served {
        let card = &mut self.cards[by];
        let mut ignore = |_: Event| {};
        let mut env = Env {
            memory: card.ram,
            now: card.now,
            frequency: SECOND,
            trace: None,
        };
        if self.way != Way::Short {
            env.trace = Some(&mut ignore);
        }
        let mut all = Served::default();
        for _ in 0..4 {
            all = all.and(card.net.serve(1, &mut env));
        }
        all
    }

    /// A frame goes from one guest to another, as ever.
    fn arrives(&mut self, from: usize, to: usize) {
        self.post(from, &whole(from, to, 60));
        assert!(!self.serve(from).broken);
        let came = self.cards[to].frames();
        let sent = whole(from, to, 60)[HEADER..].to_vec();
        assert_eq!(came.last(), Some(&sent));
        while self.cards[from].transmit[0].receive().is_some() {}
    }

    /// What there is to be taken away: whose, where, and whether it is part of a ring.
    fn parts(&self) -> Vec<(usize, Range, bool)> {
        let (from, to) = (&self.cards[FROM].transmit[0], &self.cards[TO].receive[0]);
        let mut all = Vec::new();
        for (who, driver) in [(FROM, from), (TO, to)] {
            all.extend(driver.areas().map(|range| (who, range, true)));
            all.extend(
                driver
                    .buffers(true)
                    .take(2)
                    .map(|range| (who, range, false)),
            );
        }
        all
    }

    fn watch(&self, thief: &Thief, whose: usize, gone: Range) {
        let all = self.cards.iter().enumerate().map(|(at, card)| {
            let queues = match at {
                FROM => card.transmit[0].writable(),
                TO => card.receive[0].writable(),
                _ => Vec::new(),
            };
            (card.ram, queues)
        });
        thief.watch(&all.collect::<Vec<_>>(), self.cards[whose].ram, gone);
    }

    /// From now on all is as usual, but for what is gone.
    fn unwatch(&self) {
        for card in &self.cards {
            card.ram.clear_hook();
        }
    }

    /// And after that nobody touches anything.
    fn reset(&mut self) {
        let rams: Vec<&Ram> = self.cards.iter().map(|card| card.ram).collect();
        for card in &mut self.cards {
            card.net.reset();
        }
        away::forbid(&rams);
        for at in 0..self.cards.len() {
            let _ = self.serve(at);
            let card = &mut self.cards[at];
            let _ = card.net.poll(&mut card.env());
        }
    }
}

/// What arrives if nothing is taken away.
fn undisturbed(way: Way, ring: Features) -> Vec<Vec<u8>> {
    let mut world = World::new(way, ring);
    assert!(!world.serve(FROM).broken);
    world.cards[TO].frames()
}

/// Takes a part of the sender's or the receiver's away before each access.
fn take_away(way: Way, ring: Features, part: usize) {
    let arrives = undisturbed(way, ring);
    away::between_any_two_accesses(|thief| {
        let mut world = World::new(way, ring);
        let (whose, gone, is_ring) = world.parts()[part];
        world.watch(thief, whose, gone);
        let mut is_broken = world.serve(FROM).broken;
        world.unwatch();
        if whose == FROM {
            // The receiver has all of it, or nothing of it, and goes on.
            let came = world.cards[TO].frames();
            assert!(arrives.starts_with(&came), "{came:?}");
            world.arrives(OTHER, TO);
            is_broken |= world.serve(FROM).broken;
        } else {
            assert!(!is_broken, "another one's memory is not the sender's fault");
            is_broken = world.cards[TO].net.is_broken();
            world.arrives(FROM, OTHER);
            world.post(OTHER, &whole(OTHER, TO, 60));
            assert!(!world.serve(OTHER).broken);
        }
        assert!(is_broken || !is_ring || !thief.was_missed());
        world.reset();
    });
}

#[test]
fn vio_07_memory_goes_while_a_frame_is_on_its_way() {
    for ring in RINGS {
        let parts = World::new(Way::Short, ring).parts().len();
        assert_eq!(parts, 9);
        for part in 0..parts {
            for way in [Way::Short, Way::Long, Way::Merged, Way::Pieces] {
                take_away(way, ring, part);
            }
        }
    }
}

#[test]
fn vio_07_no_queue_of_a_card_lies_in_what_is_another_ones() {
    let make = |ram| {
        let ports = (0..2).map(|at| guest(at, 0, Vlan::Access(0)));
        Net::new(lan::switch(ports.collect()), 0, ram, 1).expect("a guest's port")
    };
    away::no_ring_lies_elsewhere(3, make);
    for queue in [1, 2] {
        away::no_buffer_lies_elsewhere(3, queue, make);
    }
}

/// Buffers to receive into are judged when somebody else sends, who is not to suffer for them.
#[test]
fn vio_07_nothing_is_received_into_what_is_another_ones() {
    for (ring, way) in RINGS
        .into_iter()
        .flat_map(|ring| [Way::Short, Way::Long, Way::Merged, Way::Pieces].map(|way| (ring, way)))
    {
        let make = || {
            let mut world = World::new(way, ring);
            // All good buffers are full.
            while world.cards[TO].receive[0].in_flight() != 0 {
                let _ = (world.cards[TO].frames(), world.serve(FROM));
                world.post(FROM, &whole(FROM, TO, 60));
            }
            let spare = world.cards[TO].spare;
            (world, spare)
        };
        away::elsewhere(
            make,
            |world| &mut world.cards[TO].receive[0],
            |world| {
                let served = world.serve(FROM);
                assert!(!served.broken && served.ports == 1 << TO);
                assert!(world.cards[TO].net.is_broken());
                world.arrives(FROM, OTHER);
                world.reset();
            },
        );
    }
}
