//! One run from QEMU's start to its end: console bytes, keys and commands come in, and everything is decided here, in
//! one thread.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::console::Lines;
use super::control::{Asked, Desk, Socket};
use super::keys::{Input, Keys};
use super::launch::Ending;

/// How long QEMU may take to go after EL2 has said its last word.
const LAST_WORD: Duration = Duration::from_secs(10);
/// How often a silent run looks at the clock and at Ctrl-C.
const TICK: Duration = Duration::from_millis(100);
/// For how long a line must stand still to count as one that waits, such as a prompt.
const STILL: Duration = Duration::from_millis(8);

/// Time as this program sees it go by. When it looks after longer than this, the host stood still, or had no time for us or
/// the machine: nobody was silent for that long, and nobody is late.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// A clock that counts only the time that is watched.
#[derive(Debug)]
struct Clock {
    looked: Instant,
    now: Instant,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self { looked: now, now }
    }

    fn look(&mut self) -> Instant {
        self.look_at(Instant::now())
    }

    fn look_at(&mut self, real: Instant) -> Instant {
        let passed = real.duration_since(self.looked).min(LONGEST_LOOK);
        self.looked = real;
        self.now = self.now.checked_add(passed).unwrap_or(self.now);
        self.now
    }
}

/// Set by Ctrl-C where no terminal hands it on as a key, and by SIGTERM and SIGHUP.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Who looks at the console.
pub trait Viewer {
    /// A whole line; says whether EL2 has said its last word.
    fn line(&mut self, line: &str) -> bool;
    /// A line that goes on, as far as it is there.
    fn unfinished(&mut self, line: &str);
}

/// What happens.
enum Event {
    Console(Vec<u8>),
    ConsoleEnded,
    Typed(Vec<u8>),
    Asked(Asked),
}

/// A run that goes on.
pub struct Session<'v> {
    viewer: &'v mut dyn Viewer,
    events: Receiver<Event>,
    serial: Sender<Vec<u8>>,
    lines: Lines,
    keys: Keys,
    desk: Desk,
    clock: Clock,
    /// When the console last said something, and whether its unfinished line was shown since.
    heard: Instant,
    settled: bool,
    /// Since when EL2 has nothing more to say.
    over: Option<Instant>,
}

impl<'v> Session<'v> {
    /// Connects everything to a QEMU that was just started.
    pub fn new(
        child: &mut Child,
        viewer: &'v mut dyn Viewer,
        input: Input,
        sockets: &[Socket],
    ) -> anyhow::Result<Self> {
        // A second run in one process finds the handler in place; that is fine.
        let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
        let output = child.stdout.take();
        let output = output.context("QEMU's console is not connected")?;
        let serial = child.stdin.take();
        let serial = serial.context("QEMU's serial line is not connected")?;
        let (sender, events) = mpsc::channel();
        listen(output, sender.clone());
        let typed = sender.clone();
        input.read(move |bytes| typed.send(Event::Typed(bytes)).is_ok());
        for socket in sockets {
            let asked = sender.clone();
            socket.serve(move |one| asked.send(Event::Asked(one)).is_ok())?;
        }
        let clock = Clock::start();
        Ok(Self {
            viewer,
            events,
            serial: speak(serial),
            lines: Lines::default(),
            keys: Keys::from(input),
            desk: Desk::default(),
            heard: clock.now,
            clock,
            settled: true,
            over: None,
        })
    }

    /// Follows the run to its end.
    pub fn follow(mut self, child: &mut Child, limit: Option<Duration>) -> anyhow::Result<Ending> {
        let started = self.clock.look();
        loop {
            let wait = if self.settled { TICK } else { STILL };
            match self.events.recv_timeout(wait) {
                Ok(Event::Console(bytes)) => self.console(&bytes),
                Ok(Event::Typed(bytes)) => match self.keys.take(bytes) {
                    Some(bytes) => self.type_in(bytes),
                    None => return Ok(Ending::Interrupted),
                },
                Ok(Event::Asked(asked)) => self.desk.ask(asked),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::ConsoleEnded) | Err(RecvTimeoutError::Disconnected) => {
                    return self.ended(child);
                }
            }
            self.look_at_the_clock();
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Ok(Ending::Interrupted);
            }
            let now = self.clock.look();
            if self
                .over
                .is_some_and(|since| now.duration_since(since) > LAST_WORD)
            {
                return Ok(Ending::AfterTheEnd);
            }
            if limit.is_some_and(|limit| now.duration_since(started) > limit) {
                return Ok(Ending::TimedOut);
            }
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        self.heard = self.clock.look();
        self.settled = false;
        let (viewer, desk, keys) = (&mut self.viewer, &mut self.desk, &mut self.keys);
        let (over, now) = (&mut self.over, self.heard);
        self.lines.take(bytes, |line| {
            desk.hear(&line, now);
            keys.line_ended();
            if viewer.line(&line) {
                over.get_or_insert(now);
            }
        });
    }

    fn look_at_the_clock(&mut self) {
        let now = self.clock.look();
        let quiet = now.duration_since(self.heard);
        let unfinished = self.lines.unfinished();
        if !self.settled && quiet >= STILL {
            self.settled = true;
            if let Some(line) = &unfinished {
                self.viewer.unfinished(line);
            }
        }
        if let Some(line) = self.keys.due(quiet, unfinished.is_some()) {
            // One line at a time: the next waits for what this one brings about.
            self.heard = now;
            self.type_in(line);
        }
        if let Some(command) = self.desk.due(now) {
            self.type_in(command);
        }
    }

    fn type_in(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let _ = self.serial.send(bytes);
        }
    }

    fn ended(mut self, child: &mut Child) -> anyhow::Result<Ending> {
        if let Some(rest) = self.lines.rest() {
            self.viewer.line(&rest);
        }
        let status = child.wait()?;
        Ok(if INTERRUPTED.load(Ordering::Relaxed) {
            Ending::Interrupted
        } else if status.success() {
            Ending::ByItself
        } else {
            Ending::Failed(String::new())
        })
    }
}

fn listen(mut output: ChildStdout, events: Sender<Event>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 8192];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let chunk = buffer.get(..count).unwrap_or_default().to_vec();
            if events.send(Event::Console(chunk)).is_err() {
                return;
            }
        }
        let _ = events.send(Event::ConsoleEnded);
    });
}

/// The machine takes bytes as fast as somebody in it reads them. A thread of its own waits for that.
fn speak(mut serial: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, bytes) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in bytes {
            if serial
                .write_all(&bytes)
                .and_then(|()| serial.flush())
                .is_err()
            {
                return;
            }
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_stands_still_makes_nobody_late() {
        let mut clock = Clock::start();
        let begun = clock.now;
        let mut real = clock.looked;
        for step in [100, 10_000, 8, 100] {
            real += Duration::from_millis(step);
            clock.look_at(real);
        }
        let seen = clock.now.duration_since(begun);
        assert_eq!(seen, LONGEST_LOOK + Duration::from_millis(208));
    }
}
