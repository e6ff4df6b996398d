//! Touches everything that is not its own (S2-01, S2-02, S2-03): every 4 KiB page of the first 8 GiB of its IPA space outside its windows, one page
//! per 2 MiB above, every page the harness names as the host's or a neighbour's. Each answer must be the architected external abort, at
//! that address.
//!
//! Command line: `hosts=<a>-<b>,…` host-physical ranges of EL2 and of the neighbours; `low=<n>` and `high=<n>` shorten the sweep (GiB).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::ops::Range;

use tests_arch::lane::Fault;
use tests_arch::memory::SpareRam;
use tests_arch::println;
use tests_arch::probe::{self, Width};
use tests_guests::score::{Case, Score};
use tests_guests::tree;

tests_arch::entry!(main);

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
/// Bytes a lane's redistributor takes; eight lanes at most.
const REDISTRIBUTORS: u64 = 8 * 0x2_0000;

/// The guest's own windows: not swept here, `mmio` does that.
fn windows(ram: &Range<u64>) -> [Range<u64>; 6] {
    [
        0x0800_0000..0x0801_0000,
        0x080A_0000..0x080A_0000 + REDISTRIBUTORS,
        0x0900_0000..0x0900_1000,
        0x0901_0000..0x0901_1000,
        0x0A00_0000..0x0A00_4000,
        ram.clone(),
    ]
}

/// True when this is the architected answer to an access where nothing is.
fn refused(outcome: Result<u64, Fault>, address: u64) -> bool {
    matches!(outcome, Err(fault) if fault.is_data_abort() && fault.is_external() && fault.far == address)
}

fn touch(case: &mut Case<'_>, address: u64) {
    let read = probe::read(address, Width::Word);
    case.check(
        refused(read, address),
        format_args!("read {address:#x}: {read:x?}"),
    );
    let written = probe::write(address, Width::Word, 0x5a5a_5a5a).map(|()| 0);
    case.check(
        refused(written, address),
        format_args!("write {address:#x}: {written:x?}"),
    );
}

/// Touches one page each `step` from `range`, but none of the windows.
fn sweep(case: &mut Case<'_>, range: Range<u64>, step: u64, windows: &[Range<u64>]) -> u64 {
    let mut touched = 0;
    let mut address = range.start;
    while address < range.end {
        match windows.iter().find(|window| window.contains(&address)) {
            Some(window) => address = window.end.next_multiple_of(step),
            None => {
                touch(case, address);
                touched += 1;
                address += step;
            }
        }
    }
    touched
}

/// RAM ends where it ends: one byte further, and a word across the end, are refused, and the last word keeps its value.
fn edges(score: &mut Score, ram: &Range<u64>) {
    let mut case = score.case("S2-02");
    let last = ram.end - 8;
    let before = probe::read(last, Width::Double);
    for (offset, width) in [
        (0, Width::Byte),
        (0, Width::Double),
        (1, Width::Byte),
        (8, Width::Double),
    ] {
        let address = ram.end + offset;
        let outcome = probe::write(address, width, u64::MAX).map(|()| 0);
        case.check(
            refused(outcome, address),
            format_args!("write {address:#x}: {outcome:x?}"),
        );
    }
    // Across the end: stage 1 is off, so alignment faults first; either is a refusal.
    for offset in [1, 4, 7] {
        let outcome = probe::write(ram.end - offset, Width::Double, u64::MAX);
        case.check(
            outcome.is_err(),
            format_args!("write across the end at -{offset}"),
        );
    }
    let after = probe::read(last, Width::Double);
    case.check(
        before == after,
        format_args!("last word {before:x?} became {after:x?}"),
    );
}

/// Bits above the IPA size: never an alias of a low frame. RAM and devices alike.
fn high_bits(score: &mut Score, ram: &Range<u64>) {
    let mut case = score.case("S2-03");
    for bit in 36..64 {
        for low in [
            0,
            0x0800_0000,
            0x0900_0000,
            0x0901_0000,
            0x0A00_0000,
            ram.start,
            ram.end - PAGE,
        ] {
            let address = low | 1 << bit;
            if ram.contains(&address) {
                continue;
            }
            let read = probe::read(address, Width::Word);
            // Above the CPU's own physical size stage 1 answers with an address size fault, level 0.
            let stage1 = matches!(read, Err(fault) if fault.is_data_abort() && fault.status() == 0 && fault.far == address);
            case.check(
                stage1 || refused(read, address),
                format_args!("read {address:#x}: {read:x?}"),
            );
            let written = probe::write(address, Width::Word, 0).is_err();
            case.check(written, format_args!("write {address:#x} was taken"));
        }
    }
}

/// S2-26: RAM comes empty, whoever had it before. Then all of it is overwritten, which a neighbour must not notice.
fn own_ram(score: &mut Score, fdt: &'static [u8]) {
    let mut case = score.case("S2-26");
    let Some(ram) = SpareRam::behind_image(tree::spare_end(fdt)) else {
        return;
    };
    for index in 0..ram.words() {
        let word = ram.get(index);
        if word != 0 {
            case.check(
                false,
                format_args!("word {:#x} holds {word:#x}", ram.start() + index * 8),
            );
        }
        ram.set(index, u64::MAX ^ index);
    }
    case.check(ram.words() > 0, format_args!("no RAM behind the image"));
    println!("sweep: {} words of own RAM", ram.words());
}

/// What is nobody's cannot be executed either.
fn execute(score: &mut Score) {
    let mut case = score.case("S2-06x");
    for address in [
        0,
        0x1000,
        0x2000_0000,
        0x3fff_f000,
        0x0800_0000,
        0x080B_0000,
        0x0900_0000,
        0x0901_0000,
        0x0A00_0000,
        1 << 36,
    ] {
        let outcome = probe::jump(address);
        let good = matches!(outcome, Err(fault) if fault.is_instruction_abort() && fault.is_external() && fault.far == address);
        case.check(good, format_args!("jump {address:#x}: {outcome:x?}"));
    }
}

fn main(fdt: &'static [u8]) -> u32 {
    let line = tree::command_line(fdt);
    let ram = tree::ram(fdt);
    let windows = windows(&ram);
    let setting = |key, default| {
        tree::option(line, key)
            .and_then(tree::number)
            .unwrap_or(default)
    };
    println!("sweep: ram {:#x}..{:#x}", ram.start, ram.end);
    let mut score = Score::default();
    own_ram(&mut score, fdt);
    {
        let low = setting("low", 8) * GIB;
        let mut case = score.case("S2-01");
        let near = sweep(&mut case, 0..low, PAGE, &windows);
        let far = sweep(
            &mut case,
            low..setting("high", 1024) * GIB,
            2 << 20,
            &windows,
        );
        println!("sweep: {near} pages below {low:#x}, {far} above");
    }
    {
        let mut case = score.case("S2-01h");
        let mut count = 0;
        for range in tree::option(line, "hosts")
            .into_iter()
            .flat_map(tree::ranges)
        {
            count += sweep(&mut case, range, PAGE, &windows);
        }
        println!("sweep: {count} host pages outside the windows");
    }
    edges(&mut score, &ram);
    high_bits(&mut score, &ram);
    if tests_arch::console::by_hypercall() {
        execute(&mut score);
    }
    score.finish()
}
