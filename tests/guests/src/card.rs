//! A network card, driven as plainly as can be: split rings of two entries, one frame at a time, and what a driver such
//! as Linux's agrees to of what counts on a frame's way: event indices and mergeable buffers.
//!
//! The sender wants no interrupts, the receiver one for each frame.

use tests_arch::memory::SpareRam;

use crate::slot::{CONFIG, DEVICE_ID, DRIVER_OK, QUEUE_NOTIFY, STATUS, Slot, VERSION_1, WRITE};

/// `CSUM`, `GUEST_CSUM`, `MRG_RXBUF`, `EVENT_IDX`, `VERSION_1`.
const FEATURES: u64 = 1 | 1 << 1 | 1 << 15 | 1 << 29 | VERSION_1;

/// Where a ring's parts are, in words: two descriptors, the available ring, the used ring, and two buffers.
const AVAILABLE: u64 = 4;
const USED: u64 = 6;
const BUFFERS: u64 = 16;
const BUFFER: u64 = 256;
const RING: u64 = 1024;
/// Words of a card's two rings.
pub const CARD: u64 = 2 * RING;
const RECEIVE: u64 = 0;
const TRANSMIT: u64 = 1;
/// Virtio's header and Ethernet's.
const HEADER: u64 = 12;
/// IPv4, its high byte first. What the switch carries is nothing to it.
const ETHERTYPE: u64 = 0x0008;

/// A card.
#[derive(Debug)]
pub struct Card<'a> {
    slot: Slot,
    ram: &'a SpareRam,
    /// The first word of its receive ring; the other one follows.
    at: u64,
    /// How many frames it was given buffers for, or has sent.
    turns: [u64; 2],
}

impl<'a> Card<'a> {
    /// Starts the card in a slot, with rings from a word of the spare memory on. `None` if there is none.
    #[must_use]
    pub fn start(slot: u32, ram: &'a SpareRam, at: u64) -> Option<Self> {
        let card = Self {
            slot: Slot::of(slot),
            ram,
            at,
            turns: [0; 2],
        };
        if card.slot.read(DEVICE_ID) != 1 {
            return None;
        }
        card.slot.accept(FEATURES);
        for (queue, flags) in [(RECEIVE, WRITE), (TRANSMIT, 0)] {
            card.open(queue, flags);
        }
        card.slot.begin();
        (card.slot.read(STATUS) == DRIVER_OK).then_some(card)
    }

    fn word(&self, queue: u64, word: u64) -> u64 {
        self.at + queue * RING + word
    }

    fn address(&self, queue: u64, word: u64) -> u64 {
        self.ram.start() + 8 * self.word(queue, word)
    }

    fn open(&self, queue: u64, flags: u64) {
        for word in 0..BUFFERS {
            self.ram.set(self.word(queue, word), 0);
        }
        for entry in 0..2 {
            let buffer = self.address(queue, BUFFERS + entry * BUFFER);
            self.ram.set(self.word(queue, 2 * entry), buffer);
            let rest = (8 * BUFFER) | (flags << 32);
            self.ram.set(self.word(queue, 2 * entry + 1), rest);
        }
        let parts = [0, AVAILABLE, USED].map(|word| self.address(queue, word));
        self.slot.open(queue, 2, parts);
    }

    /// Writes frames of so many bytes for another card into both buffers.
    pub fn compose(&self, to: &Self, bytes: u64) {
        let (from, to) = (self.mac(), to.mac());
        for entry in 0..2 {
            let buffer = self.word(TRANSMIT, BUFFERS + entry * BUFFER);
            let start = [0, to << 32, to >> 32 | from << 16, ETHERTYPE];
            for (word, value) in (0..).zip(start) {
                self.ram.set(buffer + word, value);
            }
            for word in 4..BUFFER {
                self.ram.set(buffer + word, word << 8 | entry);
            }
            let len = HEADER + bytes;
            self.ram.set(self.word(TRANSMIT, 2 * entry + 1), len);
        }
    }

    fn mac(&self) -> u64 {
        self.slot.read(CONFIG + 4) << 32 & 0xffff_0000_0000 | self.slot.read(CONFIG)
    }

    /// Makes the next of a queue's two entries available, and says which used index to be told of.
    fn offer(&mut self, queue: u64, event: u64) {
        let Some(turns) = self.turns.get_mut(usize::from(queue != RECEIVE)) else {
            return;
        };
        *turns += 1;
        let turns = *turns & 0xffff;
        self.ram
            .set(self.word(queue, AVAILABLE + 1), event & 0xffff);
        // Entry 0 is descriptor 0, entry 1 is descriptor 1.
        self.ram
            .set(self.word(queue, AVAILABLE), turns << 16 | 1 << 48);
    }

    /// Gives the device a buffer for the next frame.
    pub fn give(&mut self) {
        let [turns, _] = self.turns;
        self.offer(RECEIVE, turns);
    }

    /// Has a frame ready. The register and the value that send it.
    pub fn ready(&mut self) -> (u64, u32) {
        let [_, turns] = self.turns;
        self.offer(TRANSMIT, turns.wrapping_sub(0x100));
        (self.slot.address(QUEUE_NOTIFY), 1)
    }

    /// Whether the last frame is here, as another card has sent it, and that one has its buffer back.
    #[must_use]
    pub fn has_received(&self, from: &Self, bytes: u64) -> bool {
        let used = |card: &Self, queue| card.ram.get(card.word(queue, USED)) >> 16 & 0xffff;
        let [received, _] = self.turns;
        let [_, sent] = from.turns;
        let entry = |turns: u64| BUFFERS + (turns.wrapping_sub(1) & 1) * BUFFER;
        // Whole words of it; what is behind the first two is the same here and there.
        let same = (2..(HEADER + bytes) / 8).all(|word| {
            self.ram.get(self.word(RECEIVE, entry(received) + word))
                == from.ram.get(from.word(TRANSMIT, entry(sent) + word))
        });
        same && used(self, RECEIVE) == received & 0xffff && used(from, TRANSMIT) == sent & 0xffff
    }

    /// The INTID of its interrupt.
    #[must_use]
    pub const fn intid(&self) -> u32 {
        self.slot.intid()
    }

    /// What it interrupts for, which it is told has been seen.
    #[must_use]
    pub fn acknowledge(&self) -> u64 {
        self.slot.acknowledge()
    }
}
