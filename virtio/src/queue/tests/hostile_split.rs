//! Split rings of drivers that write what they like.

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

/// A raw descriptor.
fn describe(ram: &Ram, at: u64, (address, len, flags, next): (u64, u32, u16, u16)) {
    ram.poke_u64(at, address);
    ram.poke_u32(at + 8, len);
    ram.poke_u16(at + 12, flags);
    ram.poke_u16(at + 14, next);
}

struct Bench {
    ram: Ram,
    queue: Queue,
    config: QueueConfig,
    offered: u16,
}

impl Bench {
    fn new(size: u16, features: Features) -> Self {
        let ram = Ram::new(BYTES);
        let config = QueueConfig { size, ..RING };
        Self {
            queue: queue(&ram, config, features),
            ram,
            config,
            offered: 0,
        }
    }

    fn descriptor(&self, index: u16, what: (u64, u32, u16, u16)) {
        describe(
            &self.ram,
            self.config.descriptors + 16 * u64::from(index),
            what,
        );
    }

    fn offer(&mut self, head: u16) {
        let slot = u64::from(self.offered % self.config.size);
        self.ram.poke_u16(self.config.driver + 4 + 2 * slot, head);
        self.offered = self.offered.wrapping_add(1);
        self.ram.poke_u16(self.config.driver + 2, self.offered);
    }

    fn pop(&mut self) -> Result<Option<Vec<Want>>, Broken> {
        pop(&mut self.queue, &self.ram)
    }

    /// What becomes of a chain that begins at descriptor 0.
    fn judge(&mut self) -> Result<Option<Vec<Want>>, Broken> {
        self.offer(0);
        let popped = self.pop();
        if popped.is_err() {
            // It stays so, whatever is offered.
            self.descriptor(0, (DATA, 1, 0, 0));
            self.offer(0);
            assert_eq!(self.pop(), Err(Broken));
            assert!(self.queue.is_broken());
        }
        popped
    }
}

/// A chain of these descriptors, one after the other from 0 on.
fn judge(features: Features, list: &[(u64, u32, u16, u16)]) -> Result<Option<Vec<Want>>, Broken> {
    let mut bench = Bench::new(8, features);
    for (index, one) in (0..).zip(list) {
        bench.descriptor(index, *one);
    }
    bench.judge()
}

const NONE: Features = Features::empty();

#[test]
fn vio_01_loops() {
    for size in [1, 2, 8, 256] {
        // To itself, to the one before, and through all of the table.
        for loops in [vec![0], vec![1, 0], (1..size).chain([0]).collect()] {
            if loops.len() > usize::from(size) {
                continue;
            }
            let mut bench = Bench::new(size, NONE);
            for (index, next) in (0..).zip(&loops) {
                bench.descriptor(index, (DATA, 4, NEXT, *next));
            }
            assert_eq!(bench.judge(), Err(Broken), "{size}: {loops:?}");
        }
    }
}

#[test]
fn vio_01_loops_in_a_table() {
    for loops in [vec![0], vec![1, 0], vec![1, 2, 1]] {
        let mut bench = Bench::new(8, Features::INDIRECT_DESC);
        let table = DATA + 0x1000;
        for (index, next) in (0..).zip(&loops) {
            describe(&bench.ram, table + 16 * index, (DATA, 4, NEXT, *next));
        }
        let len = 16 * loops.len() as u32;
        bench.descriptor(0, (table, len, INDIRECT, 0));
        let mut loads = 0;
        bench.ram.set_hook(move |_, _| {
            loads += 1;
            assert!(loads < 600, "it goes on and on");
        });
        assert_eq!(bench.judge(), Err(Broken), "{loops:?}");
    }
}

#[test]
fn vio_02_as_long_as_the_queue() {
    for size in [1, 2, 8, 256] {
        let mut bench = Bench::new(size, NONE);
        let mut want = vec![];
        for index in 0..size {
            let flags = if index + 1 < size { NEXT } else { 0 };
            bench.descriptor(index, (DATA + u64::from(index), 1, flags, index + 1));
            want.push((DATA + u64::from(index), 1, false));
        }
        assert_eq!(bench.judge(), Ok(Some(want)));
    }
}

#[test]
fn vio_02_longer_than_the_device_takes() {
    let table = DATA + 0x1000;
    for (entries, good) in [(255, true), (256, true), (257, false)] {
        let mut bench = Bench::new(256, Features::INDIRECT_DESC);
        for index in 0..entries {
            let flags = if index + 1 < entries { NEXT } else { 0 };
            let at = table + 16 * u64::from(index);
            describe(&bench.ram, at, (DATA, 1, flags, index + 1));
        }
        bench.descriptor(0, (table, 16 * u32::from(entries), INDIRECT, 0));
        assert_eq!(bench.judge().is_ok(), good, "{entries}");
    }
    // A device whose largest queue is smaller than all.
    for (entries, good) in [(15, true), (16, true), (17, false)] {
        let mut bench = Bench::new(8, Features::INDIRECT_DESC);
        let smaller = Queue::new(&RING, 16, Features::INDIRECT_DESC, &&bench.ram);
        bench.queue = smaller.expect("a queue");
        for index in 0..entries {
            let flags = if index + 1 < entries { NEXT } else { 0 };
            let at = table + 16 * u64::from(index);
            describe(&bench.ram, at, (DATA, 1, flags, index + 1));
        }
        bench.descriptor(0, (table, 16 * u32::from(entries), INDIRECT, 0));
        assert_eq!(bench.judge().is_ok(), good, "{entries} of 16");
    }
}

#[test]
fn vio_03_next_out_of_range() {
    for next in [8, 9, 255, 256, 0x7FFF, u16::MAX] {
        assert_eq!(judge(NONE, &[(DATA, 4, NEXT, next)]), Err(Broken));
        // Where nothing follows, it is nothing.
        assert!(judge(NONE, &[(DATA, 4, 0, next)]).is_ok());
    }
}

#[test]
fn vio_03_head_out_of_range() {
    for head in [8, 9, 256, u16::MAX] {
        let mut bench = Bench::new(8, NONE);
        bench.offer(head);
        assert_eq!(bench.pop(), Err(Broken));
        assert_eq!(bench.pop(), Err(Broken));
    }
}

#[test]
fn vio_04_buffers_outside_ram() {
    let ram = || Ram::with_hole(BYTES, 0x1000, BYTES);
    let hole = BASE + BYTES as u64;
    let end = hole + 0x1000 + BYTES as u64;
    for (at, len, good) in [
        (0, 1, false),
        (BASE - 1, 1, false),
        (BASE - 1, 2, false),
        (hole - 1, 1, true),
        (hole - 1, 2, false),
        (hole, 1, false),
        (hole - 0x1000, 0x3000, false),
        (hole + 0xFFF, 1, false),
        (hole + 0x1000, 1, true),
        (end - 16, 16, true),
        (end - 16, 17, false),
        (end, 1, false),
        (0x0A00_0000, 4, false),
    ] {
        for flags in [0, WRITE] {
            let ram = ram();
            let mut bench = Bench {
                queue: queue(&ram, RING, NONE),
                ram,
                config: RING,
                offered: 0,
            };
            bench.descriptor(0, (at, len, flags, 0));
            assert_eq!(bench.judge().is_ok(), good, "{at:#x} {len:#x}");
        }
    }
}

#[test]
fn vio_05_lengths() {
    for (at, len) in [
        (DATA, 0),
        (DATA, u32::MAX),
        (u64::MAX, 1),
        (u64::MAX - 3, 4),
        (u64::MAX, u32::MAX),
        (DATA.wrapping_neg(), u32::MAX),
    ] {
        for flags in [0, WRITE] {
            assert_eq!(judge(NONE, &[(at, len, flags, 0)]), Err(Broken));
            let last = [(DATA, 4, NEXT | flags, 1), (at, len, flags, 0)];
            assert_eq!(judge(NONE, &last), Err(Broken));
        }
    }
}

#[test]
fn vio_06_buffers_in_devices() {
    for at in [0x0800_0000, 0x0900_0000, 0x0A00_0000, 0x0A00_0050] {
        assert_eq!(judge(NONE, &[(at, 4, WRITE, 0)]), Err(Broken));
        assert_eq!(judge(NONE, &[(at, 4, 0, 0)]), Err(Broken));
    }
}

/// One descriptor that refers to a table of some descriptors, at an address.
fn judge_table(
    features: Features,
    at: u64,
    len: u32,
    flags: u16,
    list: &[(u64, u32, u16, u16)],
) -> Result<Option<Vec<Want>>, Broken> {
    let mut bench = Bench::new(8, features);
    for (index, one) in (0..).zip(list) {
        describe(&bench.ram, at + 16 * index, *one);
    }
    bench.descriptor(0, (at, len, flags, 1));
    bench.descriptor(1, (DATA, 4, 0, 0));
    bench.judge()
}

#[test]
fn vio_08_tables() {
    const INDIRECT_DESC: Features = Features::INDIRECT_DESC;
    let at = DATA + 0x1000;
    let one = [(DATA, 4, 0, 0)];
    let two = [(DATA, 4, NEXT, 1), (DATA + 8, 4, WRITE, 0)];
    let good = Ok(Some(vec![(DATA, 4, false), (DATA + 8, 4, true)]));
    assert_eq!(judge_table(INDIRECT_DESC, at, 32, INDIRECT, &two), good);
    // Its own flag WRITE is ignored (2.7.5.3.2).
    let both = INDIRECT | WRITE;
    assert_eq!(judge_table(INDIRECT_DESC, at, 32, both, &two), good);
    // Unaligned tables are legal.
    for offset in [1, 2, 3, 7, 8, 15] {
        assert_eq!(
            judge_table(INDIRECT_DESC, at + offset, 32, INDIRECT, &two),
            good
        );
    }
    // A table may be longer than its chain.
    assert_eq!(judge_table(INDIRECT_DESC, at, 320, INDIRECT, &two), good);

    let bad = Err(Broken);
    assert_eq!(judge_table(NONE, at, 32, INDIRECT, &two), bad);
    assert_eq!(
        judge_table(INDIRECT_DESC, at, 32, INDIRECT | NEXT, &two),
        bad
    );
    for len in [0, 1, 15, 17, 31, 33] {
        assert_eq!(
            judge_table(INDIRECT_DESC, at, len, INDIRECT, &two),
            bad,
            "{len}"
        );
    }
    // The chain leaves its table.
    assert_eq!(judge_table(INDIRECT_DESC, at, 16, INDIRECT, &two), bad);
    // As many entries as there could be.
    assert_eq!(
        judge_table(INDIRECT_DESC, at, 0xFFFF_FFF0, INDIRECT, &two),
        bad
    );
    // The table reaches out of RAM, although its chain does not.
    let last = BASE + BYTES as u64 - 32;
    assert_eq!(judge_table(INDIRECT_DESC, last, 32, INDIRECT, &two), good);
    assert_eq!(judge_table(INDIRECT_DESC, last, 48, INDIRECT, &two), bad);
    assert_eq!(
        judge_table(INDIRECT_DESC, last + 16, 32, INDIRECT, &one),
        bad
    );
    // A table in a table.
    let nested = [(at + 32, 16, INDIRECT, 0), (0, 0, 0, 0), (DATA, 4, 0, 0)];
    assert_eq!(judge_table(INDIRECT_DESC, at, 48, INDIRECT, &nested), bad);
}

#[test]
fn vio_08_a_table_of_more_than_an_index_names() {
    for (entries, good) in [(1 << 16, true), ((1 << 16) + 1, false)] {
        let ram = Ram::new(0x20_0000);
        let mut bench = Bench {
            queue: queue(&ram, RING, Features::INDIRECT_DESC),
            ram,
            config: RING,
            offered: 0,
        };
        describe(&bench.ram, DATA, (DATA, 4, NEXT, 0xFFFF));
        describe(&bench.ram, DATA + 16 * 0xFFFF, (DATA, 4, 0, 0));
        bench.descriptor(0, (DATA, 16 * entries, INDIRECT, 0));
        assert_eq!(bench.judge().is_ok(), good);
    }
}

#[test]
fn vio_08_a_table_after_descriptors() {
    let mut bench = Bench::new(8, Features::INDIRECT_DESC);
    let table = DATA + 0x1000;
    bench.descriptor(0, (DATA, 4, NEXT, 5));
    bench.descriptor(5, (table, 32, INDIRECT, 0));
    describe(&bench.ram, table, (DATA + 4, 4, NEXT, 1));
    describe(&bench.ram, table + 16, (DATA + 8, 4, WRITE, 0));
    let want = vec![(DATA, 4, false), (DATA + 4, 4, false), (DATA + 8, 4, true)];
    assert_eq!(bench.judge(), Ok(Some(want)));
}

#[test]
fn vio_09_readable_after_writable() {
    let list = [(DATA, 4, WRITE | NEXT, 1), (DATA + 4, 4, 0, 0)];
    assert_eq!(judge(NONE, &list), Err(Broken));
    let list = [
        (DATA, 4, NEXT, 1),
        (DATA + 4, 4, WRITE | NEXT, 2),
        (DATA + 8, 4, NEXT, 3),
        (DATA + 12, 4, WRITE, 0),
    ];
    assert_eq!(judge(NONE, &list), Err(Broken));
}

#[test]
fn vio_10_index_jumps() {
    for size in [1_u16, 8, 256] {
        for start in [0_u16, 1, 0x7FFF, 0xFFF8, 0xFFFF] {
            for jump in [0, 1, size, size + 1, 0x7FFF, 0x8000, 0xFFFF] {
                let mut bench = Bench::new(size, NONE);
                advance(&mut bench, start);
                let index = start.wrapping_add(jump);
                bench.ram.poke_u16(bench.config.driver + 2, index);
                let popped = bench.pop();
                match jump {
                    0 => assert_eq!(popped, Ok(None)),
                    _ if jump <= size => assert!(popped.is_ok_and(|one| one.is_some())),
                    _ => assert_eq!(popped, Err(Broken), "{start} + {jump}"),
                }
            }
        }
    }
}

/// Has a queue serve so many chains, all of them descriptor 0.
fn advance(bench: &mut Bench, chains: u16) {
    let mut chain = Chain::new();
    bench.descriptor(0, (DATA, 4, WRITE, 0));
    for _ in 0..chains {
        bench.offer(0);
        let memory = &bench.ram;
        assert_eq!(bench.queue.pop(&memory, &mut chain), Ok(true));
        bench.queue.push(&memory, chain.ticket(), 4);
        let _ = bench.queue.publish(&memory);
    }
    assert_eq!(bench.ram.peek_u16(bench.config.device + 2), chains);
}

#[test]
fn vio_10_the_index_wraps() {
    let mut bench = Bench::new(8, NONE);
    advance(&mut bench, u16::MAX);
    bench.offer(0);
    bench.offer(0);
    assert_eq!(bench.offered, 1);
    assert!(bench.pop().is_ok_and(|one| one.is_some()));
}

#[test]
fn vio_11_a_head_in_flight() {
    let mut bench = Bench::new(8, NONE);
    bench.descriptor(3, (DATA, 4, 0, 0));
    bench.offer(3);
    bench.offer(3);
    assert!(bench.pop().is_ok_and(|one| one.is_some()));
    assert_eq!(bench.pop(), Err(Broken));
}

#[test]
fn vio_11_a_ticket_counts_once() {
    let mut bench = Bench::new(8, NONE);
    let mut chain = Chain::new();
    bench.descriptor(3, (DATA, 4, WRITE, 0));
    bench.offer(3);
    let memory = &bench.ram;
    assert_eq!(bench.queue.pop(&memory, &mut chain), Ok(true));
    let ticket = chain.ticket();
    bench.queue.push(&memory, ticket, 4);
    bench.queue.push(&memory, ticket, 4);
    assert!(bench.queue.publish(&memory));
    assert!(!bench.queue.publish(&memory));
    assert_eq!(memory.peek_u16(RING.device + 2), 1);
    assert_eq!(memory.peek(RING.device + 12, 8), [0; 8]);
    assert!(!bench.queue.is_broken());
}

#[test]
fn vio_17_the_used_ring_is_the_devices() {
    let mut bench = Bench::new(8, NONE);
    let mut chain = Chain::new();
    for round in 0..40_u16 {
        bench.descriptor(0, (DATA, 4, WRITE, 0));
        bench.offer(0);
        let memory = &bench.ram;
        // All of it, with something else each time.
        memory.poke(RING.device, &[round as u8 ^ 0x5A; 68]);
        assert_eq!(bench.queue.pop(&memory, &mut chain), Ok(true));
        bench.queue.push(&memory, chain.ticket(), u32::from(round));
        assert!(bench.queue.publish(&memory));
        let at = RING.device + 4 + 8 * u64::from(round % 8);
        assert_eq!(memory.peek_u16(RING.device + 2), round + 1);
        assert_eq!(memory.peek_u32(at), 0);
        assert_eq!(memory.peek_u32(at + 4), u32::from(round));
    }
}

#[test]
fn vio_17_a_poisoned_event_index() {
    for event in [0, 1, 7, 8, 0x7FFF, 0x8000, u16::MAX] {
        let mut bench = Bench::new(8, Features::EVENT_IDX);
        let mut chain = Chain::new();
        let mut interrupts = 0;
        for _ in 0..8 {
            bench.descriptor(0, (DATA, 4, WRITE, 0));
            bench.offer(0);
            let memory = &bench.ram;
            memory.poke_u16(RING.driver + 20, event);
            assert_eq!(bench.queue.pop(&memory, &mut chain), Ok(true));
            bench.queue.push(&memory, chain.ticket(), 4);
            interrupts += u32::from(bench.queue.publish(&memory));
        }
        assert_eq!(interrupts, u32::from(event < 8), "{event}");
    }
}

#[test]
fn notifications_are_asked_for_and_not() {
    let ram = Ram::new(BYTES);
    let mut split = queue(&ram, RING, NONE);
    let mut packed = queue(&ram, RING, Features::RING_PACKED);
    for _ in 0..3 {
        split.quiet(&&ram);
        assert_eq!(ram.peek_u16(RING.device), 1);
        assert!(!split.listen(&&ram));
        assert_eq!(ram.peek_u16(RING.device), 0);
        packed.quiet(&&ram);
        assert_eq!(ram.peek_u32(RING.device), 1 << 16);
        assert!(!packed.listen(&&ram));
        assert_eq!(ram.peek_u32(RING.device), 0);
    }
}
