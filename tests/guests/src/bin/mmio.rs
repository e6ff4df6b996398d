//! Every way an instruction can reach a device (S2-06, S2-08 .. S2-16, GIC-01, GIC-02): the right value with the right extension in the right register,
//! or the architected abort with nothing changed; never something in between.
//!
//! Command line: `quick` sweeps one page of every frame only; `map` prints which offsets of the GIC's frames answer.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::gic::{GICD, GICR};
use tests_arch::lane::Fault;
use tests_arch::probe::{self, Width};
use tests_arch::{call, gic, lane, mmu, println, sys};
use tests_guests::score::{Case, Score};
use tests_guests::tree;

tests_arch::entry!(main);

const UART: u64 = 0x0900_0000;
const RTC: u64 = 0x0901_0000;
/// The virtio-mmio slots.
const SLOTS: u64 = 0x0A00_0000;
const SLOTS_SIZE: u64 = 32 * 0x200;
/// GICD_IPRIORITYR10: INTIDs 40..43, byte accessible, five bits each.
const PRIORITY: u64 = GICD + 0x428;
const TYPER: u64 = GICD + 4;
/// The bits above bit 2 of every byte are implemented.
const PATTERN: u64 = 0xf8a0_0890;
const MARK: u64 = 0x1111_2222_3333_4444;

fn set_priority(value: u64) {
    let _ = probe::write(PRIORITY, Width::Word, value);
}

fn priority() -> Option<u64> {
    probe::read(PRIORITY, Width::Word).ok()
}

/// One instruction with x1 = `address`, everything else marked.
fn with(word: u32, address: u64, data: u64) -> (Result<(), Fault>, [u64; 31]) {
    let mut x = [MARK; 31];
    x[0] = data;
    x[1] = address;
    (probe::run(word, &mut x), x)
}

/// An abort as a stopped access must report it: external or, where stage 1 judges first, alignment.
fn abort(outcome: Result<(), Fault>, address: u64) -> bool {
    let page = |value: u64| value >> 12;
    matches!(outcome, Err(fault) if fault.is_data_abort() && (fault.is_external() || fault.status() == 0x21)
        && (page(fault.far) == page(address) || page(fault.far) == page(address + 8)))
}

/// S2-14: sign and zero extension to both register widths.
fn extension(score: &mut Score) {
    let mut case = score.case("S2-14");
    set_priority(PATTERN);
    // (instruction x0, [x1]; offset; value)
    let loads: [(&str, u32, u64, u64); 8] = [
        ("ldrb", 0x3940_0020, 3, 0xf8),
        ("ldrsb w", 0x39c0_0020, 3, 0xffff_fff8),
        ("ldrsb x", 0x3980_0020, 3, 0xffff_ffff_ffff_fff8),
        ("ldrsb w, positive", 0x39c0_0020, 1, 0x08),
        ("ldrsb x, positive", 0x3980_0020, 1, 0x08),
        ("ldr w", 0xb940_0020, 0, PATTERN),
        ("ldrsw", 0xb980_0020, 0, 0xffff_ffff_f8a0_0890),
        ("ldrb 2", 0x3940_0020, 2, 0xa0),
    ];
    for (name, word, offset, wanted) in loads {
        let (outcome, x) = with(word, PRIORITY + offset, MARK);
        case.check(
            outcome.is_ok() && x[0] == wanted,
            format_args!("{name}: {outcome:x?} {:#x}, not {wanted:#x}", x[0]),
        );
        case.check(
            x[1] == PRIORITY + offset && x[2] == MARK,
            format_args!("{name}: other registers changed"),
        );
    }
    // Half words are legal nowhere in a GICv3: an abort, or else the right ones.
    for (name, word, wanted) in [
        ("ldrh", 0x7940_0020, 0xf8a0),
        ("ldrsh w", 0x79c0_0020, 0xffff_f8a0),
        ("ldrsh x", 0x7980_0020, 0xffff_ffff_ffff_f8a0u64),
    ] {
        let (outcome, x) = with(word, PRIORITY + 2, MARK);
        let good = abort(outcome, PRIORITY + 2) && x[0] == MARK
            || outcome.is_ok() && (x[0] == wanted || x[0] == 0);
        case.check(good, format_args!("{name}: {outcome:x?} {:#x}", x[0]));
    }
}

/// S2-13 and every other register as target and source.
fn registers(score: &mut Score) {
    let mut case = score.case("S2-13");
    let typer = probe::read(TYPER, Width::Word).unwrap_or(0);
    for target in (0..32u32).filter(|target| *target != 1) {
        // ldr w<target>, [x1]
        let (outcome, x) = with(0xb940_0020 | target, TYPER, MARK);
        case.check(outcome.is_ok(), format_args!("ldr w{target}: {outcome:x?}"));
        for (index, value) in (0..31u32).zip(x).filter(|(index, _)| *index != 1) {
            let wanted = if index == target { typer } else { MARK };
            case.check(
                value == wanted,
                format_args!("ldr w{target}: x{index} = {value:#x}, not {wanted:#x}"),
            );
        }
        // str w<target>, [x1], each with its own value; 31 is zero.
        set_priority(PATTERN);
        let mut x = [0u64; 31];
        for (slot, index) in x.iter_mut().zip(0u64..) {
            *slot = 0xffff_ffff_0000_0000 | (index * 0x0808_0808);
        }
        x[1] = PRIORITY;
        let wanted = if target == 31 {
            0
        } else {
            u64::from(target) * 0x0808_0808
        };
        let outcome = probe::run(0xb900_0020 | target, &mut x);
        let seen = priority();
        case.check(
            outcome.is_ok() && seen == Some(wanted),
            format_args!("str w{target}: {outcome:x?} {seen:x?}, not {wanted:#x}"),
        );
    }
}

/// S2-08, -09, -10, -11: accesses whose syndrome says nothing (ISV = 0), or says it in another form.
fn without_syndrome(score: &mut Score) {
    let forms: [(&'static str, &str, u32); 20] = [
        ("S2-08", "ldp w0, w2", 0x2940_0820),
        ("S2-08", "ldp x0, x2", 0xa940_0820),
        ("S2-08", "stp w0, w2", 0x2900_0820),
        ("S2-08", "stp x0, x2", 0xa900_0820),
        ("S2-08", "ldnp w0, w2", 0x2840_0820),
        ("S2-09", "ldr w0, [x1], #4", 0xb840_4420),
        ("S2-09", "ldr w0, [x1, #4]!", 0xb840_4c20),
        ("S2-09", "str w0, [x1], #4", 0xb800_4420),
        ("S2-09", "str w0, [x1, #-4]!", 0xb81f_cc20),
        ("S2-09", "ldp w0, w2, [x1], #8", 0x28c1_0820),
        ("S2-10", "ldr q0", 0x3dc0_0020),
        ("S2-10", "str q0", 0x3d80_0020),
        ("S2-10", "ldr s0", 0xbd40_0020),
        ("S2-10", "ld1 {v0.16b}", 0x4c40_7020),
        ("S2-10", "st1 {v0.16b, v1.16b}", 0x4c00_a020),
        ("S2-11", "ldxr w0", 0x885f_7c20),
        ("S2-11", "stxr w2, w0", 0x8802_7c20),
        ("S2-11", "ldaxr w0", 0x885f_fc20),
        ("S2-11", "swp w2, w0", 0xb822_8020),
        ("S2-11", "ldadd w2, w0", 0xb822_0020),
    ];
    for id in ["S2-08", "S2-09", "S2-10", "S2-11"] {
        let mut case = score.case(id);
        for (_, name, word) in forms.iter().filter(|form| form.0 == id) {
            for address in [PRIORITY, TYPER, UART + 0x18, GICR + 8, RTC + 8, SLOTS + 8] {
                set_priority(PATTERN);
                let (outcome, x) = with(*word, address, MARK);
                case.check(
                    judged(outcome, &x, address),
                    format_args!(
                        "{name} at {address:#x}: {outcome:x?} x0 {:#x} x1 {:#x}",
                        x[0], x[1]
                    ),
                );
            }
        }
    }
}

/// Taken whole, or refused with no register changed. An LSE atomic is undefined on a v8.0 CPU.
fn judged(outcome: Result<(), Fault>, x: &[u64; 31], address: u64) -> bool {
    match outcome {
        Ok(()) => true,
        Err(fault) => {
            (abort(outcome, address) || fault.is_undefined())
                && x[0] == MARK
                && x[1] == address
                && x[2] == MARK
        }
    }
}

/// S2-16: misaligned, and across the end of a window. Through the Normal map, or stage 1 would answer by itself.
fn misaligned(score: &mut Score) {
    let mut case = score.case("S2-16");
    let ends = [
        GICD + 0x1_0000,
        GICR + 0x1_0000,
        GICR + 0x2_0000,
        UART + 0x1000,
        RTC + 0x1000,
        SLOTS + SLOTS_SIZE,
    ];
    for base in [TYPER, PRIORITY, GICR + 8, UART + 0x18, RTC, SLOTS]
        .into_iter()
        .map(mmu::normal)
    {
        for (name, word, offsets) in [
            ("ldr w", 0xb940_0020u32, 1..4u64),
            ("str w", 0xb900_0020, 1..4),
            ("ldr x", 0xf940_0020, 1..8),
        ] {
            for offset in offsets {
                set_priority(PATTERN);
                let (outcome, x) = with(word, base + offset, MARK);
                case.check(
                    abort(outcome, base + offset) && x[0] == MARK,
                    format_args!("{name} at {:#x}: {outcome:x?}", base + offset),
                );
                let seen = priority();
                case.check(
                    seen == Some(PATTERN),
                    format_args!(
                        "{name} at {:#x} changed a neighbour: {seen:x?}",
                        base + offset
                    ),
                );
            }
        }
    }
    for end in ends.into_iter().map(mmu::normal) {
        for (name, word, back) in [
            ("ldr w", 0xb940_0020u32, 2),
            ("str w", 0xb900_0020, 1),
            ("ldr x", 0xf940_0020, 4),
            ("str x", 0xf900_0020, 7),
        ] {
            let (outcome, _) = with(word, end - back, 0);
            case.check(
                abort(outcome, end - back),
                format_args!("{name} across {end:#x}: {outcome:x?}"),
            );
        }
    }
}

/// S2-12: cache maintenance is no store. Through the Normal map, for the same reason.
fn maintenance(score: &mut Score) {
    let mut case = score.case("S2-12");
    let operations = [
        ("dc zva", 0xd50b_7421u32),
        ("dc cvac", 0xd50b_7a21),
        ("dc civac", 0xd50b_7e21),
        ("dc ivac", 0xd508_7621),
        ("dc cvau", 0xd50b_7b21),
        ("ic ivau", 0xd50b_7521),
    ];
    for (name, word) in operations {
        for ipa in [
            PRIORITY,
            UART + 0x18,
            GICR + 0x1_0100,
            0x3000_0000,
            0x20_0000_0000,
        ] {
            set_priority(PATTERN);
            let address = mmu::normal(ipa);
            let (outcome, _) = with(word, address, 0);
            let good = match outcome {
                Ok(()) => true,
                Err(fault) => fault.is_data_abort() && fault.is_external(),
            };
            case.check(good, format_args!("{name} {ipa:#x}: {outcome:x?}"));
            let seen = priority();
            case.check(
                seen == Some(PATTERN),
                format_args!("{name} {ipa:#x} wrote: {seen:x?}"),
            );
        }
    }
}

/// S2-06: a device cannot be executed.
fn execute(score: &mut Score) {
    let mut case = score.case("S2-06");
    for ipa in [GICD, GICD + 0x428, GICR, UART, UART + 0x18, RTC, SLOTS] {
        let outcome = probe::jump(mmu::normal(ipa));
        let good = matches!(outcome, Err(fault) if fault.is_instruction_abort() && fault.far == mmu::normal(ipa));
        case.check(good, format_args!("jump {ipa:#x}: {outcome:x?}"));
    }
}

/// GIC-02: the halves of a 64-bit register are the register.
fn halves(score: &mut Score) {
    let mut case = score.case("GIC-02");
    for address in [GICR + 8, GICD + 0x6000 + 8 * 40] {
        let whole = probe::read(address, Width::Double);
        let low = probe::read(address, Width::Word);
        let high = probe::read(address + 4, Width::Word);
        let merged = low.and_then(|low| high.map(|high| high << 32 | low));
        case.check(
            whole == merged && whole.is_ok(),
            format_args!("{address:#x}: {whole:x?} and {merged:x?}"),
        );
    }
    let route = GICD + 0x6000 + 8 * 40;
    let written = [
        probe::write(route, Width::Word, 1),
        probe::write(route + 4, Width::Word, 0),
    ];
    let seen = probe::read(route, Width::Double);
    case.check(
        written == [Ok(()), Ok(())] && seen == Ok(1),
        format_args!("IROUTER40 by halves: {seen:x?}"),
    );
    let _ = probe::write(route, Width::Double, 0);
    // 64 bits wide at a 32-bit register: refused, or no more than the register.
    let wide = probe::read(GICD, Width::Double);
    case.check(
        wide.is_ok() || abort(wide.map(|_| ()), GICD),
        format_args!("GICD_CTLR, 64 bits: {wide:x?}"),
    );
}

/// One offset of one frame, every width, every pattern. Counts what answered.
fn poke(case: &mut Case<'_>, address: u64, writes: bool) -> bool {
    let mut answered = false;
    for width in Width::ALL {
        if !address.is_multiple_of(width.bytes()) {
            continue;
        }
        let read = probe::read(address, width);
        answered |= read.is_ok();
        case.check(
            read.is_ok() || abort(read.map(|_| ()), address),
            format_args!("read {address:#x} {width:?}: {read:x?}"),
        );
        if !writes {
            continue;
        }
        for pattern in [
            0,
            u64::MAX,
            0xa5a5_5a5a_c3c3_3c3c,
            sys::cntvct().wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ] {
            let written = probe::write(address, width, pattern);
            case.check(
                written.is_ok() || abort(written, address),
                format_args!("write {address:#x} {width:?}: {written:x?}"),
            );
        }
    }
    answered
}

/// GIC-01 and S2-15: everything in every frame. Interrupts are masked; afterwards the GIC must still work.
fn sweep(score: &mut Score, quick: bool, map: bool) {
    let frames: [(&'static str, &str, u64, u64); 6] = [
        ("GIC-01", "GICD", GICD, 0x1_0000),
        ("GIC-01r", "GICR RD", GICR, 0x1_0000),
        ("GIC-01s", "GICR SGI", GICR + 0x1_0000, 0x1_0000),
        ("S2-15", "UART", UART, 0x1000),
        ("S2-15r", "RTC", RTC, 0x1000),
        ("S2-15v", "virtio-mmio", SLOTS, SLOTS_SIZE),
    ];
    for (id, name, base, size) in frames {
        let mut case = score.case(id);
        let (mut from, mut answered) = (0, None);
        for offset in (0..if quick { size.min(0x1000) } else { size }).step_by(4) {
            // The UART's data register is the one whose writes would be seen.
            let now = poke(&mut case, base + offset, !(base == UART && offset == 0));
            if answered.is_some_and(|answered| answered != now) {
                if map {
                    println!(
                        "map {name} {from:#06x}..{offset:#06x} {}",
                        if now { "aborts" } else { "answers" }
                    );
                }
                from = offset;
            }
            answered = Some(now);
        }
        if map {
            println!(
                "map {name} {from:#06x}.. {}",
                if answered == Some(true) {
                    "answers"
                } else {
                    "aborts"
                }
            );
        }
        // Bytes that are not at a word's start.
        for offset in
            (0..size.min(0x1000)).filter(|offset| offset % 4 != 0 && !(base == UART && *offset < 4))
        {
            poke(&mut case, base + offset, true);
        }
    }
}

/// The GIC after the storm: an SGI still arrives, once.
fn alive(score: &mut Score) {
    let mut case = score.case("GIC-alive");
    for (offset, value) in [
        (0x1_0180u64, u32::MAX),
        (0x1_0280, u32::MAX),
        (0x1_0380, u32::MAX),
    ] {
        gic::write32(GICR + offset, value);
    }
    gic::init_distributor();
    gic::init_lane();
    while gic::acknowledge() < gic::SPURIOUS_FIRST {}
    let before = lane::current().irqs();
    gic::send(0, 3);
    sys::unmask();
    sys::mask();
    let taken = lane::current().irqs() - before;
    case.check(taken == 1, format_args!("{taken} interrupts after one SGI"));
    let [version, ..] = call::hvc([call::id::PSCI_VERSION, 0, 0, 0]);
    case.check(
        (0x1_0000..0x10_0000).contains(&version),
        format_args!("PSCI version {version:#x}"),
    );
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let mut score = Score::default();
    gic::init_distributor();
    gic::init_lane();
    extension(&mut score);
    registers(&mut score);
    without_syndrome(&mut score);
    halves(&mut score);
    mmu::enable(tree::ram(fdt).end);
    extension(&mut score);
    // Without a stage 2 the Normal map makes a device behave like memory: these three ask the hypervisor.
    if tests_arch::console::by_hypercall() {
        misaligned(&mut score);
        maintenance(&mut score);
        execute(&mut score);
    }
    sweep(&mut score, line.contains("quick"), line.contains("map"));
    alive(&mut score);
    score.finish()
}
