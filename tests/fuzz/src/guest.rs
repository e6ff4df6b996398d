//! A guest with one device: its registers, its memory, and a driver that either keeps to the rings' rules or to none.

use virtio::balloon::Wish;
use virtio::device::{Device, Env, Event, Served};
use virtio::fake::{BASE, Ram};
use virtio::features::Features;
use virtio::lint::{Finding, Lint, Subject};
use virtio::mmio::{Offer, Transport};
use virtio::rig::Driver;

use crate::input::Input;
use crate::watch::Watch;

/// Queues that a driver sets up, and the bytes for each of them.
const QUEUES: u64 = 8;
const QUEUE_BYTES: u64 = 0x8000;
/// A page that no driver gives to its device, at the end of the memory.
const CANARY: u64 = BASE + QUEUES * QUEUE_BYTES;
/// All of the memory.
pub const BYTES: usize = (CANARY - BASE) as usize + 0x1000;
/// The most accesses to memory that one store to a register may cause.
const MOST: usize = 400_000;

/// Sectors of a disk, if the device has one.
pub const SECTORS: u64 = 48;
/// Polls after which a good driver has all its answers, and ticks between them: 10 ms.
const POLLS: usize = 600;
const TICKS: u64 = 625_000;
/// Nowhere.
const NOTHING: (u64, u64) = (0, 0);

const STATUS: u64 = 0x70;
const NOTIFY: u64 = 0x50;
const CONFIG: u64 = 0x100;

/// The device of a guest.
pub type Dyn<'d, 'a> = &'d mut (dyn Device<&'a Ram> + 'd);

/// Makes bytes that mean something to a device, out of an input.
pub type Template = fn(&mut Input<'_>) -> Vec<u8>;

pub struct Guest<'d, 'a> {
    template: Template,
    lint: Box<Lint>,
    /// Its driver keeps to the rules of rings, and the lint has to see it.
    good: bool,
    ram: &'a Ram,
    watch: Watch,
    device: Dyn<'d, 'a>,
    transport: Transport,
    drivers: Vec<Option<Driver<'a>>>,
    packed: bool,
    size: u16,
    available: [u16; QUEUES as usize],
    now: u64,
}

impl<'d, 'a> Guest<'d, 'a> {
    pub fn new(ram: &'a Ram, device: Dyn<'d, 'a>, template: Template, good: bool) -> Self {
        let transport = Transport::new(Offer::ALL);
        let subject = Subject {
            id: device.id(),
            offered: transport.offered(&*device),
            sectors: SECTORS,
        };
        Self {
            template,
            lint: Box::new(Lint::new(subject)),
            good,
            ram,
            watch: Watch::on(ram),
            device,
            transport,
            drivers: Vec::new(),
            packed: false,
            size: 0,
            available: [0; QUEUES as usize],
            now: 0,
        }
    }

    /// Does what some bytes say, with a driver that keeps to the rules of rings.
    pub fn behave(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 => self.begin(input),
            1..=4 => self.send(input),
            5 | 6 => self.receive(input),
            7 => self.poll(input),
            8 => self.read(input),
            9 => {
                let queue = u32::from(input.byte() % 10);
                self.store(NOTIFY, 4, u64::from(queue));
            }
            10 => {
                let (offset, bytes) = (u64::from(input.byte()), 1 << (input.byte() % 4));
                let value = u64::from(input.word());
                self.store(CONFIG + offset, bytes, value);
            }
            _ => self.sleep(input),
        }
    }

    /// Does what some bytes say, whatever that is.
    pub fn attack(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 => self.begin(input),
            1 => {
                let (offset, bytes) = (register(input), 1 << (input.byte() % 4));
                let value = u64::from(input.word());
                self.store(offset, bytes, value);
            }
            2 => self.read(input),
            3 => {
                let (at, value) = (self.place(input), input.half());
                self.ram.poke_u16(at, value);
            }
            4 | 5 => self.descriptor(input),
            6 => self.table(input),
            7 | 8 => self.offer(input),
            9 => self.poll(input),
            10 => {
                let (at, value) = (self.place(input), input.half());
                let mut watched = self.watch.get();
                let when = watched.accesses + usize::from(input.byte());
                watched.stores.push((when, at, value));
            }
            _ => self.store(STATUS, 4, u64::from(input.byte())),
        }
    }

    /// What no driver gave away is as it was. Not so after an attack: that may have given away everything.
    pub fn check(&self) {
        let canary = self.ram.peek(CANARY, 0x1000);
        assert!(
            canary.iter().all(|byte| *byte == 0),
            "the device wrote elsewhere"
        );
    }

    /// Lets time pass until the device is done with all that its driver has sent. It is, unless it needs a reset.
    pub fn drain(&mut self) {
        for _ in 0..POLLS {
            self.now += TICKS;
            self.poll_now();
            let mut left = 0;
            for driver in self.drivers.iter_mut().flatten() {
                while driver.receive().is_some() {}
                left += driver.in_flight();
            }
            if left == 0 || self.load(STATUS, 4) & 64 != 0 {
                return;
            }
        }
        panic!("there are requests without an answer");
    }

    /// No more hooks.
    pub fn end(&self) {
        self.ram.clear_hook();
    }

    fn store(&mut self, offset: u64, bytes: usize, value: u64) {
        let (lint, memory) = (&mut self.lint, self.ram);
        let mut tell = telling(self.good);
        let own = self.watch.allow(vec![NOTHING]);
        self.watch.bounded(MOST, || {
            lint.stored(offset, bytes as u32, value, &memory, &mut tell);
        });
        let is_status = offset == STATUS && bytes == 4;
        // After a reset nothing is written (2.4.2) before the driver says that it is ready (3.1.1).
        let ready = is_status && value & 4 != 0;
        self.watch.allow(if ready { Vec::new() } else { own });
        let _ =
            self.with(|transport, device, env| transport.write(device, offset, bytes, value, env));
        if is_status && value & 0xFFFF_FFFF == 0 {
            self.watch.allow(vec![NOTHING]);
        }
    }

    fn load(&mut self, offset: u64, bytes: usize) -> u64 {
        let value = self.transport.read(&*self.device, offset, bytes);
        let mut tell = telling(self.good);
        self.lint.loaded(offset, bytes as u32, value, &mut tell);
        value
    }

    /// Has the device work, and watches it.
    fn with(
        &mut self,
        work: impl FnOnce(&mut Transport, Dyn<'_, 'a>, &mut Env<'_, &'a Ram>) -> Served,
    ) -> Served {
        let (lint, memory) = (&mut self.lint, self.ram);
        let mut tell = telling(self.good);
        let mut seen = |event: Event| {
            if let Event::Popped {
                readable, writable, ..
            } = event
            {
                assert!(readable + writable <= 1 << 32);
            }
            lint.device(event, &memory, &mut tell);
        };
        let mut env = Env {
            memory: self.ram,
            now: self.now,
            frequency: 62_500_000,
            trace: Some(&mut seen),
        };
        let (transport, device) = (&mut self.transport, &mut *self.device);
        self.watch
            .bounded(MOST, || work(transport, device, &mut env))
    }

    fn poll(&mut self, input: &mut Input<'_>) {
        let (half, byte) = (input.half(), input.byte());
        self.now += u64::from(half) << (byte % 24);
        self.poll_now();
        if byte >= 128 {
            self.wish(half);
        }
    }

    /// The operator wants something of a balloon, if the device is one: new figures, or some pages, perhaps too many.
    fn wish(&mut self, what: u16) {
        let statistics = what & 1 != 0;
        let pages = (!statistics).then_some(u32::from(what >> 8));
        let wish = Wish { pages, statistics };
        let _ = self.with(|transport, device, env| {
            let answer = transport.balloon(device, wish, BYTES as u64, env);
            answer.map_or(Served::default(), |(served, _)| served)
        });
    }

    fn poll_now(&mut self) {
        let served = self.with(|transport, device, env| transport.poll(device, env));
        // Whoever polls a device when it wants that does not do so without end.
        let due = self.transport.due(&*self.device);
        assert!(
            served.more || due > self.now,
            "due {due}, and it is {}",
            self.now
        );
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let (offset, bytes) = (register(input), 1 << (input.byte() % 4));
        let _ = self.load(offset, bytes);
    }

    /// From a reset to a driver that is ready (3.1.1), with some of the features.
    fn begin(&mut self, input: &mut Input<'_>) {
        self.drivers.clear();
        for status in [0, 1, 3] {
            self.store(STATUS, 4, status);
        }
        let mut features = 0;
        for half in 0..2_u64 {
            self.store(0x14, 4, half);
            let offered = self.load(0x10, 4) as u32;
            // Mostly all of them.
            let mut taken = offered;
            for _ in 0..input.byte() % 4 {
                taken &= !(1 << (input.byte() % 32));
            }
            if half == 1 {
                // VERSION_1, and not NOTIFICATION_DATA: what is written is a queue's number.
                taken = taken & !(1 << 6) | 1;
            }
            self.store(0x24, 4, half);
            self.store(0x20, 4, u64::from(taken));
            features |= u64::from(taken) << (32 * half);
        }
        self.store(STATUS, 4, 11);
        if self.load(STATUS, 4) & 8 == 0 {
            return;
        }
        let features = Features::from_bits_retain(features);
        self.packed = features.contains(Features::RING_PACKED);
        self.size = 1 << (input.byte() % 6);
        self.available = [0; QUEUES as usize];
        for queue in 0..QUEUES {
            self.store(0x30, 4, queue);
            if self.load(0x34, 4) < u64::from(self.size) {
                self.drivers.push(None);
                continue;
            }
            let at = BASE + queue * QUEUE_BYTES;
            let driver = Driver::new(self.ram, at, QUEUE_BYTES, self.size, features);
            let config = driver.config();
            self.drivers.push(Some(driver));
            self.store(0x38, 4, u64::from(config.size));
            let addresses = [
                (0x80, config.descriptors),
                (0x90, config.driver),
                (0xa0, config.device),
            ];
            for (register, address) in addresses {
                self.store(register, 4, address & 0xFFFF_FFFF);
                self.store(register + 4, 4, address >> 32);
            }
            self.store(0x44, 4, 1);
        }
        self.store(STATUS, 4, 15);
    }

    /// A chain that is one, with bytes of the input's and room for an answer.
    fn send(&mut self, input: &mut Input<'_>) {
        let queue = usize::from(input.byte()) % QUEUES as usize;
        let shape = input.byte();
        // Bytes that count come first; what follows them is long, and all the same.
        let head = self.bytes(input);
        let tail = vec![input.byte(); input.half() as usize % 1600];
        let cut = head.len().min(usize::from(input.byte()));
        let (first, second) = head.split_at(cut);
        let mut reads: Vec<&[u8]> = vec![first, second, &tail];
        reads.truncate(usize::from(shape % 4));
        reads.retain(|one| !one.is_empty());
        let rooms = [u16::from(input.byte()), input.half() % 1600, 1];
        let mut rooms: Vec<usize> = rooms.into_iter().map(usize::from).collect();
        rooms.truncate(usize::from(shape / 4 % 4));
        rooms.retain(|one| *one != 0);
        let Some(Some(driver)) = self.drivers.get_mut(queue) else {
            return;
        };
        driver.set_indirect(shape & 0x80 == 0);
        let buffers = reads.len() + rooms.len();
        let bytes = reads.iter().map(|one| one.len()).sum::<usize>() + rooms.iter().sum::<usize>();
        if buffers == 0 || buffers > usize::from(self.size) || bytes + 16 * buffers > driver.room()
        {
            return;
        }
        let Some((_, notify)) = driver.send(&reads, &rooms) else {
            return;
        };
        if notify {
            self.store(NOTIFY, 4, queue as u64);
        }
    }

    /// Bytes for a device: any, or such as mean something to it.
    fn bytes(&self, input: &mut Input<'_>) -> Vec<u8> {
        let kind = input.byte();
        if kind < 128 {
            return (0..kind % 80).map(|_| input.byte()).collect();
        }
        let mut bytes = (self.template)(input);
        // Almost.
        for _ in 0..kind % 4 {
            let (at, value) = (usize::from(input.byte()), input.byte());
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes
    }

    fn receive(&mut self, input: &mut Input<'_>) {
        let queue = usize::from(input.byte()) % QUEUES as usize;
        if let Some(Some(driver)) = self.drivers.get_mut(queue) {
            driver.mask();
            while let Some(done) = driver.receive() {
                assert!(
                    done.written as usize <= done.data.len(),
                    "more than there is room"
                );
            }
        }
    }

    fn sleep(&mut self, input: &mut Input<'_>) {
        let queue = usize::from(input.byte()) % QUEUES as usize;
        if let Some(Some(driver)) = self.drivers.get_mut(queue) {
            let _ = driver.sleep(1);
        }
    }

    /// A place that an attacker writes to: in the rings, or in the first buffers.
    fn place(&self, input: &mut Input<'_>) -> u64 {
        let queue = u64::from(input.byte()) % QUEUES;
        BASE + queue * QUEUE_BYTES + u64::from(input.half()) % 0x2000 / 2 * 2
    }

    /// A descriptor of a queue, with any contents.
    fn descriptor(&mut self, input: &mut Input<'_>) {
        let queue = u64::from(input.byte()) % QUEUES;
        let slot = u64::from(input.byte()) % u64::from(self.size.max(1));
        let at = BASE + queue * QUEUE_BYTES + 16 * slot;
        self.describe(at, input);
    }

    fn describe(&self, at: u64, input: &mut Input<'_>) {
        let address = match input.byte() % 8 {
            0..=5 => self.place(input),
            6 => BASE + u64::from(input.half()) * 4,
            _ => u64::from(input.word()) << (input.byte() % 33),
        };
        let (len, flags, link) = (input.len(), input.half(), u16::from(input.byte()));
        let (first, second) = if self.packed {
            (link, flags)
        } else {
            (flags, link)
        };
        self.ram.poke_u64(at, address);
        self.ram.poke_u32(at + 8, len);
        self.ram.poke_u16(at + 12, first);
        self.ram.poke_u16(at + 14, second);
    }

    /// Some descriptors one behind the other, somewhere among the buffers; and bytes for them.
    fn table(&self, input: &mut Input<'_>) {
        let at = self.place(input);
        for entry in 0..u64::from(input.byte() % 4) {
            self.describe(at + 16 * entry, input);
        }
        let at = self.place(input);
        let bytes = self.bytes(input);
        self.ram.poke(at, &bytes);
    }

    /// Makes some descriptors available, and notifies.
    fn offer(&mut self, input: &mut Input<'_>) {
        let queue = usize::from(input.byte()) % QUEUES as usize;
        let (count, first) = (u16::from(input.byte() % 5), u16::from(input.byte()));
        let Some(Some(driver)) = self.drivers.get(queue) else {
            return;
        };
        let config = driver.config();
        for step in 0..count {
            let index = first.wrapping_add(step) % config.size;
            if self.packed {
                let at = config.descriptors + 16 * u64::from(index) + 14;
                self.ram.poke_u16(at, self.ram.peek_u16(at) ^ 0x8080);
            } else {
                let next = &mut self.available[queue];
                let slot = u64::from(*next % config.size);
                self.ram.poke_u16(config.driver + 4 + 2 * slot, index);
                *next = next.wrapping_add(1);
                self.ram.poke_u16(config.driver + 2, *next);
            }
        }
        self.store(NOTIFY, 4, queue as u64);
    }
}

/// What becomes of findings: of a good driver there is none about rings.
fn telling(good: bool) -> impl FnMut(Finding) {
    move |found| {
        let rings = ["2.7", "2.8", "2.9", "2.10"];
        let section = found.rule.section;
        let of_rings = rings.iter().any(|one| section.starts_with(one));
        assert!(
            !(good && of_rings),
            "a good driver, and {} at queue {:?}, {:?}",
            found.rule.id,
            found.queue,
            found.descriptor
        );
    }
}

/// An offset in the window: mostly of a register.
fn register(input: &mut Input<'_>) -> u64 {
    let byte = u64::from(input.byte());
    match byte {
        0..0x40 => byte * 4,
        0x40..0x80 => CONFIG + (byte - 0x40),
        0x80..0xC0 => byte,
        _ => u64::from(input.half() % 0x1000),
    }
}
