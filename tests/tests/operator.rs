//! An operator stops, starts, pauses and talks to guests, from the control command and the keyboard, and a neighbour of
//! theirs notices nothing.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tests::machine::{scratch, xtask};
use tests::transcript::Transcript;

/// The run's own end, if nothing else ends it.
const DEADLINE: &str = "120";
/// How long to wait for anything: it may have to build first.
const PATIENCE: Duration = Duration::from_secs(300);

/// Emulated machines at once: one.
static TURN: Mutex<()> = Mutex::new(());

/// A run that somebody operates.
struct Run {
    child: Child,
    _turn: MutexGuard<'static, ()>,
    log: PathBuf,
    socket: PathBuf,
}

impl Run {
    fn start(config: &str) -> anyhow::Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("operator-{}", std::process::id());
        let log = scratch()?.join(format!("{name}.txt"));
        // A socket's path has to be short.
        let socket = std::env::temp_dir().join(format!("xdv-{name}"));
        let file = File::create(&log)?;
        let child = xtask()
            .args(["run", config, "--timeout", DEADLINE, "--control"])
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            _turn: turn,
            log,
            socket,
        })
    }

    fn said(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// How many lines are exactly this.
    fn times(&self, line: &str) -> anyhow::Result<usize> {
        Ok(self.said()?.lines().filter(|seen| *seen == line).count())
    }

    /// Waits until so many lines are exactly this.
    fn wait_for(&mut self, line: &str, times: usize) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.times(line)? < times {
            ensure!(
                Instant::now() < end && self.child.try_wait()?.is_none(),
                "`{line}` was not said {times} times:\n{}",
                self.said()?
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A command, whether it was carried out, and its answer.
    fn ctl(&self, words: &[&str]) -> anyhow::Result<(bool, String)> {
        let output = xtask()
            .args(["ctl", "--socket"])
            .arg(&self.socket)
            .args(words)
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }

    /// A command that must be carried out.
    fn does(&self, words: &[&str]) -> anyhow::Result<String> {
        let (done, answer) = self.ctl(words)?;
        ensure!(done, "{words:?}: {answer}\n{}", self.said()?);
        Ok(answer)
    }

    /// The hypervisor answers, and so does every CPU that has lanes. A busy host may leave one of them without time for
    /// as long as the hypervisor waits.
    fn is_alive(&self) -> anyhow::Result<()> {
        let mut answer = String::new();
        for _ in 0..10 {
            answer = self.does(&["stats"])?;
            if !answer.contains("did not answer") {
                return Ok(());
            }
        }
        bail!("{answer}")
    }

    /// What `list` says of a guest.
    fn state(&self, guest: &str) -> anyhow::Result<String> {
        let answer = self.does(&["list"])?;
        let line = answer
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(guest));
        let state = line.with_context(|| format!("no {guest} in\n{answer}"))?;
        Ok(state.trim().to_owned())
    }

    fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        let keyboard = self.child.stdin.as_mut().context("no keyboard")?;
        writeln!(keyboard, "{line}")?;
        Ok(())
    }

    /// Lets it come to its end.
    fn end(mut self) -> anyhow::Result<Transcript> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let status = status.code().unwrap_or(-1);
                return Ok(Transcript::new(status, self.said()?));
            }
            if Instant::now() > end {
                bail!("the run did not end:\n{}", self.said()?);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The whole group: cargo, xtask, QEMU.
            let group = format!("-{}", self.child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        }
    }
}

/// How many ticks were heard.
fn ticks(run: &Run) -> anyhow::Result<usize> {
    let said = run.said()?;
    Ok(said
        .lines()
        .filter(|line| line.starts_with("ticker | tick "))
        .count())
}

#[test]
fn guests_are_paused_restarted_stopped_started_and_talked_to() -> anyhow::Result<()> {
    let mut run = Run::start("tests/configs/operator.toml")?;
    run.wait_for("ticker | tick 3", 1)?;
    ensure!(run.state("echo")?.contains("running, 1 of 1 lanes on"));
    ensure!(run.state("echo")?.ends_with("attached"));
    ensure!(!run.state("ticker")?.contains("attached"));

    // Paused: not a word, and it goes on where it was.
    run.does(&["pause", "ticker"])?;
    thread::sleep(Duration::from_millis(300));
    let before = ticks(&run)?;
    thread::sleep(Duration::from_secs(1));
    ensure!(ticks(&run)? == before, "it ticks:\n{}", run.said()?);
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
    thread::sleep(Duration::from_millis(300));
    let before = ticks(&run)?;
    thread::sleep(Duration::from_millis(500));
    ensure!(ticks(&run)? == before, "it ticks:\n{}", run.said()?);
    ensure!(run.state("ticker")?.starts_with("stopped"));
    run.does(&["start", "ticker"])?;
    run.wait_for("ticker | tick 0", 3)?;

    run.is_alive()?;
    let stats = run.does(&["stats", "ticker"])?;
    ensure!(
        stats.contains("ticker lane 0: ran ") && stats.contains(" hypercalls"),
        "{stats}"
    );
    ensure!(run.does(&["stats"])?.contains("echo lane 0: ran "));
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
        // It may be the last one: then the machine is off before the answer is through.
        let _ = run.ctl(&["stop", "bad"])?;
        let transcript = run.end()?;
        transcript.no_panic()?;
        transcript.unharmed("victim")?;
        transcript.well("victim")?;
        transcript.has("xdv | guest bad: stopped: by its operator")?;
        transcript.has("xdv | all guests ended")?;
    }
    Ok(())
}
