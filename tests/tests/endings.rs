//! A guest that ends badly leaves its neighbour running to its end, and `run` says which guest it was and why.

use anyhow::ensure;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// Seconds, long enough for the victim, which runs for a second and a half (without an optimiser, it digests its memory for
/// several more); the deadline is what ends a guest that loops. The later ones are for a host that stands still.
const DEADLINES: [u64; 3] = [6, 30, 120];

fn beside(mode: &str) -> anyhow::Result<Vec<Transcript>> {
    let mut seen = Vec::new();
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        let transcript = point
            .machine(&format!("tests/configs/ending-{mode}.toml"))
            .run_until(&DEADLINES, |seen| {
                seen.says("xdv | guest victim: ended") && seen.says(&format!("bad mode {mode}"))
            })?;
        transcript.no_panic()?;
        transcript.unharmed("victim")?;
        ensure!(
            transcript.status() == 1,
            "exit status {}:\n{}",
            transcript.status(),
            transcript.text()
        );
        ensure!(
            !transcript.says("xdv | guest bad: ended well"),
            "it ended well:\n{}",
            transcript.text()
        );
        seen.push(transcript);
    }
    Ok(seen)
}

#[test]
fn an_error_code_is_reported_with_its_guest() -> anyhow::Result<()> {
    for (mode, code) in [("exit", 3), ("panic", 101), ("abort", 102)] {
        for transcript in beside(mode)? {
            transcript.has(&format!("xdv | guest bad: ended with code {code}"))?;
            transcript.has(&format!("guest bad: ended with code {code}"))?;
            transcript.has("xdv | all guests ended")?;
        }
    }
    Ok(())
}

/// The guest's own exception, what EL2 refused it, and the functions' names.
#[test]
fn a_crash_is_reported_with_its_place_and_its_name() -> anyhow::Result<()> {
    for transcript in beside("abort")? {
        let lines = |start: &'static str| {
            let whole = format!("  bad lane 0: {start}");
            transcript
                .lines_of("xdv")
                .find(|line| line.starts_with(&whole))
                .unwrap_or_default()
        };
        for (line, wanted) in [
            (lines("pc 0x"), " <tests_arch::call::"),
            (
                lines("its last"),
                "esr 0x96000010 (data abort: external abort, read) at pc 0x4000",
            ),
            (lines("its last"), "far 0x30000000"),
            (lines("refusals"), "refusals: 1, the last: esr 0x"),
            (
                lines("refusals"),
                "translation fault, level 1, read) at pc 0x4000",
            ),
            (lines("refusals"), ">, far 0x30000000, ipa 0x30000000"),
        ] {
            ensure!(
                line.contains(wanted),
                "`{wanted}` is not in `{line}`:\n{}",
                transcript.text()
            );
        }
    }
    Ok(())
}

#[test]
fn a_guest_that_never_ends_is_named_at_the_deadline() -> anyhow::Result<()> {
    // On a vector that is not there, on its own vector, with interrupts masked, asleep for good.
    for mode in ["vector", "jump", "masked", "sleep"] {
        for transcript in beside(mode)? {
            transcript.has("xdv | guest bad: still running after")?;
        }
    }
    Ok(())
}

#[test]
fn a_guest_whose_last_lane_is_off_has_stopped() -> anyhow::Result<()> {
    for transcript in beside("off")? {
        transcript.has("xdv | guest bad: stopped")?;
    }
    Ok(())
}
