//! `cargo xtask ctl`: one command for the hypervisor of a run, and its answer.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::CtlArgs;
use crate::project::Project;
use crate::say;

/// The file that says where the last run listens.
fn pointer(project: &Project) -> PathBuf {
    project.target.join("xdv").join("control")
}

/// Notes where a run listens, for who names no socket.
pub fn remember(project: &Project, socket: &Path) -> anyhow::Result<()> {
    let socket = std::path::absolute(socket)?;
    crate::files::write_whole(&pointer(project), socket.display().to_string().as_bytes())
}

/// Forgets a run's socket, unless another run has taken its place.
pub fn forget(project: &Project, socket: &Path) {
    let pointer = pointer(project);
    let named = fs::read_to_string(&pointer).unwrap_or_default();
    if std::path::absolute(socket).is_ok_and(|socket| socket.as_path() == Path::new(&named)) {
        let _ = fs::remove_file(pointer);
    }
}

/// Sends the commands one after another; the first that fails ends it.
pub fn ctl(project: &Project, args: &CtlArgs) -> anyhow::Result<ExitCode> {
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => fs::read_to_string(pointer(project))
            .map(PathBuf::from)
            .ok()
            .context("no run listens: start one with `cargo xtask run FILE`, or name its socket with --socket")?,
    };
    for command in args.commands() {
        if let Err(why) = ask(&socket, &command)? {
            say::error(&format!("{command}: {why}"));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One command: its answer on standard output, and what it ended with.
fn ask(socket: &Path, command: &str) -> anyhow::Result<Result<(), String>> {
    let mut run = UnixStream::connect(socket)
        .with_context(|| format!("no run listens at {}", socket.display()))?;
    writeln!(run, "{command}")?;
    for line in BufReader::new(run).lines() {
        let line = line?;
        if let Some(text) = line.strip_prefix("| ") {
            say::answer(text);
        } else if line == "ok" {
            return Ok(Ok(()));
        } else if let Some(why) = line.strip_prefix("error: ") {
            return Ok(Err(explained(command, why)));
        } else {
            bail!(
                "{} is no control socket: it said `{line}`",
                socket.display()
            );
        }
    }
    Ok(Err("the run ended before it answered".to_owned()))
}

/// Why a command was not carried out. The hypervisor of a machine without virtio devices does not know what a balloon is.
fn explained(command: &str, why: &str) -> String {
    if command.starts_with("balloon ") && why.starts_with("no command `balloon`") {
        return "no guest of this machine has a balloon, nor any other virtio device; give one a balloon with \
                `balloon = true` in the machine file"
            .to_owned();
    }
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::control::{Asked, Said, Socket};

    /// A run that answers each command with its words and `stop` with an error.
    fn peer(asked: Asked) -> bool {
        for word in asked.command.split(' ') {
            asked.answer.send(Said::Line(word.to_owned())).unwrap();
        }
        let end = match asked.command.as_str() {
            "stop" => Said::Error("who?".to_owned()),
            "balloon a" => Said::Error("no command `balloon`; there are: list".to_owned()),
            "gone" => return true,
            _ => Said::Ok,
        };
        asked.answer.send(end).unwrap();
        true
    }

    #[test]
    fn a_command_travels_over_the_socket_and_its_answer_comes_back() {
        let path = std::env::temp_dir().join(format!("xdv-ctl-{}", std::process::id()));
        let socket = Socket::open(&path).unwrap();
        socket.serve(peer).unwrap();
        assert_eq!(ask(&path, "stats alpha").unwrap(), Ok(()));
        assert_eq!(ask(&path, "stop").unwrap(), Err("who?".to_owned()));
        let none = ask(&path, "balloon a").unwrap().unwrap_err();
        assert!(
            none.starts_with("no guest of this machine has a balloon"),
            "{none}"
        );
        let gone = ask(&path, "gone").unwrap().unwrap_err();
        assert!(gone.contains("ended before"), "{gone}");
        let bad = ask(&path, "a\x1db").unwrap().unwrap_err();
        assert!(bad.contains("printable"), "{bad}");
        drop(socket);
        assert!(ask(&path, "list").is_err());
    }

    #[test]
    fn the_last_run_is_remembered_until_it_ends() {
        let folder = std::env::temp_dir().join(format!("xdv-pointer-{}", std::process::id()));
        let project = Project {
            root: folder.clone(),
            target: folder.clone(),
            cache: folder.clone(),
            consent: false,
        };
        fs::create_dir_all(folder.join("xdv")).unwrap();
        remember(&project, Path::new("/run/a")).unwrap();
        remember(&project, Path::new("/run/b")).unwrap();
        forget(&project, Path::new("/run/a"));
        assert_eq!(fs::read_to_string(pointer(&project)).unwrap(), "/run/b");
        forget(&project, Path::new("/run/b"));
        assert!(!pointer(&project).exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
