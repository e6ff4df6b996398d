//! Packed rings of drivers that write what they like.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::{BYTES, DATA, RING, Want, pop, queue};
use crate::chain::Chain;
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::{Broken, Queue, QueueConfig};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

const PACKED: Features = Features::RING_PACKED;
const BOTH: Features = PACKED.union(Features::INDIRECT_DESC);

/// A raw descriptor: address, length, id, flags.
type Raw = (u64, u32, u16, u16);

fn describe(ram: &Ram, at: u64, (address, len, id, flags): Raw) {
    ram.poke_u64(at, address);
    ram.poke_u32(at + 8, len);
    ram.poke_u16(at + 12, id);
    ram.poke_u16(at + 14, flags);
}

struct Bench {
    ram: Ram,
    queue: Queue,
    config: QueueConfig,
}

impl Bench {
    fn new(size: u16, features: Features) -> Self {
        let ram = Ram::new(BYTES);
        let config = QueueConfig { size, ..RING };
        Self {
            queue: queue(&ram, config, features),
            ram,
            config,
        }
    }

    fn slot(&self, slot: u16) -> u64 {
        self.config.descriptors + 16 * u64::from(slot)
    }

    fn describe(&self, slot: u16, what: Raw) {
        describe(&self.ram, self.slot(slot), what);
    }

    fn pop(&mut self) -> Result<Option<Vec<Want>>, Broken> {
        pop(&mut self.queue, &self.ram)
    }
}

/// A chain of these descriptors in slots 0 and on, available in the first round.
fn judge(features: Features, list: &[Raw]) -> Result<Option<Vec<Want>>, Broken> {
    let mut bench = Bench::new(8, features);
    for (slot, (at, len, id, flags)) in (0..).zip(list) {
        bench.describe(slot, (*at, *len, *id, flags | AVAIL));
    }
    let popped = bench.pop();
    if popped.is_err() {
        bench.describe(0, (DATA, 4, 0, AVAIL));
        assert_eq!(bench.pop(), Err(Broken));
    }
    popped
}

#[test]
fn vio_01_a_chain_without_end() {
    for size in [1, 3, 8, 255, 256] {
        let mut bench = Bench::new(size, PACKED);
        for slot in 0..size {
            bench.describe(slot, (DATA, 4, 0, NEXT | AVAIL));
        }
        assert_eq!(bench.pop(), Err(Broken), "{size}");
    }
}

#[test]
fn vio_02_as_long_as_the_queue() {
    for size in [1, 3, 8, 255, 256] {
        let mut bench = Bench::new(size, PACKED);
        for slot in 0..size {
            let next = if slot + 1 < size { NEXT } else { 0 };
            bench.describe(slot, (DATA, 1, slot.min(255), next | AVAIL));
        }
        let want = vec![(DATA, 1, false); usize::from(size)];
        assert_eq!(bench.pop(), Ok(Some(want)));
        // All of the ring is taken: whatever its flags say, there is no more.
        for flags in [AVAIL, USED] {
            for slot in 0..size {
                bench.describe(slot, (DATA, 1, 9, flags));
            }
            match bench.pop() {
                Ok(None) | Err(Broken) => {}
                Ok(Some(_)) => panic!("a chain in slots that the device has"),
            }
        }
    }
}

#[test]
fn vio_02_a_table_longer_than_the_device_takes() {
    for (entries, good) in [(1, true), (256, true), (257, false), (0x0FFF_FFFF, false)] {
        let mut bench = Bench::new(8, BOTH);
        for index in 0..300 {
            describe(&bench.ram, DATA + 16 * index, (DATA, 1, 0, 0));
        }
        bench.describe(0, (DATA, 16_u32.wrapping_mul(entries), 1, INDIRECT | AVAIL));
        assert_eq!(bench.pop().is_ok(), good, "{entries}");
    }
    // A device whose largest queue is smaller than all.
    for (entries, good) in [(15, true), (16, true), (17, false)] {
        let mut bench = Bench::new(8, BOTH);
        let smaller = Queue::new(&RING, 16, BOTH, &&bench.ram);
        bench.queue = smaller.expect("a queue");
        for index in 0..20 {
            describe(&bench.ram, DATA + 16 * index, (DATA, 1, 0, 0));
        }
        bench.describe(0, (DATA, 16 * entries, 1, INDIRECT | AVAIL));
        assert_eq!(bench.pop().is_ok(), good, "{entries} of 16");
    }
}

#[test]
fn vio_04_vio_05_vio_06_buffers() {
    let end = BASE + BYTES as u64;
    for flags in [0, WRITE] {
        for (at, len) in [
            (DATA, 0),
            (0, 1),
            (BASE - 1, 2),
            (end, 1),
            (end - 4, 5),
            (u64::MAX, 1),
            (u64::MAX - 3, 4),
            (DATA, u32::MAX),
            (0x0900_0000, 4),
            (0x0A00_0050, 4),
        ] {
            assert_eq!(judge(PACKED, &[(at, len, 0, flags)]), Err(Broken));
            let second = [(DATA, 4, 0, NEXT | flags), (at, len, 0, flags)];
            assert_eq!(judge(PACKED, &second), Err(Broken));
        }
        assert!(judge(PACKED, &[(end - 4, 4, 0, flags)]).is_ok_and(|one| one.is_some()));
    }
}

#[test]
fn vio_08_tables() {
    let run = |features, at: u64, len, flags, list: &[Raw]| {
        let mut bench = Bench::new(8, features);
        for (index, one) in (0..).zip(list) {
            describe(&bench.ram, at + 16 * index, *one);
        }
        bench.describe(0, (at, len, 3, flags | AVAIL));
        bench.describe(1, (DATA, 4, 4, AVAIL));
        bench.pop()
    };
    let at = DATA + 0x1000;
    let two = [(DATA, 4, 0, 0), (DATA + 8, 4, 0, WRITE)];
    let good = Ok(Some(vec![(DATA, 4, false), (DATA + 8, 4, true)]));
    assert_eq!(run(BOTH, at, 32, INDIRECT, &two), good);
    assert_eq!(run(BOTH, at, 32, INDIRECT | WRITE, &two), good);
    for offset in 1..16 {
        assert_eq!(run(BOTH, at + offset, 32, INDIRECT, &two), good);
    }
    // In a table every flag but WRITE is ignored, and so is the id (2.8.7).
    let flags = NEXT | INDIRECT | AVAIL | USED | 0x7F70;
    let odd = [(DATA, 4, 0xFFFF, flags), (DATA + 8, 4, 7, flags | WRITE)];
    assert_eq!(run(BOTH, at, 32, INDIRECT, &odd), good);

    let bad = Err(Broken);
    assert_eq!(run(PACKED, at, 32, INDIRECT, &two), bad);
    assert_eq!(run(BOTH, at, 32, INDIRECT | NEXT, &two), bad);
    let readable = [(DATA, 4, 0, 0), (DATA + 8, 4, 0, 0)];
    assert_eq!(run(BOTH, at, 32, INDIRECT | NEXT, &readable), bad);
    for len in [0, 1, 15, 17, 31, 33, 0xFFFF_FFF0] {
        assert_eq!(run(BOTH, at, len, INDIRECT, &two), bad, "{len}");
    }
    let last = BASE + BYTES as u64 - 32;
    assert_eq!(run(BOTH, last, 32, INDIRECT, &two), good);
    assert_eq!(run(BOTH, last, 48, INDIRECT, &two), bad);
    // Not at the end of a list (2.8.19).
    // The table is the first descriptor itself, which is good.
    let mixed = [(DATA, 4, 0, NEXT), (RING.descriptors, 16, 0, INDIRECT)];
    assert_eq!(judge(BOTH, &mixed), bad);
    let swapped = [(DATA, 4, 0, WRITE), (DATA, 4, 0, 0)];
    assert_eq!(run(BOTH, at, 32, INDIRECT, &swapped), bad);
}

#[test]
fn vio_09_readable_after_writable() {
    let list = [(DATA, 4, 0, WRITE | NEXT), (DATA, 4, 0, 0)];
    assert_eq!(judge(PACKED, &list), Err(Broken));
}

#[test]
fn vio_11_an_id_in_flight() {
    let mut bench = Bench::new(8, PACKED);
    bench.describe(0, (DATA, 4, 5, AVAIL));
    bench.describe(1, (DATA, 4, 5, AVAIL));
    assert!(bench.pop().is_ok_and(|one| one.is_some()));
    assert_eq!(bench.pop(), Err(Broken));
    for id in [256, 0x7FFF, u16::MAX] {
        assert_eq!(judge(PACKED, &[(DATA, 4, id, 0)]), Err(Broken));
    }
}

#[test]
fn vio_11_a_ticket_counts_once() {
    let mut bench = Bench::new(8, PACKED);
    let mut chain = Box::new(Chain::new());
    bench.describe(0, (DATA, 4, 5, AVAIL | WRITE));
    let memory = &bench.ram;
    assert_eq!(bench.queue.pop(&memory, &mut chain), Ok(true));
    for _ in 0..3 {
        bench.queue.push(&memory, chain.ticket(), 4);
    }
    assert!(bench.queue.publish(&memory));
    assert!(!bench.queue.publish(&memory));
    assert_eq!(memory.peek_u16(RING.descriptors + 14), AVAIL | USED | WRITE);
    assert_eq!(memory.peek(RING.descriptors + 16, 16), [0; 16]);
}

/// Only one pair of the two flags offers a descriptor in each round.
#[test]
fn flags_of_every_kind() {
    for flags in 0..=u16::MAX {
        let mut bench = Bench::new(8, BOTH);
        bench.describe(0, (DATA, 16, 0, flags));
        let popped = bench.pop();
        if flags & (AVAIL | USED) == AVAIL {
            assert_ne!(popped, Ok(None), "{flags:#x}");
        } else {
            assert_eq!(popped, Ok(None), "{flags:#x}");
        }
    }
}

/// A driver that marks everything as available, in both rounds at once, again and again: the device never takes more
/// than the ring has, and what it does for one call is bounded.
#[test]
fn vio_17_flags_that_always_offer() {
    for size in [1, 3, 8, 256] {
        let mut bench = Bench::new(size, PACKED);
        let mut chain = Box::new(Chain::new());
        for round in 0..600_u32 {
            let memory = &bench.ram;
            let mut taken = vec![];
            for turn in 0..2 * size + 2 {
                // Right for the first round, then for the second, whatever the device has made of them.
                for slot in 0..size {
                    let flags = if turn % 2 == 0 { AVAIL } else { USED };
                    describe(
                        memory,
                        bench.config.descriptors + 16 * u64::from(slot),
                        (DATA, 4, slot, flags),
                    );
                }
                match bench.queue.pop(&memory, &mut chain) {
                    Ok(true) => taken.push(chain.ticket()),
                    Ok(false) => {}
                    Err(Broken) => break,
                }
            }
            assert!(taken.len() <= usize::from(size));
            for ticket in taken {
                bench.queue.push(&memory, ticket, round);
            }
            let _ = bench.queue.publish(&memory);
            if bench.queue.is_broken() {
                break;
            }
        }
    }
}

#[test]
fn vio_17_poisoned_event_suppression() {
    for word in [
        0,
        0x1_0000,
        0x2_0000,
        0x3_0000,
        0x2_7FFF,
        0x2_FFFF,
        0x2_8000,
        0xFFFF_FFFF,
        0xFFFE_0004,
    ] {
        for features in [PACKED, PACKED.union(Features::EVENT_IDX)] {
            let mut bench = Bench::new(8, features);
            let mut chain = Box::new(Chain::new());
            let mut interrupts = 0;
            let mut flags = AVAIL;
            for turn in 0..24_u16 {
                let slot = turn % 8;
                bench.describe(slot, (DATA, 4, 1, flags | WRITE));
                if slot == 7 {
                    flags ^= AVAIL | USED;
                }
                let memory = &bench.ram;
                memory.poke_u32(RING.driver, word);
                // The device's own structure is the device's.
                memory.poke_u32(RING.device, word);
                assert_eq!(bench.queue.pop(&memory, &mut chain), Ok(true));
                bench.queue.push(&memory, chain.ticket(), 4);
                interrupts += u32::from(bench.queue.publish(&memory));
                bench.queue.quiet(&memory);
                assert!(!bench.queue.listen(&memory));
            }
            let event_idx = features.contains(Features::EVENT_IDX);
            let expected = match word >> 16 & 3 {
                1 => 0,
                // Once in two rounds, if it is a slot at all: in three rounds the first one's twice.
                2 if event_idx => match word & 0xFFFF {
                    0 => 1,
                    4 => 1,
                    0x8000 => 2,
                    _ => 0,
                },
                _ => 24,
            };
            assert_eq!(interrupts, expected, "{word:#x}");
        }
    }
}
