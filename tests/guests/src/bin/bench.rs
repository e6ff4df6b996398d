//! Counts what a VM exit costs: prints `bench <name> <instructions>` a row.
//!
//! Command line: `rows=<shared|contended>`, the rows of lanes that share their CPU; `rows=virtio`, those of a machine whose first
//! slot has a device; all others without it. `count=N`: each
//! operation so often, a multiple of 80, for who traces every instruction; `after_ms=N`: only then. `rows=none run_ms=N`: no row, but the other guest that
//! wants both CPUs; it is this program too, so that an address means the same instruction in both.
//!
//! Meant for `-icount shift=0,sleep=off`, where one nanosecond of virtual time is one instruction. Runs bare at EL1 too, which is its calibration.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use tests_arch::{bench, call, gic, println, smp, sys, timer};
use tests_guests::tree;

tests_arch::entry!(main);

/// Iterations of a synchronous operation, and of an interrupt.
#[derive(Clone, Copy)]
struct Counts {
    sync: u64,
    irq: u64,
}

/// What each is without `count=`.
const COUNTS: Counts = Counts {
    sync: 2000,
    irq: 300,
};
/// The most IPIs.
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
    bench::row();
    println!("bench {name} {instructions}");
}

fn synchronous(n: u64) {
    report("hvc_psci_version", bench::hvc_psci_version(n), n);
    if call::caught(|| call::smc([call::id::PSCI_VERSION, 0, 0, 0])).is_ok() {
        report("smc_psci_version", bench::smc_psci_version(n), n);
    } else {
        println!("note smc is undefined on this machine: its row repeats hvc");
        report("smc_psci_version", bench::hvc_psci_version(n), n);
    }
    report("hvc_unknown", bench::hvc_unknown(n), n);
    report("sysreg_trapped", bench::sysreg_trapped(n), n);
    report("gicd_typer_read", bench::gicd_typer_read(n), n);
    report("gicd_typer_read_x20", bench::gicd_typer_read_x20(n), n);
    report("declined_read", bench::declined_read(n), n);
    report("gicr_typer_read", bench::gicr_typer_read(n), n);
    report("gicd_isenabler_write", bench::gicd_isenabler_write(n), n);
    report("uart_emulated_read", bench::uart_emulated_read(n), n);
    let lines = n / bench::CONSOLE_LINE;
    let bytes = lines * bench::CONSOLE_LINE;
    report("console_char", bench::console_char(lines), bytes);
    report("sgi_write", bench::sgi_write(n), n);
    bench::drain();
    report("eoi", bench::eoi(n), n);
    report("cntvct_read", bench::cntvct_read(n), n);
    report("cntv_cval_write", bench::cntv_cval_write(n), n);
}

/// The rows of virtio slots.
fn virtio(n: u64) {
    report("virtio_notify", bench::virtio_notify(n), n);
    report("virtio_notify_device", bench::virtio_notify_device(n), n);
    report("virtio_isr_read", bench::virtio_isr_read(n), n);
    report("virtio_isr_read_x20", bench::virtio_isr_read_x20(n), n);
    report("virtio_ack", bench::virtio_ack(n), n);
}

fn timer(name: &str, sleep: bool, n: u64) {
    let ahead = sys::cntfrq() / 50_000;
    let total = (0..n).fold(0u64, |sum, _| {
        sum.wrapping_add(bench::timer_lateness(ahead, sleep))
    });
    report(name, total, n);
}

fn ipi(name: &str, sleep: bool, pause: u64, n: u64) {
    if !bench::start_receiver(sleep) {
        println!("note no second lane: {name} is not measured");
        return;
    }
    let mut each = [0u64; SAMPLES];
    let wanted = usize::try_from(n).unwrap_or(SAMPLES);
    let each = each.get_mut(..wanted).unwrap_or_default();
    for one in each.iter_mut() {
        *one = bench::ipi_oneway(sleep, pause);
    }
    bench::stop_receiver();
    if pause == PAUSE {
        report(name, each.iter().sum(), n);
    } else {
        // The sender may lose its CPU as well: a turn's length is not what a wake-up costs.
        each.sort_unstable();
        report(name, each.get(each.len() / 2).copied().unwrap_or(0), 1);
    }
}

fn cpu_on(n: u64) {
    if smp::lanes() < 2 {
        return;
    }
    let total = (0..n).fold(0u64, |sum, _| {
        sum.wrapping_add(bench::cpu_on_first_instruction())
    });
    report("cpu_on_first_instruction", total, n);
}

/// The rows of lanes that do not have their CPU to themselves: of a WFI that EL2 answers.
fn shared(n: u64) {
    let vectors = bench::Vectors::install();
    timer("timer_irq_wfi_shared", true, n);
    drop(vectors);
    ipi("ipi_wfi_shared", true, PAUSE, n);
}

/// Both lanes do nothing, and never wait, until `end`.
fn burn(end: u64) {
    while sys::cntvct() < end {
        sys::turn(5_000);
    }
}

fn burn_both(run_ms: u64) {
    let end = sys::cntvct() + timer::ticks(run_ms);
    let both = smp::start(1, burn, end) == 0;
    burn(end);
    if both {
        smp::wait_off(1);
    }
}

fn main(fdt: &'static [u8]) -> u32 {
    gic::init_distributor();
    gic::init_lane();
    let line = tree::command_line(fdt);
    let number = |key| tree::option(line, key).and_then(tree::number);
    let counts = number("count").map_or(COUNTS, |n| Counts { sync: n, irq: n });
    burn(sys::cntvct() + timer::ticks(number("after_ms").unwrap_or(0)));
    match tree::option(line, "rows") {
        Some("shared") => shared(counts.irq),
        Some("virtio") => virtio(counts.sync),
        Some("none") => burn_both(number("run_ms").unwrap_or(0)),
        // Beside another guest that wants both CPUs.
        Some("contended") => ipi("ipi_wfi_contended", true, LONG_PAUSE, counts.irq),
        _ => all(counts),
    }
    println!("bench done");
    0
}

fn all(Counts { sync, irq }: Counts) {
    synchronous(sync);
    let vectors = bench::Vectors::install();
    report("sgi_self_roundtrip", bench::sgi_self_roundtrip(irq), irq);
    timer("timer_irq_spinning", false, irq);
    timer("timer_irq_wfi", true, irq);
    drop(vectors);
    ipi("ipi_spinning_oneway", false, PAUSE, irq);
    ipi("ipi_wfi_oneway", true, PAUSE, irq);
    cpu_on(irq);
}
