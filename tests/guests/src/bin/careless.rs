//! A virtio driver that makes mistakes: the lint of its machine has to say which, and where.
//!
//! Its only device is a source of random numbers, in slot 0.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::println;
use tests_arch::probe::{self, Width};
use tests_guests::slot::{
    DRIVER_FEATURES, DRIVER_FEATURES_SEL, DRIVER_OK, MAGIC, NEEDS_RESET, QUEUE_DESC, QUEUE_DEVICE,
    QUEUE_DRIVER, QUEUE_READY, QUEUE_SEL, QUEUE_SIZE, QUEUE_SIZE_MAX, STATUS, Slot,
};

tests_arch::entry!(main);

const SLOT: Slot = Slot::of(0);

/// Where the rings are: far behind the image, in memory that is all zero.
const RINGS: u64 = 0x4100_0000;

fn main(_: &'static [u8]) -> u32 {
    println!("careless: begin");
    for status in [0, 1, 3] {
        SLOT.write(STATUS, status);
    }
    // A register that can only be read.
    SLOT.write(MAGIC, 1);
    SLOT.write(DRIVER_FEATURES_SEL, 1);
    SLOT.write(DRIVER_FEATURES, 1);
    SLOT.write(STATUS, 11);
    let _ = SLOT.read(STATUS);
    SLOT.write(QUEUE_SEL, 0);
    let _ = SLOT.read(QUEUE_SIZE_MAX);
    SLOT.write(QUEUE_SIZE, 8);
    SLOT.write(QUEUE_DESC, RINGS);
    SLOT.write(QUEUE_DRIVER, RINGS + 0x1000);
    SLOT.write(QUEUE_DEVICE, RINGS + 0x2000);
    SLOT.write(QUEUE_READY, 1);
    // Nobody listens yet.
    SLOT.notify(0);
    SLOT.write(STATUS, DRIVER_OK);
    // More entries than there are.
    let _ = probe::write(RINGS + 0x1002, Width::Half, 9);
    SLOT.notify(0);
    println!(
        "careless: the device needs a reset: {}",
        SLOT.read(STATUS) & NEEDS_RESET != 0
    );
    0
}
