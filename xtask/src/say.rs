//! What this program says to a person on standard error: steps, their progress and their failures.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Whether standard error may carry colours.
pub fn colours_on_stderr() -> bool {
    std::io::stderr().is_terminal() && colours_wanted()
}

/// Whether standard output may carry colours.
pub fn colours_on_stdout() -> bool {
    std::io::stdout().is_terminal() && colours_wanted()
}

fn colours_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text in the given ANSI colour (`"31"`), or as it is.
pub fn paint(text: &str, ansi: &str, colours: bool) -> String {
    if colours {
        format!("\x1b[{ansi}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// What was asked for, on standard output, followed by an end of line.
pub fn answer(text: &str) {
    let _ = write_answer(&mut io::stdout().lock(), text);
}

/// A reader that has gone away (`check | head`) has seen enough: that is no failure of ours.
fn write_answer(output: &mut impl Write, text: &str) -> io::Result<()> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    output.write_all(format!("{text}{end}").as_bytes())?;
    output.flush()
}

/// One line that matters.
pub fn note(text: &str) {
    let head = paint("xtask:", "1;36", colours_on_stderr());
    let _ = writeln!(io::stderr(), "{head} {text}");
}

/// What went wrong.
pub fn error(text: &str) {
    let head = paint("error:", "1;31", colours_on_stderr());
    let _ = writeln!(io::stderr(), "{head} {text}");
}

/// A step that may take long: a spinner with the elapsed time on a terminal, plain lines elsewhere.
pub struct Step {
    title: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Begins a step.
    pub fn begin(title: impl Into<String>) -> Self {
        let title = title.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            note(&format!("{title} ..."));
        }
        Self {
            title,
            started: Instant::now(),
            bar,
        }
    }

    /// What the step is doing just now.
    pub fn detail(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    /// Ends the step well.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        note(&format!(
            "{}: done in {}",
            self.title,
            seconds(self.started.elapsed())
        ));
    }

    /// Ends the step badly; the caller says why.
    pub fn failed(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        note(&format!(
            "{}: failed after {}",
            self.title,
            seconds(self.started.elapsed())
        ));
    }
}

/// A duration as a person reads it.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 60 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{whole}.{} s", duration.subsec_millis() / 100)
    }
}

/// Lines of cells as an aligned table; the first line is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&rules.join("  "));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_a_rule() {
        let rows = vec![
            vec!["op".to_owned(), "n".to_owned()],
            vec!["hvc".to_owned(), "62".to_owned()],
        ];
        assert_eq!(table(&rows), "op   n\n---  --\nhvc  62\n");
    }

    #[test]
    fn an_answer_ends_its_line_and_a_closed_pipe_does_not_panic() {
        let mut output = Vec::new();
        for text in ["a", "b\n"] {
            write_answer(&mut output, text).unwrap();
        }
        assert_eq!(output, b"a\nb\n");
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let closed = write_answer(&mut writer, "c").unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
