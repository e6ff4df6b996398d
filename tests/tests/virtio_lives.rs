//! What was flushed to a disk is there in the next life, whenever the one before ended.

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::gpt;
use tests::machine::scratch;
use tests::operated::Run;

const LEDGER: &str = "tests/configs/virtio-linux-ledger.toml";
const GUESTS: [&str; 2] = ["ledger", "journal"];

/// The numbers that a guest's lines have behind these words, in the order in which they were said.
fn numbers(said: &str, guest: &str, words: &str) -> Vec<u64> {
    let head = format!("{guest} | ");
    let lines = said.lines().filter_map(|line| line.strip_prefix(&head));
    lines
        .filter_map(|line| {
            let rest = line.split(words).nth(1)?;
            let digits = rest.trim_start().split(' ').next()?;
            digits.parse().ok()
        })
        .collect()
}

/// Ends both guests again and again, until the time is over.
fn killed(config: &str, more: &[&str], time: Duration, most: usize) -> anyhow::Result<()> {
    let deadline = u32::try_from(time.as_secs())? + 300;
    let mut run = Run::lasting(config, deadline, more)?;
    let begin = Instant::now();
    let mut lives = 0;
    while lives < most && begin.elapsed() < time {
        for guest in GUESTS {
            let flushed = format!("{guest} | ledger: flushed ");
            let before = run.said()?.matches(&flushed).count();
            run.wait_for_words(&flushed, before + 1)?;
            // Anywhere in a batch: the host's clock is as good as dice.
            let nanos = u64::from(begin.elapsed().subsec_nanos());
            thread::sleep(Duration::from_micros(nanos % 400_000));
            run.does(&["restart", guest])?;
            let said = run.said()?;
            let last = numbers(&said, guest, "ledger: flushed");
            let found = format!("{guest} | ledger: life {},", lives + 2);
            let line = run.wait_for_words(&found, 1)?;
            let found = numbers(&line, guest, ", ");
            let (last, found) = (last.last(), found.first());
            ensure!(
                found.context("no number")? >= last.context("no number")?,
                "{guest}: {last:?} were flushed, {line}"
            );
            println!("{line}, at least {last:?} were flushed");
        }
        lives += 1;
    }
    let said = run.said()?;
    ensure!(
        !said.contains("not so") && !said.contains("FAILED"),
        "{said}"
    );
    for guest in GUESTS {
        run.does(&["stop", guest])?;
    }
    run.end()?.no_panic()
}

#[test]
fn what_was_flushed_is_there_when_an_operator_ended_the_guest() -> anyhow::Result<()> {
    killed(LEDGER, &[], Duration::from_secs(120), 2)
}

/// Ten minutes, or `XDV_IO` seconds.
#[test]
#[ignore = "takes ten minutes"]
fn what_was_flushed_is_there_after_many_ends() -> anyhow::Result<()> {
    let seconds = env::var("XDV_IO").unwrap_or_else(|_| "600".to_owned());
    let seconds = seconds.parse().context("XDV_IO is a number of seconds")?;
    killed(LEDGER, &[], Duration::from_secs(seconds), usize::MAX)
}

/// What the last life had begun there may be done in this one.
#[test]
#[ignore = "boots Linux six times"]
fn what_was_flushed_is_on_the_machines_disk_when_an_operator_ended_the_guest() -> anyhow::Result<()>
{
    let partitions = [(2048, 18431, "raw"), (18432, 83967, "ext4")];
    let disk = scratch()?.join(format!("ledger-{}.img", std::process::id()));
    fs::write(&disk, gpt::disk(86016, &partitions))?;
    let disk = disk.to_str().context("a path that is no text")?;
    let config = "tests/configs/disk-ledger.toml";
    killed(config, &["--disk", disk], Duration::from_secs(120), 2)
}
