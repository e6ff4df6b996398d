//! A ring of either format, under a driver that writes anything anywhere at any moment.

use std::collections::{HashMap, VecDeque};

use stage2_addr::Ipa;
use virtio::chain::{Chain, Cursor, Segment, Ticket};
use virtio::fake::{BASE, Ram};
use virtio::queue::{Broken, Queue, QueueConfig};
use virtio::{Features, GuestMemory};

use crate::input::Input;
use crate::watch::Watch;

const FIRST: usize = 0x6000;
const HOLE: usize = 0x1000;
const SECOND: usize = 0x2000;

const DESCRIPTORS: u64 = BASE;
const DRIVER: u64 = BASE + 0x1000;
const DEVICE: u64 = BASE + 0x2000;
const BUFFERS: u64 = BASE + 0x3000;

/// The most accesses that a pop may take: two for each of 256 descriptors in the ring and 256 in a table, and a few.
const MOST: usize = 2 * 512 + 4;

/// A split ring.
pub fn split(bytes: &[u8]) {
    Run::new(Input::new(bytes), Features::empty()).go();
}

/// A packed ring.
pub fn packed(bytes: &[u8]) {
    Run::new(Input::new(bytes), Features::RING_PACKED).go();
}

struct Run<'a> {
    input: Input<'a>,
    ram: Ram,
    watch: Watch,
    features: Features,
    config: QueueConfig,
    queue: Queue,
    chain: Box<Chain>,
    /// Where the device may always write.
    own: Vec<(u64, u64)>,
    /// Chains that the device has, with their ids.
    has: VecDeque<Ticket>,
    ids: HashMap<u16, ()>,
    available: u16,
    pushed: u16,
    broken: bool,
}

impl<'a> Run<'a> {
    fn new(mut input: Input<'a>, mut features: Features) -> Self {
        let ram = Ram::with_hole(FIRST, HOLE, SECOND);
        let bits = input.byte();
        features.set(Features::EVENT_IDX, bits & 1 != 0);
        features.set(Features::INDIRECT_DESC, bits & 2 != 0);
        let packed = features.contains(Features::RING_PACKED);
        let size = if packed {
            u16::from(input.byte()) + 1
        } else {
            1 << (input.byte() % 9)
        };
        let config = QueueConfig {
            size,
            descriptors: DESCRIPTORS,
            driver: DRIVER,
            device: DEVICE,
        };
        let queue = Queue::new(&config, 256, features, &&ram).expect("a queue");
        let own = if packed {
            vec![(DESCRIPTORS, 16 * u64::from(size)), (DEVICE, 4)]
        } else {
            vec![(DEVICE, 6 + 8 * u64::from(size))]
        };
        let watch = Watch::on(&ram);
        watch.get().writable.clone_from(&own);
        Self {
            input,
            ram,
            watch,
            features,
            config,
            queue,
            chain: Box::new(Chain::new()),
            own,
            has: VecDeque::new(),
            ids: HashMap::new(),
            available: 0,
            pushed: 0,
            broken: false,
        }
    }

    fn go(mut self) {
        // A driver has written a few good descriptors, so that not every input has to.
        for index in 0..8.min(self.config.size) {
            self.describe(
                index,
                BUFFERS + 64 * u64::from(index),
                64,
                0x80 | ((index % 2) * 2),
                index,
            );
        }
        let mut steps = 0;
        while !self.input.is_empty() && steps < 512 {
            steps += 1;
            self.step();
        }
        self.ram.clear_hook();
    }

    fn step(&mut self) {
        match self.input.byte() % 12 {
            0 => {
                let at = self.place();
                let value = self.input.half();
                self.ram.poke_u16(at, value);
            }
            1 | 2 => self.descriptor(),
            3 => self.table(),
            4 => self.offer(),
            5 | 6 => self.pop(),
            7 => self.push(),
            8 => self.publish(),
            9 => self.queue.quiet(&&self.ram),
            10 => {
                let _ = self.queue.listen(&&self.ram);
            }
            _ => {
                let at = self.place();
                let value = self.input.half();
                let mut watched = self.watch.get();
                let when = watched.accesses + usize::from(self.input.byte() % 64);
                watched.stores.push((when, at, value));
            }
        }
    }

    /// A place in RAM that a driver writes to: mostly in the ring.
    fn place(&mut self) -> u64 {
        let selector = self.input.byte();
        let offset = u64::from(self.input.half());
        match selector % 4 {
            0 => DESCRIPTORS + offset % (16 * u64::from(self.config.size)) / 2 * 2,
            1 => DRIVER + offset % 0x206 / 2 * 2,
            2 => DEVICE + offset % 0x806 / 2 * 2,
            _ => BUFFERS + offset % 0x2000 / 2 * 2,
        }
    }

    /// An address for a buffer: mostly a good one.
    fn address(&mut self) -> u64 {
        let selector = self.input.byte();
        let offset = u64::from(self.input.half());
        match selector % 8 {
            0..=4 => BUFFERS + offset % 0x2000,
            5 => BASE + offset % (FIRST + HOLE + SECOND + 64) as u64,
            6 => offset << (selector / 8),
            _ => u64::MAX - offset,
        }
    }

    fn descriptor(&mut self) {
        let index = u16::from(self.input.byte()) % self.config.size;
        let (address, len) = (self.address(), self.input.len());
        let (flags, link) = (self.input.half(), u16::from(self.input.byte()));
        self.describe(index, address, len, flags, link);
    }

    fn table(&mut self) {
        let at = BUFFERS + 0x1000 + u64::from(self.input.byte());
        for entry in 0..self.input.byte() % 8 {
            let (address, len) = (self.address(), self.input.len());
            let (flags, link) = (self.input.byte(), self.input.byte());
            let at = at + 16 * u64::from(entry);
            self.write(at, address, len, u16::from(flags), u16::from(link));
        }
    }

    fn describe(&self, index: u16, address: u64, len: u32, flags: u16, link: u16) {
        let at = DESCRIPTORS + 16 * u64::from(index);
        self.write(at, address, len, flags, link);
    }

    fn write(&self, at: u64, address: u64, len: u32, flags: u16, link: u16) {
        let packed = self.features.contains(Features::RING_PACKED);
        let (first, second) = if packed { (link, flags) } else { (flags, link) };
        self.ram.poke_u64(at, address);
        self.ram.poke_u32(at + 8, len);
        self.ram.poke_u16(at + 12, first);
        self.ram.poke_u16(at + 14, second);
    }

    /// Puts heads into a split ring; makes slots of a packed one available.
    fn offer(&mut self) {
        let (count, first) = (self.input.byte() % 9, u16::from(self.input.byte()));
        for step in 0..u16::from(count) {
            let index = first.wrapping_add(step) % self.config.size;
            if self.features.contains(Features::RING_PACKED) {
                let at = DESCRIPTORS + 16 * u64::from(index) + 14;
                self.ram.poke_u16(at, self.ram.peek_u16(at) ^ 0x8080);
            } else {
                let slot = u64::from(self.available % self.config.size);
                self.ram.poke_u16(DRIVER + 4 + 2 * slot, index);
                self.available = self.available.wrapping_add(1);
            }
        }
        if !self.features.contains(Features::RING_PACKED) {
            self.ram.poke_u16(DRIVER + 2, self.available);
        }
    }

    fn pop(&mut self) {
        let popped = self
            .watch
            .bounded(MOST, || self.queue.pop(&&self.ram, &mut self.chain));
        if self.broken {
            assert_eq!(popped, Err(Broken));
        }
        self.broken |= popped.is_err();
        assert_eq!(self.broken, self.queue.is_broken());
        if popped != Ok(true) {
            return;
        }
        let ticket = self.chain.ticket();
        let id = ticket.id();
        assert!(self.ids.insert(id, ()).is_none(), "{id} twice in flight");
        self.has.push_back(ticket);
        self.judge();
    }

    /// Everything that a chain promises.
    fn judge(&self) {
        let readable = pieces(self.chain.readable());
        let writable = pieces(self.chain.writable());
        let all = readable.iter().chain(&writable);
        let total: u64 = all.clone().map(|one| u64::from(one.len)).sum();
        assert!(total > 0 && total <= 1 << 32);
        assert!(readable.len() + writable.len() <= 256);
        for one in all {
            assert!((&self.ram).contains(one.at, u64::from(one.len)), "{one:?}");
        }
        let bytes = |of: &[Segment]| of.iter().map(|one| u64::from(one.len)).sum::<u64>();
        assert_eq!(self.chain.readable_len(), bytes(&readable));
        assert_eq!(self.chain.writable_len(), bytes(&writable));
        // What the device writes goes into writable buffers, and nowhere else.
        let mut allowed = self.own.clone();
        allowed.extend(
            writable
                .iter()
                .map(|one| (one.at.raw(), u64::from(one.len))),
        );
        self.watch.get().writable = allowed;
        let most = self.chain.writable_len().min(100) as usize;
        let written = self.chain.writable().write(&&self.ram, &vec![0xA5; most]);
        assert!(written.is_some());
        self.watch.get().writable.clone_from(&self.own);
    }

    fn push(&mut self) {
        let which = usize::from(self.input.byte());
        let written = self.input.len();
        if self.has.is_empty() {
            return;
        }
        let which = which % self.has.len();
        let ticket = self.has.remove(which).expect("it is there");
        self.ids.remove(&ticket.id());
        let memory = &self.ram;
        self.watch
            .bounded(3, || self.queue.push(&memory, ticket, written));
        // Not a second time.
        self.watch
            .bounded(0, || self.queue.push(&memory, ticket, written));
        self.pushed = self.pushed.wrapping_add(1);
    }

    fn publish(&mut self) {
        let _ = self.watch.bounded(2, || self.queue.publish(&&self.ram));
        // Nothing is left to show.
        assert!(!self.watch.bounded(0, || self.queue.publish(&&self.ram)));
    }
}

/// The buffers behind a cursor.
fn pieces(mut cursor: Cursor<'_>) -> Vec<Segment> {
    let mut all = Vec::new();
    while let Some(one) = cursor.take(u32::MAX) {
        assert_ne!(one.len, 0);
        assert!(one.at >= Ipa::new(BASE));
        all.push(one);
    }
    all
}
