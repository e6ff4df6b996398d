//! One run of one machine.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::transcript::Transcript;

/// Emulated machines at once: one. Deadlines are judged in them, and the host has few CPUs.
static TURN: Mutex<()> = Mutex::new(());
/// Runs so far, for the names of their files.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// How much longer than the hypervisor's own deadline a run may take: it may have to build first, and to fetch, on a host
/// that has much else to do.
pub const GRACE: Duration = Duration::from_secs(1200);

/// The project's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's target folder, as xtask finds it too.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// A folder for what tests leave behind.
///
/// # Errors
/// The folder cannot be made.
pub fn scratch() -> anyhow::Result<PathBuf> {
    let folder = target().join("xdv-tests");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// `cargo xtask`, as the caller named it or as a person types it.
#[must_use]
pub fn xtask() -> Command {
    let mut command = match env::var_os("XDV_XTASK") {
        Some(program) => Command::new(program),
        None => {
            let mut cargo =
                Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
            cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
            cargo
        }
    };
    command
        .current_dir(root())
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .env("CI", "true");
    command
}

/// Waits for its turn.
fn turn() -> MutexGuard<'static, ()> {
    // A test that failed in its turn leaves nothing behind that could hurt the next one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command with its output in a file, for so long at most. Returns the exit status (none: it was ended from here) and the output.
///
/// # Errors
/// It cannot be started or its output cannot be read.
pub fn run(
    command: &mut Command,
    name: &str,
    limit: Duration,
) -> anyhow::Result<(Option<i32>, String)> {
    let _turn = turn();
    run_now(command, name, limit)
}

fn run_now(
    command: &mut Command,
    name: &str,
    limit: Duration,
) -> anyhow::Result<(Option<i32>, String)> {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = scratch()?.join(format!("{name}-{}-{number}.txt", std::process::id()));
    let file = File::create(&path)?;
    let mut child = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let status = wait(&mut child, limit)?;
    let bytes = fs::read(&path)?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<Option<i32>> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        thread::sleep(Duration::from_millis(20));
    }
    // The whole group: cargo, xtask, QEMU.
    let group = format!("-{}", child.id());
    Command::new("kill")
        .args(["-KILL", "--", &group])
        .status()?;
    child.wait()?;
    Ok(None)
}

/// A machine about to run: a config, and what differs from the defaults.
#[derive(Debug, Clone)]
pub struct Machine {
    config: String,
    arguments: Vec<String>,
    /// What QEMU is told itself.
    to_qemu: Vec<String>,
    seconds: u64,
    typed: Option<String>,
}

impl Machine {
    /// The machine of a config, named from the project's root.
    #[must_use]
    pub fn of(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            arguments: Vec::new(),
            to_qemu: Vec::new(),
            seconds: 300,
            typed: None,
        }
    }

    /// On this CPU model.
    #[must_use]
    pub fn cpu(mut self, cpu: &str) -> Self {
        self.arguments.extend(["--cpu".to_owned(), cpu.to_owned()]);
        self
    }

    /// With so many CPUs.
    #[must_use]
    pub fn smp(mut self, cpus: u32) -> Self {
        self.arguments
            .extend(["--smp".to_owned(), cpus.to_string()]);
        self
    }

    /// Built without optimisation.
    #[must_use]
    pub fn debug(mut self, debug: bool) -> Self {
        if debug {
            self.arguments.push("--debug".to_owned());
        }
        self
    }

    /// With this emulator: a path or `10`. None: the default one.
    #[must_use]
    pub fn qemu(mut self, qemu: Option<&str>) -> Self {
        if let Some(qemu) = qemu {
            self.arguments
                .extend(["--qemu".to_owned(), qemu.to_owned()]);
        }
        self
    }

    /// With somebody at the keyboard who types these lines, each at a prompt; Linux guests open a shell then.
    #[must_use]
    pub fn typed(mut self, lines: &str) -> Self {
        self.typed = Some(lines.to_owned());
        self
    }

    /// With another disk of its own, raw.
    #[must_use]
    pub fn disk(mut self, image: &Path) -> Self {
        self.arguments
            .extend(["--disk".to_owned(), image.display().to_string()]);
        self
    }

    /// With no more than so many requests to its first disk done in a second.
    #[must_use]
    pub fn slow_disk(mut self, requests: u32) -> Self {
        let limit = format!("drive.disk0.throttling.iops-total={requests}");
        self.to_qemu.extend(["-set".to_owned(), limit]);
        self
    }

    /// With its network card on this network, as QEMU's `-netdev` names it.
    #[must_use]
    pub fn net(mut self, netdev: &str) -> Self {
        self.arguments
            .extend(["--net".to_owned(), netdev.to_owned()]);
        self
    }

    /// Counting instructions instead of time.
    #[must_use]
    pub fn icount(mut self) -> Self {
        self.arguments.push("--icount".to_owned());
        self
    }

    /// The hypervisor's own deadline.
    #[must_use]
    pub const fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, or nothing ended it.
    pub fn run(&self) -> anyhow::Result<Transcript> {
        let _turn = turn();
        self.run_now()
    }

    /// Runs it until one of these deadlines, in seconds, ends it, the first that is late enough. On a host that stands
    /// still, or has little time, guests come to what is `enough` later than they usually do; all that is demanded
    /// of a run is for the caller to judge.
    ///
    /// # Errors
    /// It cannot be started, or nothing ended it.
    pub fn run_until(
        &self,
        deadlines: &[u64],
        enough: impl Fn(&Transcript) -> bool,
    ) -> anyhow::Result<Transcript> {
        let (last, earlier) = deadlines.split_last().context("no deadline")?;
        for seconds in earlier {
            let transcript = self.clone().seconds(*seconds).run()?;
            if enough(&transcript) {
                return Ok(transcript);
            }
        }
        self.clone().seconds(*last).run()
    }

    /// Runs it and another one at the same time, each to its end.
    ///
    /// # Errors
    /// One of them cannot be started, or nothing ended it.
    pub fn run_beside(&self, other: &Self) -> anyhow::Result<[Transcript; 2]> {
        let _turn = turn();
        thread::scope(|scope| {
            let other = scope.spawn(|| other.run_now());
            let one = self.run_now();
            let other = other.join().ok().context("it was not run")?;
            Ok([one?, other?])
        })
    }

    fn run_now(&self) -> anyhow::Result<Transcript> {
        let mut command = xtask();
        command
            .arg("run")
            .arg(&self.config)
            .args(["--timeout", &self.seconds.to_string()])
            .args(&self.arguments);
        match &self.typed {
            None => {
                command.arg("--headless");
            }
            Some(lines) => {
                let number = COUNT.fetch_add(1, Ordering::Relaxed);
                let path = scratch()?.join(format!("typed-{}-{number}.txt", std::process::id()));
                fs::write(&path, lines)?;
                command.stdin(File::open(path)?);
            }
        }
        if !self.to_qemu.is_empty() {
            command.arg("--").args(&self.to_qemu);
        }
        let limit = Duration::from_secs(self.seconds) + GRACE;
        let name = Path::new(&self.config)
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let (status, text) = run_now(&mut command, &name, limit)?;
        match status {
            Some(status) => Ok(Transcript::new(status, text)),
            None => bail!(
                "`run {}` did not end within {limit:?}:\n{text}",
                self.config
            ),
        }
    }

    /// Judges the config without running it: exit status and everything said.
    ///
    /// # Errors
    /// It cannot be started, or nothing ended it.
    pub fn check(&self) -> anyhow::Result<Transcript> {
        let mut command = xtask();
        command.arg("check").arg(&self.config).args(&self.arguments);
        match run(&mut command, "check", GRACE)? {
            (Some(status), text) => Ok(Transcript::new(status, text)),
            (None, text) => bail!("`check {}` did not end:\n{text}", self.config),
        }
    }
}
