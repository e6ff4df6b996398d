//! Lanes that take turns on a CPU: nothing of one is ever another's, and nobody gets less than he was promised.

use std::fs;

use anyhow::{Context, ensure};
use tests::machine::{Machine, scratch};
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

/// Siblings run at the same time: they look into each other's interrupts, open them and send them where the one they mean is
/// away, and call it.
#[test]
fn and_so_it_is_where_siblings_are_on_two_cpus() -> anyhow::Result<()> {
    for point in matrix::points(&[Point::of("max"), Point::of("cortex-a57")]) {
        for config in ["shared-keepers", "shared-keepers-unequal"] {
            let transcript = point
                .machine(&format!("tests/configs/{config}.toml"))
                .smp(2)
                .run()?;
            let guests = ["even", "odd", "single"];
            kept(&transcript, &guests)?;
            for guest in guests {
                ensure!(figure(&transcript, guest, "waited")? >= 10);
                ensure!(figure(&transcript, guest, "interrupted")? >= 50);
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

/// Of a CPU, in hundred thousandths, and what the guest needs of it in every 10 ms.
const PROMISED: u64 = 30_000;

/// A neighbour with two lanes, who has all that the quiet guest was not promised.
#[derive(Clone, Copy, Debug)]
struct Noise {
    how: &'static str,
    period: &'static str,
    run_ms: u64,
}

/// One CPU, on which an instruction takes a nanosecond, for the two of them. What the quiet guest said at its end.
fn beside(noise: Noise, greedy: bool, qemu: Option<&str>) -> anyhow::Result<Transcript> {
    let Noise {
        how,
        period,
        run_ms,
    } = noise;
    let (word, longer) = (if greedy { "greedy" } else { "" }, run_ms + 50);
    let text = format!(
        r#"
[machine]
cpus = 1

[[guest]]
name = "quiet"
kernel = "test:quiet"
cmdline = "run_ms={run_ms} {word}"
memory = "4M"
lanes = 1
budget = "30%"

[[guest]]
name = "noisy"
kernel = "test:noisy"
cmdline = "how={how} run_ms={longer}"
memory = "4M"
lanes = 2
budget = "35%"
period = "{period}"
"#
    );
    let config = scratch()?.join(format!("noisy-{how}.toml"));
    fs::write(&config, text)?;
    let transcript = Machine::of(&config.to_string_lossy())
        .cpu("cortex-a57,cntfrq=1000000000")
        .icount()
        .qemu(qemu)
        .run()?;
    transcript.no_panic()?;
    for guest in ["quiet", "noisy"] {
        transcript.well(guest)?;
    }
    transcript.ended(0)?;
    for line in transcript.lines_of("quiet") {
        println!("beside {how} every {period}: {line}");
    }
    Ok(transcript)
}

/// Its jobs take 99 % of what it was promised, and none of them is late; if it takes what it can get, it has 99 % of
/// its promise at least.
#[test]
fn a_noisy_neighbour_leaves_what_was_promised() -> anyhow::Result<()> {
    let quick = [("burn", "10ms", 300), ("timers", "1ms", 200)];
    let all = [
        ("burn", "10ms", 2000),
        ("timers", "10ms", 2000),
        ("sgi", "10ms", 2000),
        ("print", "10ms", 60),
        ("mmio", "10ms", 2000),
        ("onoff", "10ms", 2000),
        ("burn", "1ms", 2000),
        ("timers", "1ms", 2000),
        ("sgi", "1ms", 2000),
        ("print", "1ms", 60),
        ("mmio", "1ms", 2000),
        ("onoff", "1ms", 2000),
    ];
    let (kinds, emulators): (&[_], _) = if matrix::full() {
        (&all, matrix::emulators())
    } else {
        (&quick, vec![None])
    };
    for (how, period, run_ms) in kinds.iter().copied() {
        let noise = Noise {
            how,
            period,
            run_ms,
        };
        for qemu in &emulators {
            let transcript = beside(noise, false, qemu.as_deref())?;
            let (late, jobs) = (
                figure(&transcript, "quiet", "late")?,
                figure(&transcript, "quiet", "of")?,
            );
            ensure!(
                late == 0 && jobs >= run_ms / 10,
                "{how}: {late} of {jobs} jobs late:\n{}",
                transcript.text()
            );
            let share = figure(&beside(noise, true, qemu.as_deref())?, "quiet", "share")?;
            ensure!(
                share >= PROMISED * 99 / 100,
                "{how}: {share} instead of {PROMISED}"
            );
        }
    }
    Ok(())
}

/// What a driver's queue is full of is done on its lanes' account, and in pieces with pauses.
#[test]
fn a_neighbour_s_full_queue_leaves_what_was_promised() -> anyhow::Result<()> {
    let transcript = Machine::of("tests/configs/shared-flood.toml")
        .cpu("cortex-a57,cntfrq=1000000000")
        .icount()
        .seconds(600)
        .run()?;
    transcript.no_panic()?;
    for guest in ["quiet", "linux"] {
        transcript.well(guest)?;
    }
    transcript.has("MiB read")?;
    transcript.has("selftest: ok")?;
    let (late, jobs) = (
        figure(&transcript, "quiet", "late")?,
        figure(&transcript, "quiet", "of")?,
    );
    println!("{}", transcript.lines_of("quiet").collect::<String>());
    ensure!(
        late == 0 && jobs >= 400,
        "{late} of {jobs} jobs late:\n{}",
        transcript.text()
    );
    transcript.ended(0)
}
