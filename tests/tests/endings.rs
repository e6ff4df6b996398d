//! A guest that ends badly leaves its neighbour running to its end, and `run` says which guest it was and why.

use anyhow::ensure;
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// Long enough for the victim, which runs for a second and a half; the deadline is what ends a guest that loops.
const DEADLINE: u64 = 6;

fn beside(mode: &str) -> anyhow::Result<Vec<Transcript>> {
    let mut seen = Vec::new();
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        let transcript = point
            .machine(&format!("tests/configs/ending-{mode}.toml"))
            .seconds(DEADLINE)
            .run()?;
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
