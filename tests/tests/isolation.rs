//! A hostile guest beside a victim: every attack is answered as the architecture says, and the victim notices nothing.

use anyhow::ensure;
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

/// S3_<op1>_C11_* and S3_<op1>_C15_*, as the table spells them (DDI 0487 D23.3.2).
const IMPLEMENTATION_DEFINED: [&str; 8] = [
    " S3_0_C11_",
    " S3_1_C11_",
    " S3_2_C11_",
    " S3_3_C11_",
    " S3_0_C15_",
    " S3_1_C15_",
    " S3_2_C15_",
    " S3_3_C15_",
];

fn config(name: &str) -> String {
    format!("tests/configs/isolation-{name}.toml")
}

#[test]
fn what_is_not_its_own_cannot_be_reached() -> anyhow::Result<()> {
    // The long one touches 2 million pages one by one.
    let (name, seconds) = if matrix::full() {
        ("sweep", 900)
    } else {
        ("sweep-quick", 900)
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
        ("mmio", 600)
    };
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        pair(&point.machine(&config(name)).seconds(seconds), 17)?;
    }
    Ok(())
}

#[test]
fn every_system_register_is_offered_or_undefined() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        let transcript = pair(&point.machine(&config("sysregs")).seconds(600), 10)?;
        let table: Vec<&str> = transcript
            .lines_of("attacker")
            .filter(|line| line.starts_with("reg "))
            .collect();
        // Which ones are offered depends on the CPU model, and on how much of it the emulator models.
        let emulator = transcript.qemu_major().unwrap_or_default();
        // SR-10: implementation defined. QEMU before 8 has no HCR_EL2.TIDCP to trap them with.
        let reachable = table.iter().find(|line| {
            IMPLEMENTATION_DEFINED
                .iter()
                .any(|part| line.contains(part))
        });
        ensure!(
            emulator < 8 || reachable.is_none(),
            "implementation defined, and reachable: {reachable:?}"
        );
        if [7, 10].contains(&emulator) {
            golden::compare(
                &format!("sysregs-{}-qemu{emulator}", point.cpu),
                &golden::normalised(table),
            )?;
        }
    }
    Ok(())
}

#[test]
fn stage_1_may_be_anything() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        // Three cases for each granule that the CPU has: cortex-a57 is without the one of 16 KiB.
        let cases = if point.cpu == "max" { 9 } else { 6 };
        pair(&point.machine(&config("regimes")).seconds(600), cases)?;
    }
    Ok(())
}

#[test]
fn calls_are_refused_or_answered_and_nothing_else_changes() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        pair(&point.machine(&config("calls")).seconds(600), 12)?;
    }
    Ok(())
}

#[test]
fn the_interrupt_controller_survives_abuse() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57"), Point::of("max")]) {
        pair(&point.machine(&config("gic")).seconds(600), 16)?;
        // A deadline that would wrap beyond 2^64 with a counter's offset: emulators before 8.2 stand still for good.
        pair(&point.machine(&config("gic-wrap")).seconds(600), 16)?;
    }
    Ok(())
}
