//! A hostile guest beside a victim: every attack is answered as the architecture says, and the victim notices nothing.

use tests::golden;
use tests::machine::Machine;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// Runs a pair and judges all three: attacker, victim, EL2.
fn pair(machine: &Machine, cases: usize) -> anyhow::Result<Transcript> {
    let transcript = machine.run()?;
    transcript.no_panic()?;
    transcript.cases("attacker", cases)?;
    transcript.unharmed("victim")?;
    transcript.well("attacker")?;
    transcript.ended(0)?;
    Ok(transcript)
}

fn config(name: &str) -> String {
    format!("tests/configs/isolation-{name}.toml")
}

#[test]
fn what_is_not_its_own_cannot_be_reached() -> anyhow::Result<()> {
    // The long one touches 2 million pages one by one.
    let (name, seconds) = if matrix::full() {
        ("sweep", 900)
    } else {
        ("sweep-quick", 240)
    };
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        pair(&point.machine(&config(name)).seconds(seconds), 6)?;
    }
    Ok(())
}

#[test]
fn a_device_answers_every_kind_of_access() -> anyhow::Result<()> {
    let (name, seconds) = if matrix::full() {
        ("mmio-full", 600)
    } else {
        ("mmio", 120)
    };
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        pair(&point.machine(&config(name)).seconds(seconds), 15)?;
    }
    Ok(())
}

#[test]
fn every_system_register_is_offered_or_undefined() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        let transcript = pair(&point.machine(&config("sysregs")).seconds(180), 10)?;
        // Which ones are offered depends on the CPU model, and on how much of it the emulator models: the golden is QEMU 7.2's.
        if transcript.says("QEMU 7.2") {
            let table = golden::normalised(
                transcript
                    .lines_of("attacker")
                    .filter(|line| line.starts_with("reg ")),
            );
            golden::compare(&format!("sysregs-{}", point.cpu), &table)?;
        }
    }
    Ok(())
}

#[test]
fn calls_are_refused_or_answered_and_nothing_else_changes() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        pair(&point.machine(&config("calls")).seconds(180), 11)?;
    }
    Ok(())
}

#[test]
fn the_interrupt_controller_survives_abuse() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        let transcript = pair(&point.machine(&config("gic")).seconds(120), 15)?;
        // Older emulators stand still, all of them, when a deadline plus the counter's offset wraps.
        if !transcript.says("QEMU 7.") && !transcript.says("QEMU 8.") {
            pair(&point.machine(&config("gic-wrap")).seconds(120), 15)?;
        }
    }
    Ok(())
}
