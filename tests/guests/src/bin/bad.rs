//! The ways a guest can end badly. Command line: `mode=exit code=<n>`, `mode=panic`, `mode=vector`, `mode=masked`, `mode=jump`, `mode=abort`, `mode=sleep`, `mode=off`, `mode=reset`, `mode=alarm`, `mode=edge`.
//! And one that is merely a bad neighbour: `mode=burn run_ms=<n>` takes all the time it can get, and ends well.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;

use tests_arch::memory::{self, SpareRam};
use tests_arch::{call, gic, println, probe, smp, sys, timer};
use tests_guests::tree;

tests_arch::entry!(main);

/// Nobody's: between the UART and RAM.
const NOWHERE: u64 = 0x3000_0000;

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let mode = tree::option(line, "mode").unwrap_or("exit");
    println!("bad mode {mode}");
    match mode {
        // An exception whose vector is not there: the fault of the fault, for ever (SR-14, DOS-03).
        "vector" => {
            sys::set_vbar(NOWHERE);
            probe::jump_away(NOWHERE)
        }
        // A loop on its own vector: the vectors themselves stay, and every fault lands on the same branch.
        "jump" => probe::jump_away(NOWHERE),
        // Interrupts masked, no hint, no exit (DOS-02).
        "masked" => {
            sys::mask();
            probe::spin_forever()
        }
        // As greedy, but not for ever.
        "burn" => {
            let ms = tree::option(line, "run_ms").and_then(tree::number);
            let end = sys::cntvct() + timer::ticks(ms.unwrap_or(1000));
            sys::mask();
            // Where instructions are counted, an emulator takes long to read its clock.
            let mut work = 0u64;
            while sys::cntvct() < end {
                for step in 0..1000 {
                    work = black_box(work ^ step);
                }
            }
            0
        }
        // Asleep with everything masked and nothing to wake it (SR-17).
        "sleep" => {
            sys::mask();
            loop {
                sys::wfi();
            }
        }
        // The last lane turns itself off without a word (SR-26).
        "off" => call::cpu_off(),
        // Begins anew again and again, and looks each time whether anything is left of the last life.
        "reset" => reset(),
        // Over before the alarm that it has set.
        "alarm" => {
            set_alarm();
            0
        }
        "edge" => edge(),
        // A fault that nobody expected: the runtime reports it and exits with 102.
        "abort" => tests_arch::gic::read32(NOWHERE),
        // A Rust panic: reported, exit code 101.
        "panic" => panic_now(),
        _ => tree::option(line, "code")
            .and_then(tree::number)
            .and_then(|code| u32::try_from(code).ok())
            .unwrap_or(1),
    }
}

/// GICD_CTLR and GICD_ISENABLER1.
const GICD_CTLR: u64 = 0x0800_0000;
const GICD_ISENABLER1: u64 = GICD_CTLR + 0x104;
/// PSCI SYSTEM_RESET.
const SYSTEM_RESET: u64 = 0x8400_0009;

/// The real-time clock: RTCDR, RTCMR, RTCIMSC, and its SPI.
const RTC: u64 = 0x0901_0000;
const RTC_SPI: u32 = 34;
const RTCMR: u64 = RTC + 0x4;
const RTCIMSC: u64 = RTC + 0x10;

/// The clock's line rises in a second.
fn set_alarm() {
    gic::write32(RTCMR, gic::read32(RTC).wrapping_add(1));
    gic::write32(RTCIMSC, 1);
}

/// The clock's line rises while its interrupt, an edge, is in a list register of lane 1, and lane 0, on whose CPU lane 1
/// runs, waits for something else.
fn edge() -> u32 {
    const WORD: u64 = (RTC_SPI / 32) as u64;
    const BIT: u32 = 1 << (RTC_SPI % 32);
    gic::init_distributor();
    gic::init_lane();
    // Edge-triggered, to lane 1, enabled.
    gic::write32(
        GICD_CTLR + 0xc00 + 4 * (RTC_SPI as u64 / 16),
        2 << (RTC_SPI % 16 * 2),
    );
    gic::write32(GICD_CTLR + 0x6000 + 8 * RTC_SPI as u64, 1);
    gic::write32(GICD_CTLR + 0x100 + 4 * WORD, BIT);
    let _ = smp::start(1, hold_interrupt, 0);
    set_alarm();
    for _ in 0..20 {
        // Lane 1 has the CPU meanwhile.
        timer::arm(timer::ticks(100));
        sys::wfi();
        timer::disarm();
    }
    println!("bad edge came");
    0
}

/// Lane 1: its interrupt stays pending, for ever.
fn hold_interrupt(_: u64) {
    gic::init_lane();
    sys::mask();
    gic::write32(
        GICD_CTLR + 0x200 + 4 * (RTC_SPI as u64 / 32),
        1 << (RTC_SPI % 32),
    );
    probe::spin_forever()
}

/// 78 or 79: something of the last life is left.
fn reset() -> u32 {
    let Some(ram) = SpareRam::behind_image(memory::image_end() + (4 << 20)) else {
        return 1;
    };
    if (0..ram.words()).any(|word| ram.get(word) != 0) {
        return 78;
    }
    if gic::read32(GICD_CTLR) & 3 != 0 || gic::read32(GICD_ISENABLER1) != 0 {
        return 79;
    }
    println!("bad nothing is left");
    for word in 0..ram.words() {
        ram.set(word, !word);
    }
    gic::write32(GICD_CTLR, 3);
    gic::write32(GICD_ISENABLER1, u32::MAX);
    let _ = call::hvc([SYSTEM_RESET, 0, 0, 0]);
    80
}

#[expect(clippy::panic, reason = "panicking is what this guest is for")]
fn panic_now() -> u32 {
    panic!("asked to")
}
