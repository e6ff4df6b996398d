//! A guest with a balloon that gives nothing up and says otherwise: it claims more than any machine has, and what it says
//! of its memory it says once.
//!
//! Its only device is the balloon, in slot 0. It sleeps until that interrupts it, and goes on until it is stopped.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::probe::{self, Width};
use tests_arch::{gic, println, sys};
use tests_guests::interrupts;

tests_arch::entry!(main);

const SLOT: u64 = 0x0a00_0000;
/// The INTID of slot 0.
const SPI: u32 = 48;
const DEVICE_ID: u64 = 0x08;
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
/// `num_pages` and `actual` (virtio 1.3, 5.5.4).
const ASKED: u64 = 0x100;
const GIVEN: u64 = 0x104;

/// `VIRTIO_BALLOON_F_STATS_VQ`, and its queue.
const STATS_VQ: u64 = 1 << 1;
const STATISTICS: u64 = 2;
/// `VIRTIO_BALLOON_S_MEMFREE`, and what there is none of in this machine.
const FREE: u64 = 4;
const LOTS: u64 = u64::MAX;

/// Where the rings are, far behind the image, in memory that is all zero; and two statistics.
const RINGS: u64 = 0x4100_0000;
const FIGURES: u64 = RINGS + 0x3000;

fn store(register: u64, value: u64) {
    let _ = probe::write(SLOT + register, Width::Word, value);
}

fn load(register: u64) -> u64 {
    probe::read(SLOT + register, Width::Word).unwrap_or(0)
}

fn poke(at: u64, width: Width, value: u64) {
    let _ = probe::write(at, width, value);
}

/// A driver that is ready, and has said what it says of its memory.
fn begin() {
    for status in [0, 1, 3] {
        store(STATUS, status);
    }
    for (half, features) in [(0, STATS_VQ), (1, 1)] {
        store(DRIVER_FEATURES_SEL, half);
        store(DRIVER_FEATURES, features);
    }
    store(STATUS, 11);
    store(QUEUE_SEL, STATISTICS);
    store(QUEUE_SIZE, 2);
    store(DESCRIPTORS, RINGS);
    store(AVAILABLE, RINGS + 0x1000);
    store(USED, RINGS + 0x2000);
    store(QUEUE_READY, 1);
    store(STATUS, 15);
    poke(FIGURES, Width::Half, FREE);
    poke(FIGURES + 2, Width::Double, LOTS);
    // A statistic that nobody knows, and the beginning of one.
    poke(FIGURES + 10, Width::Double, u64::MAX);
    poke(RINGS, Width::Double, FIGURES);
    poke(RINGS + 8, Width::Double, 10 + 10 + 3);
    poke(RINGS + 0x1002, Width::Half, 1);
    store(NOTIFY, STATISTICS);
}

fn main(_: &'static [u8]) -> u32 {
    interrupts::quiet();
    if load(DEVICE_ID) != 5 {
        println!("liar: no balloon");
        return 1;
    }
    interrupts::set_priority(SPI, 0xa0);
    interrupts::make_edge(SPI);
    interrupts::prepare_spi(SPI);
    begin();
    store(GIVEN, u64::from(u32::MAX));
    println!("liar: ready, asked for {} pages", load(ASKED));
    loop {
        sys::wfi();
        let intid = gic::acknowledge();
        if intid >= gic::SPURIOUS_FIRST {
            continue;
        }
        let why = load(INTERRUPT_STATUS);
        store(INTERRUPT_ACK, why);
        gic::end(intid);
        println!("liar: {why}: asked for {} pages", load(ASKED));
    }
}
