//! The bench guest, which judges others, is judged here: bare at EL1 it must count what the yardstick's own bench counted.

use std::process::Command;
use std::{env, fs};

use anyhow::{Context, ensure};
use tests::machine::{GRACE, Machine, run, scratch, xtask};
use tests::{archive, machine};

/// The bare column of the yardstick.
const BARE: [(&str, u64); 21] = [
    ("hvc_psci_version", 8),
    ("smc_psci_version", 8),
    ("hvc_unknown", 8),
    ("sysreg_trapped", 4),
    ("gicd_typer_read", 4),
    ("gicd_typer_read_x20", 4),
    ("declined_read", 4),
    ("gicr_typer_read", 4),
    ("gicd_isenabler_write", 4),
    ("uart_emulated_read", 4),
    // A poll and a store, and as much beside them as Linux's driver does, whose 128 are the yardstick's.
    ("console_char", 128),
    ("sgi_write", 4),
    ("eoi", 4),
    ("cntvct_read", 4),
    ("cntv_cval_write", 4),
    ("sgi_self_roundtrip", 29),
    ("timer_irq_spinning", 0),
    ("timer_irq_wfi", 0),
    ("ipi_spinning_oneway", 16),
    ("ipi_wfi_oneway", 16),
    ("cpu_on_first_instruction", 16),
];

#[test]
fn bare_it_is_its_own_calibration() -> anyhow::Result<()> {
    let mut build = xtask();
    build.args(["build", "tests/configs/bench.toml"]);
    let (status, text) = run(&mut build, "bench-build", GRACE)?;
    ensure!(status == Some(0), "building failed:\n{text}");
    let bundle =
        fs::read(machine::target().join("xdv/bench/bundle.cpio")).context("no bundle was left")?;
    let kernel = archive::entry(&bundle, "bench/kernel").context("the bundle has no kernel")?;
    let image = scratch()?.join("bench-kernel");
    fs::write(&image, kernel)?;
    let program = env::var("XDV_QEMU").unwrap_or_else(|_| "qemu-system-aarch64".to_owned());
    let mut qemu = Command::new(program);
    qemu.args([
        "-M",
        "virt,gic-version=3",
        "-cpu",
        "cortex-a57,cntfrq=1000000000",
        "-icount",
        "shift=0,sleep=off",
        "-smp",
        "2",
    ])
    .args([
        "-nic",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-monitor",
        "none",
        "-kernel",
    ])
    .arg(&image);
    let (status, text) = run(&mut qemu, "bench-bare", GRACE)?;
    ensure!(status == Some(0), "the bare bench did not end:\n{text}");
    let seen: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("bench ")?.split_once(' '))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
        .collect();
    ensure!(seen == BARE, "seen {seen:?}\n{text}");
    Ok(())
}

#[test]
fn under_xdv_it_ends_well_without_icount() -> anyhow::Result<()> {
    let transcript = Machine::of("tests/configs/bench.toml").run()?;
    transcript.no_panic()?;
    transcript.well("bench")?;
    transcript.has("bench | bench done")?;
    transcript.ended(0)
}

#[test]
fn every_frame_is_switched_and_interrupts() -> anyhow::Result<()> {
    let transcript = Machine::of("tests/configs/bench-switch.toml").run()?;
    transcript.no_panic()?;
    transcript.well("bench")?;
    transcript.has("bench | bench done")?;
    transcript.ended(0)
}
