//! A virtio-blk driver that bears what goes wrong with its requests, and says what that was.
//!
//! Its only device is a disk, in slot 0. It asks for one sector after the other, each with descriptors and memory of its
//! own, so that a request that is lost is in nobody's way.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::probe::{self, Width};
use tests_arch::{println, timer};
use tests_guests::slot::{NEEDS_RESET, NEXT, STATUS, Slot, VERSION_1, WRITE};

tests_arch::entry!(main);

const SLOT: Slot = Slot::of(0);

/// Where the rings are: far behind the image. Descriptors, available ring, used ring, buffers.
const RINGS: u64 = 0x4100_0000;
const BUFFERS: u64 = RINGS + 0x1_0000;
const SIZE: u64 = 64;
/// Requests in all: three descriptors of the queue for each.
const REQUESTS: u64 = 16;
/// What the status byte is before the device writes it, and how long it may take to, in milliseconds.
const UNSAID: u64 = 0xaa;
const PATIENCE_MS: u64 = 500;

fn poke(at: u64, width: Width, value: u64) {
    let _ = probe::write(at, width, value);
}

fn peek(at: u64, width: Width) -> u64 {
    probe::read(at, width).unwrap_or(0)
}

/// From a reset to a driver that is ready, with empty rings (3.1.1).
fn begin() {
    SLOT.accept(VERSION_1);
    for index in [RINGS + 0x1002, RINGS + 0x2002] {
        poke(index, Width::Half, 0);
    }
    SLOT.open(0, SIZE, [RINGS, RINGS + 0x1000, RINGS + 0x2000]);
    SLOT.begin();
}

/// A request to read: header, data, status (5.2.6). The address of its status.
fn ask(nth: u64) -> u64 {
    let header = BUFFERS + nth * 0x1000;
    let (data, status) = (header + 0x200, header + 0x10);
    poke(header, Width::Double, 0);
    poke(header + 8, Width::Double, nth);
    poke(status, Width::Byte, UNSAID);
    let first = 3 * nth;
    for (index, at, len, flags) in [
        (first, header, 16, NEXT),
        (first + 1, data, 512, NEXT | WRITE),
        (first + 2, status, 1, WRITE),
    ] {
        let place = RINGS + 16 * index;
        poke(place, Width::Double, at);
        poke(place + 8, Width::Word, len);
        poke(place + 12, Width::Half, flags);
        poke(place + 14, Width::Half, index + 1);
    }
    let available = peek(RINGS + 0x1002, Width::Half);
    let entry = RINGS + 0x1004 + 2 * (available % SIZE);
    poke(entry, Width::Half, first);
    poke(RINGS + 0x1002, Width::Half, available + 1);
    SLOT.notify(0);
    status
}

/// What becomes of a request.
fn outcome(nth: u64) -> &'static str {
    let status = ask(nth);
    if SLOT.read(STATUS) & NEEDS_RESET != 0 {
        begin();
        return "reset";
    }
    let at_once = peek(status, Width::Byte) != UNSAID;
    timer::within(PATIENCE_MS, || peek(status, Width::Byte) != UNSAID);
    let told = SLOT.acknowledge() & 1 != 0;
    match (peek(status, Width::Byte), at_once, told) {
        (UNSAID, _, _) => "lost",
        (0, true, true) => "well",
        (0, true, false) => "well, not told",
        (0, false, true) => "late",
        (1, true, true) => "failed",
        _ => "something else",
    }
}

fn main(_: &'static [u8]) -> u32 {
    begin();
    for nth in 1..=REQUESTS {
        println!("request {nth}: {}", outcome(nth));
    }
    0
}
