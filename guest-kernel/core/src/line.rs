//! One line of console text, built without a heap.
//!
//! The console takes whole lines, so that lines of several CPUs never mix. A line that is too long
//! is cut and says so; nothing here can fail, which makes it fit for panics.

use arrayvec::ArrayVec;
use core::fmt;

/// The longest line, its newline included.
pub const CAPACITY: usize = 240;

const CUT: &[u8] = b"...\n";

/// A line under construction.
#[derive(Default)]
pub struct Line {
    bytes: ArrayVec<u8, CAPACITY>,
    cut: bool,
}

impl Line {
    /// Formats a whole line.
    #[must_use]
    pub fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self::default();
        // `write_str` below never fails, and a formatter that does leaves a shorter line.
        let _ = fmt::Write::write_fmt(&mut line, text);
        line
    }

    /// Ends the line and gives its bytes, the newline last.
    #[must_use]
    pub fn finish(mut self) -> ArrayVec<u8, CAPACITY> {
        if self.cut {
            self.bytes.truncate(CAPACITY - CUT.len());
            self.bytes.extend(CUT.iter().copied());
        } else {
            self.bytes.push(b'\n');
        }
        self.bytes
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The last place is the newline's. A newline inside would fake a second line.
            if self.bytes.len() + 1 >= CAPACITY {
                self.cut = true;
                break;
            }
            self.bytes.push(if byte == b'\n' { b' ' } else { byte });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: Line) -> String {
        String::from_utf8(line.finish().to_vec()).unwrap()
    }

    #[test]
    fn a_line_ends_with_one_newline() {
        assert_eq!(text(Line::of(format_args!("lane {}", 3))), "lane 3\n");
        assert_eq!(text(Line::default()), "\n");
        assert_eq!(text(Line::of(format_args!("a\nb"))), "a b\n");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        for len in CAPACITY - 2..CAPACITY + 3 {
            let out = text(Line::of(format_args!("{}", "x".repeat(len))));
            assert_eq!(out.matches('\n').count(), 1);
            assert_eq!(out.ends_with("...\n"), len > CAPACITY - 1, "{len}");
            assert!(out.len() <= CAPACITY);
        }
    }
}
