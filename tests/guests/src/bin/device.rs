//! A guest that is given devices of the machine, or has its emulated clock in the same place: both have to do the same.
//!
//! Command line: `gpio` says that it has the machine's GPIO too; `lives` lets go of nothing when it ends, and looks in
//! its second life whether it is well served all the same.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use tests_arch::probe::{self, Width};
use tests_arch::{call, gic, lane, println, sys, timer};
use tests_guests::interrupts;
use tests_guests::score::Score;
use tests_guests::tree;

tests_arch::entry!(main);

/// The PL031 (DDI 0224, 3.2).
const RTC: u64 = 0x0901_0000;
const RTC_INTID: u32 = 34;
const DR: u64 = RTC;
const MR: u64 = RTC + 0x04;
const IMSC: u64 = RTC + 0x10;
const RIS: u64 = RTC + 0x14;
const ICR: u64 = RTC + 0x1c;
/// The PL061 (DDI 0190, 3.2) on the platform bus.
const GPIO: u64 = 0x0c00_0000;
const GPIO_INTID: u32 = 80;
/// Pin 0 alone.
const DATA: u64 = GPIO + 4;
const IS: u64 = GPIO + 0x404;
const IEV: u64 = GPIO + 0x40c;
const IE: u64 = GPIO + 0x410;
const MIS: u64 = GPIO + 0x418;
/// Their PrimeCell part numbers begin here.
const PERIPH_ID: u64 = 0xfe0;
/// PSCI SYSTEM_RESET.
const SYSTEM_RESET: u64 = 0x8400_0009;
/// What the first life leaves in the match register, which no restart clears: it is the machine's.
const MARK: u32 = 0x7654_3210;

static TAKEN: AtomicU64 = AtomicU64::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);
/// How often the handler leaves the line as it is.
static IGNORE: AtomicU32 = AtomicU32::new(0);

fn on_interrupt(intid: u32) {
    let count = match intid {
        RTC_INTID | GPIO_INTID => &TAKEN,
        timer::INTID => {
            timer::disarm();
            return;
        }
        _ => &FOREIGN,
    };
    count.store(count.load(Relaxed) + 1, Relaxed);
    let left = IGNORE.load(Relaxed);
    if left != 0 {
        IGNORE.store(left - 1, Relaxed);
    } else if intid == RTC_INTID {
        gic::write32(ICR, 1);
    } else {
        gic::write32(IE, 0);
    }
}

/// Waits until so many interrupts have been taken, or so long. How many there were.
fn wait(count: u64, ms: u64) -> u64 {
    timer::within(ms, || {
        timer::arm(timer::ticks(1));
        sys::wfi();
        sys::unmask();
        sys::mask();
        TAKEN.load(Relaxed) >= count
    });
    TAKEN.swap(0, Relaxed)
}

/// Sets the alarm for the next second: again, if that was over before it was set.
fn arm() {
    gic::write32(ICR, 1);
    loop {
        let next = gic::read32(DR).wrapping_add(1);
        gic::write32(MR, next);
        let passed = gic::read32(DR).wrapping_sub(next).cast_signed();
        if passed <= 0 || gic::read32(RIS) != 0 {
            break;
        }
    }
    gic::write32(IMSC, 1);
}

/// Enables or disables an SPI.
fn enable(intid: u32, on: bool) {
    let base = gic::GICD + if on { 0x100 } else { 0x180 };
    gic::write32(base + 4 * u64::from(intid / 32), 1 << (intid % 32));
}

fn identity(base: u64) -> u32 {
    let byte = |n: u64| gic::read32(base + PERIPH_ID + 4 * n) & 0xff;
    byte(0) | (byte(1) & 0xf) << 8
}

fn clock(score: &mut Score) {
    let mut case = score.case("DEV-01");
    case.check(
        identity(RTC) == 0x31,
        format_args!("it is a {:#x}", identity(RTC)),
    );
    let before = gic::read32(DR);
    case.check(before > 1_600_000_000, format_args!("it is {before}"));
    let end = sys::cntvct() + timer::ticks(1500);
    while sys::cntvct() < end {
        core::hint::spin_loop();
    }
    let passed = gic::read32(DR).wrapping_sub(before);
    case.check(
        (1..=60).contains(&passed),
        format_args!("{passed} s in 1.5 s"),
    );
}

fn alarm(score: &mut Score) {
    let mut case = score.case("DEV-02");
    for round in 0..2 {
        arm();
        let taken = wait(1, 30_000);
        case.check(
            taken == 1,
            format_args!("alarm {round}: {taken} interrupts"),
        );
        let more = wait(1, 30);
        case.check(more == 0, format_args!("alarm {round}: {more} more"));
    }
    // A level that nobody lowers comes again.
    IGNORE.store(3, Relaxed);
    arm();
    let taken = wait(4, 30_000);
    case.check(taken == 4, format_args!("ignored three times: {taken}"));
    let more = wait(1, 30);
    case.check(more == 0, format_args!("then lowered: {more} more"));
}

/// While it is off in the guest's GIC, nothing comes; then it does.
fn masked(score: &mut Score) {
    let mut case = score.case("GIC-11");
    enable(RTC_INTID, false);
    arm();
    let high = timer::within(30_000, || gic::read32(RIS) == 1);
    let none = wait(1, 100);
    case.check(
        none == 0 && high,
        format_args!("off: {none} interrupts, line {}", gic::read32(RIS)),
    );
    enable(RTC_INTID, true);
    let one = wait(1, 3000);
    case.check(one == 1, format_args!("on: {one} interrupts"));
}

/// S2-06: nothing is fetched from registers.
fn execution(score: &mut Score, base: u64) {
    let mut case = score.case("S2-06");
    for offset in [0, 0x10, 0xfe0, 0xffc] {
        let outcome = probe::jump(base + offset);
        let right =
            outcome.is_err_and(|fault| fault.is_instruction_abort() && fault.far == base + offset);
        case.check(right, format_args!("{:#x}: {outcome:x?}", base + offset));
    }
}

/// S2-11, S2-12: what is not a plain access ends, whatever it does.
fn odd_accesses(score: &mut Score, base: u64) {
    let mut case = score.case("S2-11");
    let is = identity(base);
    // ldxr, stxr, ldp, stp, ldadd, cas, dc zva, dc civac, dc ivac, ic ivau, prfm; x1 is the address, the rest zero.
    for word in [
        0xc85f_7c20u32,
        0xc802_7c20,
        0xa940_0c20,
        0xa900_0c20,
        0xf820_0022,
        0xc8a0_7c22,
        0xd50b_7421,
        0xd50b_7e21,
        0xd508_7621,
        0xd50b_7521,
        0xf980_0020,
    ] {
        let mut x = [0; 31];
        // The periphery's identity: what is written there is lost.
        x[1] = base + 0xfe0;
        let _ = probe::run(word, &mut x);
        case.check(
            identity(base) == is,
            format_args!("{word:#x} has changed it"),
        );
    }
}

fn pins(score: &mut Score) {
    let mut case = score.case("DEV-03");
    case.check(
        identity(GPIO) == 0x61,
        format_args!("it is a {:#x}", identity(GPIO)),
    );
    enable(GPIO_INTID, true);
    let level = gic::read32(DATA) & 1;
    gic::write32(IS, 1);
    for round in 0..3 {
        // The level that the pin has is what interrupts.
        gic::write32(IEV, level);
        gic::write32(IE, 1);
        let taken = wait(1, 3000);
        case.check(
            taken == 1,
            format_args!("round {round}: {taken} interrupts"),
        );
        let none = wait(1, 20);
        case.check(
            none == 0 && gic::read32(MIS) & 1 == 0,
            format_args!("round {round}: {none} more"),
        );
    }
}

/// What another guest has is not here.
fn absent(score: &mut Score) {
    let mut case = score.case("DEV-03");
    for address in [GPIO, GPIO + 0xffc, 0x0903_0000, GPIO + 0x1000] {
        let read = probe::read(address, Width::Word);
        let right = read.is_err_and(|fault| fault.is_external() && fault.far == address);
        case.check(right, format_args!("{address:#x}: {read:x?}"));
    }
}

/// GIC-10: the first life ends with the interrupt active, pending again and never ended. The second is served.
fn lives(line: &str) {
    if tree::option(line, "lives").is_none() || gic::read32(MR) == MARK {
        return;
    }
    enable(RTC_INTID, true);
    arm();
    while gic::acknowledge() != RTC_INTID {
        sys::relax();
    }
    gic::write32(MR, MARK);
    println!("device: the first life ends inside its handler");
    let _ = call::hvc([SYSTEM_RESET, 0, 0, 0]);
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let mut score = Score::default();
    interrupts::quiet();
    lane::current().on_interrupt(on_interrupt);
    interrupts::set_priority(RTC_INTID, 0xa0);
    interrupts::set_priority(GPIO_INTID, 0xa0);
    interrupts::prepare_spi(RTC_INTID);
    interrupts::prepare_spi(GPIO_INTID);
    enable(GPIO_INTID, false);
    lives(line);
    clock(&mut score);
    alarm(&mut score);
    masked(&mut score);
    execution(&mut score, RTC);
    if tree::option(line, "gpio").is_some() {
        pins(&mut score);
        odd_accesses(&mut score, GPIO);
        execution(&mut score, GPIO);
    } else {
        absent(&mut score);
    }
    odd_accesses(&mut score, RTC);
    let foreign = FOREIGN.load(Relaxed);
    score
        .case("GIC-06")
        .check(foreign == 0, format_args!("{foreign} foreign interrupts"));
    score.finish()
}
