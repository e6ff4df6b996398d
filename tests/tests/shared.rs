//! Lanes that take turns on a CPU: nothing of one is ever another's, and nobody gets less than he was promised.

use anyhow::{Context, ensure};
use tests::matrix::{self, Point};
use tests::transcript::Transcript;

/// The figure behind this word in what a guest said at its end.
fn figure(transcript: &Transcript, guest: &str, word: &str) -> anyhow::Result<u64> {
    transcript
        .lines_of(guest)
        .filter(|line| line.starts_with(&format!("{} ok", kind(line))))
        .find_map(|line| {
            let rest = line.split_once(word)?.1.trim_start();
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        })
        .with_context(|| format!("{guest} says nothing of `{word}`:\n{}", transcript.text()))
}

/// What a line speaks of.
fn kind(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or("")
}

/// Every keeper found every register as it left it.
fn kept(transcript: &Transcript, guests: &[&str]) -> anyhow::Result<()> {
    transcript.no_panic()?;
    for guest in guests {
        transcript.well(guest)?;
        ensure!(
            figure(transcript, guest, "rounds")? >= 60,
            "{guest} did too little:\n{}",
            transcript.text()
        );
    }
    transcript.ended(0)
}

#[test]
fn whatever_a_lane_has_in_its_registers_is_there_when_it_is_back() -> anyhow::Result<()> {
    let points = [Point::of("max")];
    for point in matrix::points(&points) {
        for config in ["shared-keepers", "shared-keepers-unequal"] {
            let transcript = point
                .machine(&format!("tests/configs/{config}.toml"))
                .run()?;
            let guests = ["even", "odd", "single"];
            kept(&transcript, &guests)?;
            // It was put to the test: everybody lost the CPU in the middle of what he did, waited, and was interrupted.
            for guest in guests {
                for (word, least) in [("lost the CPU", 5), ("waited", 10), ("interrupted", 50)] {
                    let seen = figure(&transcript, guest, word)?;
                    ensure!(
                        seen >= least,
                        "{guest}: {word} {seen}:\n{}",
                        transcript.text()
                    );
                }
            }
            for guest in ["even", "odd"] {
                ensure!(figure(&transcript, guest, "fresh lives")? == 2);
            }
        }
    }
    Ok(())
}

#[test]
fn and_so_it_is_when_nobody_takes_the_cpu_away() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("cortex-a57")]) {
        let transcript = point
            .machine("tests/configs/shared-keepers-dedicated.toml")
            .run()?;
        kept(&transcript, &["pair", "single"])?;
    }
    Ok(())
}
