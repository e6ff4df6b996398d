//! A driver for tests, written against the specification and not against the device side: it shares no code with it.
//!
//! [`Driver`] is one queue. [`Driver::send`] puts bytes and room into memory of its own, makes one chain of them available
//! and says whether the device must be notified; [`Driver::receive`] takes what the device has used.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "for tests: whatever is unexpected ends them"
)]

#[cfg(test)]
pub(crate) mod away;
mod packed;
#[cfg(test)]
pub(crate) mod slot;
mod split;

use std::collections::VecDeque;
use std::vec::Vec;

use crate::fake::Ram;
use crate::features::Features;
use crate::queue::QueueConfig;

use self::packed::Packed;
use self::split::Split;

/// A buffer: where and how long.
pub type Buffer = (u64, u32);

/// A chain that the device has used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// What [`Driver::send`] or [`Driver::add`] has returned.
    pub token: u16,
    /// Bytes that the device says it wrote.
    pub written: u32,
    /// All of the writable buffers, one behind the other.
    pub data: Vec<u8>,
}

/// What the driver knows of a chain that the device has.
#[derive(Clone, Debug)]
struct Sent {
    token: u16,
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
}

/// The driver's side of one queue.
pub struct Driver<'a> {
    ram: &'a Ram,
    ring: Ring<'a>,
    config: QueueConfig,
    indirect: bool,
    may_be_indirect: bool,
    in_order: bool,
    /// Buffers of a token begin here, and the next one's so many bytes later.
    buffers: u64,
    room: u64,
    /// In the order in which they were made available.
    sent: VecDeque<Sent>,
    done: VecDeque<Done>,
}

enum Ring<'a> {
    Split(Split<'a>),
    Packed(Packed<'a>),
}

/// One descriptor of a list.
#[derive(Clone, Copy)]
struct Element {
    at: u64,
    len: u32,
    write: bool,
}

impl<'a> Driver<'a> {
    /// Lays a queue out at an address (aligned to a page), followed by memory for its buffers: so many bytes in all.
    ///
    /// # Panics
    /// If that is too little.
    #[must_use]
    pub fn new(ram: &'a Ram, at: u64, bytes: u64, size: u16, features: Features) -> Self {
        let entries = u64::from(size);
        let descriptors = at;
        let driver = descriptors + 16 * entries;
        let device = (driver + 6 + 2 * entries).next_multiple_of(4);
        let buffers = (device + 6 + 8 * entries).next_multiple_of(64);
        let room = (at + bytes).checked_sub(buffers).expect("room") / entries / 16 * 16;
        assert!(room >= 64, "{room} bytes are no room for buffers");
        let start = usize::try_from(buffers - at).expect("small");
        ram.poke(at, &std::vec![0; start]);
        let config = QueueConfig {
            size,
            descriptors,
            driver,
            device,
        };
        let ring = if features.contains(Features::RING_PACKED) {
            Ring::Packed(Packed::new(ram, config, features))
        } else {
            Ring::Split(Split::new(ram, config, features))
        };
        Self {
            ram,
            ring,
            config,
            indirect: features.contains(Features::INDIRECT_DESC),
            may_be_indirect: features.contains(Features::INDIRECT_DESC),
            in_order: features.contains(Features::IN_ORDER),
            buffers,
            room,
            sent: VecDeque::new(),
            done: VecDeque::new(),
        }
    }

    /// What the driver tells the transport.
    #[must_use]
    pub fn config(&self) -> QueueConfig {
        self.config
    }

    /// Whether lists go into a table of their own from now on, if that was agreed. They do, to begin with.
    pub fn set_indirect(&mut self, indirect: bool) {
        self.indirect = indirect && self.may_be_indirect;
    }

    /// Bytes for the buffers of one chain, and 16 more for each of them.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room as usize
    }

    /// The areas: descriptors, the driver's and the device's; where each is, and its bytes.
    #[must_use]
    pub fn areas(&self) -> [(u64, u64); 3] {
        let entries = u64::from(self.config.size);
        let (driver, device) = match self.ring {
            Ring::Split(_) => (6 + 2 * entries, 6 + 8 * entries),
            Ring::Packed(_) => (4, 4),
        };
        [
            (self.config.descriptors, 16 * entries),
            (self.config.driver, driver),
            (self.config.device, device),
        ]
    }

    /// The buffers that the device has, those to be read among them or not.
    pub fn buffers(&self, also_readable: bool) -> impl Iterator<Item = (u64, u64)> {
        let each = move |sent: &'_ Sent| {
            let readable = sent.readable.iter().filter(|_| also_readable);
            let all = readable.chain(&sent.writable).copied();
            all.collect::<Vec<Buffer>>()
        };
        let all = self.sent.iter().flat_map(each);
        all.map(|(at, len)| (at, u64::from(len)))
    }

    /// Where the device may write: its part of the ring, and the buffers that it has for that.
    #[must_use]
    pub fn writable(&self) -> Vec<(u64, u64)> {
        let [descriptors, _, device] = self.areas();
        let ring = matches!(self.ring, Ring::Packed(_)).then_some(descriptors);
        let areas = ring.into_iter().chain([device]);
        areas.chain(self.buffers(false)).collect()
    }

    /// How many chains the device has.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// Makes a chain of bytes for the device to read and of room for it to write, and exposes it. The token, and whether
    /// the device must be notified; `None` when the queue is full.
    ///
    /// # Panics
    /// If the buffers are too large.
    pub fn send(&mut self, readable: &[&[u8]], writable: &[usize]) -> Option<(u16, bool)> {
        let token = self.prepare(readable, writable)?;
        Some((token, self.expose()))
    }

    /// The same, not yet exposed: the device is not to see it before [`expose`](Self::expose).
    ///
    /// # Panics
    /// If the buffers are too large.
    pub fn prepare(&mut self, readable: &[&[u8]], writable: &[usize]) -> Option<u16> {
        let token = self.next_token(readable.len() + writable.len())?;
        let base = self.buffers + u64::from(token) * self.room;
        // A table, if there is one, comes first.
        let mut at = base + 16 * (readable.len() + writable.len()) as u64;
        let mut place = |bytes: usize| {
            let here = (at, u32::try_from(bytes).expect("short"));
            at += bytes as u64;
            here
        };
        let reads: Vec<Buffer> = readable.iter().map(|one| place(one.len())).collect();
        let writes: Vec<Buffer> = writable.iter().map(|&one| place(one)).collect();
        assert!(at <= base + self.room, "buffers of {} bytes", at - base);
        for (bytes, buffer) in readable.iter().zip(&reads) {
            self.ram.poke(buffer.0, bytes);
        }
        for buffer in &writes {
            self.ram.poke(buffer.0, &std::vec![0; buffer.1 as usize]);
        }
        let added = self.add(&reads, &writes)?;
        assert_eq!(added, token);
        Some(token)
    }

    /// Adds a chain of buffers that are somewhere. The token; `None` when the queue is full. Not yet exposed.
    pub fn add(&mut self, readable: &[Buffer], writable: &[Buffer]) -> Option<u16> {
        let element = |write| move |&(at, len): &Buffer| Element { at, len, write };
        let list: Vec<Element> = (readable.iter().map(element(false)))
            .chain(writable.iter().map(element(true)))
            .collect();
        let token = self.next_token(list.len())?;
        let table =
            (self.indirect && list.len() > 1).then(|| self.buffers + u64::from(token) * self.room);
        match &mut self.ring {
            Ring::Split(ring) => ring.add(&list, table),
            Ring::Packed(ring) => ring.add(&list, table),
        }
        self.sent.push_back(Sent {
            token,
            readable: readable.to_vec(),
            writable: writable.to_vec(),
        });
        Some(token)
    }

    /// Shows the device what was added. Whether it must be notified.
    pub fn expose(&mut self) -> bool {
        match &mut self.ring {
            Ring::Split(ring) => ring.expose(),
            Ring::Packed(ring) => ring.expose(),
        }
    }

    /// The next chain that the device has used.
    ///
    /// # Panics
    /// If the device gives back what it did not have, or in another order than was agreed.
    pub fn receive(&mut self) -> Option<Done> {
        if self.done.is_empty() {
            let (token, written) = match &mut self.ring {
                Ring::Split(ring) => ring.receive(),
                Ring::Packed(ring) => ring.receive(),
            }?;
            let place = self.sent.iter().position(|sent| sent.token == token);
            let place = place.expect("the device has that chain");
            if self.in_order {
                // It may have skipped those before, which it has then used completely (2.7.9, 2.8.8).
                for _ in 0..place {
                    let sent = self.sent.pop_front().expect("counted");
                    let all = sent.writable.iter().map(|one| one.1).sum();
                    self.finish(&sent, all);
                }
                let sent = self.sent.pop_front().expect("it is there");
                self.finish(&sent, written);
            } else {
                let sent = self.sent.remove(place).expect("it is there");
                self.finish(&sent, written);
            }
        }
        self.done.pop_front()
    }

    fn finish(&mut self, sent: &Sent, written: u32) {
        match &mut self.ring {
            Ring::Split(ring) => ring.free(sent.token),
            Ring::Packed(ring) => ring.free(sent.token),
        }
        let mut data = Vec::new();
        for &(at, len) in &sent.writable {
            data.extend(self.ram.peek(at, len as usize));
        }
        self.done.push_back(Done {
            token: sent.token,
            written,
            data,
        });
    }

    /// Asks for no interrupts.
    pub fn mask(&mut self) {
        match &mut self.ring {
            Ring::Split(ring) => ring.mask(),
            Ring::Packed(ring) => ring.mask(),
        }
    }

    /// Asks for an interrupt when so many more chains (at least one, and no more than are in flight) are used; at the next
    /// one without `EVENT_IDX`. False, if that has happened already: nobody must sleep then.
    pub fn sleep(&mut self, chains: u16) -> bool {
        match &mut self.ring {
            Ring::Split(ring) => ring.sleep(chains),
            Ring::Packed(ring) => ring.sleep(chains),
        }
    }

    /// The token that a chain of so many buffers would get.
    fn next_token(&self, buffers: usize) -> Option<u16> {
        assert_ne!(buffers, 0, "a chain has a buffer");
        let descriptors = if self.indirect { 1 } else { buffers };
        match &self.ring {
            Ring::Split(ring) => ring.token(descriptors),
            Ring::Packed(ring) => ring.token(descriptors),
        }
    }
}
