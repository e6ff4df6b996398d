//! An operator stops, starts, pauses and talks to guests, from the control command and the keyboard, and a neighbour of
//! theirs notices nothing.

use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure};
use tests::matrix::{self, Point};
use tests::operated::Run;

/// How many ticks were heard.
fn ticks(run: &Run) -> anyhow::Result<usize> {
    let said = run.said()?;
    Ok(said
        .lines()
        .filter(|line| line.starts_with("ticker | tick "))
        .count())
}

/// Waits until nothing ticks for a second any more, and says how often it did. What was said before may still be on its way.
fn silence(run: &Run) -> anyhow::Result<usize> {
    for _ in 0..10 {
        let before = ticks(run)?;
        thread::sleep(Duration::from_secs(1));
        run.is_alive()?;
        if ticks(run)? == before {
            return Ok(before);
        }
    }
    bail!("it ticks:\n{}", run.said()?)
}

#[test]
fn guests_are_paused_restarted_stopped_started_and_talked_to() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max")]) {
        operated(Run::at("tests/configs/operator.toml", &point)?)?;
    }
    Ok(())
}

fn operated(mut run: Run) -> anyhow::Result<()> {
    run.wait_for("ticker | tick 3", 1)?;
    ensure!(run.state("echo")?.contains("running, 1 of 1 lanes on"));
    ensure!(run.state("echo")?.ends_with("attached"));
    ensure!(!run.state("ticker")?.contains("attached"));

    // Paused: not a word, and it goes on where it was.
    run.does(&["pause", "ticker"])?;
    let before = silence(&run)?;
    ensure!(run.state("ticker")?.starts_with("paused"));
    let (done, why) = run.ctl(&["pause", "ticker"])?;
    ensure!(
        !done && why.contains("cannot pause it: it is paused"),
        "{why}"
    );

    // The other guest hears what is typed, keys that a terminal would send among them.
    run.does(&["attach", "ticker"])?;
    run.does(&["attach", "echo"])?;
    run.type_line("hello \x1b[A")?;
    run.wait_for("echo | heard hello<20><1b>[A", 1)?;

    run.does(&["resume", "ticker"])?;
    run.wait_for(&format!("ticker | tick {}", before + 3), 1)?;
    ensure!(run.times("ticker | tick 0")? == 1);

    // Anew, off, on.
    run.does(&["restart", "ticker"])?;
    run.wait_for("ticker | tick 0", 2)?;
    ensure!(run.state("ticker")?.contains("restarts 1"));
    run.does(&["stop", "ticker"])?;
    silence(&run)?;
    ensure!(run.state("ticker")?.starts_with("stopped"));
    run.does(&["start", "ticker"])?;
    run.wait_for("ticker | tick 0", 3)?;

    run.is_alive()?;
    let stats = run.stats(&["stats", "ticker"])?;
    ensure!(
        stats.contains("ticker lane 0: ran ") && stats.contains(" hypercalls"),
        "{stats}"
    );
    ensure!(run.stats(&["stats"])?.contains("echo lane 0: ran "));
    let (done, why) = run.ctl(&["stop", "nobody"])?;
    ensure!(
        !done && why.contains("no guest `nobody`; there are: echo, ticker, victim"),
        "{why}"
    );

    run.wait_for("xdv | guest victim: ended well", 1)?;
    run.does(&["stop", "ticker"])?;
    // The last one: the machine may be off before the answer is through.
    let _ = run.ctl(&["stop", "echo"])?;
    let transcript = run.end()?;
    transcript.no_panic()?;
    transcript.unharmed("victim")?;
    transcript.has("xdv | guest echo: stopped: ")?;
    transcript.has("xdv | all guests ended")
}

/// What a guest has begun to say is shown though nobody on its CPU ever leaves it by himself.
#[test]
fn an_unfinished_line_is_shown_beside_a_neighbour_that_never_waits() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/operator-prompt.toml")?;
    run.wait_for("thinker | thinking", 1)?;
    run.does(&["stop", "noisy"])?;
    run.does(&["stop", "thinker"])?;
    run.end()?.no_panic()
}

/// The end of the last guest is the end of the computer, and he who brings it about has his answer before.
#[test]
fn who_stops_the_last_guest_is_answered() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/operator-last.toml")?;
    run.wait_for("xdv | guest bad: held: ended with code 1", 1)?;
    run.does(&["stop", "bad"])?;
    let transcript = run.end()?;
    transcript.has("xdv | all guests ended")?;
    transcript.no_panic()
}

/// Whatever a guest does to its own CPU: the operator sees it, ends it and begins it anew.
#[test]
fn a_guest_that_hangs_is_stopped_and_restarted_by_its_operator() -> anyhow::Result<()> {
    for mode in ["vector", "jump", "masked", "sleep"] {
        let mut run = Run::start(&format!("tests/configs/ending-{mode}.toml"))?;
        let hello = format!("bad | bad mode {mode}");
        run.wait_for(&hello, 1)?;
        run.is_alive()?;
        run.does(&["pause", "bad"])?;
        run.does(&["resume", "bad"])?;
        run.does(&["restart", "bad"])?;
        run.wait_for(&hello, 2)?;
        run.is_alive()?;
        run.does(&["stop", "bad"])?;
        let transcript = run.end()?;
        transcript.no_panic()?;
        transcript.unharmed("victim")?;
        transcript.well("victim")?;
        transcript.has("xdv | guest bad: stopped: by its operator")?;
        transcript.has("xdv | all guests ended")?;
    }
    Ok(())
}
