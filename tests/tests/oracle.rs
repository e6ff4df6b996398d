//! After whatever a guest has done to itself, everything else is as it was: crash, hang, panic, reboot loop and stop, with
//! an operator at the control socket, and the checks of [`Run::oracle`] after each.

use anyhow::ensure;
use tests::matrix;
use tests::operated::Run;

/// How often a guest is stopped and started.
const ROUNDS: usize = 50;

#[test]
fn a_guest_ends_in_every_way_and_leaves_everything_as_it_was() -> anyhow::Result<()> {
    // Without optimisation EL2 looks itself whether a guest reaches what it should not (U3).
    let profiles: &[&[&str]] = if matrix::full() {
        &[&[], &["--debug"]]
    } else {
        &[&[]]
    };
    for arguments in profiles {
        ends(Run::start_as("tests/configs/oracle.toml", arguments)?)?;
    }
    Ok(())
}

fn ends(mut run: Run) -> anyhow::Result<()> {
    run.wait_for_words("xdv | boot: ", 1)?;
    let before = run.owned()?;
    ensure!(before.len() == 5, "{before:?}");

    // A crash: reported with its place, and the guest begins anew.
    run.wait_for_words("xdv | guest faults: restarting: ended with code 102", 1)?;
    run.wait_for_words(
        "xdv |   faults lane 0: its last exception: esr 0x96000010",
        1,
    )?;
    run.oracle(&before)?;
    // The attempt is on record, and it is the only one: a hundred of them leave no more.
    let stats = run.stats(&["stats", "faults"])?;
    ensure!(
        stats.contains("faults lane 0: refusals: ") && stats.contains("ipa 0x30000000"),
        "{stats}"
    );

    // A hang: noticed, kept as it is, and begun anew by hand.
    run.wait_for_words("xdv | guest hangs: held: stopped: no sign of life", 1)?;
    run.oracle(&before)?;
    run.does(&["restart", "hangs"])?;
    run.wait_for_words("xdv | guest hangs: held: stopped: no sign of life", 2)?;
    run.oracle(&before)?;

    // A panic: it stays off until somebody starts it.
    run.wait_for_words("xdv | guest panics: ended with code 101", 1)?;
    ensure!(run.state("panics")?.starts_with("stopped"));
    run.oracle(&before)?;
    run.does(&["start", "panics"])?;
    run.wait_for_words("xdv | guest panics: ended with code 101", 2)?;
    run.oracle(&before)?;

    // A reboot loop: later and later, each time from clean memory, until it is stopped. Whose lanes take longer to leave
    // than a wait begins anew without a word.
    run.wait_for_words("reboots | bad nothing is left", 4)?;
    run.wait_for_words("xdv | guest reboots: restarts ", 1)?;
    run.oracle(&before)?;
    run.does(&["stop", "reboots"])?;
    run.oracle(&before)?;

    // Stopped and started without end, wherever in its life it is.
    run.does(&["stop", "hangs"])?;
    for _ in 0..ROUNDS {
        for command in ["start reboots", "stop reboots"] {
            let (_, answer) = run.ask(command)?;
            ensure!(answer.ends_with("ok"), "{command}: {answer}");
        }
    }
    run.oracle(&before)?;
    ensure!(
        !run.said()?.contains("guest reboots: ended"),
        "{}",
        run.said()?
    );

    run.does(&["stop", "faults"])?;
    run.oracle(&before)?;
    run.wait_for("xdv | guest victim: ended well", 1)?;
    let transcript = run.end()?;
    transcript.no_panic()?;
    transcript.unharmed("victim")?;
    transcript.has("xdv | all guests ended")
}

/// Who panicked is named from the symbols in the kernel itself, though it has moved (KASLR), and what it said is read.
#[test]
fn a_linux_that_panics_is_reported_with_who_called_whom() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/oracle-linux.toml")?;
    run.wait_for_words("xdv | boot: ", 1)?;
    let before = run.owned()?;
    for life in 1..=2 {
        run.wait_for_words("xdv | guest linux: restarting: it asked for a reset", life)?;
        // Its console is a virtio device, whose driver is a module; until that is there, it has the serial port.
        run.wait_for_words(
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
            life,
        )?;
        for function in [
            "psci_sys_reset",
            "emergency_restart",
            "panic",
            "kernel_init",
        ] {
            run.wait_for_words(&format!(" {function}+0x"), life)?;
        }
        run.oracle(&before)?;
    }
    run.does(&["stop", "linux"])?;
    run.wait_for("xdv | guest victim: ended well", 1)?;
    let transcript = run.end()?;
    transcript.no_panic()?;
    transcript.unharmed("victim")?;
    // Each life has random numbers of its own.
    let vectors: Vec<&str> = transcript
        .lines_of("xdv")
        .filter(|line| line.starts_with("  linux lane ") && line.contains(": pc 0x"))
        .filter_map(|line| line.split("vbar ").nth(1))
        .collect();
    ensure!(
        matches!(vectors.as_slice(), [one, other, ..] if one != other),
        "{vectors:?}"
    );
    let named = |line: &&str| line.starts_with("xdv |     called from 0xffff");
    ensure!(transcript.text().lines().filter(named).count() >= 8);
    Ok(())
}
