//! A run that somebody operates while it runs, and what must hold of it after anything a guest has done.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::machine::{scratch, xtask};
use crate::matrix::Point;
use crate::transcript::Transcript;

/// The run's own end in seconds, if nothing else ends it.
const DEADLINE: u32 = 600;
/// How long to wait for anything: it may have to build first.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Emulated machines at once: one.
static TURN: Mutex<()> = Mutex::new(());

/// A run that somebody operates.
#[derive(Debug)]
pub struct Run {
    child: Child,
    _turn: MutexGuard<'static, ()>,
    log: PathBuf,
    socket: PathBuf,
}

impl Run {
    /// Starts it: a config, named from the project's root.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_as(config, &[])
    }

    /// The same at a point of the matrix.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn at(config: &str, point: &Point) -> anyhow::Result<Self> {
        let mut arguments = vec!["--cpu", point.cpu];
        if point.debug {
            arguments.push("--debug");
        }
        if let Some(qemu) = &point.qemu {
            arguments.extend(["--qemu", qemu]);
        }
        Self::start_as(config, &arguments)
    }

    /// The same with further arguments of `run`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_as(config: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::lasting(config, DEADLINE, arguments)
    }

    /// The same for so many seconds at most.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn lasting(config: &str, seconds: u32, arguments: &[&str]) -> anyhow::Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("operator-{}", std::process::id());
        let log = scratch()?.join(format!("{name}.txt"));
        // A socket's path has to be short.
        let socket = std::env::temp_dir().join(format!("xdv-{name}"));
        let file = File::create(&log)?;
        let child = xtask()
            .args(["run", config, "--timeout", &seconds.to_string()])
            .arg("--control")
            .arg(&socket)
            .args(arguments)
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

    /// All that was said so far.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn said(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// How many lines are exactly this.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn times(&self, line: &str) -> anyhow::Result<usize> {
        Ok(self.said()?.lines().filter(|seen| *seen == line).count())
    }

    /// Waits until so many lines are exactly this.
    ///
    /// # Errors
    /// They were not said in time.
    pub fn wait_for(&mut self, line: &str, times: usize) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Looked at before what was said is read: a run that has ended has said all.
            let has_ended = self.child.try_wait()?.is_some();
            if self.times(line)? >= times {
                return Ok(());
            }
            ensure!(
                Instant::now() < end && !has_ended,
                "`{line}` was not said {times} times:\n{}",
                self.said()?
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command, whether it was carried out, and its answer.
    ///
    /// # Errors
    /// The command could not be sent.
    pub fn ctl(&self, words: &[&str]) -> anyhow::Result<(bool, String)> {
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

    /// Waits until a line has these words in it, and returns the line.
    ///
    /// # Errors
    /// It was not said in time.
    pub fn wait_for_words(&mut self, words: &str, times: usize) -> anyhow::Result<String> {
        self.wait_for_lines(|line| line.contains(words), times)
            .with_context(|| format!("`{words}` was not said {times} times"))
    }

    /// Waits until so many lines are such, and returns the last of them. Each of them is whole.
    ///
    /// # Errors
    /// They were not said in time.
    pub fn wait_for_lines(
        &mut self,
        is_one: impl Fn(&str) -> bool,
        times: usize,
    ) -> anyhow::Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            // Looked at before what was said is read: a run that has ended has said all.
            let has_ended = self.child.try_wait()?.is_some();
            let said = self.said()?;
            // The last one may still go on.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let mut lines = whole.lines().filter(|line| is_one(line));
            if let Some(line) = times.checked_sub(1).and_then(|before| lines.nth(before)) {
                return Ok(line.to_owned());
            }
            ensure!(Instant::now() < end && !has_ended, "it only said:\n{said}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The same as [`ctl`](Self::ctl) without a process for it.
    ///
    /// # Errors
    /// The command could not be sent.
    pub fn ask(&self, command: &str) -> anyhow::Result<(bool, String)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        for line in BufReader::new(stream).lines() {
            let line = line?;
            match line.strip_prefix("| ") {
                Some(text) => {
                    answer.push_str(text);
                    answer.push('\n');
                }
                None => return Ok((line == "ok", answer + &line)),
            }
        }
        bail!("the run ended before it answered `{command}`")
    }

    /// What must hold after anything a guest has done (the checks of an oracle): the hypervisor and every CPU answer;
    /// it has not failed, and in a debug build found no frame of one guest in reach of another; what each guest owns is
    /// what it owned `before`, from [`owned`](Self::owned).
    ///
    /// # Errors
    /// It does not.
    pub fn oracle(&self, before: &[String]) -> anyhow::Result<()> {
        self.is_alive()?;
        let said = self.said()?;
        for word in ["xdv | panic", "xdv | refused: "] {
            ensure!(
                !said.lines().any(|line| line.starts_with(word)),
                "`{word}`:\n{said}"
            );
        }
        let after = self.owned()?;
        ensure!(after == before, "owned {before:?}, now {after:?}\n{said}");
        Ok(())
    }

    /// Each guest, how many lanes and how much memory it has.
    ///
    /// # Errors
    /// The run does not say so.
    pub fn owned(&self) -> anyhow::Result<Vec<String>> {
        let (done, list) = self.ask("list")?;
        ensure!(done, "{list}");
        let guest = |line: &str| {
            let name = line.split_whitespace().next()?;
            let lanes = line.split(" of ").nth(1)?.split(' ').next()?;
            let memory = line.split(", ").find(|part| part.ends_with(" MiB"))?;
            Some(format!("{name}: {lanes} lanes, {memory}"))
        };
        Ok(list.lines().filter_map(guest).collect())
    }

    /// A command that must be carried out.
    ///
    /// # Errors
    /// It was not.
    pub fn does(&self, words: &[&str]) -> anyhow::Result<String> {
        let (done, answer) = self.ctl(words)?;
        ensure!(done, "{words:?}: {answer}\n{}", self.said()?);
        Ok(answer)
    }

    /// The hypervisor answers, and so does every CPU that has lanes. A busy host may leave one of them without time for
    /// as long as the hypervisor waits.
    ///
    /// # Errors
    /// Somebody did not answer.
    pub fn is_alive(&self) -> anyhow::Result<()> {
        self.stats(&["stats"]).map(drop)
    }

    /// What `stats` says once every lane that it is about has answered.
    ///
    /// # Errors
    /// Somebody did not answer.
    pub fn stats(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut answer = String::new();
        for _ in 0..10 {
            answer = self.does(words)?;
            if !answer.contains("did not answer") {
                return Ok(answer);
            }
        }
        bail!("{answer}")
    }

    /// What `list` says of a guest.
    ///
    /// # Errors
    /// There is no such guest.
    pub fn state(&self, guest: &str) -> anyhow::Result<String> {
        let answer = self.does(&["list"])?;
        let line = answer
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(guest));
        let state = line.with_context(|| format!("no {guest} in\n{answer}"))?;
        Ok(state.trim().to_owned())
    }

    /// Types a line.
    ///
    /// # Errors
    /// There is no keyboard.
    pub fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        let keyboard = self.child.stdin.as_mut().context("no keyboard")?;
        writeln!(keyboard, "{line}")?;
        Ok(())
    }

    /// Lets it come to its end.
    ///
    /// # Errors
    /// It did not.
    pub fn end(mut self) -> anyhow::Result<Transcript> {
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
