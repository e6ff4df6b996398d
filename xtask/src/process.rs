//! Running other programs: quietly under a step's spinner, with everything they said kept for when they fail.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::say::Step;

/// How a command reads when typed.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words
        .iter()
        .map(|word| {
            if word.contains([' ', '"', '$']) || word.is_empty() {
                format!("'{word}'")
            } else {
                word.clone()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end under a step. On failure its whole output is in the error.
pub fn under_step(title: &str, command: &mut Command) -> anyhow::Result<()> {
    let step = Step::begin(title);
    let outcome = followed(command, |line| step.detail(line));
    match outcome {
        Ok(_) => step.done(),
        Err(_) => step.failed(),
    }
    outcome.map(|_| ())
}

/// How long to wait before what did not come over the network is asked for again.
const AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// Runs a command that fetches something. Where nobody waits for it (`CI`), a network that fails for a moment fails nothing.
pub fn fetching(title: &str, command: &mut Command) -> anyhow::Result<()> {
    let alone = std::env::var_os("CI").is_some();
    again(title, command, if alone { &AGAIN } else { &[] })
}

fn again(title: &str, command: &mut Command, waits: &[Duration]) -> anyhow::Result<()> {
    for wait in waits {
        if under_step(title, command).is_ok() {
            return Ok(());
        }
        thread::sleep(*wait);
    }
    under_step(title, command)
}

/// Runs a command, showing each line to `watch`; returns all it said.
fn followed(command: &mut Command, mut watch: impl FnMut(&str)) -> anyhow::Result<String> {
    let typed = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{typed}`"))?;
    let (sender, lines) = mpsc::channel::<String>();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                if sender
                    .send(String::from_utf8_lossy(&bytes).into_owned())
                    .is_err()
                {
                    return;
                }
                bytes.clear();
            }
        });
    }
    drop(sender);
    let mut said = String::new();
    for line in lines {
        watch(&line);
        said.push_str(&line);
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(said);
    }
    bail!("`{typed}` failed ({status}):\n{}", said.trim_end())
}

/// Runs a command and returns what it wrote to standard output.
pub fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let typed = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{typed}`"))?;
    if !output.status.success() {
        bail!(
            "`{typed}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command with the terminal as its own; says whether it ended well.
pub fn in_the_open(command: &mut Command) -> anyhow::Result<bool> {
    let typed = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{typed}`"))?;
    Ok(status.success())
}

/// The first program of that name on the PATH.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A yes-or-no question on the terminal; no answer is a no.
pub fn ask(question: &str) -> bool {
    eprint!("{question} [Y/n] ");
    let mut answer = String::new();
    let read = std::io::stdin().is_terminal()
        && std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .is_ok_and(|n| n > 0);
    read && matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "" | "y" | "yes"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_to_come_is_asked_for_again() {
        let file = std::env::temp_dir().join(format!("xdv-again-{}", std::process::id()));
        let mut third = Command::new("sh");
        third.args(["-c", "echo x >>\"$0\"; [ $(wc -l <\"$0\") -ge 3 ]"]);
        third.arg(&file);
        let _ = std::fs::remove_file(&file);
        assert!(again("a fetch", &mut third, &[Duration::ZERO]).is_err());
        assert!(again("a fetch", &mut third, &[Duration::ZERO]).is_ok());
        let said = std::fs::read_to_string(&file).unwrap();
        assert_eq!(said.lines().count(), 3, "who has it asks no more");
        std::fs::remove_file(file).unwrap();
    }
}
