//! Debian's builds of U-Boot and EDK2, unmodified: from flash to their prompts, and what they store is there after a
//! reset.

use anyhow::ensure;
use tests::machine::Machine;
use tests::transcript::Transcript;

/// Types these lines, each at a prompt. Lines end what counts down to something else; empty ones do nothing else.
fn typed(config: &str, cpu: &str, guest: &str, lines: &[&str]) -> anyhow::Result<Transcript> {
    let transcript = Machine::of(config)
        .cpu(cpu)
        .typed(&lines.concat())
        .seconds(90)
        .run()?;
    transcript.no_panic()?;
    transcript.has(&format!(
        "xdv | guest {guest}: restarting: it asked for a reset"
    ))?;
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

#[test]
fn u_boot_reaches_its_prompt_and_keeps_its_environment() -> anyhow::Result<()> {
    let lines = [
        // Keys that come while it writes to flash are lost: it looks for Ctrl-C meanwhile.
        "\n\n\nsetenv who i am here; saveenv; reset\n",
        "\n\n\nprintenv who\nversion\npoweroff\n",
    ];
    for cpu in ["max", "cortex-a57"] {
        let transcript = typed("configs/u-boot.toml", cpu, "u-boot", &lines)?;
        let seen = |words| count(&transcript, "u-boot", words);
        // Twice when it starts, and once when it is asked.
        ensure!(seen("U-Boot 20") == 3, "{}", transcript.text());
        // The flash is new at first.
        ensure!(seen("bad CRC") == 1, "{}", transcript.text());
        ensure!(seen("who=i am here") == 1, "{}", transcript.text());
        ensure!(
            seen("QEMU fw_cfg interface not found") == 0,
            "{}",
            transcript.text()
        );
    }
    Ok(())
}

#[test]
fn edk2_reaches_its_shell_and_keeps_its_variables() -> anyhow::Result<()> {
    let lines = [
        "\n\n\nset who iamhere\nreset\n",
        "\n\n\nset who\nver\nreset -s\n",
    ];
    for cpu in ["max", "cortex-a57"] {
        let transcript = typed("configs/edk2.toml", cpu, "edk2", &lines)?;
        let seen = |words| count(&transcript, "edk2", words);
        ensure!(seen("UEFI firmware") == 2, "{}", transcript.text());
        ensure!(seen("Shell> ") >= 6, "{}", transcript.text());
        // Twice when it starts, and once when it is asked.
        ensure!(seen("UEFI Interactive Shell") == 3, "{}", transcript.text());
        ensure!(seen("who = iamhere") == 1, "{}", transcript.text());
        ensure!(seen("Exception") == 0, "{}", transcript.text());
    }
    Ok(())
}
