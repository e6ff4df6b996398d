//! A virtio-blk driver that bears what goes wrong with its requests, and says what that was.
//!
//! Its only device is a disk, in slot 0. It asks for one sector after the other, each with descriptors and memory of its
//! own, so that a request that is lost is in nobody's way.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::probe::{self, Width};
use tests_arch::{println, timer};

tests_arch::entry!(main);

const SLOT: u64 = 0x0a00_0000;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SEL: u64 = 0x24;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const NOTIFY: u64 = 0x50;
const INTERRUPT_STATUS: u64 = 0x60;
const INTERRUPT_ACK: u64 = 0x64;
const STATUS: u64 = 0x70;
const DESCRIPTORS: u64 = 0x80;
const AVAILABLE: u64 = 0x90;
const USED: u64 = 0xa0;

/// Where the rings are: far behind the image. Descriptors, available ring, used ring, buffers.
const RINGS: u64 = 0x4100_0000;
const BUFFERS: u64 = RINGS + 0x1_0000;
const SIZE: u64 = 64;
/// Requests in all: three descriptors of the queue for each.
const REQUESTS: u64 = 16;
/// What the status byte is before the device writes it, and how long it may take to, in milliseconds.
const UNSAID: u64 = 0xaa;
const PATIENCE_MS: u64 = 500;

fn store(register: u64, value: u64) {
    let _ = probe::write(SLOT + register, Width::Word, value);
}

fn load(register: u64) -> u64 {
    probe::read(SLOT + register, Width::Word).unwrap_or(0)
}

fn poke(at: u64, width: Width, value: u64) {
    let _ = probe::write(at, width, value);
}

fn peek(at: u64, width: Width) -> u64 {
    probe::read(at, width).unwrap_or(0)
}

/// From a reset to a driver that is ready, with empty rings (3.1.1).
fn begin() {
    for status in [0, 1, 3] {
        store(STATUS, status);
    }
    store(DRIVER_FEATURES_SEL, 1);
    store(DRIVER_FEATURES, 1);
    store(STATUS, 11);
    store(QUEUE_SEL, 0);
    store(QUEUE_SIZE, SIZE);
    store(DESCRIPTORS, RINGS);
    store(AVAILABLE, RINGS + 0x1000);
    store(USED, RINGS + 0x2000);
    for index in [RINGS + 0x1002, RINGS + 0x2002] {
        poke(index, Width::Half, 0);
    }
    store(QUEUE_READY, 1);
    store(STATUS, 15);
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
        (first, header, 16, 1),
        (first + 1, data, 512, 1 | 2),
        (first + 2, status, 1, 2),
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
    store(NOTIFY, 0);
    status
}

/// What becomes of a request.
fn outcome(nth: u64) -> &'static str {
    let status = ask(nth);
    if load(STATUS) & 64 != 0 {
        begin();
        return "reset";
    }
    let at_once = peek(status, Width::Byte) != UNSAID;
    timer::within(PATIENCE_MS, || peek(status, Width::Byte) != UNSAID);
    let told = load(INTERRUPT_STATUS) & 1 != 0;
    store(INTERRUPT_ACK, 1);
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
