//! A virtio driver that makes mistakes: the lint of its machine has to say which, and where.
//!
//! Its only device is a source of random numbers, in slot 0.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::println;
use tests_arch::probe::{self, Width};

tests_arch::entry!(main);

const SLOT: u64 = 0x0a00_0000;
const MAGIC: u64 = 0x00;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SEL: u64 = 0x24;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_SIZE_MAX: u64 = 0x34;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
const DESCRIPTORS: u64 = 0x80;
const AVAILABLE: u64 = 0x90;
const USED: u64 = 0xa0;

/// Where the rings are: far behind the image, in memory that is all zero.
const RINGS: u64 = 0x4100_0000;

fn store(register: u64, value: u64) {
    let _ = probe::write(SLOT + register, Width::Word, value);
}

fn load(register: u64) -> u64 {
    probe::read(SLOT + register, Width::Word).unwrap_or(0)
}

fn main(_: &'static [u8]) -> u32 {
    println!("careless: begin");
    for status in [0, 1, 3] {
        store(STATUS, status);
    }
    // A register that can only be read.
    store(MAGIC, 1);
    store(DRIVER_FEATURES_SEL, 1);
    store(DRIVER_FEATURES, 1);
    store(STATUS, 11);
    load(STATUS);
    store(QUEUE_SEL, 0);
    load(QUEUE_SIZE_MAX);
    store(QUEUE_SIZE, 8);
    store(DESCRIPTORS, RINGS);
    store(AVAILABLE, RINGS + 0x1000);
    store(USED, RINGS + 0x2000);
    store(QUEUE_READY, 1);
    // Nobody listens yet.
    store(NOTIFY, 0);
    store(STATUS, 15);
    // More entries than there are.
    let _ = probe::write(RINGS + 0x1002, Width::Half, 9);
    store(NOTIFY, 0);
    println!(
        "careless: the device needs a reset: {}",
        load(STATUS) & 64 != 0
    );
    0
}
