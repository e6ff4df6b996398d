//! EL2's own prompt: which of the typed bytes are for the guest and which are a command, and what a command says.
//!
//! The keyboard belongs to the attached guest until the chord, Ctrl-], is typed. What follows is a command, up to the
//! end of its line; scripts send the same bytes. The chord always begins a command anew, so that a script's is never
//! taken for the rest of what a person has left standing. Every byte has an answer in every state.

#[cfg(feature = "balloon")]
mod balloon;

use core::fmt;
use core::str::SplitAsciiWhitespace;

use crate::lifecycle::Command;

/// Opens the prompt: Ctrl-].
pub const CHORD: u8 = 0x1d;
/// The longest command. What is typed beyond it is not taken.
pub const LINE_MAX: usize = 80;

const END_OF_TEXT: u8 = 0x03;
const END_OF_INPUT: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
const KILL_LINE: u8 = 0x15;
const ESCAPE: u8 = 0x1b;

/// What is to be done about a byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard<'a> {
    /// It is for the attached guest.
    Guest(u8),
    /// The prompt stands open with this text: show it.
    Prompt(&'a str),
    /// So many characters were taken off its end: show what is left.
    Erased(&'a str, usize),
    /// The prompt is closed without a command.
    Closed,
    /// The prompt is closed, and this is the command.
    Command(&'a str),
    /// Nothing.
    Nothing,
}

/// Who the next byte is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Mode {
    /// The guest.
    #[default]
    Guest,
    /// The guest; but a line feed would be the rest of the command's end.
    AfterReturn,
    /// Escape has closed the prompt: if it was the first byte of a key's sequence, the others come now.
    AfterEscape,
    /// A key's sequence goes on.
    Sequence,
    /// The prompt. It was opened by two chords in a row, or not.
    Prompt { twice: bool },
}

/// Tells the guest's bytes and the commands apart.
#[derive(Clone, Debug)]
pub struct Prompt {
    mode: Mode,
    /// Printable ASCII.
    text: [u8; LINE_MAX],
    length: usize,
}

impl Default for Prompt {
    fn default() -> Self {
        Self::new()
    }
}

impl Prompt {
    /// Closed.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: Mode::Guest,
            text: [0; LINE_MAX],
            length: 0,
        }
    }

    /// Takes the next byte that was typed.
    pub fn hear(&mut self, byte: u8) -> Heard<'_> {
        let mode = self.mode;
        if byte == CHORD {
            let twice = matches!(mode, Mode::Prompt { .. }) && self.length == 0;
            self.mode = Mode::Prompt { twice };
            let typed = core::mem::take(&mut self.length);
            return match mode {
                Mode::Prompt { .. } => Heard::Erased("", typed),
                Mode::Guest | Mode::AfterReturn | Mode::AfterEscape | Mode::Sequence => {
                    Heard::Prompt("")
                }
            };
        }
        match (mode, byte) {
            (Mode::Prompt { twice }, _) => self.command(byte, twice),
            (Mode::AfterReturn, b'\n') => {
                self.mode = Mode::Guest;
                Heard::Nothing
            }
            // CSI and SS3 (ECMA-48 5.4 and 8.3.143): how terminals send arrows and function keys.
            (Mode::AfterEscape, b'[' | b'O') => {
                self.mode = Mode::Sequence;
                Heard::Nothing
            }
            (Mode::Sequence, 0x20..=0x3f) => Heard::Nothing,
            (Mode::Sequence, 0x40..=0x7e) => {
                self.mode = Mode::Guest;
                Heard::Nothing
            }
            (Mode::Guest | Mode::AfterReturn | Mode::AfterEscape | Mode::Sequence, _) => {
                self.mode = Mode::Guest;
                Heard::Guest(byte)
            }
        }
    }

    fn command(&mut self, byte: u8, twice: bool) -> Heard<'_> {
        match byte {
            b'\r' | b'\n' => {
                self.mode = if byte == b'\r' {
                    Mode::AfterReturn
                } else {
                    Mode::Guest
                };
                match (self.length, twice) {
                    (0, true) => Heard::Guest(CHORD),
                    (0, false) => Heard::Closed,
                    _ => Heard::Command(self.take()),
                }
            }
            END_OF_TEXT | END_OF_INPUT => self.close(Mode::Guest),
            ESCAPE => self.close(Mode::AfterEscape),
            KILL_LINE => {
                let typed = core::mem::take(&mut self.length);
                Heard::Erased("", typed)
            }
            BACKSPACE | DELETE if self.length != 0 => {
                self.length = self.length.saturating_sub(1);
                Heard::Erased(self.text(), 1)
            }
            0x20..=0x7e => match self.text.get_mut(self.length) {
                Some(place) => {
                    *place = byte;
                    self.length = self.length.saturating_add(1);
                    Heard::Prompt(self.text())
                }
                None => Heard::Nothing,
            },
            _ => Heard::Nothing,
        }
    }

    fn close(&mut self, mode: Mode) -> Heard<'_> {
        self.mode = mode;
        self.length = 0;
        Heard::Closed
    }

    /// The text; the next one begins anew.
    fn take(&mut self) -> &str {
        let length = core::mem::take(&mut self.length);
        self.typed(length)
    }

    fn text(&self) -> &str {
        self.typed(self.length)
    }

    #[inline(never)]
    fn typed(&self, length: usize) -> &str {
        let typed = self.text.get(..length).unwrap_or_default();
        // Only ASCII was taken.
        core::str::from_utf8(typed).unwrap_or_default()
    }
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request<'a> {
    /// What there is to want.
    Help,
    /// All guests and how they are.
    List,
    /// What is typed goes to this guest.
    Attach(&'a str),
    /// Something becomes of this guest.
    Life(Command, &'a str),
    /// What the lanes of this guest, or of all, have been doing.
    Stats(Option<&'a str>),
    /// So many bytes are asked of this guest's balloon, or how it is.
    #[cfg(feature = "balloon")]
    Balloon(&'a str, Option<u64>),
}

/// What [`Request::Help`] says, a line each.
pub const HELP: &[&str] = &[
    "list                 every guest: its state, lanes, memory, restarts",
    "attach NAME          what is typed goes to this guest",
    "stop NAME            switch it off",
    "start NAME           switch it on, from the beginning",
    "restart NAME         begin anew, whatever it is doing",
    "pause NAME           no further for now",
    "resume NAME          go on after a pause",
    "stats [NAME]         exits by reason and time by lane; devices",
    #[cfg(feature = "balloon")]
    "balloon NAME [SIZE]  ask it for memory (64M, 1G; 0: none), or show what it has given, and what it says of the rest",
    "help                 this",
    "A word may be cut short. Ctrl-C leaves the prompt; Ctrl-] Ctrl-] Enter types Ctrl-] at the guest.",
];

/// The words a command begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Help,
    List,
    Attach,
    Stats,
    #[cfg(feature = "balloon")]
    Balloon,
    Life(Command),
}

const VERBS: &[&str] = &[
    "list",
    "attach",
    "stop",
    "start",
    "restart",
    "pause",
    "resume",
    "stats",
    #[cfg(feature = "balloon")]
    "balloon",
    "help",
];

/// What they stand for, in the same order.
const MEANINGS: [Verb; VERBS.len()] = [
    Verb::List,
    Verb::Attach,
    Verb::Life(Command::Stop),
    Verb::Life(Command::Start),
    Verb::Life(Command::Restart),
    Verb::Life(Command::Pause),
    Verb::Life(Command::Resume),
    Verb::Stats,
    #[cfg(feature = "balloon")]
    Verb::Balloon,
    Verb::Help,
];

/// Why a command is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Complaint<'a> {
    /// There is nothing.
    Empty,
    /// No command is called that.
    NoCommand(&'a str),
    /// Several begin like that.
    Ambiguous(&'a str),
    /// It needs a guest's name.
    WhichGuest(&'static str),
    /// There is more than it takes.
    TooMuch(&'static str, &'a str),
    /// This is no size.
    #[cfg(feature = "balloon")]
    NoSize(&'a str),
}

/// What a command says.
///
/// # Errors
/// It is none; the complaint says why.
pub fn parse(text: &str) -> Result<Request<'_>, Complaint<'_>> {
    let mut words = text.split_ascii_whitespace();
    let word = next(&mut words).ok_or(Complaint::Empty)?;
    let (name, verb) = verb(word)?;
    let guest = next(&mut words);
    let request = match (verb, guest) {
        (Verb::Help, _) => Request::Help,
        (Verb::List, _) => Request::List,
        (Verb::Stats, guest) => Request::Stats(guest),
        (Verb::Attach, Some(guest)) => Request::Attach(guest),
        (Verb::Life(command), Some(guest)) => Request::Life(command, guest),
        #[cfg(feature = "balloon")]
        (Verb::Balloon, Some(guest)) => Request::Balloon(guest, balloon::size(next(&mut words))?),
        #[cfg(feature = "balloon")]
        (Verb::Balloon, None) => return Err(Complaint::WhichGuest(name)),
        (Verb::Attach | Verb::Life(_), None) => return Err(Complaint::WhichGuest(name)),
    };
    let rest = match request {
        Request::Help | Request::List => guest,
        Request::Attach(_) | Request::Life(..) | Request::Stats(_) => next(&mut words),
        #[cfg(feature = "balloon")]
        Request::Balloon(..) => next(&mut words),
    };
    rest.map_or(Ok(request), |rest| Err(Complaint::TooMuch(name, rest)))
}

/// The next word: here only once, as it is long.
#[inline(never)]
fn next<'a>(words: &mut SplitAsciiWhitespace<'a>) -> Option<&'a str> {
    words.next()
}

/// The verb that is called this, or the only one that begins like this.
fn verb(word: &str) -> Result<(&'static str, Verb), Complaint<'_>> {
    let (mut found, mut several) = (None, false);
    for (name, verb) in VERBS.iter().zip(&MEANINGS) {
        if *name == word {
            return Ok((name, *verb));
        }
        if name.starts_with(word) {
            several |= found.replace((*name, *verb)).is_some();
        }
    }
    match found {
        Some(only) if !several => Ok(only),
        Some(_) => Err(Complaint::Ambiguous(word)),
        None => Err(Complaint::NoCommand(word)),
    }
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no command (help says which there are)"),
            Self::NoCommand(word) => {
                write!(f, "no command `{word}`; there are: ")?;
                list(f, VERBS, "")
            }
            Self::Ambiguous(word) => {
                write!(f, "`{word}` could be: ")?;
                list(f, VERBS, word)
            }
            Self::WhichGuest(verb) => write!(f, "{verb}: which guest?"),
            Self::TooMuch(verb, rest) => write!(f, "{verb}: `{rest}` is too much"),
            #[cfg(feature = "balloon")]
            Self::NoSize(word) => write!(
                f,
                "balloon: `{word}` is no size; write it as 64M, 1G or 512K, in whole pages of 4K, or 0"
            ),
        }
    }
}

/// No guest has this name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoGuest<'a> {
    /// The name.
    pub name: &'a str,
    /// The names there are.
    pub names: &'a [&'a str],
}

/// The number of the guest with this name.
///
/// # Errors
/// There is none.
pub fn guest<'a>(name: &'a str, names: &'a [&'a str]) -> Result<usize, NoGuest<'a>> {
    let number = names.iter().position(|one| *one == name);
    number.ok_or(NoGuest { name, names })
}

impl fmt::Display for NoGuest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "no guest `{}`; there are: ", self.name)?;
        list(f, self.names, "")
    }
}

/// Those of `words` that begin with `start`.
#[inline(never)]
fn list(f: &mut fmt::Formatter, words: &[&str], start: &str) -> fmt::Result {
    let mut comma = "";
    for word in words {
        if word.starts_with(start) {
            f.write_str(comma)?;
            f.write_str(word)?;
            comma = ", ";
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
