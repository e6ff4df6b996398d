//! What the command line asks of the built-in program.
//!
//! The endings other than a clean exit exist so that tests can watch XDV deal with a guest that
//! goes wrong while another runs on.

use crate::tick::Limit;
use crate::virtio::Kinds;
use core::fmt;

/// How much the self-check does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Nothing: straight to the ending.
    None,
    /// A line of memory per page, few rounds.
    Quick,
    /// Every word of free memory, all rounds.
    Full,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// By the exit call, with this code if the self-check passed.
    Exit(u32),
    /// By a panic.
    Panic,
    /// Never: every exception enters a vector that faults at once.
    LoopOnVector,
    /// Never: a tight loop with every interrupt masked.
    LoopMasked,
    /// By a fault of its own making.
    Fault(Fault),
}

/// A fault the kernel can be told to commit; each is stopped by its own protection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// An undefined instruction.
    Undefined,
    /// A store into its own code.
    TextWrite,
    /// A jump into its own data.
    DataExecute,
    /// A load from address zero, where nothing is mapped.
    Unmapped,
    /// Recursion into the guard page below the stack.
    StackOverflow,
}

/// The command line, understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options<'a> {
    /// `selfcheck=none|quick|full`
    pub level: Level,
    /// `exit=CODE`, `panic`, `loop=vector|masked`, `fault=undefined|text|exec|unmapped|stack`
    pub ending: Ending,
    /// `delay_ms=N`: how long memory rests between writing the last pattern and reading it back,
    /// so that others have time to disturb it; without a self-check, how long before the ending.
    pub delay_ms: u32,
    /// `late_us=N`: how late a timer interrupt may be, each of them. The default is generous, for an emulator on
    /// a busy machine; under icount a few microseconds are enough.
    pub late: Limit,
    /// `virtio=blk,net,console,rng,vsock`: the virtio devices that are checked, after the self-check. Every disk's first
    /// and last sectors are overwritten.
    pub virtio: Kinds,
    /// `rounds=N`: how much each of them has to do.
    pub rounds: u32,
    /// `peer=CID`: the guest that the socket device connects to; else it waits for somebody to connect.
    pub peer: Option<u32>,
    /// `type`: the console waits for a line, and says it back.
    pub types: bool,
    /// `beyond`: disks are also asked for what they must refuse: sectors behind the last, and writes where there are none.
    pub beyond: bool,
    /// `unchecked`: features are not looked at again once they were accepted, as `virtio-drivers` does it by itself.
    pub unchecked: bool,
    /// The first word that means nothing here, for a remark.
    pub unknown: Option<&'a str>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            level: Level::Full,
            ending: Ending::Exit(0),
            delay_ms: 0,
            late: Limit {
                late_us: 2_000_000,
                tries: 4,
            },
            virtio: Kinds::default(),
            rounds: 500,
            peer: None,
            types: false,
            beyond: false,
            unchecked: false,
            unknown: None,
        }
    }
}

/// A word with a known name and a value that is not one of its values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadOption<'a> {
    /// The word.
    pub word: &'a str,
    /// What it should look like.
    pub wanted: &'static str,
}

impl fmt::Display for BadOption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command line: '{}' should be {}", self.word, self.wanted)
    }
}

impl<'a> Options<'a> {
    /// Reads a command line. A word given twice counts the second time, as in Linux.
    ///
    /// # Errors
    /// The first word whose value is not understood. Unknown words are no error: boot loaders add
    /// their own.
    pub fn parse(line: &'a str) -> Result<Self, BadOption<'a>> {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            options.take(word)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &'a str) -> Result<(), BadOption<'a>> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let bad = |wanted| BadOption { word, wanted };
        let number = |wanted| value.parse::<u32>().map_err(|_| bad(wanted));
        match (name, value) {
            ("selfcheck", "none") => self.level = Level::None,
            ("selfcheck", "quick") => self.level = Level::Quick,
            ("selfcheck", "full") => self.level = Level::Full,
            ("selfcheck", _) => return Err(bad("selfcheck=none, quick or full")),
            ("panic", "") => self.ending = Ending::Panic,
            ("loop", "vector") => self.ending = Ending::LoopOnVector,
            ("loop", "masked") => self.ending = Ending::LoopMasked,
            ("loop", _) => return Err(bad("loop=vector or loop=masked")),
            ("fault", _) => self.ending = Ending::Fault(fault(value).ok_or(bad(FAULTS))?),
            ("exit", _) => self.ending = Ending::Exit(number("exit=CODE")?),
            ("delay_ms", _) => self.delay_ms = number("delay_ms=MILLISECONDS")?,
            ("late_us", _) => {
                let late_us = number("late_us=MICROSECONDS")?;
                self.late = Limit { late_us, tries: 1 };
            }
            ("virtio", _) => self.virtio = Kinds::parse(value).ok_or(bad(VIRTIO))?,
            ("rounds", _) => self.rounds = number("rounds=NUMBER")?,
            ("peer", _) => self.peer = Some(number("peer=CID")?),
            ("type", "") => self.types = true,
            ("beyond", "") => self.beyond = true,
            ("unchecked", "") => self.unchecked = true,
            (_, _) => self.unknown = self.unknown.or(Some(word)),
        }
        Ok(())
    }
}

const VIRTIO: &str = "virtio= and any of blk, net, console, rng, vsock, with commas between them";
const FAULTS: &str = "fault=undefined, text, exec, unmapped or stack";

fn fault(value: &str) -> Option<Fault> {
    match value {
        "undefined" => Some(Fault::Undefined),
        "text" => Some(Fault::TextWrite),
        "exec" => Some(Fault::DataExecute),
        "unmapped" => Some(Fault::Unmapped),
        "stack" => Some(Fault::StackOverflow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::Kind;

    #[test]
    fn nothing_asked_means_everything_checked() {
        let options = Options::parse("  \t ").unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(
            (options.level, options.ending),
            (Level::Full, Ending::Exit(0))
        );
    }

    #[test]
    fn every_word_is_understood() {
        for (line, ending) in [
            ("exit=7", Ending::Exit(7)),
            ("panic", Ending::Panic),
            ("loop=vector", Ending::LoopOnVector),
            ("loop=masked", Ending::LoopMasked),
            ("fault=undefined", Ending::Fault(Fault::Undefined)),
            ("fault=text", Ending::Fault(Fault::TextWrite)),
            ("fault=exec", Ending::Fault(Fault::DataExecute)),
            ("fault=unmapped", Ending::Fault(Fault::Unmapped)),
            ("panic fault=stack", Ending::Fault(Fault::StackOverflow)),
        ] {
            assert_eq!(Options::parse(line).unwrap().ending, ending, "{line}");
        }
        for (word, level) in [
            ("none", Level::None),
            ("quick", Level::Quick),
            ("full", Level::Full),
        ] {
            let line = format!("selfcheck={word} delay_ms=30 late_us=4");
            let options = Options::parse(&line).unwrap();
            assert_eq!(
                (options.level, options.delay_ms, options.late),
                (
                    level,
                    30,
                    Limit {
                        late_us: 4,
                        tries: 1
                    }
                )
            );
        }
    }

    #[test]
    fn virtio_devices_are_a_list() {
        let options =
            Options::parse("virtio=rng,blk rounds=7 peer=4 type beyond unchecked").unwrap();
        assert!(options.virtio.iter().map(Kind::name).eq(["blk", "rng"]));
        assert_eq!(
            (options.rounds, options.peer, options.types),
            (7, Some(4), true)
        );
        assert!(options.beyond && options.unchecked);
        assert!(Options::default().virtio.is_empty());
    }

    #[test]
    fn foreign_words_are_noticed_not_refused() {
        let options = Options::parse("console=ttyAMA0 exit=1 panic=5 quiet").unwrap();
        assert_eq!(options.unknown, Some("console=ttyAMA0"));
        assert_eq!(options.ending, Ending::Exit(1));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_wanted() {
        for line in [
            "selfcheck=fast",
            "loop",
            "fault=",
            "exit=x",
            "exit=-1",
            "exit=4294967296",
            "delay_ms=",
            "late_us=1e3",
            "virtio=disk",
            "rounds=",
        ] {
            let bad = Options::parse(line).unwrap_err();
            assert_eq!(bad.word, line);
            assert!(bad.to_string().contains(bad.wanted));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_upsets_the_parser(line in "\\PC*") {
            let _ = Options::parse(&line);
        }
    }
}
