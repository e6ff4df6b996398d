//! Debian's builds of U-Boot and EDK2, unmodified: from flash to their prompts, and what they store is there after a
//! reset.

use anyhow::{Context, ensure};
use tests::machine::Machine;
use tests::matrix;
use tests::transcript::Transcript;

/// Types these lines, each at a prompt. Lines end what counts down to something else; empty ones do nothing else.
fn typed(guest: &str, cpu: &str, qemu: Option<&str>, lines: &[&str]) -> anyhow::Result<Transcript> {
    let config = match guest {
        "u-boot" => "configs/u-boot.toml",
        _ => "configs/edk2.toml",
    };
    let transcript = Machine::of(config)
        .cpu(cpu)
        .qemu(qemu)
        .typed(&lines.concat())
        .seconds(90)
        .run()?;
    transcript.no_panic()?;
    let reset = format!("xdv | guest {guest}: restarting: it asked for a reset");
    transcript.has(&reset)?;
    transcript.well(guest)?;
    transcript.ended(0)?;
    Ok(transcript)
}

/// In how many of the guest's lines these words are, but for colours and places on a screen.
fn count(transcript: &Transcript, guest: &str, words: &str) -> usize {
    let lines = transcript.lines_of(guest).map(plain);
    lines.filter(|line| line.contains(words)).count()
}

/// A line without what EL2 shows a terminal's control sequences as: `\x1b[`, numbers, a letter.
fn plain(line: &str) -> String {
    let mut parts = line.split("\\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic());
        end.and_then(|end| part.get(end + 1..)).unwrap_or_default()
    });
    first + &rest.collect::<String>()
}

fn u_boot(cpu: &str, qemu: Option<&str>) -> anyhow::Result<()> {
    let lines = [
        // Keys that come while it writes to flash are lost: it looks for Ctrl-C meanwhile.
        "\n\n\nsetenv who i am here; saveenv; reset\n",
        "\n\n\nprintenv who\nversion\npoweroff\n",
    ];
    let transcript = typed("u-boot", cpu, qemu, &lines)?;
    for (words, times) in [
        // Twice when it starts, and once when it is asked.
        ("U-Boot 20", 3),
        // The flash is new at first.
        ("bad CRC", 1),
        ("who=i am here", 1),
        ("fw_cfg interface not found", 0),
    ] {
        let seen = count(&transcript, "u-boot", words);
        ensure!(
            seen == times,
            "`{words}` {seen} times:\n{}",
            transcript.text()
        );
    }
    Ok(())
}

fn edk2(cpu: &str, qemu: Option<&str>) -> anyhow::Result<()> {
    let lines = [
        "\n\n\nset who iamhere\nreset\n",
        "\n\n\nset who\nver\nreset -s\n",
    ];
    let transcript = typed("edk2", cpu, qemu, &lines)?;
    for (words, times) in [
        ("UEFI firmware", 2),
        // Twice when it starts, and once when it is asked.
        ("UEFI Interactive Shell", 3),
        ("who = iamhere", 1),
        ("Exception", 0),
    ] {
        let seen = count(&transcript, "edk2", words);
        ensure!(
            seen == times,
            "`{words}` {seen} times:\n{}",
            transcript.text()
        );
    }
    Ok(())
}

#[test]
fn u_boot_reaches_its_prompt_and_keeps_its_environment() -> anyhow::Result<()> {
    u_boot("cortex-a57", None)
}

#[test]
fn edk2_reaches_its_shell_and_keeps_its_variables() -> anyhow::Result<()> {
    edk2("max", None)
}

/// Both on every CPU model and emulator that is promised.
#[test]
#[ignore = "takes some minutes"]
fn both_on_every_cpu_and_emulator() -> anyhow::Result<()> {
    for qemu in matrix::emulators() {
        for cpu in matrix::MODELS {
            u_boot(cpu, qemu.as_deref()).with_context(|| format!("U-Boot, {cpu}, {qemu:?}"))?;
            edk2(cpu, qemu.as_deref()).with_context(|| format!("EDK2, {cpu}, {qemu:?}"))?;
        }
    }
    Ok(())
}
