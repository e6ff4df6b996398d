//! The configs that a person runs: on every size of machine, CPU model, profile and emulator they promise.

use anyhow::ensure;
use tests::golden;
use tests::machine::Machine;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

const TWO: &str = "configs/two-guests.toml";
const DEDICATED: &str = "tests/configs/dedicated.toml";
const SHARED: &str = "tests/configs/shared.toml";
const ONE: &str = "configs/one-guest.toml";

fn good(transcript: &Transcript, guests: &[&str]) -> anyhow::Result<()> {
    transcript.no_panic()?;
    for guest in guests {
        transcript.well(guest)?;
    }
    transcript.has("xdv | all guests ended")?;
    transcript.ended(0)
}

#[test]
fn two_guests_run_side_by_side_on_four_and_eight_cpus() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max"), Point::of("cortex-a57").debug()]) {
        for cpus in [4, 8] {
            let transcript = point.machine(TWO).smp(cpus).run()?;
            good(&transcript, &["alpha", "beta"])?;
        }
    }
    Ok(())
}

#[test]
fn what_two_guests_print_is_the_golden() -> anyhow::Result<()> {
    let transcript = Machine::of(TWO).smp(4).cpu("cortex-a57").run()?;
    good(&transcript, &["alpha", "beta"])?;
    // Each guest's lines come in its own order; between guests there is none.
    for guest in ["alpha", "beta"] {
        golden::compare(
            &format!("two-guests-{guest}"),
            &golden::normalised(transcript.lines_of(guest)),
        )?;
    }
    Ok(())
}

#[test]
fn a_machine_too_small_for_dedicated_lanes_is_refused_with_lanes_and_cpus() -> anyhow::Result<()> {
    for cpus in [1, 2] {
        let checked = Machine::of(DEDICATED).smp(cpus).check()?;
        let run = Machine::of(DEDICATED).smp(cpus).run()?;
        for transcript in [checked, run] {
            ensure!(
                transcript.status() != 0,
                "{cpus} CPUs were enough:\n{}",
                transcript.text()
            );
            transcript.has("lane")?;
            transcript.has("CPU")?;
            ensure!(
                !transcript.says("all guests ended"),
                "it ran all the same:\n{}",
                transcript.text()
            );
        }
    }
    Ok(())
}

#[test]
fn dedicated_lanes_have_the_smallest_machine_that_fits() -> anyhow::Result<()> {
    let transcript = Machine::of(DEDICATED).run()?;
    good(&transcript, &["alpha", "beta"])?;
    transcript.has("3 CPUs")
}

/// Four guests with budgets, periods and priorities of their own do their work on two CPUs.
#[test]
fn shared_lanes_take_turns_on_few_cpus() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max"), Point::of("cortex-a57")]) {
        for cpus in [1, 2] {
            let transcript = point.machine(TWO).smp(cpus).run()?;
            good(&transcript, &["alpha", "beta"])?;
        }
        let transcript = point.machine(SHARED).smp(2).run()?;
        good(&transcript, &["tenths", "rest", "first", "alone"])?;
    }
    Ok(())
}

#[test]
fn one_guest_runs_on_one_and_two_cpus() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max"), Point::of("cortex-a57")]) {
        for cpus in [1, 2] {
            let transcript = point.machine(ONE).smp(cpus).run()?;
            good(&transcript, &["alpha"])?;
        }
    }
    Ok(())
}

#[test]
fn pinned_memory_lies_where_it_was_pinned_and_the_others_give_way() -> anyhow::Result<()> {
    let transcript = Machine::of("tests/configs/pinned.toml").run()?;
    good(&transcript, &["anywhere", "pinned"])?;
    transcript
        .has("xdv | guest pinned: memory 0x40000000..0x44000000 -> 0x40800000..0x44800000")?;
    Ok(())
}

#[test]
fn every_config_is_accepted_by_check() -> anyhow::Result<()> {
    for config in [TWO, ONE] {
        Machine::of(config).check()?.ended(0)?;
    }
    Ok(())
}
