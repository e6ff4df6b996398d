//! The CPU as this guest sees it: AArch32 user mode, what is hidden, what a lane finds when it starts, random numbers
//! and mitigations.
//!
//! Command line: none.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tests_arch::probe::{A32, T32};
use tests_arch::{call, println, probe, smp};
use tests_guests::score::{Case, Score};

tests_arch::entry!(main);

/// Exception classes (DDI 0487 D24.2.40).
const UNKNOWN: u64 = 0x00;
const SVC32: u64 = 0x11;
const BKPT32: u64 = 0x38;
/// `svc #0x12` in A32, and twice `svc #0x34` in T32.
const SVC_A32: u32 = 0xef00_0012;
const SVC_T32: u32 = 0xdf34_df34;

/// `mrs x0, S<op0>_<op1>_C<n>_C<m>_<op2>`, and what it reads.
fn register(encoding: (u32, u32, u32, u32, u32)) -> Option<u64> {
    let mut x = [0; 31];
    probe::run(0xd520_0000 | fields(encoding), &mut x)
        .ok()
        .map(|()| x[0])
}

fn set_register(encoding: (u32, u32, u32, u32, u32), value: u64) -> bool {
    let mut x = [0; 31];
    x[1] = value;
    probe::run(0xd500_0001 | fields(encoding), &mut x).is_ok()
}

const fn fields((op0, op1, crn, crm, op2): (u32, u32, u32, u32, u32)) -> u32 {
    op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

fn id(crm: u32, op2: u32) -> u64 {
    register((3, 0, 0, crm, op2)).unwrap_or(0)
}

/// SR-16: user mode in AArch32, where the CPU has it; where it has not, the way there is an illegal return.
fn aarch32(score: &mut Score) {
    const TPIDRRO: (u32, u32, u32, u32, u32) = (3, 3, 13, 0, 3);
    const CNTKCTL: (u32, u32, u32, u32, u32) = (3, 0, 14, 1, 0);
    let mut case = score.case("SR-16");
    if id(4, 0) & 0xf != 2 {
        println!("cpu: no AArch32");
        return;
    }
    // mov r0, #42; svc
    let (fault, at, r0) = probe::run_el0_words([0xe3a0_002a, SVC_A32, 0, 0], 0, A32);
    case.check(
        (fault.class(), fault.esr & 0xffff, at, r0) == (SVC32, 0x12, 8, 42),
        format_args!("A32: {fault:x?} {r0}"),
    );
    // movs r0, #7; svc
    let (fault, at, r0) = probe::run_el0_words([0xdf34_2007, SVC_T32, 0, 0], 0, T32);
    case.check(
        (fault.class(), fault.esr & 0xffff, at, r0) == (SVC32, 0x34, 4, 7),
        format_args!("T32: {fault:x?} {r0}"),
    );
    // mrc p15, 0, r0, c13, c0, 3: TPIDRURO
    set_register(TPIDRRO, 0x1234_5678);
    let (fault, _, r0) = probe::run_el0_words([0xee1d_0f70, SVC_A32, 0, 0], 0, A32);
    case.check(
        (fault.class(), r0) == (SVC32, 0x1234_5678),
        format_args!("TPIDRURO: {fault:x?} {r0:#x}"),
    );
    // mrrc p15, 1, r0, r1, c14: CNTVCT, as EL1 allows it or not.
    for (allowed, class) in [(2, SVC32), (0, 0x04)] {
        set_register(CNTKCTL, allowed);
        let (fault, _, _) = probe::run_el0_words([0xec51_0f1e, SVC_A32, 0, 0], 0, A32);
        case.check(
            fault.class() == class,
            format_args!("CNTVCT, {allowed}: {fault:x?}"),
        );
    }
    undefined(&mut case);
    // Debug registers that user mode may read while TDCC is clear, which EL2 answers: DBGDIDR, DBGDRAR. (DBGDSCRint, c0
    // c1, is undefined in emulators.) And DBGDIDR after `it eq` in T32: cmp r0, r0; it eq; mrceq; svc.
    let dfr0 = id(5, 0);
    let (wrps, brps, contexts) = (dfr0 >> 20 & 0xf, dfr0 >> 12 & 0xf, dfr0 >> 28 & 0xf);
    let didr = wrps << 28 | brps << 24 | contexts << 20 | 6 << 16;
    for (words, state, end, value) in [
        ([0xee10_0e10, SVC_A32, 0, 0], A32, 8, didr),
        ([0xee11_0e10, SVC_A32, 0, 0], A32, 8, 0),
        ([0xbf08_4280, 0x0e10_ee10, SVC_T32, 0], T32, 10, didr),
    ] {
        let (fault, at, r0) = probe::run_el0_words(words, 9, state);
        case.check(
            (fault.class(), at, r0) == (SVC32, end, value),
            format_args!("{words:x?}: {fault:x?} {r0:#x}"),
        );
    }
    // mrcne p14, 0, r0, c0, c1, 0 after cmp r0, r0: its condition fails, and nothing happens.
    let (fault, at, r0) = probe::run_el0_words([0xe150_0000, 0x1e10_0e11, SVC_A32, 0], 5, A32);
    case.check(
        (fault.class(), at, r0) == (SVC32, 12, 5),
        format_args!("a failed condition: {fault:x?} {r0}"),
    );
    let (fault, at, _) = probe::run_el0_words([0xe120_0070, SVC_A32, 0, 0], 0, A32);
    case.check(
        (fault.class(), at) == (BKPT32, 0),
        format_args!("bkpt: {fault:x?}"),
    );
}

/// Instructions that user mode has not, or that nobody here has.
fn undefined(case: &mut Case<'_>) {
    for (name, word) in [
        ("udf", 0xe7f0_00f0),
        ("hvc", 0xe140_0070),
        ("smc", 0xe160_0070),
        ("mrc PMCCNTR", 0xee19_0f1d),
        ("mrc SCTLR", 0xee11_0f10),
        ("mrc ID_ISAR0", 0xee10_0f12),
        ("mrc HCR", 0xee91_0f10),
        // c15: implementation defined.
        ("mrc p15 c15", 0xee1f_0f10),
        ("vmrs FPSID", 0xeef0_0a10),
        ("mrc p14 trace", 0xee31_0e11),
    ] {
        let (fault, at, r0) = probe::run_el0_words([word, SVC_A32, 0, 0], 9, A32);
        case.check(
            // Undefined here, or a trap that EL1 has asked for by what it left as it is after reset (CP15, CP14, FP).
            matches!(fault.class(), UNKNOWN | 0x03 | 0x05 | 0x07) && at == 0 && r0 == 9,
            format_args!("{name}: {fault:x?} {r0:#x}"),
        );
    }
}

/// SR-08: what the ID registers do not announce is undefined, or does nothing.
fn hidden(score: &mut Score) {
    let mut case = score.case("SR-08");
    for (name, word) in [
        ("cntb", 0x0420_e3e0),
        ("ptrue", 0x2518_e3e0),
        ("smstart", 0xd503_477f),
        ("rdsvl", 0x04bf_5820),
        ("tstart", 0xd523_3060),
        ("ld64b", 0xf83f_d000),
        ("cpyfp", 0x1901_0440),
        ("msr allint, #1", 0xd501_411f),
    ] {
        let mut x = [0x1111_1111_1111_1111; 31];
        let outcome = probe::run(word, &mut x);
        case.check(
            outcome.is_err_and(|fault| fault.is_undefined()),
            format_args!("{name}: {outcome:x?}"),
        );
    }
    // pacia x0, x1: undefined, or off.
    let mut x = [0x1111_1111_1111_1111; 31];
    let outcome = probe::run(0xdac1_0020, &mut x);
    case.check(
        outcome.is_ok_and(|()| x[0] == x[1]) || outcome.is_err_and(|fault| fault.is_undefined()),
        format_args!("pacia: {outcome:x?} {:#x}", x[0]),
    );
}

/// Registers of hidden features that nothing traps on some CPUs: DISR_EL1, SMPRI_EL1, TPIDR2_EL0.
const UNTRAPPED: [(u32, u32, u32, u32, u32); 3] =
    [(3, 0, 12, 1, 1), (3, 0, 1, 2, 4), (3, 3, 13, 0, 5)];

static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// What a lane finds there; then it leaves something of its own.
fn leave(_: u64) {
    let left = UNTRAPPED
        .into_iter()
        .fold(0, |all, encoding| all | register(encoding).unwrap_or(0));
    LEFT.store(left, Relaxed);
    for encoding in UNTRAPPED {
        set_register(encoding, u64::MAX);
    }
}

fn apart(score: &mut Score) {
    let mut case = score.case("CPU-apart");
    leave(0);
    let own = LEFT.load(Relaxed);
    case.check(own == 0, format_args!("lane 0 found {own:#x}"));
    for round in 0..3 {
        LEFT.store(u64::MAX, Relaxed);
        let status = smp::start(1, leave, 0);
        smp::wait_off(1);
        let left = LEFT.load(Relaxed);
        case.check(
            status == 0 && left == 0,
            format_args!("round {round}: {left:#x}"),
        );
    }
}

/// DEN0098: random numbers.
fn random(score: &mut Score) {
    const VERSION: u64 = 0x8400_0050;
    const FEATURES: u64 = 0x8400_0051;
    const UUID: u64 = 0x8400_0052;
    const RND32: u64 = 0x8400_0053;
    const RND64: u64 = 0xc400_0053;
    let mut case = score.case("CPU-random");
    for conduit in [call::hvc, call::smc] {
        let ask = |function, x1| conduit([function, x1, 0, 0]);
        case.check(ask(VERSION, 0)[0] == 0x1_0000, format_args!("version"));
        for function in [VERSION, FEATURES, UUID, RND32, RND64] {
            let [x0, ..] = ask(FEATURES, function);
            case.check(x0 == 0, format_args!("no {function:#x}: {x0:#x}"));
        }
        for (function, bits) in [(RND64, 0), (RND64, 193), (RND32, 97), (RND32, 0)] {
            let answer = ask(function, bits);
            case.check(
                answer == [(-2_i64).cast_unsigned(), 0, 0, 0],
                format_args!("{bits} bits: {answer:x?}"),
            );
        }
        for bits in [1, 31, 33, 64, 95] {
            let [x0, x1, x2, x3] = ask(RND32, bits);
            let all = u128::from(x1) << 64 | u128::from(x2) << 32 | u128::from(x3);
            let fits = x1 >> 32 == 0 && x2 >> 32 == 0 && x3 >> 32 == 0 && all >> bits == 0;
            case.check(x0 == 0 && fits, format_args!("{bits} bits: {all:x}"));
        }
        let mut last = [0; 4];
        for _ in 0..50 {
            let answer = ask(RND64, 192);
            let fresh = answer.iter().zip(last).skip(1).all(|(a, b)| *a != b);
            case.check(answer[0] == 0 && fresh, format_args!("{answer:x?}"));
            last = answer;
        }
    }
}

/// DEN0028 7.5 to 7.7: a mitigation that is not required may be called; one that is unknown may not.
fn mitigations(score: &mut Score) {
    const FEATURES: u64 = 0x8000_0001;
    let mut case = score.case("CPU-mitigations");
    let csv2 = id(4, 0) >> 56 & 0xf;
    for (function, not_required) in [(0x8000_8000, 1), (0x8000_7fff, -2), (0x8000_3fff, 1_i64)] {
        let [told, ..] = call::hvc([FEATURES, function, 0, 0]);
        let [done, ..] = call::hvc([function, 0, 0, 0]);
        let good = match told.cast_signed() {
            -1 => done == u64::MAX,
            other => other == not_required && done == 0,
        };
        println!("cpu: {function:#x} is {}", told.cast_signed());
        case.check(good, format_args!("{function:#x}: {told:#x}, {done:#x}"));
        case.check(
            function != 0x8000_8000 || csv2 == 0 || told == 1,
            format_args!("CSV2 is {csv2}, and WORKAROUND_1 is {told:#x}"),
        );
    }
}

fn main(_: &'static [u8]) -> u32 {
    let mut score = Score::default();
    apart(&mut score);
    hidden(&mut score);
    aarch32(&mut score);
    random(&mut score);
    mitigations(&mut score);
    score.finish()
}
