//! Starting QEMU, following its console, and ending it when it does not end by itself.

use std::io::{BufRead, BufReader};
use std::process::{ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use super::control::Socket;
use super::keys::{Input, Raw};
use super::session::{Session, Viewer};
use crate::build::Files;
use crate::process;
use crate::qemu::{MACHINE, Qemu};
use crate::say;

/// No devices but the machine's own, and the console on standard input and output.
pub const PLAIN: [&str; 8] = [
    "-nographic",
    "-nodefaults",
    "-nic",
    "none",
    "-serial",
    "stdio",
    "-monitor",
    "none",
];
/// One instruction is one nanosecond, and nobody waits while the machine does.
pub const COUNTING: [&str; 2] = ["-icount", "shift=0,sleep=off"];

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
    /// Where keys come from.
    pub input: Input,
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
        command
            .args(["-M", MACHINE])
            .args(PLAIN)
            .arg("-cpu")
            .arg(&self.cpu)
            .arg("-smp")
            .arg(self.smp.to_string())
            .arg("-m")
            .arg(&self.memory);
        if self.icount {
            command.args(COUNTING);
        }
        command
            .arg("-kernel")
            .arg(&self.files.image)
            .arg("-initrd")
            .arg(&self.files.bundle)
            .args(&self.extra);
        command
    }

    /// Runs it to its end.
    pub fn watch(&self, viewer: &mut dyn Viewer, sockets: &[Socket]) -> anyhow::Result<Ending> {
        watch(&mut self.command(), self.input, self.limit, viewer, sockets)
    }
}

/// Runs QEMU with the console on its standard streams to its end.
pub fn watch(
    command: &mut Command,
    input: Input,
    limit: Option<Duration>,
    viewer: &mut dyn Viewer,
    sockets: &[Socket],
) -> anyhow::Result<Ending> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let raw = match input {
        Input::Terminal => Raw::enter(),
        Input::None | Input::Pipe => None,
    };
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{}`", process::shown(command)))?;
    let complaints = child.stderr.take().map(relay);
    let ending = Session::new(&mut child, viewer, input, sockets)
        .and_then(|session| session.follow(&mut child, limit));
    if !matches!(ending, Ok(Ending::ByItself | Ending::Failed(_))) {
        let _ = child.kill();
    }
    let _ = child.wait();
    let last_words = complaints
        .and_then(|complaints| complaints.join().ok())
        .unwrap_or_default();
    drop(raw);
    let ending = ending?;
    Ok(if matches!(ending, Ending::Failed(_)) {
        Ending::Failed(last_words)
    } else {
        ending
    })
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

#[cfg(test)]
mod tests;
