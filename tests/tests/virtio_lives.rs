//! What was flushed to a disk is there in the next life, whenever the one before ended.

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tests::gpt;
use tests::machine::scratch;
use tests::operated::Run;

const LEDGER: &str = "tests/configs/virtio-linux-ledger.toml";
const FAULTS: &str = "tests/configs/virtio-linux-ledger-faults.toml";
const GUESTS: [&str; 2] = ["ledger", "journal"];

/// How a line ends that a guest has said to its end: it may have been ended in the middle of one.
const WHOLE: &str = " errors";

/// What a guest said with these words in it.
fn lines<'a>(
    said: &'a str,
    guest: &str,
    words: &'a str,
) -> impl DoubleEndedIterator<Item = &'a str> {
    let head = format!("{guest} | ");
    let of_guest = said.lines().filter(move |line| line.starts_with(&head));
    of_guest.filter(move |line| line.contains(words))
}

/// The numbers in a line behind these words.
fn numbers(line: &str, words: &str) -> Vec<u64> {
    let rest = line.split(words).nth(1).unwrap_or_default();
    let digits = rest.split(|one: char| !one.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// What all lives did together.
#[derive(Default)]
struct Sum {
    ends: u64,
    batches: u64,
    requests: u64,
    errors: u64,
}

/// Ends a guest a while after it has flushed something, and reads what its next life finds.
fn end_once(
    run: &mut Run,
    guest: &str,
    life: usize,
    nanos: u32,
    sum: &mut Sum,
) -> anyhow::Result<()> {
    const FLUSHED: &str = "ledger: flushed ";
    let head = format!("{guest} | {FLUSHED}");
    let is_flushed = |line: &str| line.starts_with(&head) && line.ends_with(WHOLE);
    let before = run.said()?.lines().filter(|line| is_flushed(line)).count();
    run.wait_for_lines(is_flushed, before + 1)?;
    // Anywhere in a batch: the host's clock is as good as dice.
    thread::sleep(Duration::from_micros(u64::from(nanos) % 400_000));
    run.does(&["restart", guest])?;
    let said = run.said()?;
    let mut whole = lines(&said, guest, FLUSHED).filter(|line| line.ends_with(WHOLE));
    let last = whole.next_back().context("no line")?;
    let [flushed, requests, errors] = numbers(last, FLUSHED)[..] else {
        bail!("no numbers: {last}");
    };
    let looked = format!("{guest} | ledger: life {},", life + 1);
    let is_looked = |line: &str| line.starts_with(&looked) && line.ends_with(" found and right");
    let line = run.wait_for_lines(is_looked, 1).context(looked.clone())?;
    let [_, found] = numbers(&line, "ledger: life ")[..] else {
        bail!("no numbers: {line}");
    };
    ensure!(found >= flushed, "{guest}: {flushed} were flushed, {line}");
    println!("{line}, at least {flushed} were flushed");
    sum.ends += 1;
    sum.requests += requests;
    sum.errors += errors;
    Ok(())
}

/// Ends both guests again and again, until the time is over.
fn killed(config: &str, more: &[&str], time: Duration, most: usize) -> anyhow::Result<Sum> {
    let deadline = u32::try_from(time.as_secs())? + 600;
    let mut run = Run::lasting(config, deadline, more)?;
    let mut sum = Sum::default();
    for guest in GUESTS {
        run.wait_for_words(&format!("{guest} | ledger: life 1,"), 1)?;
    }
    let begin = Instant::now();
    let mut life = 1;
    while life <= most && begin.elapsed() < time {
        for guest in GUESTS {
            let nanos = begin.elapsed().subsec_nanos();
            end_once(&mut run, guest, life, nanos, &mut sum)?;
        }
        life += 1;
    }
    let said = run.said()?;
    ensure!(
        !said.contains("not so") && !said.contains("FAILED"),
        "{said}"
    );
    for guest in GUESTS {
        let last = lines(&said, guest, "ledger: flushed ").next_back();
        let batches = last.and_then(|line| numbers(line, "flushed ").first().copied());
        sum.batches += batches.unwrap_or(0);
        run.does(&["stop", guest])?;
    }
    run.end()?.no_panic()?;
    println!(
        "{config}: {} s, {} ends, {} requests, {} of them failed and were asked for again, {} batches flushed: all there",
        begin.elapsed().as_secs(),
        sum.ends,
        sum.requests,
        sum.errors,
        sum.batches
    );
    Ok(sum)
}

fn seconds_or(default: u64) -> anyhow::Result<Duration> {
    let seconds = env::var("XDV_IO").unwrap_or_else(|_| default.to_string());
    let seconds = seconds.parse().context("XDV_IO is a number of seconds")?;
    Ok(Duration::from_secs(seconds))
}

#[test]
fn what_was_flushed_is_there_when_an_operator_ended_the_guest() -> anyhow::Result<()> {
    killed(LEDGER, &[], Duration::from_secs(120), 2).map(drop)
}

/// Ten minutes, or `XDV_IO` seconds.
#[test]
#[ignore = "takes ten minutes"]
fn what_was_flushed_is_there_after_many_ends() -> anyhow::Result<()> {
    killed(LEDGER, &[], seconds_or(600)?, usize::MAX).map(drop)
}

/// The same on disks that fail: what failed has left old or new sectors, and what was flushed is there. Ten minutes, or
/// `XDV_IO` seconds.
#[test]
#[ignore = "takes ten minutes"]
fn what_was_flushed_to_disks_that_fail_is_there_after_many_ends() -> anyhow::Result<()> {
    let sum = killed(FAULTS, &[], seconds_or(600)?, usize::MAX)?;
    ensure!(sum.errors > 0, "no request failed");
    Ok(())
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
    killed(config, &["--disk", disk], Duration::from_secs(120), 2).map(drop)
}
