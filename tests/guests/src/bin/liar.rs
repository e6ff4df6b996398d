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
use tests_guests::slot::{CONFIG, DEVICE_ID, Slot, VERSION_1};

tests_arch::entry!(main);

const SLOT: Slot = Slot::of(0);
/// `num_pages` and `actual` (virtio 1.3, 5.5.4).
const ASKED: u64 = CONFIG;
const GIVEN: u64 = CONFIG + 4;

/// `VIRTIO_BALLOON_F_STATS_VQ`, and its queue.
const STATS_VQ: u64 = 1 << 1;
const STATISTICS: u64 = 2;
/// `VIRTIO_BALLOON_S_MEMFREE`, and what there is none of in this machine.
const FREE: u64 = 4;
const LOTS: u64 = u64::MAX;

/// Where the rings are, far behind the image, in memory that is all zero; and two statistics.
const RINGS: u64 = 0x4100_0000;
const FIGURES: u64 = RINGS + 0x3000;

fn poke(at: u64, width: Width, value: u64) {
    let _ = probe::write(at, width, value);
}

/// A driver that is ready, and has said what it says of its memory.
fn begin() {
    SLOT.accept(VERSION_1 | STATS_VQ);
    SLOT.open(STATISTICS, 2, [RINGS, RINGS + 0x1000, RINGS + 0x2000]);
    SLOT.begin();
    poke(FIGURES, Width::Half, FREE);
    poke(FIGURES + 2, Width::Double, LOTS);
    // A statistic that nobody knows, and the beginning of one.
    poke(FIGURES + 10, Width::Double, u64::MAX);
    poke(RINGS, Width::Double, FIGURES);
    poke(RINGS + 8, Width::Double, 10 + 10 + 3);
    poke(RINGS + 0x1002, Width::Half, 1);
    SLOT.notify(STATISTICS);
}

fn main(_: &'static [u8]) -> u32 {
    interrupts::quiet();
    if SLOT.read(DEVICE_ID) != 5 {
        println!("liar: no balloon");
        return 1;
    }
    interrupts::set_priority(SLOT.intid(), 0xa0);
    interrupts::make_edge(SLOT.intid());
    interrupts::prepare_spi(SLOT.intid());
    begin();
    SLOT.write(GIVEN, u64::from(u32::MAX));
    println!("liar: ready, asked for {} pages", SLOT.read(ASKED));
    loop {
        sys::wfi();
        let intid = gic::acknowledge();
        if intid >= gic::SPURIOUS_FIRST {
            continue;
        }
        let why = SLOT.acknowledge();
        gic::end(intid);
        println!("liar: {why}: asked for {} pages", SLOT.read(ASKED));
    }
}
