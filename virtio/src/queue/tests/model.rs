//! Drivers that keep to the specification, in every combination of features, against a naive model: each chain comes back
//! once, in order where that was agreed, with the right contents; and nobody who sleeps is forgotten.

use std::boxed::Box;
use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;

use crate::chain::{Chain, Ticket};
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::Queue;
use crate::rig::Driver;

const BYTES: u64 = 0x8_0000;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The driver adds a chain of so many readable and writable buffers.
    Add { reads: u8, writes: u8, direct: bool },
    /// It exposes what it added, and notifies if it must.
    Expose,
    /// The device serves so many chains, if it is awake, and gives them back when so many wait, which one first.
    Serve { chains: u8, keep: u8, which: u8 },
    /// It shows what it gave back.
    Publish,
    /// The device has nothing to do, and sleeps.
    Rest,
    /// The driver receives so many.
    Receive(u8),
    /// It sleeps until so many more are used.
    Sleep(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, 0..4_u8, any::<bool>())
            .prop_filter("a chain has a buffer", |(reads, writes, _)| reads + writes > 0)
            .prop_map(|(reads, writes, direct)| Step::Add { reads, writes, direct }),
        3 => Just(Step::Expose),
        3 => (1..9_u8, 0..4_u8, any::<u8>())
            .prop_map(|(chains, keep, which)| Step::Serve { chains, keep, which }),
        2 => Just(Step::Publish),
        2 => Just(Step::Rest),
        2 => (1..9_u8).prop_map(Step::Receive),
        2 => (1..5_u8).prop_map(Step::Sleep),
    ]
}

/// What the model knows of a chain.
struct Known {
    token: u16,
    reads: Vec<Vec<u8>>,
    room: usize,
}

struct World<'a> {
    ram: &'a Ram,
    driver: Driver<'a>,
    queue: Queue,
    chain: Box<Chain>,
    in_order: bool,
    indirect: bool,
    /// Chains that were added, in that order, and not received.
    known: VecDeque<Known>,
    /// How many of them were added, exposed and taken by the device since the beginning.
    added: usize,
    exposed: usize,
    taken: usize,
    /// What the device has: the ticket, and what it will have written.
    has: VecDeque<(Ticket, u32)>,
    /// Given back, shown, received since the beginning.
    pushed: usize,
    shown: usize,
    received: usize,
    /// The device waits for a notification.
    device_sleeps: bool,
    /// The driver waits for an interrupt: at so many chains received and shown.
    driver_sleeps: Option<usize>,
    stamp: u8,
}

impl<'a> World<'a> {
    fn new(ram: &'a Ram, size: u16, features: Features) -> Self {
        let driver = Driver::new(ram, BASE, BYTES, size, features);
        let queue = Queue::new(&driver.config(), 256, features, &ram).expect("a queue");
        Self {
            ram,
            driver,
            queue,
            chain: Box::new(Chain::new()),
            in_order: features.contains(Features::IN_ORDER),
            indirect: features.contains(Features::INDIRECT_DESC),
            known: VecDeque::new(),
            added: 0,
            exposed: 0,
            taken: 0,
            has: VecDeque::new(),
            pushed: 0,
            shown: 0,
            received: 0,
            // Rings begin with notifications enabled.
            device_sleeps: true,
            driver_sleeps: None,
            stamp: 0,
        }
    }

    fn add(&mut self, reads: u8, writes: u8, direct: bool) {
        self.driver.set_indirect(self.indirect && !direct);
        let mut bytes = || {
            self.stamp = self.stamp.wrapping_add(1);
            std::vec![self.stamp; usize::from(self.stamp % 13) + 1]
        };
        let reads: Vec<Vec<u8>> = (0..reads).map(|_| bytes()).collect();
        let rooms: Vec<usize> = (0..writes).map(|_| bytes().len()).collect();
        let slices: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
        if let Some(token) = self.driver.prepare(&slices, &rooms) {
            self.added += 1;
            self.known.push_back(Known {
                token,
                reads,
                room: rooms.iter().sum(),
            });
        }
    }

    fn expose(&mut self) {
        let notified = self.driver.expose();
        self.exposed = self.added;
        if notified {
            self.device_sleeps = false;
        }
        // A notification that had to come and did not is lost.
        assert!(
            !(self.device_sleeps && self.exposed > self.taken),
            "the device sleeps over {} chains",
            self.exposed - self.taken
        );
    }

    fn serve(&mut self, chains: u8, keep: u8, which: u8) {
        // It finishes what it has also while it waits for more.
        let chains = if self.device_sleeps { 0 } else { chains };
        if chains != 0 {
            self.queue.quiet(&self.ram);
        }
        for _ in 0..chains {
            if which & 1 != 0 && self.pass() {
                continue;
            }
            let popped = self.queue.pop(&self.ram, &mut self.chain);
            let popped = popped.expect("the driver keeps to the specification");
            assert_eq!(popped, self.exposed > self.taken);
            if !popped {
                break;
            }
            let place = self.taken - self.received;
            let known = &self.known[place_of(&self.known, place)];
            self.taken += 1;
            let all: Vec<u8> = known.reads.concat();
            let mut got = std::vec![0; all.len()];
            assert_eq!(self.chain.readable_len(), all.len() as u64);
            assert_eq!(self.chain.writable_len(), known.room as u64);
            let read = self.chain.readable().read(&self.ram, &mut got);
            assert!(read.is_some() && got == all);
            // The answer: the token, over and over.
            let answer = std::vec![answer(known.token); known.room];
            let wrote = self.chain.writable().write(&self.ram, &answer);
            assert!(wrote.is_some());
            self.has.push_back((self.chain.ticket(), known.room as u32));
        }
        while self.has.len() > usize::from(keep) {
            let which = if self.in_order {
                0
            } else {
                usize::from(which) % self.has.len()
            };
            let (ticket, written) = self.has.remove(which).expect("it has it");
            self.queue.push(&self.ram, ticket, written);
            self.pushed += 1;
        }
    }

    /// The next chain the short way, if it is one buffer. Whether it has gone.
    fn pass(&mut self) -> bool {
        let peeked = self.queue.peek(&self.ram);
        let Some(Some(one)) = peeked else {
            assert!(peeked.is_none() || self.exposed == self.taken);
            return false;
        };
        assert!(self.exposed > self.taken);
        if self.in_order && !self.has.is_empty() {
            return false;
        }
        let place = self.taken - self.received;
        let known = &self.known[place_of(&self.known, place)];
        let len = one.segment.len as usize;
        let answer = std::vec![answer(known.token); known.room];
        if one.is_writable {
            assert!(known.reads.is_empty() && len == known.room);
            self.ram.poke(one.segment.at.raw(), &answer);
        } else {
            assert_eq!(
                self.ram.peek(one.segment.at.raw(), len),
                known.reads.concat()
            );
            assert_eq!(known.room, 0);
        }
        let room = known.room as u32;
        self.queue.pass(&self.ram, one, room);
        self.taken += 1;
        self.pushed += 1;
        true
    }

    fn publish(&mut self) {
        let interrupt = self.queue.publish(&self.ram);
        self.shown = self.pushed;
        if interrupt {
            self.driver_sleeps = None;
        }
        // An interrupt that had to come and did not is lost.
        if let Some(wake) = self.driver_sleeps {
            assert!(self.shown < wake, "the driver sleeps over {}", self.shown);
        }
    }

    fn rest(&mut self) {
        if self.device_sleeps {
            return;
        }
        let more = self.queue.listen(&self.ram);
        assert_eq!(more, self.exposed > self.taken);
        self.device_sleeps = !more;
    }

    fn receive(&mut self, chains: u8) {
        if self.driver_sleeps.is_some() {
            return;
        }
        self.driver.mask();
        for _ in 0..chains {
            let Some(done) = self.driver.receive() else {
                assert_eq!(self.received, self.shown);
                break;
            };
            assert!(self.received < self.shown);
            self.received += 1;
            let place = self.known.iter().position(|one| one.token == done.token);
            let place = place.expect("it was sent");
            assert!(!self.in_order || place == 0, "not in order");
            let known = self.known.remove(place).expect("it is there");
            assert_eq!(done.written as usize, known.room);
            assert!(done.data.iter().all(|byte| *byte == answer(done.token)));
            assert_eq!(done.data.len(), known.room);
        }
    }

    fn sleep(&mut self, chains: u8) {
        let waits = self.exposed - self.received;
        if self.driver_sleeps.is_some() || waits == 0 {
            return;
        }
        let chains = usize::from(chains).min(waits);
        if self.driver.sleep(chains as u16) {
            self.driver_sleeps = Some(self.received + chains);
        } else {
            assert!(self.shown > self.received);
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Add {
                reads,
                writes,
                direct,
            } => self.add(reads, writes, direct),
            Step::Expose => self.expose(),
            Step::Serve {
                chains,
                keep,
                which,
            } => self.serve(chains, keep, which),
            Step::Publish => self.publish(),
            Step::Rest => self.rest(),
            Step::Receive(chains) => self.receive(chains),
            Step::Sleep(chains) => self.sleep(chains),
        }
    }

    /// Everything comes back in the end, with nobody sleeping over it.
    fn finish(&mut self) {
        self.expose();
        while self.received < self.added {
            self.serve(255, 0, 0);
            self.publish();
            self.rest();
            assert!(self.driver_sleeps.is_none() || self.shown < self.added);
            self.driver_sleeps = None;
            self.receive(255);
        }
        assert_eq!(self.driver.receive(), None);
        assert_eq!(self.driver.in_flight(), 0);
    }
}

/// Where the chain is that was added so many after the first one of those that were not received. Those that were
/// received are gone from the list, from anywhere in it: the device takes them in order, so all behind it are there.
fn place_of(known: &VecDeque<Known>, place: usize) -> usize {
    debug_assert!(place < known.len());
    place
}

/// What the device writes into a chain.
fn answer(token: u16) -> u8 {
    (token % 251) as u8 + 1
}

/// All combinations of what changes a ring.
fn combinations() -> Vec<Features> {
    let bits = [
        Features::RING_PACKED,
        Features::INDIRECT_DESC,
        Features::EVENT_IDX,
        Features::IN_ORDER,
    ];
    (0..16_usize)
        .map(|set| {
            let mut features = Features::VERSION_1;
            for (place, bit) in bits.into_iter().enumerate() {
                features.set(bit, set >> place & 1 != 0);
            }
            features
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_driver_that_keeps_to_the_specification_sees_it(
        size in prop_oneof![1..=8_u16, 1..=256_u16],
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        for features in combinations() {
            let packed = features.contains(Features::RING_PACKED);
            let size = if packed { size } else { size.next_power_of_two() };
            let ram = Ram::new(BYTES as usize);
            let mut world = World::new(&ram, size, features);
            for step in &steps {
                world.run(step);
            }
            world.finish();
        }
    }
}

/// Every index goes round, more than once: 16 bits of a split ring's, and the slots of a packed one.
#[test]
fn vio_10_all_indices_wrap() {
    for features in combinations() {
        for size in [2, 4, 256] {
            let ram = Ram::new(BYTES as usize);
            let mut world = World::new(&ram, size, features);
            while world.received < 0x1_1000 {
                let before = world.received;
                for _ in 0..3 {
                    world.add(1, 1, true);
                }
                world.expose();
                // Both of them go to sleep whenever they may, and the other one must wake them.
                world.sleep(2);
                world.serve(2, 1, 1);
                world.publish();
                world.rest();
                world.serve(4, 0, 0);
                world.publish();
                world.rest();
                world.receive(8);
                assert!(world.received > before, "nobody wakes");
            }
            world.finish();
        }
    }
}
