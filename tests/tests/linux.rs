//! Debian's own kernels, unmodified: what they say of the machine they are given.

use anyhow::{Context, ensure};
use tests::machine::Machine;
use tests::matrix;
use tests::transcript::Transcript;

const HELLO: &str = "configs/linux-hello.toml";
const ONE: &str = "configs/linux.toml";
const PAIR: &str = "configs/linux-pair.toml";
const MIXED: &str = "configs/mixed.toml";
const LARGEST: &str = "tests/configs/linux-largest.toml";
const FAILS: &str = "tests/configs/linux-fails.toml";

/// Every Linux tested itself and everything ended well.
fn good(transcript: &Transcript, linux: &[&str], others: &[&str]) -> anyhow::Result<()> {
    transcript.no_panic()?;
    for guest in linux {
        ensure!(
            transcript
                .lines_of(guest)
                .any(|line| line == "selftest: ok"),
            "{guest} does not say that its self-test passed:\n{}",
            transcript.text()
        );
    }
    for guest in linux.iter().chain(others) {
        transcript.well(guest)?;
    }
    transcript.has("xdv | all guests ended")?;
    transcript.ended(0)
}

/// What a guest's self-test says of one thing.
fn said<'t>(transcript: &'t Transcript, guest: &'t str, what: &str) -> anyhow::Result<&'t str> {
    let head = format!("selftest: {what}: ");
    transcript
        .lines_of(guest)
        .find_map(|line| line.strip_prefix(head.as_str()))
        .with_context(|| format!("{guest} does not say `{head}`:\n{}", transcript.text()))
}

/// From the command to the shell, with everything built and fetched: for a person to read.
fn report(name: &str, transcript: &Transcript) {
    let line = transcript
        .text()
        .lines()
        .find(|line| line.contains("reached user space"));
    println!("{name}: {}", line.unwrap_or("no time was given"));
}

fn machine(config: &str, cpu: &str, qemu: Option<&str>) -> Machine {
    Machine::of(config).cpu(cpu).qemu(qemu).seconds(600)
}

/// The shortest proof that a kernel nobody here wrote runs: it says who it is and how many CPUs it has, and powers off.
#[test]
fn linux_says_hello() -> anyhow::Result<()> {
    for cpu in ["max", "cortex-a57"] {
        let transcript = machine(HELLO, cpu, None).run()?;
        transcript.no_panic()?;
        let says = |what: &str| transcript.lines_of("hello").any(|line| line.contains(what));
        ensure!(
            says("aarch64 GNU/Linux") && says("CPUs: 2 online, 2 in /proc/cpuinfo"),
            "{}",
            transcript.text()
        );
        transcript.well("hello")?;
        transcript.ended(0)?;
    }
    Ok(())
}

/// The machine file's four lanes, 512 MiB, and every check of the self-test, on the newest and the oldest CPU model.
#[test]
fn linux_tests_itself_on_four_lanes() -> anyhow::Result<()> {
    for cpu in ["max", "cortex-a57"] {
        let transcript = machine(ONE, cpu, None).run()?;
        good(&transcript, &["linux"], &[])?;
        // What the machine file says, and not only what the device tree says of it.
        for (what, wanted) in [
            ("CPUs online", "4"),
            ("CPUs unplugged and plugged", "3"),
            ("memory in MiB", "512"),
            ("CPUs without a timer interrupt meanwhile", "none"),
            ("modules not loaded", "none"),
            ("dmesg", "no complaint"),
        ] {
            let seen = said(&transcript, "linux", what)?;
            ensure!(seen == wanted, "{what}: {seen} instead of {wanted}");
        }
        report(&format!("{ONE} on {cpu}"), &transcript);
    }
    Ok(())
}

/// Beside a guest of ours, with somebody who types: a shell that answers, a reboot in place, and the power off.
#[test]
fn a_shell_takes_what_is_typed_and_linux_reboots_in_place() -> anyhow::Result<()> {
    let typed = "echo six times seven is $((6 * 7))\nreboot -f\nnproc; hostname\npoweroff\n";
    let transcript = machine(MIXED, "max", None)
        .typed(typed)
        .seconds(600)
        .run()?;
    good(&transcript, &[], &["linux", "kernel"])?;
    let count = |words: &str| {
        let lines = transcript.lines_of("linux");
        lines.filter(|line| line.contains(words)).count()
    };
    let text = transcript.text();
    ensure!(count("six times seven is 42") == 1, "{text}");
    ensure!(count("This is busybox in memory") == 2, "{text}");
    transcript.has("xdv | guest linux: restarting: it asked for a reset")?;
    // What it was given is what it is given again.
    ensure!(
        transcript.lines_of("linux").any(|line| line == "2"),
        "{text}"
    );
    ensure!(count("selftest: ") == 0, "{text}");
    Ok(())
}

/// A self-test that fails makes the run fail, though the guest powered off as it should.
#[test]
fn a_failed_self_test_fails_the_run() -> anyhow::Result<()> {
    let transcript = machine(FAILS, "max", None).run()?;
    transcript.no_panic()?;
    transcript.well("linux")?;
    transcript.has("error: guest linux: self-test: FAILED: CPUs online: 1 instead of 2")?;
    transcript.ended(1)
}

/// All of it is touched: the host needs as much.
#[test]
#[ignore = "takes 17 GiB of memory"]
fn linux_tests_itself_in_16_gib() -> anyhow::Result<()> {
    let transcript = machine(LARGEST, "max", None).seconds(500).run()?;
    good(&transcript, &["linux"], &[])?;
    let memory = said(&transcript, "linux", "memory in MiB")?;
    ensure!(memory == "16384", "{memory} MiB");
    report(LARGEST, &transcript);
    Ok(())
}

/// Every config on every CPU model and emulator that is promised.
#[test]
#[ignore = "takes many minutes"]
fn every_linux_config_on_every_cpu_and_emulator() -> anyhow::Result<()> {
    for qemu in matrix::emulators() {
        for cpu in matrix::MODELS {
            for (config, linux, others) in [
                (ONE, &["linux"][..], &[][..]),
                (PAIR, &["left", "right"], &[]),
                (MIXED, &["linux"], &["kernel"]),
            ] {
                let name = format!(
                    "{config} on {cpu}, QEMU {}",
                    qemu.as_deref().unwrap_or("of the system")
                );
                let transcript = machine(config, cpu, qemu.as_deref())
                    .run()
                    .with_context(|| name.clone())?;
                good(&transcript, linux, others).with_context(|| name.clone())?;
                report(&name, &transcript);
            }
        }
    }
    Ok(())
}
