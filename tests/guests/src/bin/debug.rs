//! A guest that debugs itself, as a kernel debugger and `ptrace` do: every breakpoint, watchpoint and step fires at
//! its instruction or address, once, and nowhere else (DDI 0487 D2).
//!
//! Command line: `rounds=<n>` of the two lanes that debug side by side (default 500).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tests_arch::debug::{self, KDE, MDE, SS};
use tests_arch::lane::Fault;
use tests_arch::probe::{self, Width};
use tests_arch::{lane, memory, println, smp};
use tests_guests::score::Score;
use tests_guests::tree;

tests_arch::entry!(main);

/// DBGBCR: on, all four bytes; PMC says where.
const BREAK: u64 = 0x1e1;
/// DBGWCR: on; PAC says where, LSC at what, BAS which bytes.
const WATCH: u64 = 1;
const EL1: u64 = 1 << 1;
const EL0: u64 = 2 << 1;
const LOADS: u64 = 1 << 3;
const STORES: u64 = 2 << 3;
const NOP: u32 = 0xd503_201f;
/// `ldr x0, [x0]`
const LOAD: u32 = 0xf940_0000;
/// Exception classes (DDI 0487 D24.2.40).
const BREAKPOINT: u64 = 0x30;
const STEP: u64 = 0x32;
const WATCHPOINT: u64 = 0x34;
/// The same from EL1.
const SAME: u64 = 1;

/// What is watched.
static WATCHED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// What the second lane saw: failures, rounds, and its registers after a restart.
static WRONG: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Writes one of DBGBVR, DBGBCR, DBGWVR, DBGWCR (op2 4 to 7) of this number: true when it is there.
fn write(number: u64, op2: u32, value: u64) -> bool {
    let number = u32::try_from(number).unwrap_or(0);
    let mut x = [0; 31];
    x[1] = value;
    // msr s2_0_c0_c<number>_<op2>, x1
    probe::run(0xd510_0001 | number << 8 | op2 << 5, &mut x).is_ok()
}

fn read(number: u64, op2: u32) -> Option<u64> {
    let number = u32::try_from(number).unwrap_or(0);
    let mut x = [0; 31];
    probe::run(0xd530_0000 | number << 8 | op2 << 5, &mut x)
        .ok()
        .map(|()| x[0])
}

fn breakpoint(number: u64, address: u64, control: u64) -> bool {
    write(number, 4, address) && write(number, 5, control)
}

fn watchpoint(number: u64, address: u64, control: u64) -> bool {
    write(number, 6, address) && write(number, 7, control)
}

/// Whether the code took exactly one exception: this class, at this address.
fn once(before: u64, outcome: Result<(), Fault>, class: u64, elr: u64) -> bool {
    lane::current().faults() == before + 1
        && outcome.is_err_and(|fault| fault.class() == class && fault.elr == elr)
}

fn faults() -> u64 {
    lane::current().faults()
}

fn arm() {
    debug::set_os_lock(false);
    debug::set_mdscr(MDE | KDE);
}

/// Every breakpoint, at every one of four instructions; one of them is trapped by EL2.
fn breakpoints(score: &mut Score) {
    let mut case = score.case("DBG-break");
    let (count, _) = debug::counts();
    for number in 0..count {
        for index in 0..4 {
            let at = debug::code(index);
            case.check(
                breakpoint(number, at, BREAK | EL1),
                format_args!("no breakpoint {number}"),
            );
            let before = faults();
            let outcome = debug::run();
            let good = once(before, outcome, BREAKPOINT | SAME, at);
            case.check(good, format_args!("{number} at {at:#x}: {outcome:x?}"));
            case.check(
                read(number, 4) == Some(at) && read(number, 5) == Some(BREAK | EL1),
                format_args!("{number} reads back otherwise"),
            );
            write(number, 5, 0);
            case.check(debug::run().is_ok(), format_args!("{number} is off"));
        }
    }
    case.check(
        count == 16 || read(count, 5).is_none(),
        format_args!("there is a breakpoint {count}"),
    );
}

/// Where a breakpoint says that it matches, and what it says of levels that are not the guest's.
fn levels(score: &mut Score) {
    let mut case = score.case("DBG-level");
    let slot = probe::el0_slot();
    for (control, el1, el0) in [
        (BREAK | EL1, true, false),
        (BREAK | EL0, false, true),
        (BREAK | EL0 | EL1, true, true),
        // HMC: EL2 as well. SSC: one security state, or EL2 alone.
        (BREAK | EL1 | 1 << 13, true, false),
        (BREAK | EL0 | EL1 | 1 << 14, true, true),
        (BREAK | EL0 | EL1 | 2 << 14, false, false),
        (BREAK | 3 << 14 | 1 << 13, false, false),
        // VMID and EL2's context: not this guest's to match.
        (BREAK | EL0 | EL1 | 8 << 20, false, false),
        (BREAK | EL0 | EL1 | 12 << 20, false, false),
    ] {
        breakpoint(0, debug::code(0), control);
        let outcome = debug::run();
        case.check(
            outcome.is_err() == el1,
            format_args!("{control:#x} at EL1: {outcome:x?}"),
        );
        breakpoint(0, slot, control);
        let (fault, _) = probe::run_el0(NOP, 0);
        let hit = fault.class() == BREAKPOINT && fault.elr == slot;
        case.check(
            hit == el0 && (hit || probe::returned(&fault)),
            format_args!("{control:#x} at EL0: {fault:x?}"),
        );
        case.check(
            read(0, 5) == Some(control),
            format_args!("{control:#x} reads back otherwise"),
        );
    }
    write(0, 5, 0);
}

/// What keeps everything from firing: MDE, KDE, PSTATE.D, the OS lock.
fn masks(score: &mut Score) {
    let mut case = score.case("DBG-mask");
    breakpoint(0, debug::code(0), BREAK | EL1);
    debug::set_mdscr(MDE);
    case.check(debug::run().is_ok(), format_args!("KDE is off"));
    debug::set_mdscr(KDE);
    case.check(debug::run().is_ok(), format_args!("MDE is off"));
    debug::set_mdscr(MDE | KDE);
    debug::set_os_lock(true);
    case.check(debug::run().is_ok(), format_args!("the OS lock is on"));
    debug::set_os_lock(false);
    case.check(debug::run().is_err(), format_args!("all is open"));
    write(0, 5, 0);
    // Emulators before QEMU 8 have no claim tags: mrs x0, dbgclaimset_el1.
    if probe::run(0xd530_78c0, &mut [0; 31]).is_ok() {
        debug::set_claims(0x5a);
        debug::clear_claims(0x0a);
        case.check(
            (debug::claims(), debug::claimed()) == (0xff, 0x50),
            format_args!("claim tags {:#x}", debug::claimed()),
        );
        debug::clear_claims(0xff);
    }
}

/// One access with debug exceptions open.
fn touch(address: u64, width: Width, store: bool) -> Result<(), Fault> {
    debug::open();
    let outcome = if store {
        probe::write(address, width, 0)
    } else {
        probe::read(address, width).map(|_| ())
    };
    debug::close();
    outcome
}

/// Every watchpoint, by load and store; every byte of eight; a masked range; EL0.
fn watchpoints(score: &mut Score, spare: u64) {
    let mut case = score.case("DBG-watch");
    let (_, count) = debug::counts();
    let base = spare & !0xff;
    let hit = |outcome: &Result<(), Fault>, address: u64| {
        outcome.is_err_and(|fault| fault.class() == WATCHPOINT | SAME && fault.far == address)
    };
    for number in 0..count {
        for (kind, load, store) in [
            (LOADS, true, false),
            (STORES, false, true),
            (LOADS | STORES, true, true),
        ] {
            watchpoint(number, base, WATCH | EL1 | kind | 0xff << 5);
            for (wanted, is_store) in [(load, false), (store, true)] {
                let before = faults();
                let outcome = touch(base, Width::Double, is_store);
                let good = hit(&outcome, base) == wanted
                    && faults() - before == u64::from(wanted)
                    && outcome
                        .err()
                        .is_none_or(|f| (f.esr >> 6 & 1 != 0) == is_store);
                case.check(
                    good,
                    format_args!("{number}, {kind:#x}, {is_store}: {outcome:x?}"),
                );
            }
            case.check(
                touch(base + 8, Width::Double, true).is_ok(),
                format_args!("{number} fires beside its address"),
            );
        }
        write(number, 7, 0);
    }
    for byte in 0..8 {
        watchpoint(0, base, WATCH | EL1 | LOADS | STORES | 1 << (5 + byte));
        for at in 0..8 {
            let outcome = touch(base + at, Width::Byte, at % 2 == 0);
            let good = hit(&outcome, base + at) == (at == byte);
            case.check(good, format_args!("byte {byte}, {at}: {outcome:x?}"));
        }
    }
    // MASK = 6: 64 bytes.
    watchpoint(0, base + 64, WATCH | EL1 | STORES | 0xff << 5 | 6 << 24);
    for at in [0, 63, 64, 100, 127, 128] {
        let outcome = touch(base + at, Width::Byte, true);
        let good = hit(&outcome, base + at) == (64..128).contains(&at);
        case.check(good, format_args!("range, {at}: {outcome:x?}"));
    }
    let address = memory::address_of(WATCHED.as_ptr());
    watchpoint(0, address, WATCH | EL0 | LOADS | 0xff << 5);
    let (fault, _) = probe::run_el0(LOAD, address);
    case.check(
        fault.class() == WATCHPOINT && fault.far == address && fault.elr == probe::el0_slot(),
        format_args!("EL0: {fault:x?}"),
    );
    case.check(
        touch(address, Width::Double, false).is_ok(),
        format_args!("EL0's fires at EL1"),
    );
    write(0, 7, 0);
}

/// A step over everything, trapped or not, ends behind it, once.
fn steps(score: &mut Score) {
    let mut case = score.case("DBG-step");
    debug::set_mdscr(KDE | SS);
    for index in 0..debug::STEPS {
        let before = faults();
        let (fault, due) = debug::step(index);
        let good = fault.is_some_and(|f| f.class() == STEP | SAME && f.elr == due)
            && faults() == before + 1;
        case.check(good, format_args!("{index}, due {due:#x}: {fault:x?}"));
    }
    debug::set_mdscr(SS);
    let slot = probe::el0_slot();
    // nop; mrs x0, mdccsr_el0, which EL2 answers; add x0, x0, #1.
    for word in [NOP, 0xd533_0100, 0x9100_0400] {
        let (fault, _) = probe::run_el0_in(word, 0, probe::MASKED | probe::STEP);
        case.check(
            fault.class() == STEP && fault.elr == slot + 4,
            format_args!("{word:#x} at EL0: {fault:x?}"),
        );
    }
    debug::set_mdscr(MDE | KDE);
}

/// Breakpoint 0 on an instruction of this lane's own.
fn take_side(index: u64) {
    arm();
    let armed = breakpoint(0, debug::code(index), BREAK | EL1);
    WRONG.fetch_add(u64::from(!armed), Relaxed);
}

/// Runs into it again and again; whatever fires, fires there.
fn stay(index: u64) {
    let at = debug::code(index);
    for _ in 0..ROUNDS.load(Relaxed) {
        let before = faults();
        let outcome = debug::run();
        let wrong = !once(before, outcome, BREAKPOINT | SAME, at);
        WRONG.fetch_add(u64::from(wrong), Relaxed);
    }
}

fn other_side(index: u64) {
    take_side(index);
    stay(index);
}

/// A lane that starts anew has no breakpoint of its former life.
fn anew(_: u64) {
    let control = read(0, 5).unwrap_or(u64::MAX);
    LEFT.store(control | debug::mdscr(), Relaxed);
}

fn lanes(score: &mut Score, rounds: u64) {
    let mut case = score.case("DBG-lanes");
    ROUNDS.store(rounds, Relaxed);
    // First this lane, then the other: they share the slot that writes a numbered register.
    take_side(0);
    let started = smp::start(1, other_side, 3);
    case.check(started == 0, format_args!("lane 1: {started:#x}"));
    stay(0);
    smp::wait_off(1);
    let wrong = WRONG.load(Relaxed);
    case.check(wrong == 0, format_args!("{wrong} of {rounds} rounds"));
    let started = smp::start(1, anew, 0);
    smp::wait_off(1);
    let left = LEFT.load(Relaxed);
    case.check(
        started == 0 && left == 0,
        format_args!("left after a restart: {left:#x}"),
    );
    write(0, 5, 0);
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let rounds = tree::option(line, "rounds")
        .and_then(tree::number)
        .unwrap_or(500);
    let (breaks, watches) = debug::counts();
    println!("debug: {breaks} breakpoints, {watches} watchpoints");
    let mut score = Score::default();
    arm();
    breakpoints(&mut score);
    levels(&mut score);
    masks(&mut score);
    watchpoints(&mut score, memory::image_end() + 0x1_0000);
    steps(&mut score);
    lanes(&mut score, rounds);
    score.finish()
}
