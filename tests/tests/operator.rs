//! An operator stops, starts, pauses and talks to guests, from the control command and the keyboard, and a neighbour of
//! theirs notices nothing.

use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
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

/// Asks how a guest's balloon is until it is so.
fn wait_for_balloon(run: &Run, guest: &str, words: &str) -> anyhow::Result<String> {
    let mut said = String::new();
    for _ in 0..600 {
        said = run.ask(&format!("balloon {guest}"))?.1;
        if said.contains(words) {
            return Ok(said);
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("`{words}` is not said: {said}\n{}", run.said()?)
}

/// How many MiB a Linux has free, as it says itself: asked for the nth time.
fn free(run: &mut Run, nth: usize) -> anyhow::Result<u64> {
    run.type_line("grep MemFree: /proc/meminfo")?;
    let line = run.wait_for_words("web | MemFree:", nth)?;
    let number = line.split_whitespace().nth(3).context("no number")?;
    Ok(number.parse::<u64>()? >> 10)
}

fn refused(run: &Run, command: &str, why: &str) -> anyhow::Result<()> {
    let (done, said) = run.ask(command)?;
    ensure!(!done && said.contains(why), "{command}: {said}");
    Ok(())
}

/// What has passed a network card, and how a balloon is, is among the figures.
fn passes(run: &mut Run) -> anyhow::Result<()> {
    let stats = run.stats(&["stats"])?;
    let line = "web net lan: received 0 frames, 0 bytes, sent 0 frames, 0 bytes";
    ensure!(stats.contains(line), "{stats}");
    run.type_line("ip addr add 10.9.0.1/24 dev eth0; ip link set eth0 up; ping -c 4 10.9.0.2")?;
    run.wait_for_words("4 packets received", 1)?;
    let stats = run.stats(&["stats", "web"])?;
    let line = stats
        .lines()
        .find_map(|line| line.split_once("web net lan: "));
    let (_, line) = line.with_context(|| stats.clone())?;
    let count = |behind: &str| {
        let rest = line.split(behind).nth(1)?;
        let numbers = rest.split(|c: char| !c.is_ascii_digit());
        let numbers = numbers.filter_map(|word| word.parse::<u64>().ok());
        numbers.take(2).collect::<Vec<_>>().try_into().ok()
    };
    for way in ["received ", "sent "] {
        // An answer to ARP, and to four pings of 98 bytes each.
        let [frames, bytes]: [u64; 2] = count(way).with_context(|| stats.clone())?;
        let least = 5 * 42 + 4 * 56;
        ensure!(
            frames >= 5 && (least..100 * frames).contains(&bytes),
            "{stats}"
        );
    }
    ensure!(
        stats.contains("web balloon: asked for 0 MiB, given 0 MiB of 256 MiB"),
        "{stats}"
    );
    let other = run.stats(&["stats", "plain"])?;
    ensure!(
        !other.contains("net ") && !other.contains("balloon"),
        "{other}"
    );
    Ok(())
}

/// Its lane sleeps on another CPU than the operator's. What it was asked for, its next life is asked for again.
#[test]
fn a_linux_gives_its_balloon_what_its_operator_asks_for() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/balloon.toml")?;
    run.wait_for_words("xdv | boot: ", 1)?;
    run.does(&["attach", "web"])?;
    wait_for_balloon(&run, "web", "web balloon: asked for 0 MiB, given 0 MiB")?;
    let asked = run.does(&["balloon", "web", "32M"])?;
    ensure!(asked.contains("asked for 32 MiB, given "), "{asked}");
    let given = "web balloon: asked for 32 MiB, given 32 MiB of 256 MiB";
    let said = wait_for_balloon(&run, "web", given)?;
    for words in [
        "web memory: total 2",
        ", free 1",
        ", available ",
        "web paging: ",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }
    ensure!(said.contains(" minor faults"), "{said}");
    run.type_line("grep balloon_inflate /proc/vmstat")?;
    run.wait_for("web | balloon_inflate 8192", 1)?;

    run.does(&["restart", "web"])?;
    wait_for_balloon(&run, "web", given)?;
    let full = free(&mut run, 1)?;
    run.does(&["balloon", "web", "0"])?;
    wait_for_balloon(&run, "web", "asked for 0 MiB, given 0 MiB")?;
    // Now and then a part of it is not free: what the driver reports as free, it takes away for as long.
    let mut after = 0;
    for nth in 2..60 {
        after = free(&mut run, nth)?;
        if after >= full + 24 {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    ensure!(after >= full + 24, "{full} MiB, then {after} MiB");
    refused(
        &run,
        "balloon web 257M",
        "257 MiB is more than it has, which is 256 MiB",
    )?;
    passes(&mut run)?;
    run.type_line("poweroff")?;
    run.wait_for("xdv | guest web: ended well", 1)?;
    run.does(&["stop", "liar"])?;
    let _ = run.ctl(&["stop", "plain"])?;
    let transcript = run.end()?;
    ensure!(
        !transcript.text().contains(": lint "),
        "{}",
        transcript.text()
    );
    transcript.no_panic()?;
    transcript.has("xdv | all guests ended")
}

/// A guest is told though it sleeps on the operator's CPU. What it says is shown as what it says, and who says nothing
/// keeps nobody waiting.
#[test]
fn a_guest_that_lies_about_its_balloon_deceives_nobody_else() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/balloon.toml")?;
    run.wait_for("liar | liar: ready, asked for 0 pages", 1)?;
    run.does(&["balloon", "liar", "16M"])?;
    run.wait_for("liar | liar: 2: asked for 4096 pages", 1)?;
    for _ in 0..2 {
        let said = run.does(&["balloon", "liar"])?;
        for words in [
            "liar balloon: asked for 16 MiB, given 16777215.9 MiB of 32 MiB, if it is to be believed",
            ": free 17592186044415.9 MiB",
            "liar paging: it does not say",
        ] {
            ensure!(said.contains(words), "{words}: {said}");
        }
    }
    // Its buffer was given back, and never comes again.
    run.wait_for("liar | liar: 1: asked for 4096 pages", 1)?;
    ensure!(run.said()?.matches("liar: 1: ").count() == 1);
    thread::sleep(Duration::from_secs(1));
    ensure!(run.does(&["balloon", "liar"])?.contains(" s ago: free "));
    refused(
        &run,
        "balloon liar 33M",
        "33 MiB is more than it has, which is 32 MiB",
    )?;
    refused(
        &run,
        "balloon plain 1M",
        "plain: it has no balloon; give it one",
    )?;
    refused(
        &run,
        "balloon plain",
        "plain: it has no balloon; give it one",
    )?;
    refused(
        &run,
        "balloon nobody",
        "no guest `nobody`; there are: liar, web, plain",
    )?;
    refused(&run, "balloon liar 6K", "`6K` is no size")?;
    refused(&run, "balloon", "balloon: which guest?")?;
    run.is_alive()?;

    run.does(&["stop", "liar"])?;
    refused(
        &run,
        "balloon liar 1M",
        "liar: no driver works its balloon now",
    )?;
    let said = run.does(&["balloon", "liar"])?;
    ensure!(
        said.contains("liar balloon: asked for 16 MiB, no driver at work"),
        "{said}"
    );
    run.does(&["start", "liar"])?;
    run.wait_for("liar | liar: ready, asked for 4096 pages", 1)?;
    run.does(&["stop", "liar"])?;
    run.does(&["balloon", "liar", "0"])?;
    run.does(&["start", "liar"])?;
    run.wait_for("liar | liar: ready, asked for 0 pages", 2)?;
    for guest in ["liar", "web"] {
        run.does(&["stop", guest])?;
    }
    let _ = run.ctl(&["stop", "plain"])?;
    let transcript = run.end()?;
    transcript.no_panic()?;
    transcript.has("xdv | all guests ended")
}

/// The hypervisor of a machine without virtio devices does not know the command, and what to do is said all the same.
#[test]
fn without_virtio_devices_there_is_no_balloon() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/operator-last.toml")?;
    run.wait_for("xdv | guest bad: held: ended with code 1", 1)?;
    refused(
        &run,
        "balloon bad",
        "no command `balloon`; there are: list, ",
    )?;
    let (done, why) = run.ctl(&["balloon", "bad", "16M"])?;
    ensure!(!done && why.contains("give one a balloon with"), "{why}");
    let _ = run.ctl(&["stop", "bad"])?;
    run.end()?.no_panic()
}
