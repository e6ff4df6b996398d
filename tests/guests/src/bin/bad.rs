//! The ways a guest can end badly. Command line: `mode=exit code=<n>`, `mode=panic`, `mode=vector`, `mode=masked`, `mode=jump`, `mode=abort`, `mode=sleep`, `mode=off`, `mode=reset`.
//! And one that is merely a bad neighbour: `mode=burn run_ms=<n>` takes all the time it can get, and ends well.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::hint::black_box;

use tests_arch::memory::{self, SpareRam};
use tests_arch::{call, gic, println, probe, sys, timer};
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
