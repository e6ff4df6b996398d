//! `--control`: commands for EL2 from scripts, over a Unix socket.
//!
//! A client sends one line and gets EL2's answer: lines of text, then `ok` or `error: <why>`, then the end. On the
//! serial line a command is the chord, its text and a carriage return; EL2 answers with lines `xdv | ctl: …`
//! (docs/console.md). There is one serial line, so commands go out one after another.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::keys::CHORD;

/// How long EL2 may take for the next line of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to say what it wants.
const SLOW_CLIENT: Duration = Duration::from_secs(5);
/// No command is longer.
const LONGEST: usize = 80;
/// What EL2's answers begin with.
const HEAD: &str = "xdv | ctl: ";
/// What EL2 says when it has started the guests; from then on it listens.
const READY: &str = "xdv | boot: ";

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// One line.
    Line(String),
    /// It is done.
    Ok,
    /// It is not, for this reason.
    Error(String),
}

/// A command, and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// The command's text.
    pub command: String,
    /// Takes the answer.
    pub answer: Sender<Said>,
}

/// Commands that wait for their turn, and the one that is being answered.
#[derive(Debug, Default)]
pub struct Desk {
    ready: bool,
    waiting: VecDeque<Asked>,
    current: Option<(Asked, Instant)>,
}

impl Desk {
    /// Takes a command.
    pub fn ask(&mut self, asked: Asked) {
        self.waiting.push_back(asked);
    }

    /// Takes a line of the console.
    pub fn hear(&mut self, line: &str, now: Instant) {
        self.ready |= line.starts_with(READY);
        let Some(said) = line.strip_prefix(HEAD).map(str::trim_end) else {
            return;
        };
        let Some((asked, since)) = &mut self.current else {
            // A person typed the command.
            return;
        };
        let (said, ends) = if said == "ok" {
            (Said::Ok, true)
        } else if let Some(why) = said.strip_prefix("error: ") {
            (Said::Error(why.to_owned()), true)
        } else {
            (Said::Line(said.to_owned()), false)
        };
        let _ = asked.answer.send(said);
        *since = now;
        if ends {
            self.current = None;
        }
    }

    /// What goes to the serial line now, if anything.
    pub fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        if let Some((asked, since)) = &self.current {
            if now.duration_since(*since) < PATIENCE {
                return None;
            }
            let _ = asked.answer.send(Said::Error(format!(
                "the hypervisor did not answer within {} s",
                PATIENCE.as_secs()
            )));
            self.current = None;
        }
        if !self.ready {
            return None;
        }
        let asked = self.waiting.pop_front()?;
        let mut bytes = vec![CHORD];
        bytes.extend(asked.command.bytes());
        bytes.push(b'\r');
        self.current = Some((asked, now));
        Some(bytes)
    }
}

/// A command that can be sent: one line of printable ASCII. Anything else would be keys, not text.
pub fn judged(line: &str) -> Result<&str, String> {
    let command = line.trim();
    if command.is_empty() {
        return Err("there is no command".to_owned());
    }
    if command.len() > LONGEST || !command.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Err(format!(
            "a command is at most {LONGEST} characters of printable ASCII"
        ));
    }
    Ok(command)
}

/// A socket that is there for as long as the run.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Opens a socket. One that an ended run left behind is replaced; one that somebody listens at is not.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if UnixStream::connect(path).is_ok() {
            bail!("{}: another run listens there", path.display());
        }
        use std::os::unix::fs::FileTypeExt;
        if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
            let _ = fs::remove_file(path);
        }
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot open the control socket {}", path.display()))?;
        Ok(Self {
            listener,
            path: path.to_path_buf(),
        })
    }

    /// Serves clients in threads; `send` hands a command to the run and says whether there still is one.
    pub fn serve(
        &self,
        send: impl Fn(Asked) -> bool + Clone + Send + 'static,
    ) -> anyhow::Result<()> {
        let listener = self.listener.try_clone()?;
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let send = send.clone();
                thread::spawn(move || {
                    let _ = serve(client, &send);
                });
            }
        });
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(mut client: UnixStream, send: &impl Fn(Asked) -> bool) -> std::io::Result<()> {
    client.set_read_timeout(Some(SLOW_CLIENT))?;
    let mut line = String::new();
    let most = u64::try_from(LONGEST).unwrap_or(0).saturating_mul(2);
    BufReader::new((&client).take(most)).read_line(&mut line)?;
    let command = match judged(&line) {
        Ok(command) => command.to_owned(),
        Err(why) => return writeln!(client, "error: {why}"),
    };
    let (answer, said) = mpsc::channel();
    if !send(Asked { command, answer }) {
        return writeln!(client, "error: the run has ended");
    }
    for said in said {
        match said {
            Said::Line(text) => writeln!(client, "| {text}")?,
            Said::Ok => return writeln!(client, "ok"),
            Said::Error(why) => return writeln!(client, "error: {why}"),
        }
    }
    writeln!(
        client,
        "error: the run ended before the hypervisor answered"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &str) -> (Asked, mpsc::Receiver<Said>) {
        let (answer, said) = mpsc::channel();
        let command = command.to_owned();
        (Asked { command, answer }, said)
    }

    #[test]
    fn commands_go_out_one_after_another_once_the_hypervisor_listens() {
        let now = Instant::now();
        let mut desk = Desk::default();
        let ((first, said), (second, next)) = (asked("list"), asked("stop beta"));
        desk.ask(first);
        desk.ask(second);
        assert_eq!(desk.due(now), None);
        desk.hear("alpha | xdv | boot: 1", now);
        assert_eq!(desk.due(now), None);
        desk.hear("xdv | boot: 12 ticks", now);
        assert_eq!(desk.due(now).as_deref(), Some(&b"\x1dlist\r"[..]));
        assert_eq!(desk.due(now), None);
        for line in [
            "xdv | ctl: alpha running",
            "alpha | xdv | ctl: ok",
            "xdv | guest beta: ended well",
            "xdv | ctl: ok\r",
        ] {
            desk.hear(line, now);
        }
        assert_eq!(
            said.try_iter().collect::<Vec<_>>(),
            [Said::Line("alpha running".to_owned()), Said::Ok]
        );
        assert_eq!(desk.due(now).as_deref(), Some(&b"\x1dstop beta\r"[..]));
        desk.hear("xdv | ctl: error: no guest is called `beta`", now);
        assert_eq!(
            next.try_iter().collect::<Vec<_>>(),
            [Said::Error("no guest is called `beta`".to_owned())]
        );
        desk.hear("xdv | ctl: ok", now);
    }

    #[test]
    fn silence_is_an_error_and_holds_nobody_up() {
        let now = Instant::now();
        let mut desk = Desk::default();
        desk.hear("xdv | boot: 12 ticks", now);
        let ((first, said), (second, _next)) = (asked("list"), asked("stats"));
        desk.ask(first);
        desk.ask(second);
        assert!(desk.due(now).is_some());
        // Each line of an answer gives it time anew.
        desk.hear("xdv | ctl: a", now + PATIENCE / 2);
        assert_eq!(desk.due(now + PATIENCE), None);
        assert!(desk.due(now + PATIENCE * 2).is_some());
        let said: Vec<_> = said.try_iter().collect();
        assert!(matches!(said.last(), Some(Said::Error(why)) if why.contains("did not answer")));
    }

    #[test]
    fn a_command_is_a_line_of_text() {
        assert_eq!(judged(" stop beta \n"), Ok("stop beta"));
        for bad in ["", "\n", "a\x1db", "a\rb", "é", &"x".repeat(LONGEST + 1)] {
            assert!(judged(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_socket_is_replaced_only_when_nobody_listens_at_it() {
        let path = std::env::temp_dir().join(format!("xdv-control-{}", std::process::id()));
        let socket = Socket::open(&path).unwrap();
        assert!(Socket::open(&path).is_err());
        let Socket { listener, .. } = &socket;
        drop(listener.try_clone().unwrap());
        drop(socket);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        // A child that another test has just forked has the listener too, until it is another program.
        let begun = Instant::now();
        let again = loop {
            match Socket::open(&path) {
                Err(_) if begun.elapsed() < Duration::from_secs(60) => thread::yield_now(),
                opened => break opened,
            }
        };
        drop(again.unwrap());
        // A file that is no socket is somebody's.
        fs::write(&path, "mine").unwrap();
        assert!(Socket::open(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        fs::remove_file(&path).unwrap();
    }
}
