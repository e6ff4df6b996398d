//! What EL2 copies for a guest arrives whole, whatever its length and wherever it lies, and the guest's vector registers, which
//! may carry it, are as they were.
//!
//! Requests to a disk in slot 0 whose two sectors are cut in two at each byte in turn, and whose pieces lie anywhere.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::memory::SpareRam;
use tests_arch::{println, sys, vector};
use tests_guests::pattern::Pattern;
use tests_guests::slot::{NEXT, Slot, VERSION_1, WRITE};
use tests_guests::tree;

tests_arch::entry!(main);

const SLOT: Slot = Slot::of(0);
const ENTRIES: u64 = 8;
/// What is where in spare memory.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADER: u64 = 0x3000;
const STATUS: u64 = 0x3020;
const BUFFERS: u64 = 0x4000;
/// Each piece has so much room.
const ROOM: u64 = 0x1000;
/// Bytes of a request.
const BYTES: u64 = 1024;

/// A disk's driver, as short as it can be.
struct Disk {
    ram: SpareRam,
    sent: u64,
    chance: Pattern,
}

/// Where the two pieces of a request's data lie, and how long the first is.
#[derive(Clone, Copy)]
struct Pieces {
    at: [u64; 2],
    first: u64,
}

impl Pieces {
    /// Where a byte of the request is.
    const fn byte(&self, n: u64) -> u64 {
        let [first, second] = self.at;
        if n < self.first {
            first + n
        } else {
            second + n - self.first
        }
    }
}

impl Disk {
    fn begin(ram: SpareRam) -> Self {
        SLOT.accept(VERSION_1);
        SLOT.open(0, ENTRIES, [0, AVAILABLE, USED].map(|at| ram.start() + at));
        SLOT.begin();
        Self {
            ram,
            sent: 0,
            chance: Pattern::new([4, 0, 0, 0]),
        }
    }

    fn byte(&self, at: u64) -> u64 {
        self.ram.get(at / 8) >> (at % 8 * 8) & 0xff
    }

    fn set_byte(&self, at: u64, value: u64) {
        let shift = at % 8 * 8;
        let others = self.ram.get(at / 8) & !(0xff << shift);
        self.ram.set(at / 8, others | value << shift);
    }

    /// Two pieces somewhere, with memory around them that is known.
    fn pieces(&mut self, first: u64) -> Pieces {
        for word in BUFFERS / 8..(BUFFERS + 2 * ROOM) / 8 {
            self.ram.set(word, 0xa5a5_a5a5_a5a5_a5a5);
        }
        let chance = self.chance.next();
        Pieces {
            at: [
                BUFFERS + 64 + chance % 64,
                BUFFERS + ROOM + 64 + (chance >> 8) % 64,
            ],
            first,
        }
    }

    fn describe(&self, index: u64, at: u64, len: u64, flags: u64) {
        let next = if flags & NEXT == 0 { 0 } else { index + 1 };
        self.ram.set(index * 2, self.ram.start() + at);
        self.ram.set(index * 2 + 1, len | flags << 32 | next << 48);
    }

    /// One request of the first sectors; whether it went well, and the vector registers stayed.
    fn request(&mut self, kind: u64, pieces: &Pieces) -> bool {
        let data = if kind == 0 { WRITE } else { 0 } | NEXT;
        let [first, second] = pieces.at;
        self.ram.set(HEADER / 8, kind);
        self.ram.set(HEADER / 8 + 1, 0);
        self.ram.set(STATUS / 8, 0xff);
        self.describe(0, HEADER, 16, NEXT);
        let mut next = 1;
        for (at, len) in [(first, pieces.first), (second, BYTES - pieces.first)] {
            // No piece is empty: such a chain is refused.
            if len != 0 {
                self.describe(next, at, len, data);
                next += 1;
            }
        }
        self.describe(next, STATUS, 1, WRITE);
        // Each entry of the available ring is descriptor 0.
        self.sent += 1;
        self.ram.set(AVAILABLE / 8, (self.sent & 0xffff) << 16);
        sys::barrier();
        let mut filled = [0; 64];
        filled.fill_with(|| self.chance.next());
        vector::fill(&filled);
        SLOT.notify(0);
        let stayed = vector::read() == filled;
        sys::barrier();
        let used = self.ram.get(USED / 8) >> 16 & 0xffff;
        stayed && used == self.sent & 0xffff && self.byte(STATUS) == 0
    }

    /// Writes two sectors and reads them, cut elsewhere. Whether all bytes came back, and none beside.
    fn round(&mut self, cut: u64) -> bool {
        let pieces = self.pieces(cut);
        let (seed, mut well) = (self.chance.next(), true);
        for n in 0..BYTES {
            self.set_byte(pieces.byte(n), value(seed, n));
        }
        well &= self.request(1, &pieces);
        let pieces = self.pieces(BYTES - cut);
        well &= self.request(0, &pieces);
        for n in 0..BYTES {
            well &= self.byte(pieces.byte(n)) == value(seed, n);
            self.set_byte(pieces.byte(n), 0xa5);
        }
        let around = BUFFERS / 8..(BUFFERS + 2 * ROOM) / 8;
        well && around
            .into_iter()
            .all(|word| self.ram.get(word) == 0xa5a5_a5a5_a5a5_a5a5)
    }
}

const fn value(seed: u64, n: u64) -> u64 {
    (seed >> (n % 57)).wrapping_add(n) & 0xff
}

fn main(fdt: &'static [u8]) -> u32 {
    let Some(ram) = SpareRam::behind_image(tree::spare_end(fdt)) else {
        return 1;
    };
    let mut disk = Disk::begin(ram);
    let wrong = (0..=BYTES).filter(|cut| !disk.round(*cut)).count();
    println!("copies: {wrong} of {} rounds went wrong", BYTES + 1);
    u32::from(wrong != 0)
}
