//! Starting QEMU, following its console, and ending it when it does not end by itself.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::console::Lines;
use crate::build::Files;
use crate::process;
use crate::qemu::Qemu;
use crate::say;

/// How long QEMU may take to go after EL2 has said its last word.
const LAST_WORD: Duration = Duration::from_secs(10);
/// How often a silent run looks at the clock and at Ctrl-C.
const TICK: Duration = Duration::from_millis(100);

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// One machine, ready to start.
#[derive(Debug)]
pub struct Launch {
    /// The emulator.
    pub qemu: Qemu,
    /// The CPU, with its properties.
    pub cpu: String,
    /// How many CPUs.
    pub smp: u32,
    /// How much memory, as QEMU writes it.
    pub memory: String,
    /// Count instructions instead of time.
    pub icount: bool,
    /// Kernel and initrd.
    pub files: Files,
    /// Further arguments.
    pub extra: Vec<String>,
    /// Whether a terminal on standard input is QEMU's.
    pub interactive: bool,
    /// When QEMU is ended from outside.
    pub limit: Option<Duration>,
}

/// How QEMU ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    ByItself,
    /// By itself and with an error; these were its last words.
    Failed(String),
    /// EL2 had finished, but the machine stayed on and was ended.
    AfterTheEnd,
    /// By the person.
    Interrupted,
    /// By us: it took too long.
    TimedOut,
}

impl Launch {
    /// The command line.
    pub fn command(&self) -> Command {
        let mut command = self.qemu.command();
        command.args([
            "-M",
            "virt,virtualization=on,gic-version=3",
            "-nographic",
            "-nodefaults",
            "-nic",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
        ]);
        command
            .arg("-cpu")
            .arg(&self.cpu)
            .arg("-smp")
            .arg(self.smp.to_string())
            .arg("-m")
            .arg(&self.memory);
        if self.icount {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command
            .arg("-kernel")
            .arg(&self.files.image)
            .arg("-initrd")
            .arg(&self.files.bundle)
            .args(&self.extra);
        command
    }

    /// Runs it to its end. `line` takes each line of the console and says whether EL2 has said its last word.
    pub fn watch(&self, mut line: impl FnMut(&str) -> bool) -> anyhow::Result<Ending> {
        use std::io::IsTerminal;
        let mut command = self.command();
        let terminal = (self.interactive && std::io::stdin().is_terminal())
            .then(Terminal::save)
            .flatten();
        command
            .stdin(if terminal.is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A second run in one process finds the handler in place; that is fine.
        let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
        let complaints = child.stderr.take().map(relay);
        let ending = follow(&mut child, self.limit, &mut line);
        if !matches!(ending, Ok(Ending::ByItself | Ending::Failed(_))) {
            let _ = child.kill();
        }
        let _ = child.wait();
        let last_words = complaints
            .and_then(|complaints| complaints.join().ok())
            .unwrap_or_default();
        drop(terminal);
        let ending = ending?;
        Ok(if matches!(ending, Ending::Failed(_)) {
            Ending::Failed(last_words)
        } else {
            ending
        })
    }
}

/// What QEMU itself has to say goes to the person, except what is no news: under icount with `sleep=off` a machine
/// that waits for nothing is what a guest that has ended looks like. Its last line is kept.
fn relay(stderr: ChildStderr) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut last = String::new();
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if !line.contains("icount sleep disabled and no active timers") {
                say::note(&line);
                last = line;
            }
        }
        last
    })
}

fn follow(
    child: &mut Child,
    limit: Option<Duration>,
    line: &mut impl FnMut(&str) -> bool,
) -> anyhow::Result<Ending> {
    let mut output = child
        .stdout
        .take()
        .context("QEMU's console is not connected")?;
    let (sender, chunks) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut buffer = vec![0; 8192];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let chunk = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send(chunk).is_err() {
                return;
            }
        }
    });
    let started = Instant::now();
    let mut lines = Lines::default();
    let mut over: Option<Instant> = None;
    loop {
        match chunks.recv_timeout(TICK) {
            Ok(chunk) => lines.take(&chunk, |text| {
                if line(&text) {
                    over.get_or_insert_with(Instant::now);
                }
            }),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if let Some(rest) = lines.rest() {
                    line(&rest);
                }
                let status = child.wait()?;
                return Ok(if INTERRUPTED.load(Ordering::Relaxed) {
                    Ending::Interrupted
                } else if status.success() {
                    Ending::ByItself
                } else {
                    Ending::Failed(String::new())
                });
            }
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Ok(Ending::Interrupted);
        }
        if over.is_some_and(|since| since.elapsed() > LAST_WORD) {
            return Ok(Ending::AfterTheEnd);
        }
        if limit.is_some_and(|limit| started.elapsed() > limit) {
            return Ok(Ending::TimedOut);
        }
    }
}

/// The terminal's settings, put back at the end: QEMU sets it raw, and one that is killed leaves it so.
struct Terminal(String);

impl Terminal {
    fn save() -> Option<Self> {
        let output = Command::new("stty")
            .arg("-g")
            .stdin(Stdio::inherit())
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| Self(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("stty")
            .arg(&self.0)
            .stdin(Stdio::inherit())
            .status();
    }
}

#[cfg(test)]
mod tests;
