//! A guest to talk with. Command line: `mode=echo` has a prompt and says what was typed at it; `mode=tick` counts aloud,
//! ten times a second; `mode=think` begins a line, asks EL2 for nothing any more and never ends it. All go on until they are
//! stopped.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::{gic, println, sys};
use tests_guests::tree;

tests_arch::entry!(main);

/// The PL011 (DDI 0183, 3.2) where a guest has it.
const DATA: u64 = 0x0900_0000;
const FLAGS: u64 = DATA + 0x18;
/// UARTFR: nothing was received.
const RECEIVE_EMPTY: u32 = 1 << 4;

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    match tree::option(line, "mode") {
        Some("echo") => echo(),
        Some("think") => think(),
        _ => tick(),
    }
}

fn tick() -> u32 {
    let period = sys::cntfrq() / 10;
    let mut next = sys::cntvct();
    for number in 0_u64.. {
        println!("tick {number}");
        next += period;
        while sys::cntvct() < next {
            core::hint::spin_loop();
        }
    }
    0
}

fn think() -> u32 {
    say(b"thinking");
    loop {
        core::hint::spin_loop();
    }
}

fn echo() -> u32 {
    let mut line = [0; 64];
    loop {
        say(b"# ");
        let mut length = 0;
        loop {
            let key = key();
            if key == b'\r' {
                break;
            }
            say(&[key]);
            if let Some(place) = line.get_mut(length) {
                *place = key;
                length += 1;
            }
        }
        say(b"\nheard ");
        for byte in line.iter().take(length) {
            if byte.is_ascii_graphic() {
                say(&[*byte]);
            } else {
                let hex = |digit: u8| *b"0123456789abcdef".get(usize::from(digit)).unwrap_or(&b'?');
                say(&[b'<', hex(byte >> 4), hex(byte & 15), b'>']);
            }
        }
        say(b"\n");
    }
}

/// The next byte that was typed.
fn key() -> u8 {
    while gic::read32(FLAGS) & RECEIVE_EMPTY != 0 {
        core::hint::spin_loop();
    }
    let [key, ..] = gic::read32(DATA).to_le_bytes();
    key
}

fn say(bytes: &[u8]) {
    for byte in bytes {
        gic::write32(DATA, u32::from(*byte));
    }
}
