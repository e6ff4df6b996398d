//! The person's side of the console: a terminal whose keys go to the machine one by one, or a pipe whose lines do.

use std::io::{self, IsTerminal, Read};
use std::thread;
use std::time::Duration;

use nix::sys::termios::{self, SetArg, Termios};

/// Opens EL2's own prompt (Ctrl-]). EL2 acts on it; here it only matters what follows.
pub const CHORD: u8 = 0x1d;
/// At once after the chord: ends the run (Ctrl-D). Ctrl-C is taken: it leaves EL2's prompt.
const END: u8 = 0x04;
/// For how long a prompt stands before the next piped line is typed at it.
const AT_PROMPT: Duration = Duration::from_millis(150);
/// For how long nothing is said before it is typed without a prompt.
const SILENT: Duration = Duration::from_secs(5);

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nowhere.
    None,
    /// A terminal.
    Terminal,
    /// A pipe or a file.
    Pipe,
}

impl Input {
    /// What standard input is good for. A terminal is one to talk to only if the answers are seen on it as well.
    pub fn of_this_process(headless: bool) -> Self {
        match (io::stdin().is_terminal(), io::stdout().is_terminal()) {
            _ if headless => Self::None,
            (true, true) => Self::Terminal,
            (true, false) => Self::None,
            (false, _) => Self::Pipe,
        }
    }

    /// Reads standard input in a thread until it ends; the thread stays blocked when the run ends first.
    pub fn read(self, send: impl Fn(Vec<u8>) -> bool + Send + 'static) {
        if self == Self::None {
            return;
        }
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
                if !send(buffer.get(..count).unwrap_or_default().to_vec()) {
                    return;
                }
            }
        });
    }
}

/// A terminal that hands on each key at once, Ctrl-C among them, and shows none by itself. Put back when dropped.
pub struct Raw(Termios);

impl Raw {
    /// Sets standard input's terminal raw. What is written keeps its line ends.
    pub fn enter() -> Option<Self> {
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        raw.output_flags = before.output_flags;
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// What is done with keys.
#[derive(Debug)]
pub struct Keys {
    input: Input,
    after_chord: bool,
    /// Piped lines that were not typed yet.
    waiting: Vec<u8>,
    /// A line was typed, and no line has ended since: what stands there is its echo, and no prompt.
    echoing: bool,
}

impl Keys {
    /// Nothing was typed yet.
    pub const fn from(input: Input) -> Self {
        Self {
            input,
            after_chord: false,
            waiting: Vec::new(),
            echoing: false,
        }
    }

    /// Takes what was typed or piped. `None`: the person ends the run; else what goes to the machine at once.
    pub fn take(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.input == Input::Pipe {
            self.waiting.extend(bytes);
            return Some(Vec::new());
        }
        for byte in &bytes {
            if *byte == END && self.after_chord {
                return None;
            }
            self.after_chord = *byte == CHORD;
        }
        Some(bytes)
    }

    /// A line of the console has ended.
    pub const fn line_ended(&mut self) {
        self.echoing = false;
    }

    /// The next piped line, when the console has been quiet for so long. A guest that is still starting would lose it,
    /// so it waits for a prompt: a line that somebody has begun and not ended.
    pub fn due(&mut self, quiet: Duration, at_prompt: bool) -> Option<Vec<u8>> {
        let at_prompt = at_prompt && !self.echoing;
        if self.waiting.is_empty() || quiet < if at_prompt { AT_PROMPT } else { SILENT } {
            return None;
        }
        self.echoing = true;
        let end = self.waiting.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(self.waiting.len(), |at| at.saturating_add(1));
        let mut line: Vec<u8> = self.waiting.drain(..length).collect();
        // The key that ends a line.
        if let Some(last) = line.last_mut().filter(|last| **last == b'\n') {
            *last = b'\r';
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_through_as_they_are() {
        let mut keys = Keys::from(Input::Terminal);
        for typed in [&b"ls\r"[..], b"\x03", b"\x1d", b"list\r", b"\x1b[A"] {
            assert_eq!(keys.take(typed.to_vec()).as_deref(), Some(typed));
        }
        assert_eq!(keys.due(Duration::from_secs(60), true), None);
    }

    #[test]
    fn the_chord_and_control_d_end_the_run() {
        let mut keys = Keys::from(Input::Terminal);
        assert!(keys.take(b"\x1d\x04".to_vec()).is_none());
        let mut keys = Keys::from(Input::Terminal);
        assert!(keys.take(b"\x1d".to_vec()).is_some());
        assert!(keys.take(b"\x04".to_vec()).is_none());
        let mut keys = Keys::from(Input::Terminal);
        assert!(keys.take(b"\x1dl\x04\x1d\x03\x04".to_vec()).is_some());
    }

    #[test]
    fn piped_lines_wait_for_a_prompt_or_for_silence() {
        let mut keys = Keys::from(Input::Pipe);
        assert_eq!(keys.take(b"uname\npower".to_vec()), Some(Vec::new()));
        assert_eq!(keys.due(AT_PROMPT, false), None);
        assert_eq!(keys.due(Duration::ZERO, true), None);
        assert_eq!(keys.due(AT_PROMPT, true).as_deref(), Some(&b"uname\r"[..]));
        keys.take(b"off\nid\n".to_vec());
        // The echo of what was typed is no prompt.
        assert_eq!(keys.due(AT_PROMPT, true), None);
        assert_eq!(keys.due(SILENT, false).as_deref(), Some(&b"poweroff\r"[..]));
        assert_eq!(keys.due(AT_PROMPT, true), None);
        keys.line_ended();
        assert_eq!(keys.due(AT_PROMPT, true).as_deref(), Some(&b"id\r"[..]));
        assert_eq!(keys.due(SILENT, true), None);
    }
}
