//! What a run shows to a person, writes to a log and remembers for its end.

use std::fs::File;
use std::io::{StdoutLock, Write};
use std::time::{Duration, Instant};

use super::backtrace::Symbols;
use super::outcome::Outcome;
use super::places::Places;
use super::screen::Screen;
use super::session::Viewer;
use crate::debian::ramdisk::USER_SPACE;

/// What addresses are called.
pub struct Names {
    /// EL2's own.
    pub el2: Symbols,
    /// The guests'.
    pub guests: Places,
}

/// The viewer of `cargo xtask run`.
pub struct Show<'s> {
    /// How it stands.
    pub outcome: Outcome,
    /// Guests that reached user space, and when.
    pub arrived: Vec<(String, Instant)>,
    screen: Screen<StdoutLock<'s>>,
    /// Whether lines are shown before they are whole.
    at_once: bool,
    names: Names,
    log: Option<File>,
}

impl<'s> Show<'s> {
    /// Nothing was shown yet.
    pub fn new(
        outcome: Outcome,
        screen: Screen<StdoutLock<'s>>,
        at_once: bool,
        names: Names,
        log: Option<File>,
    ) -> Self {
        Self {
            outcome,
            arrived: Vec::new(),
            screen,
            at_once,
            names,
            log,
        }
    }

    /// The run is over.
    pub fn end(&mut self) {
        self.screen.end();
    }

    fn show(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{line}");
        }
        self.screen.line(line);
    }
}

impl Viewer for Show<'_> {
    fn line(&mut self, line: &str) -> bool {
        for line in self.names.guests.explain(line) {
            self.show(&line);
        }
        for frame in self.names.el2.explain(line) {
            self.show(&frame);
        }
        if let Some((name, said)) = line.split_once(" | ")
            && said.starts_with(USER_SPACE)
            && self.arrived.iter().all(|(known, _)| known != name)
        {
            self.arrived.push((name.to_owned(), Instant::now()));
        }
        self.outcome.take(line);
        self.outcome.is_over()
    }

    fn unfinished(&mut self, line: &str) {
        if self.at_once {
            self.screen.unfinished(line);
        }
    }
}

/// Seconds with one decimal, of each guest's way to its user space.
pub fn arrivals(arrived: &[(String, Instant)], command: Instant, machine: Instant) -> Vec<String> {
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    arrived
        .iter()
        .map(|(name, at)| {
            format!(
                "{name} reached user space {} after the command, {} after the machine's start",
                seconds(at.duration_since(command)),
                seconds(at.duration_since(machine))
            )
        })
        .collect()
}
