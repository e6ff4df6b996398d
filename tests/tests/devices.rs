//! Devices of the machine: one guest has them, whatever it does with them, and EL2 asks the machine itself whether it may.

use anyhow::ensure;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

fn run(point: &Point, what: &str, cpus: u32) -> anyhow::Result<Transcript> {
    let transcript = point
        .machine(&format!("tests/configs/{what}.toml"))
        .smp(cpus)
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    Ok(transcript)
}

/// The machine's clock and the emulated one do the same, side by side, on one CPU and on two.
#[test]
fn a_given_device_serves_its_guest_and_nobody_else() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        for cpus in [1, 2] {
            let transcript = run(&point, "devices", cpus)?;
            transcript.cases("owner", 9)?;
            transcript.cases("other", 7)?;
            transcript.well("owner")?;
            transcript.well("other")?;
            transcript.ended(0)?;
            let pages = "-> 0x9010000..0x9011000 rw- device";
            let mapped = transcript
                .lines_of("xdv")
                .filter(|line| line.contains(pages))
                .count();
            ensure!(mapped == 1, "mapped {mapped} times:\n{}", transcript.text());
        }
    }
    Ok(())
}

/// GIC-10: what a guest's last life has taken and never ended is taken from it.
#[test]
fn a_life_that_ends_inside_its_handler_leaves_the_next_a_working_device() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        let transcript = run(&point, "devices-lives", 1)?;
        transcript.has("owner | device: the first life ends inside its handler")?;
        transcript.cases("owner", 7)?;
        transcript.well("owner")?;
        transcript.unharmed("victim")?;
        transcript.ended(0)?;
    }
    Ok(())
}

/// Debian's kernel drives both by its own drivers, on a CPU that its two lanes share with a neighbour.
#[test]
#[ignore = "boots Linux"]
fn linux_has_the_machines_clock_and_pins() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max"), Point::of("cortex-a57")]) {
        let transcript = point
            .machine("tests/configs/devices-linux.toml")
            .smp(1)
            .seconds(180)
            .run()?;
        transcript.no_panic()?;
        transcript.has("pl061_gpio c000000.pl061: PL061 GPIO chip registered")?;
        transcript.has("rtc-pl031 9010000.pl031: registered as rtc0")?;
        transcript.has("linux | selftest: alarm: 1")?;
        transcript.has("linux | selftest: ok")?;
        transcript.well("linux")?;
        transcript.unharmed("victim")?;
        transcript.ended(0)?;
    }
    Ok(())
}

/// BOOT-12, SPC-10: the plan may say what it likes.
#[test]
fn a_plan_for_another_machine_is_refused() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max")]) {
        let transcript = run(&point, "devices-elsewhere", 1)?;
        transcript.has(
            "guest owner: no arm,pl031 is alone at 0x40110000, free and without DMA, in this machine",
        )?;
        ensure!(transcript.lines_of("owner").next().is_none());
        ensure!(transcript.ended(0).is_err());
    }
    Ok(())
}
