//! The neighbour who must not notice (U2): fills its RAM, keeps a periodic deadline, and looks again at the end.
//!
//! Command line: `run_ms=<n>` (default 2000), `period_ms=<n>` (10), `late_ms=<n>` allowed (5), `ram_mb=<n>` of spare RAM to use (16).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tests_arch::memory::SpareRam;
use tests_arch::{gic, println, sys, timer};
use tests_guests::tree;

tests_arch::entry!(main);

static FIRED: AtomicU64 = AtomicU64::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);

fn on_interrupt(intid: u32) {
    timer::disarm();
    let counter = if intid == timer::INTID {
        &FIRED
    } else {
        &FOREIGN
    };
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

/// A word that says where it belongs.
fn pattern(index: u64) -> u64 {
    (index ^ 0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .rotate_left(31)
}

/// Digest of the whole, and how many words are not what was written.
fn look(ram: &SpareRam, words: u64) -> (u64, u64) {
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    let mut wrong = 0;
    for index in 0..words {
        let word = ram.get(index);
        digest = (digest ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(17);
        wrong += u64::from(word != pattern(index));
    }
    (digest, wrong)
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let setting = |key, default| {
        tree::option(line, key)
            .and_then(tree::number)
            .unwrap_or(default)
    };
    let (run, period, allowed) = (
        setting("run_ms", 2000),
        timer::ticks(setting("period_ms", 10)),
        timer::ticks(setting("late_ms", 5)),
    );
    let Some(ram) = SpareRam::behind_image(tree::spare_end(fdt)) else {
        println!("victim FAIL no RAM behind the image");
        return 2;
    };
    let words = ram.words().min(setting("ram_mb", 16) * (1 << 20) / 8);
    for index in 0..words {
        ram.set(index, pattern(index));
    }
    let (before, _) = look(&ram, words);
    println!(
        "victim digest {before:016x} of {words} words from {:#x}",
        ram.start()
    );
    gic::init_distributor();
    gic::init_lane();
    tests_arch::lane::current().on_interrupt(on_interrupt);
    let end = sys::cntvct() + timer::ticks(run);
    let (mut rounds, mut late, mut worst) = (0u64, 0u64, 0u64);
    while sys::cntvct() < end {
        let deadline = sys::cntvct() + period;
        let seen = FIRED.load(Relaxed);
        timer::arm(period);
        while FIRED.load(Relaxed) == seen {
            sys::wfi();
            sys::unmask();
            sys::mask();
        }
        let lateness = sys::cntvct().saturating_sub(deadline);
        worst = worst.max(lateness);
        late += u64::from(lateness > allowed);
        rounds += 1;
    }
    let (after, wrong) = look(&ram, words);
    let foreign = FOREIGN.load(Relaxed);
    println!(
        "victim deadlines {rounds} late {late} worst {} us, foreign interrupts {foreign}",
        worst * 1_000_000 / sys::cntfrq().max(1)
    );
    println!("victim digest {after:016x}, {wrong} words changed");
    let strict = tree::option(line, "strict").is_some();
    let good = after == before && wrong == 0 && foreign == 0 && rounds > 0 && !(strict && late > 0);
    println!("victim {}", if good { "ok" } else { "FAIL" });
    u32::from(!good)
}
