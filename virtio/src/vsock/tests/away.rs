//! Memory that is not a guest's, or is not any more, while packets go from one guest to another: VIO-07.

use std::vec::Vec;

use super::guests::*;
use crate::device::{Device, Env};
use crate::fake::Ram;
use crate::features::Features;
use crate::rig::Driver;
use crate::rig::away::{self, FORMATS, Range, Thief};
use crate::vsock::{EVENTS, RECEIVE, TRANSMIT, Vsock};

/// The ways of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Into buffers that are there.
    Straight,
    /// Into those that were posted while it waited.
    Waits,
    /// To the host, and back.
    Echo,
    /// Nowhere, for which its receiver has a buffer for events.
    Lost,
}

/// Who sends, who receives, and who is none of their business.
const FROM: usize = 0;
const TO: usize = 1;
const OTHER: usize = 2;
/// Bytes of RAM for a queue and its buffers: a world is made for each access.
const AREA: u64 = 0x8_0000;
const ECHO: (u64, u32) = (HOST, 7);

struct World {
    sockets: Sockets,
    guests: Vec<Guest>,
    way: Way,
}

const fn at(guest: usize) -> (u64, u32) {
    (FIRST + guest as u64, 5)
}

impl World {
    /// The packet is about to go.
    fn new(way: Way, rings: Features) -> Self {
        let sockets = sockets(3);
        let guests = (0..3).map(|at| Guest::with_area(AREA, sockets, at, rings, 3));
        let guests = guests.collect();
        let mut world = Self {
            sockets,
            guests,
            way,
        };
        for guest in [FROM, OTHER] {
            world.post(guest);
        }
        if way == Way::Straight {
            world.post(TO);
        }
        let to = if way == Way::Echo { ECHO } else { at(TO) };
        if way == Way::Echo {
            let _ = world.guests[FROM].send(&Packet::new(at(FROM), to, REQUEST));
            assert_eq!(world.guests[FROM].received()[0].op, RESPONSE);
        }
        world.guests[FROM].post(&Packet::data(at(FROM), to, &[7; 5000]));
        if matches!(way, Way::Waits | Way::Lost) {
            assert!(!world.guests[FROM].serve(TRANSMIT).broken);
        }
        if way == Way::Waits {
            world.post(TO);
        }
        if way == Way::Lost {
            world.guests[TO].events.send(&[], &[4]).expect("room");
            for guest in &mut world.guests {
                guest.now += 2 * SECOND;
            }
        }
        world
    }

    /// Posts some buffers to receive into, and tells nobody.
    fn post(&mut self, guest: usize) {
        for _ in 0..4 {
            let _ = self.guests[guest].receive.send(&[], &[4096]);
        }
    }

    /// The packet goes.
    fn go(&mut self) {
        let guest = match self.way {
            Way::Straight | Way::Echo => self.guests[FROM].serve(TRANSMIT),
            Way::Waits => self.guests[TO].serve(RECEIVE),
            Way::Lost => self.poll(OTHER),
        };
        assert!(!guest.more);
    }

    fn poll(&mut self, guest: usize) -> crate::Served {
        let guest = &mut self.guests[guest];
        let mut env = Env {
            memory: guest.ram,
            now: guest.now,
            frequency: SECOND,
            trace: None,
        };
        guest.device.poll(&mut env)
    }

    fn queue(&self, guest: usize, queue: u16) -> &Driver<'static> {
        let guest = &self.guests[guest];
        match queue {
            RECEIVE => &guest.receive,
            TRANSMIT => &guest.transmit,
            _ => &guest.events,
        }
    }

    /// The queues that the packet has to do with. All senders' may be answered by a reset.
    fn queues(&self) -> Vec<(usize, u16)> {
        let mut all = std::vec![(FROM, TRANSMIT), (FROM, RECEIVE)];
        if self.way != Way::Echo {
            all.extend([(TO, RECEIVE)]);
        }
        if self.way == Way::Lost {
            all.extend([(TO, EVENTS)]);
        }
        all
    }

    /// What there is to be taken away: whose, where, and whether it is part of a ring.
    fn parts(&self) -> Vec<(usize, Range, bool)> {
        let mut all = Vec::new();
        for (who, queue) in self.queues() {
            let driver = self.queue(who, queue);
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
        let all = self.guests.iter().enumerate().map(|(at, guest)| {
            let queues = self.queues().into_iter().filter(|(who, _)| *who == at);
            let writable = queues.flat_map(|(who, queue)| self.queue(who, queue).writable());
            (guest.ram, writable.collect())
        });
        thief.watch(&all.collect::<Vec<_>>(), self.guests[whose].ram, gone);
    }

    fn unwatch(&self) {
        for guest in &self.guests {
            guest.ram.clear_hook();
        }
    }

    /// A packet goes from one guest to another, as ever.
    fn arrives(&mut self, from: usize, to: usize) {
        self.post(to);
        let _ = self.guests[to].serve(RECEIVE);
        let _ = (self.guests[to].received(), self.post(to));
        let packet = Packet::data(at(from), at(to), &[9; 10]);
        let _ = self.guests[from].send(&packet);
        assert_eq!(self.guests[to].received(), [packet]);
        assert!(!self.guests[from].device.is_broken() && !self.guests[to].device.is_broken());
    }

    /// Whether a guest's device has found out what is not there.
    fn is_broken(&mut self, guest: usize) -> bool {
        let _ = self.guests[OTHER].send(&Packet::data(at(OTHER), at(guest), &[9; 10]));
        for queue in [RECEIVE, TRANSMIT, EVENTS] {
            let _ = self.guests[guest].serve(queue);
        }
        self.guests[guest].device.is_broken()
    }

    /// After that nobody touches anything.
    fn reset(&mut self) {
        let rams: Vec<&Ram> = self.guests.iter().map(|guest| guest.ram).collect();
        for guest in &mut self.guests {
            guest.device.reset();
        }
        away::forbid(&rams);
        for at in 0..self.guests.len() {
            for queue in [RECEIVE, TRANSMIT, EVENTS] {
                let _ = self.guests[at].serve(queue);
            }
            let _ = self.poll(at);
        }
    }
}

/// Takes a part of the sender's or the receiver's away before each access.
fn take_away(way: Way, rings: Features, part: usize) {
    let mut world = World::new(way, rings);
    world.go();
    let arrives = world.guests[TO].received();
    away::between_any_two_accesses(|thief| {
        let mut world = World::new(way, rings);
        let (whose, gone, is_ring) = world.parts()[part];
        world.watch(thief, whose, gone);
        world.go();
        world.unwatch();
        if whose == FROM {
            // The receiver has the beginning of it, and goes on.
            let came = world.guests[TO].received();
            assert!(arrives.starts_with(&came), "{came:?}");
            world.arrives(OTHER, TO);
            world.arrives(TO, OTHER);
        } else {
            let came = world.guests[FROM].received();
            assert!(came.iter().all(|one| one.op == RESET), "{came:?}");
            world.guests[FROM].reap();
            world.arrives(FROM, OTHER);
            world.arrives(OTHER, FROM);
        }
        assert!(!is_ring || !thief.was_missed() || world.is_broken(whose));
        world.reset();
    });
}

#[test]
fn vio_07_memory_goes_while_a_packet_is_on_its_way() {
    for (rings, way) in FORMATS
        .into_iter()
        .flat_map(|format| [format, format | Features::EVENT_IDX])
        .flat_map(|rings| [Way::Straight, Way::Waits, Way::Echo, Way::Lost].map(|way| (rings, way)))
    {
        for part in 0..World::new(way, rings).parts().len() {
            take_away(way, rings, part);
        }
    }
}

#[test]
fn vio_07_no_queue_of_sockets_lies_in_what_is_another_ones() {
    let make = |ram| Vsock::new(sockets(2), 0, ram).expect("a station");
    away::no_ring_lies_elsewhere(3, make);
    away::no_buffer_lies_elsewhere(3, TRANSMIT.into(), make);
}

/// Buffers to receive into are judged when somebody else sends, who is not to suffer for them.
#[test]
fn vio_07_no_packet_is_received_into_what_is_another_ones() {
    for (rings, way) in FORMATS
        .into_iter()
        .flat_map(|rings| [Way::Straight, Way::Waits, Way::Lost].map(|way| (rings, way)))
    {
        let make = || {
            let mut world = World::new(way, rings);
            world.go();
            let _ = (world.guests[TO].received(), world.guests[FROM].reap());
            if way == Way::Lost {
                // Somebody is there again, to be lost once more.
                world.post(TO);
            }
            let spare = world.guests[TO].spare;
            (world, spare)
        };
        away::elsewhere(
            make,
            |world| {
                if world.way == Way::Lost {
                    &mut world.guests[TO].events
                } else {
                    &mut world.guests[TO].receive
                }
            },
            |world| {
                let _ = world.guests[TO].serve(RECEIVE);
                for _ in 0..4 {
                    let packet = Packet::data(at(FROM), at(TO), &[7; 5000]);
                    assert!(!world.guests[FROM].send(&packet).broken);
                }
                for guest in &mut world.guests {
                    guest.now += 2 * SECOND;
                }
                let _ = world.poll(OTHER);
                assert!(world.guests[TO].device.is_broken());
                assert!(world.sockets.is_broken(PORTS + TO));
                assert!(!world.sockets.is_broken(PORTS + FROM) && !world.sockets.is_broken(TO));
                world.arrives(FROM, OTHER);
                world.arrives(OTHER, FROM);
                world.reset();
            },
        );
    }
}
