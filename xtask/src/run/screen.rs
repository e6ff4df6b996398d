//! What a person sees of the console: whole lines with coloured names, and the line a guest is still writing, which
//! is its prompt and what is typed at it.
//!
//! EL2 shows control bytes as `\xNN`, so that no guest can command the operator's terminal. A shell's line editing
//! consists of such bytes. On a terminal the few that move within the line are carried out here, on a line of our own:
//! nothing a guest writes can leave the text behind its own name.

use std::io::Write;

use super::console::Painter;

/// The writing end of a console.
pub struct Screen<W> {
    painter: Painter,
    /// Whether the unfinished line is drawn as a terminal would.
    editing: bool,
    out: W,
    /// What is on the screen of the unfinished line.
    shown: String,
    /// How far the cursor stands before its end.
    back: usize,
}

impl<W: Write> Screen<W> {
    /// With an empty line.
    pub fn new(painter: Painter, editing: bool, out: W) -> Self {
        Self {
            painter,
            editing,
            out,
            shown: String::new(),
            back: 0,
        }
    }

    /// A whole line. A closed pipe (`run | head`) must not end the run before its outcome is known.
    pub fn line(&mut self, line: &str) {
        self.draw(line);
        let _ = writeln!(self.out);
        self.shown.clear();
        self.back = 0;
    }

    /// What there is so far of a line that goes on.
    pub fn unfinished(&mut self, line: &str) {
        // Before the name is whole there is nothing to show, and nothing to paint.
        if line.contains(" | ") {
            self.draw(line);
            let _ = self.out.flush();
        }
    }

    /// The end of the run.
    pub fn end(&mut self) {
        if !self.shown.is_empty() {
            let _ = writeln!(self.out);
            self.shown.clear();
        }
        let _ = self.out.flush();
    }

    /// Makes the screen's last row show this.
    fn draw(&mut self, line: &str) {
        let (text, back) = self.drawn(line);
        if !self.shown.is_empty() && text == self.shown && back == self.back {
            return;
        }
        let more = text.strip_prefix(self.shown.as_str());
        match more.filter(|_| !self.shown.is_empty() && self.back == 0) {
            Some(more) => {
                let _ = write!(self.out, "{more}");
            }
            None => {
                let painted = self.painter.paint(&text);
                let _ = if self.shown.is_empty() {
                    write!(self.out, "{painted}")
                } else if self.editing && speaker(&text) == speaker(&self.shown) {
                    // Anew from the row's beginning; what stood behind it goes.
                    write!(self.out, "\r{painted}\x1b[K")
                } else {
                    write!(self.out, "\n{painted}")
                };
            }
        }
        self.step_back(back);
        self.shown = text;
        self.back = back;
    }

    fn step_back(&mut self, back: usize) {
        if back > 0 {
            let _ = write!(self.out, "\x1b[{back}D");
        }
    }

    /// The line as it is to be seen, and how far before its end the cursor stands.
    fn drawn(&self, line: &str) -> (String, usize) {
        match line.split_once(" | ") {
            Some((name, text)) if self.editing && name != "xdv" => {
                let (text, back) = edited(text);
                (format!("{name} | {text}"), back)
            }
            Some(_) | None => (line.to_owned(), 0),
        }
    }
}

fn speaker(line: &str) -> Option<&str> {
    line.split_once(" | ").map(|(name, _)| name)
}

/// One line of a terminal.
#[derive(Debug, Default)]
struct Row {
    cells: Vec<char>,
    cursor: usize,
}

impl Row {
    fn put(&mut self, c: char) {
        match self.cells.get_mut(self.cursor) {
            Some(cell) => *cell = c,
            None => self.cells.push(c),
        }
        self.cursor = self.cursor.saturating_add(1);
    }

    fn right(&mut self, by: usize) {
        self.cursor = self.cursor.saturating_add(by).min(self.cells.len());
    }

    /// A control sequence (ECMA-48 5.4) of those that move or erase within a line; any other does nothing.
    fn control(&mut self, parameter: &str, kind: char) {
        let count = parameter.parse::<usize>().unwrap_or(1).max(1);
        match kind {
            'C' => self.right(count),
            'D' => self.cursor = self.cursor.saturating_sub(count),
            'K' | 'J' if matches!(parameter, "" | "0") => self.cells.truncate(self.cursor),
            'P' => {
                let end = self.cursor.saturating_add(count).min(self.cells.len());
                self.cells.drain(self.cursor..end);
            }
            _ => {}
        }
    }
}

/// Text with EL2's `\xNN` for control bytes, as it looks after what they say. What is not understood stays as it is.
fn edited(text: &str) -> (String, usize) {
    let mut row = Row::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\\x08") {
            row.cursor = row.cursor.saturating_sub(1);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\\x0d") {
            row.cursor = 0;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\\x07") {
            rest = after;
        } else if let Some((parameter, kind, after)) = sequence(rest) {
            row.control(parameter, kind);
            rest = after;
        } else {
            row.put(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    let back = row.cells.len().saturating_sub(row.cursor);
    (row.cells.into_iter().collect(), back)
}

/// `\x1b[`, parameters, a letter; and what comes after it.
fn sequence(text: &str) -> Option<(&str, char, &str)> {
    let body = text.strip_prefix("\\x1b[")?;
    let end = body.find(|c: char| !matches!(c, '0'..='9' | ';' | '?'))?;
    let kind = body.get(end..)?.chars().next()?;
    kind.is_ascii_alphabetic().then_some(())?;
    Some((body.get(..end)?, kind, body.get(end.saturating_add(1)..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(editing: bool, play: impl Fn(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        play(&mut Screen::new(Painter::new(false), editing, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_prompt_is_shown_at_once_and_its_line_goes_on_behind_it() {
        for editing in [false, true] {
            let text = shown(editing, |screen| {
                screen.line("a | before");
                screen.unfinished("a |");
                screen.unfinished("a | # ");
                screen.unfinished("a | # l");
                screen.unfinished("a | # l");
                screen.line("a | # ls");
                screen.line("a | bin");
            });
            assert_eq!(text, "a | before\na | # ls\na | bin\n", "{editing}");
        }
    }

    #[test]
    fn another_speaker_begins_a_line_of_its_own() {
        let text = shown(true, |screen| {
            screen.unfinished("a | # l");
            screen.line("b | hello");
            screen.unfinished("a | s");
            screen.end();
        });
        assert_eq!(text, "a | # l\nb | hello\na | s\n");
    }

    #[test]
    fn line_editing_is_carried_out_on_a_terminal() {
        let text = shown(true, |screen| {
            screen.unfinished("a | # lz");
            screen.unfinished("a | # lz\\x08\\x1b[J");
            screen.line("a | # lz\\x08\\x1b[Js");
        });
        assert_eq!(text, "a | # lz\ra | # l\x1b[Ks\n");
    }

    #[test]
    fn a_row_is_what_a_terminal_would_show() {
        let row = |text| {
            let (text, back) = edited(text);
            (text, back)
        };
        let is = |text: &str, back| (text.to_owned(), back);
        assert_eq!(row("# \\x1b[6n"), is("# ", 0));
        assert_eq!(row("abc\\x08\\x08"), is("abc", 2));
        assert_eq!(row("abc\\x0dx"), is("xbc", 2));
        assert_eq!(row("abc\\x1b[2D\\x1b[P"), is("ac", 1));
        assert_eq!(row("abc\\x0d\\x1b[9C!"), is("abc!", 0));
        assert_eq!(row("\\x1b[31mred\\x07"), is("red", 0));
        // Not ours, not whole: shown as they are.
        assert_eq!(
            row("\\x1b]0;t \\x1b[ \\x00 \\"),
            is("\\x1b]0;t \\x1b[ \\x00 \\", 0)
        );
    }

    proptest::proptest! {
        /// Whatever a guest writes: the name stays, and the cursor is in the text.
        #[test]
        fn a_guest_never_leaves_its_text(text in "(\\\\x08|\\\\x1b\\[[0-9]{0,3}[A-Za-z]|\\\\x0d|[a-z\\\\|é ]){0,40}") {
            let (line, back) = Screen::new(Painter::new(false), true, Vec::new()).drawn(&format!("a | {text}"));
            proptest::prop_assert!(line.starts_with("a | "));
            proptest::prop_assert!(back + 4 <= line.chars().count());
        }
    }

    #[test]
    fn the_hypervisor_s_lines_are_never_edited() {
        let text = shown(true, |screen| screen.line("xdv | a\\x08b"));
        assert_eq!(text, "xdv | a\\x08b\n");
    }
}
