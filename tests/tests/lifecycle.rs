//! A guest that crashes, resets or hangs begins anew, is held or stopped, and its neighbour on the same CPU works on.

use anyhow::ensure;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// Long enough for the victim, which runs for a second and a half, and without optimisation for several.
const fn deadline(debug: bool) -> u64 {
    if debug { 30 } else { 4 }
}

fn beside(what: &str, cpus: u32) -> anyhow::Result<Vec<Transcript>> {
    let mut seen = Vec::new();
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        let transcript = point
            .machine(&format!("tests/configs/lifecycle-{what}.toml"))
            .smp(cpus)
            .seconds(deadline(point.debug))
            .run()?;
        transcript.no_panic()?;
        transcript.unharmed("victim")?;
        seen.push(transcript);
    }
    Ok(seen)
}

fn times(transcript: &Transcript, guest: &str, line: &str) -> usize {
    transcript
        .lines_of(guest)
        .filter(|seen| *seen == line)
        .count()
}

#[test]
fn a_guest_that_crashes_begins_anew_later_and_later() -> anyhow::Result<()> {
    for transcript in beside("restart", 1)? {
        let lives = times(&transcript, "bad", "bad mode exit");
        // The back-off lets no more of them in: the eighth ends after 3.1 s, the eleventh would begin after 32.7 s.
        ensure!(
            (4..=10).contains(&lives),
            "{lives} lives:\n{}",
            transcript.text()
        );
        transcript.has("xdv | guest bad: restarting: ended with code 3")?;
        let waits: Vec<u64> = transcript
            .lines_of("xdv")
            .filter_map(|line| line.strip_prefix("guest bad: restarts "))
            .filter_map(|rest| rest.split(' ').next()?.parse().ok())
            .collect();
        // Whose lanes take longer to leave than the back-off begins anew without a word.
        let backoff = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        let mut rest = backoff.iter();
        ensure!(
            !waits.is_empty() && waits.iter().all(|wait| rest.any(|step| step == wait)),
            "waited {waits:?} ms of {backoff:?}:\n{}",
            transcript.text()
        );
    }
    Ok(())
}

#[test]
fn a_guest_that_resets_finds_nothing_of_its_last_life() -> anyhow::Result<()> {
    for transcript in beside("reset", 1)? {
        let lives = times(&transcript, "bad", "bad nothing is left");
        ensure!(lives >= 3, "{lives} lives:\n{}", transcript.text());
        transcript.has("xdv | guest bad: restarting: it asked for a reset")?;
        ensure!(
            !transcript.says("xdv | guest bad: ended"),
            "something was left:\n{}",
            transcript.text()
        );
    }
    Ok(())
}

#[test]
fn a_guest_that_hangs_is_noticed_and_one_that_sleeps_is_not() -> anyhow::Result<()> {
    for transcript in beside("watchdog", 3)? {
        transcript.has("xdv | guest bad: stopped: no sign of life for")?;
        transcript.has("xdv | guest lone: held: stopped: no sign of life for")?;
        transcript.has("with interrupts masked")?;
        transcript.has("xdv | guest sleeper: still running after")?;
    }
    Ok(())
}

/// Its alarm is due when nobody is there to take it, on a CPU where others run.
#[test]
fn a_guest_that_ends_before_its_alarm_costs_nobody_anything() -> anyhow::Result<()> {
    for transcript in beside("alarm", 1)? {
        transcript.has("xdv | guest bad: ended")?;
    }
    Ok(())
}

/// EL2 raises a line for a lane that is away while the interrupt is in the list register of the lane that is there.
#[test]
fn an_alarm_reaches_a_lane_in_the_place_of_the_one_that_set_it() -> anyhow::Result<()> {
    for transcript in beside("edge", 1)? {
        transcript.has("bad | bad edge came")?;
        transcript.has("xdv | guest bad: ended")?;
    }
    Ok(())
}
