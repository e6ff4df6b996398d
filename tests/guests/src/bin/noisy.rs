//! A guest that is as much trouble to the others on its CPU as it can be.
//!
//! Command line: `how=<burn|timers|sgi|print|mmio|onoff>` (burn), `run_ms=<n>` (default 600). All lanes but `onoff`'s second
//! do the same.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tests_arch::{gic, lane, println, smp, sys, timer};
use tests_guests::tree;

tests_arch::entry!(main);

/// When it is over.
static END: AtomicU64 = AtomicU64::new(0);
/// What all lanes did.
static DONE: AtomicU64 = AtomicU64::new(0);
/// GICD_IIDR, which no hot path serves.
const SLOW: u64 = gic::GICD + 8;

const KINDS: [(&str, fn()); 6] = [
    ("burn", burn),
    ("timers", timers),
    ("sgi", sgis),
    ("print", print),
    ("mmio", mmio),
    ("onoff", on_and_off),
];

/// Does it again and again.
fn repeat(mut once: impl FnMut()) {
    let mut done = 0;
    while sys::cntvct() < END.load(Relaxed) {
        once();
        done += 1;
    }
    DONE.store(DONE.load(Relaxed) + done, Relaxed);
}

fn burn() {
    repeat(|| sys::turn(5_000));
}

/// Sleeps for the shortest time that is one, and is woken by the timer.
fn timers() {
    repeat(|| {
        timer::arm(timer::ticks(1) / 100);
        sys::wfi();
        timer::disarm();
        drain();
    });
}

fn drain() {
    loop {
        let intid = gic::acknowledge();
        if intid >= gic::SPURIOUS_FIRST {
            return;
        }
        gic::end(intid);
    }
}

/// SGIs to itself and the sibling, and now and then a sleep that one of them ends.
fn sgis() {
    let mut turn = 0u32;
    repeat(|| {
        turn = turn.wrapping_add(1);
        gic::send_raw(u64::from(turn % 16) << 24 | 0b11);
        drain();
        if turn.is_multiple_of(8) {
            timer::arm(timer::ticks(1) / 10);
            sys::wfi();
            timer::disarm();
        }
    });
}

fn print() {
    repeat(|| {
        println!("noise noise noise noise noise noise noise noise noise noise noise noise noise");
    });
}

fn mmio() {
    repeat(|| {
        let _ = gic::read32(SLOW);
    });
}

fn on_and_off() {
    repeat(|| {
        let _ = smp::start(1, |_| (), 0);
        smp::wait_off(1);
    });
}

fn second(kind: u64) {
    gic::init_lane();
    run(usize::try_from(kind).unwrap_or(0));
}

fn run(kind: usize) {
    if let Some((_, body)) = KINDS.get(kind) {
        body();
    }
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let how = tree::option(line, "how").unwrap_or("burn");
    let run_ms = tree::option(line, "run_ms")
        .and_then(tree::number)
        .unwrap_or(600);
    let Some(kind) = KINDS.iter().position(|(name, _)| *name == how) else {
        println!("noisy FAIL how={how} is not known");
        return 2;
    };
    END.store(sys::cntvct() + timer::ticks(run_ms), Relaxed);
    gic::init_distributor();
    gic::init_lane();
    let sibling = lane::number() + 1 < smp::lanes() && how != "onoff";
    if sibling && smp::start(1, second, u64::try_from(kind).unwrap_or(0)) != 0 {
        return 3;
    }
    run(kind);
    if sibling {
        smp::wait_off(1);
    }
    println!("noisy ok {how} {}", DONE.load(Relaxed));
    0
}
