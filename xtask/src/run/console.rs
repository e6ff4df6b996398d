//! The console: bytes to lines, and lines to colours.

use crate::say;

/// Longer lines are broken: a guest that never ends its line must not fill our memory.
const LONGEST: usize = 16 * 1024;

/// What EL2's prompt begins with (docs/console.md).
const PROMPT: &[u8] = b"xdv | > ";
/// EL2 sends it, a space and it again to take a character off its prompt. Of a guest no such byte ever comes.
const BACKSPACE: u8 = 0x08;

/// Collects bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands on each line they complete.
    pub fn take(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for &byte in bytes {
            if byte == b'\n' || self.partial.len() >= LONGEST {
                if let Some(text) = self.rest() {
                    line(text);
                } else if byte == b'\n' {
                    line(String::new());
                }
            }
            if byte == BACKSPACE && self.partial.starts_with(PROMPT) {
                let length = self.partial.len().saturating_sub(1);
                self.partial.truncate(length.max(PROMPT.len()));
            } else if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// What came after the last end of line.
    pub fn rest(&mut self) -> Option<String> {
        if self.partial.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.partial);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        Some(visible(&String::from_utf8_lossy(bytes)))
    }

    /// The line that is still going on, as far as it can be told: a prompt, mostly. What may yet turn out to be part
    /// of a character or of the line's end is left out.
    pub fn unfinished(&self) -> Option<String> {
        let bytes = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let torn = match std::str::from_utf8(bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => bytes.len(),
        };
        let whole = bytes.get(..torn).unwrap_or_default();
        (!whole.is_empty()).then(|| visible(&String::from_utf8_lossy(whole)))
    }
}

/// EL2 shows a guest's control bytes as `\xNN` already; what slips through must not reach the terminal either.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Gives each guest's name a colour that stays the same for the whole run.
#[derive(Debug)]
pub struct Painter {
    colours: bool,
    names: Vec<String>,
}

/// Colours that read well on dark and on light; EL2's own (bold white) is not among them.
const PALETTE: [&str; 8] = ["36", "33", "35", "32", "34", "31", "96", "93"];

impl Painter {
    /// With colours or without.
    pub fn new(colours: bool) -> Self {
        Self {
            colours,
            names: Vec::new(),
        }
    }

    /// The line as it is shown.
    pub fn paint(&mut self, line: &str) -> String {
        if !self.colours {
            return line.to_owned();
        }
        let Some((name, text)) = line.split_once(" | ") else {
            return line.to_owned();
        };
        if name == "xdv" {
            return format!("{} | {text}", say::paint(name, "1", true));
        }
        let index = self
            .names
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| {
                self.names.push(name.to_owned());
                self.names.len() - 1
            });
        let colour = PALETTE.get(index % PALETTE.len()).copied().unwrap_or("0");
        format!("{} | {text}", say::paint(name, colour, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = Lines::default();
        let mut all = Vec::new();
        for chunk in chunks {
            reader.take(chunk, |line| all.push(line));
        }
        all.extend(reader.rest());
        all
    }

    #[test]
    fn lines_may_come_in_pieces_and_without_an_end() {
        assert_eq!(
            lines(&[b"al", b"pha | a\r\nbe", b"ta | b\n", b"\nlast"]),
            ["alpha | a", "beta | b", "", "last"]
        );
    }

    #[test]
    fn an_unfinished_line_is_seen_without_being_taken() {
        let mut reader = Lines::default();
        let mut unfinished = |bytes: &[u8]| {
            reader.take(bytes, |_| ());
            reader.unfinished()
        };
        assert_eq!(unfinished(b"a | done\r\n"), None);
        assert_eq!(unfinished(b"a | / # l").as_deref(), Some("a | / # l"));
        // Half a character, and what may be half an end of line.
        assert_eq!(unfinished(b"\xc3").as_deref(), Some("a | / # l"));
        assert_eq!(unfinished(b"\xa4").as_deref(), Some("a | / # l\u{e4}"));
        assert_eq!(unfinished(b"\r").as_deref(), Some("a | / # l\u{e4}"));
        assert_eq!(unfinished(b"\n"), None);
    }

    #[test]
    fn what_is_corrected_at_the_hypervisor_s_prompt_is_gone() {
        assert_eq!(
            lines(&[
                b"xdv | > lisr\x08 \x08t\n",
                b"xdv | > a\x08 \x08\x08 \x08\n"
            ]),
            ["xdv | > list", "xdv | > "]
        );
        assert_eq!(lines(&[b"a | > b\x08 \x08\n"]), ["a | > b\\u{8} \\u{8}"]);
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        assert_eq!(lines(&[b"\xff\x1b[2J\n"]), ["\u{fffd}\\u{1b}[2J"]);
    }

    #[test]
    fn an_endless_line_is_broken() {
        let all = lines(&[&vec![b'a'; LONGEST * 2 + 5]]);
        assert_eq!(
            all.iter().map(String::len).collect::<Vec<_>>(),
            [LONGEST, LONGEST, 5]
        );
    }

    #[test]
    fn colours_are_stable_and_only_on_request() {
        let mut plain = Painter::new(false);
        assert_eq!(plain.paint("alpha | x"), "alpha | x");
        let mut painter = Painter::new(true);
        let first = painter.paint("alpha | x");
        painter.paint("beta | x");
        assert_eq!(painter.paint("alpha | x"), first);
        assert_ne!(painter.paint("beta | x"), first.replace("alpha", "beta"));
        assert!(first.starts_with("\x1b[36malpha"));
    }
}
