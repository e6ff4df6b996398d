//! Calls to the hypervisor (SR-18 .. SR-27): every immediate, every range of function numbers, PSCI with nonsense, and lanes that race.
//!
//! Command line: `rounds=<n>`: how often the raced-for lane is to start (default 500).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tests_arch::call::{self, id};
use tests_arch::{lane, println, probe, smp, sys, timer};
use tests_guests::score::{Case, Score};
use tests_guests::tree;

tests_arch::entry!(main);

const HVC: u32 = 0xd400_0002;
const SMC: u32 = 0xd400_0003;
const NOT_SUPPORTED: u64 = u64::MAX;
const SUCCESS: u64 = 0;
const INVALID_PARAMETERS: i32 = -2;
const ALREADY_ON: i32 = -4;
const INVALID_ADDRESS: i32 = -9;

/// A PSCI status is 32 bits; a 64-bit call may sign-extend it or not.
fn status(x0: u64) -> i32 {
    let bytes = x0.to_le_bytes();
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Registers with a value each that says which one it is.
fn marked(function: u64) -> [u64; 31] {
    let mut x = [0u64; 31];
    for (slot, index) in x.iter_mut().zip(0u64..) {
        *slot = 0xabcd_0000_1234_0000 | (index * 0x0101);
    }
    x[0] = function;
    x
}

/// x4..x30 as they were; x1..x3 as they were or zero: nothing of the host in them (SR-20, SPC-08).
fn preserved(case: &mut Case<'_>, what: &str, number: u64, x: &[u64; 31]) {
    let before = marked(0);
    for (index, (now, then)) in x.iter().zip(before).enumerate().skip(1) {
        let good = *now == then || index < 4 && *now == 0;
        case.check(
            good,
            format_args!("{what} {number:#x}: x{index} = {now:#x}"),
        );
    }
}

/// SR-18, SR-19: all 65536 immediates, by either instruction, and both from EL0.
fn immediates(score: &mut Score) {
    for (name, opcode, hypercall) in [("SR-18", HVC, true), ("SR-19", SMC, false)] {
        let mut case = score.case(name);
        let mut undefined = 0;
        for immediate in 1..0x1_0000u32 {
            let mut x = marked(id::PSCI_VERSION);
            match probe::run(opcode | immediate << 5, &mut x) {
                Ok(()) => {
                    case.check(
                        x[0] == NOT_SUPPORTED,
                        format_args!("#{immediate:#x} answered {:#x}", x[0]),
                    );
                    if immediate % 97 == 1 {
                        preserved(&mut case, name, u64::from(immediate), &x);
                    }
                }
                Err(fault) => {
                    undefined += 1;
                    case.check(
                        fault.is_undefined(),
                        format_args!("#{immediate:#x}: {fault:x?}"),
                    );
                }
            }
        }
        println!(
            "calls: {undefined} immediates are undefined ({})",
            if hypercall { "hvc" } else { "smc" }
        );
        let mut x = marked(id::PSCI_VERSION);
        let zero = probe::run(opcode, &mut x);
        case.check(
            zero.is_ok() && x[0] >> 16 == 1,
            format_args!("#0: {zero:x?} {:#x}", x[0]),
        );
        for immediate in [0, 1, 0xffff] {
            let (fault, _) = probe::run_el0(opcode | immediate << 5, id::PSCI_VERSION);
            case.check(
                fault.is_undefined(),
                format_args!("#{immediate:#x} at EL0: {fault:x?}"),
            );
        }
    }
}

/// Functions that exist, or that would end the test.
fn known(function: u64) -> bool {
    let owner = function >> 24 & 0x3f;
    let number = function & 0xffff;
    match owner {
        // SMCCC_VERSION, ARCH_FEATURES, SOC_ID and the workarounds; PSCI; UID, revision, count; ours.
        0 => number <= 2 || number >= 0x3f00 || number == 0x8000 || number == 0x7fff,
        4 => number < 0x20,
        6 => number >= 0xff00 || (0x100..0x200).contains(&number),
        _ => false,
    }
}

/// SR-20, SR-22: owners × fast/yielding × 32/64 × numbers. Nothing that is not listed answers, nothing else changes.
fn functions(score: &mut Score) {
    let numbers = [
        0u64, 1, 2, 3, 5, 7, 8, 9, 0x10, 0x20, 0x40, 0x60, 0x84, 0xff, 0x100, 0x7777, 0x8000,
        0xff00, 0xff01, 0xff02, 0xff03, 0xffff,
    ];
    for (name, opcode) in [("SR-20", HVC), ("SR-22", SMC)] {
        let mut case = score.case(name);
        for owner in 0..64u64 {
            for kind in 0..4u64 {
                for number in numbers {
                    let function = kind << 30 | owner << 24 | number;
                    if known(function) {
                        continue;
                    }
                    let mut x = marked(function);
                    let outcome = probe::run(opcode, &mut x);
                    // A 32-bit call may return its -1 in 32 bits.
                    let refused = x[0] == NOT_SUPPORTED || x[0] == 0xffff_ffff;
                    case.check(
                        outcome.is_ok() && refused,
                        format_args!("{function:#x}: {outcome:x?} {:#x}", x[0]),
                    );
                    preserved(&mut case, name, function, &x);
                }
            }
        }
        // Reserved bits 23..16 of a fast call must be zero (DEN0028 2.5).
        let mut x = marked(0x8401_0000);
        let outcome = probe::run(opcode, &mut x);
        case.check(
            outcome.is_ok() && status(x[0]) == -1,
            format_args!("bit 16: {outcome:x?} {:#x}", x[0]),
        );
    }
}

/// SR-21: a 32-bit call sees 32 bits.
fn truncation(score: &mut Score) {
    let mut case = score.case("SR-21");
    let garbage = 0xdead_beef_0000_0000u64;
    let clean = call::hvc([0x8400_0004, 0, 0, 0]);
    let dirty = call::hvc([0x8400_0004, garbage, garbage, garbage]);
    case.check(
        clean[0] == dirty[0] && clean[0] == 0,
        format_args!("AFFINITY_INFO: {:#x} and {:#x}", clean[0], dirty[0]),
    );
    let [version, ..] = call::hvc([id::PSCI_VERSION, 0, 0, 0]);
    let [dirty, ..] = call::hvc([garbage | id::PSCI_VERSION, 0, 0, 0]);
    case.check(
        version == dirty,
        format_args!("PSCI_VERSION with a dirty x0: {dirty:#x}"),
    );
}

/// SR-23, SR-24: who may be turned on, and where.
fn cpu_on(score: &mut Score, lanes: usize) {
    let count = u64::try_from(lanes).unwrap_or(1);
    {
        let mut case = score.case("SR-23");
        for target in [
            count,
            8,
            15,
            16,
            255,
            0x100,
            0x1_0000,
            1 << 24,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 63,
            u64::MAX,
            0x8000_0000,
            0x100_0000_0000,
        ] {
            let [x0, ..] = call::hvc([id::CPU_ON, target, smp::entry(), 0]);
            case.check(
                status(x0) == INVALID_PARAMETERS,
                format_args!("target {target:#x}: {x0:#x}"),
            );
        }
        let [x0, ..] = call::hvc([id::CPU_ON, 0, smp::entry(), 0]);
        case.check(status(x0) == ALREADY_ON, format_args!("self: {x0:#x}"));
    }
    let mut case = score.case("SR-24");
    for entry in [
        1u64,
        2,
        3,
        0x4000_0001,
        0x3000_0000,
        0x0800_0000,
        0x0900_0000,
        1 << 40,
        u64::MAX,
        u64::MAX - 3,
    ] {
        if lanes < 2 {
            break;
        }
        let [x0, ..] = call::hvc([id::CPU_ON, 1, entry, 0]);
        let good = matches!(status(x0), INVALID_ADDRESS | INVALID_PARAMETERS);
        case.check(good, format_args!("entry {entry:#x}: {x0:#x}"));
        if status(x0) == 0 {
            // The lane is gone: it faults on a vector that is not there.
            break;
        }
    }
}

/// SR-27: the rest of PSCI with nonsense.
fn psci(score: &mut Score) {
    let mut case = score.case("SR-27");
    psci_queries(&mut case);
    psci_absent(&mut case);
}

/// AFFINITY_INFO and PSCI_FEATURES.
fn psci_queries(case: &mut Case<'_>) {
    for level in 1..256u64 {
        let [x0, ..] = call::hvc([id::AFFINITY_INFO, 0, level, 0]);
        // Levels 1..3 exist: the cluster of a lane that is on is on. PSCI 1.0 may refuse them too (DEN0022 5.7).
        case.check(
            status(x0) < 0 || level <= 3 && x0 == 0,
            format_args!("AFFINITY_INFO level {level}: {x0:#x}"),
        );
    }
    for target in [8u64, 0x100, 1 << 31, 1 << 40, u64::MAX] {
        let [x0, ..] = call::hvc([id::AFFINITY_INFO, target, 0, 0]);
        case.check(
            status(x0) == INVALID_PARAMETERS,
            format_args!("AFFINITY_INFO of {target:#x}: {x0:#x}"),
        );
    }
    for wanted in [
        id::PSCI_VERSION,
        id::CPU_ON,
        id::CPU_OFF,
        id::AFFINITY_INFO,
        id::SYSTEM_OFF,
        0x8400_0009,
        0x8000_0000,
    ] {
        let [x0, ..] = call::hvc([0x8400_000a, wanted, 0, 0]);
        case.check(
            status(x0) >= 0,
            format_args!("PSCI_FEATURES {wanted:#x}: {x0:#x}"),
        );
    }
    for wanted in [
        0u64,
        0x8400_001f,
        0xc400_001f,
        0x8600_0000,
        u64::MAX,
        0xc600_0140,
    ] {
        let [x0, ..] = call::hvc([0x8400_000a, wanted, 0, 0]);
        case.check(
            status(x0) == -1,
            format_args!("PSCI_FEATURES {wanted:#x}: {x0:#x}"),
        );
    }
}

/// Functions that PSCI has and this machine has not.
fn psci_absent(case: &mut Case<'_>) {
    // MIGRATE, MIGRATE_INFO_UP_CPU, CPU_FREEZE, CPU_DEFAULT_SUSPEND, NODE_HW_STATE, STAT_*, SET_SUSPEND_MODE, MEM_PROTECT*.
    for function in [
        0x8400_0005u64,
        0xc400_0005,
        0x8400_0007,
        0xc400_000c,
        0xc400_000d,
        0xc400_0010,
        0xc400_0011,
        0x8400_000f,
        0x8400_0013,
        0xc400_0014,
    ] {
        for argument in [0, 1, u64::MAX] {
            let [x0, ..] = call::hvc([function, argument, argument, argument]);
            let refused =
                status(x0) < 0 || matches!(function, 0xc400_0010 | 0xc400_0011 | 0x8400_000f);
            case.check(
                refused,
                format_args!("{function:#x}({argument:#x}): {x0:#x}"),
            );
        }
    }
}

/// SR-26: CPU_SUSPEND with nonsense.
fn suspend(score: &mut Score) {
    let mut case = score.case("SR-26");
    for state in [0xffff_ffffu64, 0x8000_0000, 0x0200_0000, 0x00ff_0000] {
        timer::arm(1000);
        let [x0, ..] = call::hvc([id::CPU_SUSPEND, state, 1, 0]);
        timer::disarm();
        let good = status(x0) <= 0;
        case.check(good, format_args!("CPU_SUSPEND {state:#x}: {x0:#x}"));
    }
}

static ENTRIES: AtomicU64 = AtomicU64::new(0);
static SUCCESSES: AtomicU64 = AtomicU64::new(0);
static ODD: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// The lane that is raced for: it only counts that it was there.
fn target(_: u64) {
    ENTRIES.fetch_add(1, SeqCst);
}

/// One racer: turns the last lane on whenever it is off, until it has started often enough.
fn race(argument: u64) {
    let (rounds, last) = (argument >> 8, usize::try_from(argument & 0xff).unwrap_or(0));
    let limit = sys::cntvct() + timer::ticks(20_000);
    while SUCCESSES.load(SeqCst) < rounds && sys::cntvct() < limit {
        let answer = status(smp::start(last, target, 0));
        match answer {
            0 => SUCCESSES.fetch_add(1, SeqCst),
            // ALREADY_ON, ON_PENDING
            -4 | -5 => 0,
            _ => ODD.fetch_add(1, SeqCst),
        };
        sys::relax();
    }
    DONE.fetch_add(1, SeqCst);
}

/// SR-25: exactly one SUCCESS per time the lane really started.
fn racing(score: &mut Score, lanes: usize, rounds: u64) {
    let mut case = score.case("SR-25");
    if lanes < 2 {
        return;
    }
    let last = lanes - 1;
    let argument = rounds << 8 | u64::try_from(last).unwrap_or(0);
    for racer in 1..last {
        case.check(
            smp::start(racer, race, argument) == SUCCESS,
            format_args!("racer {racer} did not start"),
        );
    }
    race(argument);
    let racers = u64::try_from(last).unwrap_or(1);
    while DONE.load(SeqCst) < racers {
        sys::relax();
    }
    for lane in 1..lanes {
        smp::wait_off(lane);
    }
    let (entries, successes, odd) = (
        ENTRIES.load(SeqCst),
        SUCCESSES.load(SeqCst),
        ODD.load(SeqCst),
    );
    println!("calls: {racers} racers, the lane was on {successes} times");
    case.check(
        entries == successes && successes > 0,
        format_args!("{successes} successes, {entries} entries"),
    );
    case.check(
        odd == 0,
        format_args!("{odd} answers that CPU_ON does not have"),
    );
}

/// CONSOLE_WRITE takes what ends one line, 256 bytes at most, and nothing from where no RAM is.
fn console(score: &mut Score) {
    let mut case = score.case("calls-console");
    if !tests_arch::console::by_hypercall() {
        return;
    }
    let mut takes = |bytes: &[u8], expected: usize| {
        let taken = tests_arch::console::write(bytes);
        let length = bytes.len();
        case.check(
            taken == Some(expected),
            format_args!("{taken:?} of {length} taken, not {expected}"),
        );
    };
    takes(b"", 0);
    takes(b"one\ntwo\n", 4);
    takes(b"\n\n\n", 1);
    takes(b"text without an end", 19);
    takes(&[b'-'; 300], 237);
    takes(b"\x1b\n", 2);
    takes(&[0x1b; 4096], 64);
    for [address, length] in [
        [0x0900_0000, 1],
        [0x4000_0000 - 1, 2],
        [0x4000_0000, 4097],
        [u64::MAX - 1, 4],
        [1 << 48, 16],
    ] {
        let [x0, x1, ..] = call::hvc([id::CONSOLE_WRITE, address, length, 0]);
        case.check(
            status(x0) == INVALID_PARAMETERS,
            format_args!("{length} bytes at {address:#x}: {x0:#x}, {x1:#x}"),
        );
    }
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let rounds = tree::option(line, "rounds")
        .and_then(tree::number)
        .unwrap_or(500);
    let lanes = smp::lanes();
    println!("calls: {lanes} lanes");
    let mut score = Score::default();
    immediates(&mut score);
    functions(&mut score);
    truncation(&mut score);
    psci(&mut score);
    console(&mut score);
    suspend(&mut score);
    racing(&mut score, lanes, rounds);
    cpu_on(&mut score, lanes);
    {
        let mut case = score.case("calls-alive");
        let faults = lane::current().serrors();
        case.check(faults == 0, format_args!("{faults} SErrors"));
    }
    score.finish()
}
