//! An unmodified Linux under load, on lanes that take turns. All of it takes minutes, so it runs
//! only when asked for: `cargo test -p tests --test load -- --ignored`.

use std::env;
use std::fs;

use anyhow::{Context, ensure};
use tests::machine::{self, Machine};
use tests::transcript::Transcript;

const LOAD: &str = "tests/configs/linux-load.toml";
const PAIR: &str = "tests/configs/linux-load-pair.toml";
const CYCLICTEST: &str = "tests/configs/linux-cyclictest.toml";
const OWNED: &str = "tests/configs/linux-late-owned.toml";
const SHARED: &str = "tests/configs/linux-late-shared.toml";

/// The machine file that loads one Linux, with another load.
fn loaded(what: &str, seconds: u64) -> anyhow::Result<Machine> {
    let text = fs::read_to_string(machine::root().join(LOAD))?;
    ensure!(text.contains("xdv.load=stress:60"));
    let path = machine::scratch()?.join(format!("linux-load-{what}-{seconds}.toml"));
    let words = format!("xdv.load={what}:{seconds}");
    fs::write(&path, text.replace("xdv.load=stress:60", &words))?;
    let path = path.to_str().context("a path that is no text")?;
    // Booting, and a load that ends late because the host is busy too.
    Ok(Machine::of(path).seconds(2 * seconds + 240))
}

/// Every Linux bore it. What it says of the load is for a person to read.
fn bore(transcript: &Transcript, guests: &[&str]) -> anyhow::Result<()> {
    transcript.no_panic()?;
    for guest in guests {
        for line in transcript.lines_of(guest) {
            if line.starts_with("load: ") {
                println!("{guest}: {line}");
            }
        }
        ensure!(
            transcript
                .lines_of(guest)
                .any(|line| line == "selftest: ok"),
            "{guest} did not bear it:\n{}",
            transcript.text()
        );
        transcript.well(guest)?;
    }
    transcript.has("xdv | all guests ended")?;
    transcript.ended(0)
}

/// Ten minutes, or `XDV_LOAD` seconds.
#[test]
#[ignore = "takes minutes"]
fn linux_bears_load_for_as_long_as_is_asked() -> anyhow::Result<()> {
    let seconds = env::var("XDV_LOAD").unwrap_or_else(|_| "600".to_owned());
    let seconds = seconds.parse().context("XDV_LOAD is a number of seconds")?;
    bore(&loaded("stress", seconds)?.smp(2).run()?, &["linux"])
}

#[test]
#[ignore = "takes minutes"]
fn four_shared_lanes_bear_load_on_four_cpus_and_fewer() -> anyhow::Result<()> {
    for cpus in [4, 2, 1] {
        let transcript = loaded("stress", 20)?.smp(cpus).run()?;
        bore(&transcript, &["linux"]).with_context(|| format!("{cpus} CPUs"))?;
    }
    Ok(())
}

#[test]
#[ignore = "takes minutes"]
fn cpus_come_and_go_under_load() -> anyhow::Result<()> {
    bore(&loaded("hotplug", 20)?.smp(2).run()?, &["linux"])
}

#[test]
#[ignore = "takes minutes"]
fn two_linux_guests_load_one_cpu() -> anyhow::Result<()> {
    let transcript = Machine::of(PAIR).smp(1).seconds(300).run()?;
    bore(&transcript, &["left", "right"])
}

/// By the wall clock the figures say more of the host than of us, so nothing is demanded of them.
#[test]
#[ignore = "takes minutes"]
fn timers_by_the_wall_clock_on_owned_and_shared_cpus() -> anyhow::Result<()> {
    let transcript = Machine::of(CYCLICTEST).seconds(240).run()?;
    bore(&transcript, &["owner", "sharer"])
}

/// In virtual time no timer of a lane that is sure of 30 % of each 2 ms is later than that, whatever its neighbour does.
#[test]
#[ignore = "takes minutes"]
fn timers_in_virtual_time_come_within_the_period() -> anyhow::Result<()> {
    for config in [OWNED, SHARED] {
        let transcript = Machine::of(config).smp(1).icount().seconds(400).run()?;
        bore(&transcript, &["linux"])?;
        if config == SHARED {
            let ends: Vec<&str> = transcript
                .text()
                .lines()
                .filter(|line| line.ends_with(": ended well"))
                .collect();
            ensure!(
                ends.last() == Some(&"xdv | guest neighbour: ended well"),
                "the neighbour was not there all the time: {ends:?}"
            );
        }
        let most = transcript.lines_of("linux").find_map(|line| {
            line.split(", most ")
                .nth(1)?
                .split(',')
                .next()?
                .parse()
                .ok()
        });
        let most: u64 = most.context("there is no figure")?;
        ensure!(most <= 2000, "{config}: a timer was {most} us late");
    }
    Ok(())
}
