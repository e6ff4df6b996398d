//! Counts what a VM exit costs: prints `bench <name> <instructions>` a row.
//!
//! Command line: `rows=<shared|contended>`, the rows of lanes that share their CPU; all others without it.
//!
//! Meant for `-icount shift=0,sleep=off`, where one nanosecond of virtual time is one instruction. Runs bare at EL1 too, which is its calibration.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::{bench, call, gic, println, smp, sys};
use tests_guests::tree;

tests_arch::entry!(main);

/// Iterations of a synchronous operation, and of an interrupt.
const SYNC: u64 = 2000;
const IRQ: u64 = 300;
const SAMPLES: usize = 300;
/// Turns of a loop that a receiver has before the next IPI: none where a few yields will do, and enough for another lane to
/// have taken its place.
const PAUSE: u64 = 0;
const LONG_PAUSE: u64 = 10_000;

/// Prints a row: `ticks` for `count` operations, rounded to the nearest instruction.
fn report(name: &str, ticks: u64, count: u64) {
    let frequency = u128::from(sys::cntfrq().max(1));
    let divisor = u128::from(count) * frequency;
    let instructions = (u128::from(ticks) * 1_000_000_000 + divisor / 2) / divisor;
    println!("bench {name} {instructions}");
}

fn synchronous() {
    report("hvc_psci_version", bench::hvc_psci_version(SYNC), SYNC);
    if call::caught(|| call::smc([call::id::PSCI_VERSION, 0, 0, 0])).is_ok() {
        report("smc_psci_version", bench::smc_psci_version(SYNC), SYNC);
    } else {
        println!("note smc is undefined on this machine: its row repeats hvc");
        report("smc_psci_version", bench::hvc_psci_version(SYNC), SYNC);
    }
    report("hvc_unknown", bench::hvc_unknown(SYNC), SYNC);
    report("sysreg_trapped", bench::sysreg_trapped(SYNC), SYNC);
    report("gicd_typer_read", bench::gicd_typer_read(SYNC), SYNC);
    report(
        "gicd_typer_read_x20",
        bench::gicd_typer_read_x20(SYNC),
        SYNC,
    );
    report("declined_read", bench::declined_read(SYNC), SYNC);
    report("gicr_typer_read", bench::gicr_typer_read(SYNC), SYNC);
    report(
        "gicd_isenabler_write",
        bench::gicd_isenabler_write(SYNC),
        SYNC,
    );
    report("uart_emulated_read", bench::uart_emulated_read(SYNC), SYNC);
    let lines = SYNC / bench::CONSOLE_LINE;
    let bytes = lines * bench::CONSOLE_LINE;
    report("console_char", bench::console_char(lines), bytes);
    report("sgi_write", bench::sgi_write(SYNC), SYNC);
    bench::drain();
    report("eoi", bench::eoi(SYNC), SYNC);
    report("cntvct_read", bench::cntvct_read(SYNC), SYNC);
    report("cntv_cval_write", bench::cntv_cval_write(SYNC), SYNC);
}

fn timer(name: &str, sleep: bool) {
    let ahead = sys::cntfrq() / 50_000;
    let total = (0..IRQ).fold(0u64, |sum, _| {
        sum.wrapping_add(bench::timer_lateness(ahead, sleep))
    });
    report(name, total, IRQ);
}

fn ipi(name: &str, sleep: bool, pause: u64) {
    if !bench::start_receiver(sleep) {
        println!("note no second lane: {name} is not measured");
        return;
    }
    let mut each = [0u64; SAMPLES];
    for one in &mut each {
        *one = bench::ipi_oneway(sleep, pause);
    }
    bench::stop_receiver();
    if pause == PAUSE {
        report(name, each.iter().sum(), IRQ);
    } else {
        // The sender may lose its CPU as well: a turn's length is not what a wake-up costs.
        each.sort_unstable();
        report(name, each.get(each.len() / 2).copied().unwrap_or(0), 1);
    }
}

fn cpu_on() {
    if smp::lanes() < 2 {
        return;
    }
    let total = (0..IRQ).fold(0u64, |sum, _| {
        sum.wrapping_add(bench::cpu_on_first_instruction())
    });
    report("cpu_on_first_instruction", total, IRQ);
}

/// The rows of lanes that do not have their CPU to themselves: of a WFI that EL2 answers.
fn shared() {
    let vectors = bench::Vectors::install();
    timer("timer_irq_wfi_shared", true);
    drop(vectors);
    ipi("ipi_wfi_shared", true, PAUSE);
}

fn main(fdt: &'static [u8]) -> u32 {
    gic::init_distributor();
    gic::init_lane();
    match tree::option(tree::command_line(fdt), "rows") {
        Some("shared") => shared(),
        // Beside another guest that wants both CPUs.
        Some("contended") => ipi("ipi_wfi_contended", true, LONG_PAUSE),
        _ => all(),
    }
    println!("bench done");
    0
}

fn all() {
    synchronous();
    let vectors = bench::Vectors::install();
    report("sgi_self_roundtrip", bench::sgi_self_roundtrip(IRQ), IRQ);
    timer("timer_irq_spinning", false);
    timer("timer_irq_wfi", true);
    drop(vectors);
    ipi("ipi_spinning_oneway", false, PAUSE);
    ipi("ipi_wfi_oneway", true, PAUSE);
    cpu_on();
}
