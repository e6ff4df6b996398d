//! A guest that crashes, resets or hangs begins anew, is held or stopped, and its neighbour on the same CPU works on.

use anyhow::ensure;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// Seconds, long enough for the victim, which runs for a second and a half, and without optimisation for several. The later
/// ones are for a host that stands still.
const DEADLINES: [u64; 3] = [4, 12, 30];

/// Runs it beside a victim until both have done what they do: this guest what is `enough`.
fn beside(
    what: &str,
    cpus: u32,
    enough: impl Fn(&Transcript) -> bool,
) -> anyhow::Result<Vec<Transcript>> {
    let mut seen = Vec::new();
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        let transcript = point
            .machine(&format!("tests/configs/lifecycle-{what}.toml"))
            .smp(cpus)
            .run_until(&DEADLINES, |seen| {
                seen.says("xdv | guest victim: ended") && enough(seen)
            })?;
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
    let lives = |seen: &Transcript| times(seen, "bad", "bad mode exit");
    for transcript in beside("restart", 1, |seen| lives(seen) >= 4)? {
        let lives = lives(&transcript);
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
    let lives = |seen: &Transcript| times(seen, "bad", "bad nothing is left");
    for transcript in beside("reset", 1, |seen| lives(seen) >= 3)? {
        let lives = lives(&transcript);
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
    let hung = [
        "xdv | guest bad: stopped: no sign of life for",
        "xdv | guest lone: held: stopped: no sign of life for",
    ];
    for transcript in beside("watchdog", 3, |seen| {
        hung.iter().all(|line| seen.says(line))
    })? {
        for line in hung {
            transcript.has(line)?;
        }
        transcript.has("with interrupts masked")?;
        transcript.has("xdv | guest sleeper: still running after")?;
    }
    Ok(())
}

/// Its alarm is due when nobody is there to take it, on a CPU where others run.
#[test]
fn a_guest_that_ends_before_its_alarm_costs_nobody_anything() -> anyhow::Result<()> {
    for transcript in beside("alarm", 1, |seen| seen.says("xdv | guest bad: ended"))? {
        transcript.has("xdv | guest bad: ended")?;
    }
    Ok(())
}

/// EL2 raises a line for a lane that is away while the interrupt is in the list register of the lane that is there.
#[test]
fn an_alarm_reaches_a_lane_in_the_place_of_the_one_that_set_it() -> anyhow::Result<()> {
    for transcript in beside("edge", 1, |seen| seen.says("xdv | guest bad: ended"))? {
        transcript.has("bad | bad edge came")?;
        transcript.has("xdv | guest bad: ended")?;
    }
    Ok(())
}
