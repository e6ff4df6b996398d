//! The CPU that a guest sees, from inside.

use tests::machine::Machine;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// Runs a guest beside a victim and judges both.
fn pair(machine: &Machine, cases: usize) -> anyhow::Result<Transcript> {
    let transcript = machine.run()?;
    transcript.no_panic()?;
    transcript.cases("attacker", cases)?;
    transcript.unharmed("victim")?;
    transcript.well("attacker")?;
    transcript.ended(0)?;
    Ok(transcript)
}

#[test]
fn a_guest_debugs_itself() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        pair(&point.machine("tests/configs/debug.toml"), 6)?;
    }
    // All lanes on one CPU: each has its own breakpoints whenever it is back.
    pair(
        &Machine::of("tests/configs/debug.toml").cpu("max").smp(1),
        6,
    )?;
    Ok(())
}

#[test]
fn a_guest_s_cpu_is_what_it_says() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        pair(&point.machine("tests/configs/cpu.toml"), 5)?;
    }
    Ok(())
}
