//! A guest that resets itself while reads of a disk are on their way: what they read lands in no life but their own (VIO-19).
//!
//! Its disk is in slot 0; in slot 1 is one in which it counts its lives. Each life fills its memory with what is its own,
//! begins as many reads as its queue takes, and ends before they are done. The next one fills its memory and watches it for
//! longer than those reads can take. The last one reads the disk in peace.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::memory::SpareRam;
use tests_arch::{call, println, sys, timer};
use tests_guests::slot::{NEXT, Slot, VERSION_1, WRITE};
use tests_guests::tree;

tests_arch::entry!(main);

const ENTRIES: u64 = 32;
/// What is where in the memory of a disk's driver.
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADERS: u64 = 0x3000;
const STATUS: u64 = 0x3800;
const DRIVER: u64 = 0x4000;
/// Memory of what is read, behind that of both drivers.
const DATA: u64 = 2 * DRIVER;
/// Reads at a time, and bytes of each. Their sectors do not touch, so that nobody makes one of them.
const READS: u64 = 8;
const BYTES: u64 = 64 << 10;
const LIVES: u64 = 3;
/// For so long each life watches: reads of the one before take a second.
const WATCH_MS: u64 = 3000;
/// PSCI SYSTEM_RESET.
const SYSTEM_RESET: u64 = 0x8400_0009;

/// A disk's driver, as short as it can be.
struct Disk<'a> {
    ram: &'a SpareRam,
    slot: Slot,
    /// Where its memory begins.
    at: u64,
    sent: u64,
}

impl<'a> Disk<'a> {
    fn begin(ram: &'a SpareRam, number: u32) -> Self {
        let disk = Self {
            ram,
            slot: Slot::of(number),
            at: DRIVER * u64::from(number),
            sent: 0,
        };
        let parts = [0, AVAILABLE, USED].map(|at| ram.start() + disk.at + at);
        disk.slot.accept(VERSION_1);
        disk.slot.open(0, ENTRIES, parts);
        disk.slot.begin();
        disk
    }

    fn set(&self, at: u64, value: u64) {
        self.ram.set((self.at + at) / 8, value);
    }

    fn describe(&self, index: u64, at: u64, len: u64, flags: u64) {
        self.set(16 * index, self.ram.start() + at);
        self.set(16 * index + 8, len | flags << 32 | (index + 1) << 48);
    }

    /// Makes a request available: so many bytes from a sector on, to or from this place.
    fn request(&mut self, kind: u64, sector: u64, at: u64, bytes: u64) {
        let (number, first) = (self.sent % READS, self.sent % READS * 3);
        let header = HEADERS + 16 * number;
        self.set(header, kind);
        self.set(header + 8, sector);
        let data = if kind == 0 { WRITE } else { 0 } | NEXT;
        self.describe(first, self.at + header, 16, NEXT);
        self.describe(first + 1, at, bytes, data);
        self.describe(first + 2, self.at + STATUS + 8 * number, 1, WRITE);
        // Four heads in each word of the available ring, behind its flags and its index.
        let entry = 4 + 2 * (self.sent % ENTRIES);
        let (word, shift) = ((self.at + AVAILABLE + entry) / 8, entry % 8 * 8);
        let others = self.ram.get(word) & !(0xffff << shift);
        self.ram.set(word, others | first << shift);
        self.sent += 1;
        let (word, index) = ((self.at + AVAILABLE) / 8, (self.sent & 0xffff) << 16);
        self.ram
            .set(word, self.ram.get(word) & !0xffff_ffff | index);
    }

    fn notify(&self) {
        sys::barrier();
        self.slot.notify(0);
    }

    /// How many requests are done.
    fn done(&self) -> u64 {
        sys::barrier();
        self.ram.get((self.at + USED) / 8) >> 16 & 0xffff
    }

    /// Waits until all are.
    fn wait(&self) -> bool {
        timer::within(60_000, || self.done() == self.sent)
    }
}

/// What a life has in its memory.
const fn own(life: u64, word: u64) -> u64 {
    life << 56 | word
}

/// How many words of what is read into are not a life's own.
fn foreign(ram: &SpareRam, life: u64) -> usize {
    let words = DATA / 8..(DATA + READS * BYTES) / 8;
    words
        .filter(|word| ram.get(*word) != own(life, *word))
        .count()
}

fn main(fdt: &'static [u8]) -> u32 {
    let Some(ram) = SpareRam::behind_image(tree::spare_end(fdt)) else {
        return 1;
    };
    let is_clean = (0..(DATA + READS * BYTES) / 8).all(|word| ram.get(word) == 0);
    let mut count = Disk::begin(&ram, 1);
    count.request(0, 0, DATA, 512);
    count.notify();
    if !count.wait() {
        return 2;
    }
    let life = ram.get(DATA / 8) + 1;
    ram.set(DATA / 8, life);
    count.request(1, 0, DATA, 512);
    count.notify();
    if !count.wait() {
        return 3;
    }
    for word in DATA / 8..(DATA + READS * BYTES) / 8 {
        ram.set(word, own(life, word));
    }
    if life != 1 {
        let _ = timer::within(WATCH_MS, || foreign(&ram, life) != 0);
    }
    let wrong = foreign(&ram, life);
    println!("reader: life {life}, clean {is_clean}, {wrong} words are not its own");
    if wrong != 0 || !is_clean {
        return 4;
    }
    let mut disk = Disk::begin(&ram, 0);
    for read in 0..READS {
        disk.request(0, 256 * read, DATA + BYTES * read, BYTES);
    }
    disk.notify();
    if life < LIVES {
        println!(
            "reader: ends with {} reads on their way",
            disk.sent - disk.done()
        );
        let _ = call::hvc([SYSTEM_RESET, 0, 0, 0]);
    }
    if !disk.wait() {
        return 5;
    }
    println!("reader: {} words were read", foreign(&ram, life));
    0
}
