//! What came of each combination.

use std::time::Duration;

use serde_json::{Value, json};

use super::combination::Combination;
use crate::run::launch::Ending;
use crate::run::outcome::{End, Outcome};
use crate::run::session::Viewer;

/// How many lines of each guest are kept.
const KEPT: usize = 30;
/// What people write before they give up.
const TELLING: [&str; 6] = ["fail", "panic", "error", "refus", "exception", "cannot"];

/// What a run has said.
pub struct Seen {
    outcome: Outcome,
    /// The last lines of guests.
    lines: Vec<String>,
    /// What the lint found.
    lints: Vec<String>,
}

impl Seen {
    /// Nothing yet.
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            lines: Vec::new(),
            lints: Vec::new(),
        }
    }

    /// The line of a guest that says most about its end.
    fn telling(&self, guest: &str) -> Option<&str> {
        let mine = || {
            let said = |line: &'_ str| Some(line.strip_prefix(guest)?.strip_prefix(" | ")?.len());
            let lines = self.lines.iter().rev();
            lines.filter_map(move |line| {
                let said = line.len() - said(line)?;
                line.get(said..).map(str::trim_end)
            })
        };
        let tells = |line: &&str| {
            let line = line.to_lowercase();
            TELLING.iter().any(|word| line.contains(word))
        };
        mine().find(tells).or_else(|| mine().next())
    }
}

impl Viewer for Seen {
    fn line(&mut self, line: &str) -> bool {
        self.outcome.take(line);
        match line.strip_prefix("xdv | ") {
            Some(said) if said.starts_with("  ") && said.contains(": lint ") => {
                self.lints.push(said.trim().to_owned());
            }
            Some(_) => {}
            None => {
                if self.lines.len() >= KEPT {
                    self.lines.remove(0);
                }
                self.lines.push(line.to_owned());
            }
        }
        self.outcome.is_over()
    }

    fn unfinished(&mut self, _: &str) {}
}

/// A run's verdict.
pub struct Row {
    combination: Combination,
    /// Why it did not work.
    pub why: Option<String>,
    /// How it ended.
    pub ending: Ending,
    lints: Vec<String>,
    took: Duration,
}

impl Row {
    /// Of a run that is over.
    pub fn new(combination: Combination, seen: Seen, ending: Ending, took: Duration) -> Self {
        let why = why(&seen, &ending);
        Self {
            combination,
            why,
            ending,
            lints: seen.lints,
            took,
        }
    }

    /// In a few words.
    pub fn shown(&self) -> String {
        let lints = match self.lints.len() {
            0 => String::new(),
            count => format!(", {count} against the specification"),
        };
        let seconds = self.took.as_secs_f64();
        match &self.why {
            None => format!("works{lints} ({seconds:.1} s)"),
            Some(why) => format!("{why}{lints} ({seconds:.1} s)"),
        }
    }
}

/// Why it did not work, if so.
fn why(seen: &Seen, ending: &Ending) -> Option<String> {
    let outcome = &seen.outcome;
    let is_over = matches!(ending, Ending::ByItself | Ending::AfterTheEnd);
    if outcome.is_success() && is_over {
        return None;
    }
    if let Some(panic) = outcome.panic() {
        return Some(format!("the hypervisor failed: {panic}"));
    }
    if let Some(why) = outcome.refused() {
        return Some(format!("the hypervisor refused the machine: {why}"));
    }
    if let (Ending::Failed(why), false) = (ending, outcome.any_started()) {
        return Some(format!("QEMU did not run the machine: {why}"));
    }
    let bad = |(_, end): &&(String, End)| *end != End::Well;
    let guests: Vec<String> = outcome
        .guests()
        .iter()
        .filter(bad)
        .map(|(name, end)| match seen.telling(name) {
            Some(line) => format!("{name} {end} ({line})"),
            None => format!("{name} {end}"),
        })
        .collect();
    Some(if guests.is_empty() {
        "all guests ended well, and the machine did not".to_owned()
    } else {
        guests.join("; ")
    })
}

/// For a person.
pub fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let heads = [
        "ring",
        "indirect",
        "event-idx",
        "in-order",
        "queues",
        "lint",
        "result",
    ];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        let [ring, indirect, event_idx, in_order, size] = row.combination.words();
        let yes = |word: String| if word == "-" { word } else { "yes".to_owned() };
        vec![
            ring,
            yes(indirect),
            yes(event_idx),
            yes(in_order),
            size,
            row.lints.len().to_string(),
            row.why.clone().unwrap_or_else(|| "works".to_owned()),
        ]
    }));
    table
}

/// For a program.
pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let Combination {
            packed,
            indirect,
            event_idx,
            in_order,
            queue_size,
        } = row.combination;
        json!({
            "packed": packed,
            "indirect": indirect,
            "event_idx": event_idx,
            "in_order": in_order,
            "queue_size": queue_size.0,
            "works": row.why.is_none(),
            "why": row.why,
            "lint": row.lints,
            "seconds": row.took.as_secs_f64(),
        })
    };
    Value::Array(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::QueueSize;
    use crate::matrix::combination::all;

    fn after(lines: &[&str], ending: Ending) -> Row {
        let mut seen = Seen::new(Outcome::expecting(&["a".to_owned()]));
        for line in lines {
            seen.line(line);
        }
        let combination = all(&[QueueSize(Some(16))])[6];
        Row::new(combination, seen, ending, Duration::from_millis(640))
    }

    #[test]
    fn what_ends_well_works() {
        let lint = "xdv |   a: lint order: blk: features before the driver bit (virtio 1.3, 3.1.1), vbar 0x0, pc 0x0";
        let lines = [
            "xdv | guest a: started, 1 lanes, 64 MiB",
            lint,
            "a |   a: lint of a guest's own",
            "xdv | guest a: ended well",
            "xdv | all guests ended",
        ];
        let row = after(&lines, Ending::ByItself);
        assert_eq!(row.why, None);
        assert_eq!(row.shown(), "works, 1 against the specification (0.6 s)");
        let table = table(&[row]);
        assert_eq!(table[1], ["split", "yes", "yes", "-", "16", "1", "works"]);
    }

    #[test]
    fn what_does_not_says_why() {
        let row = after(
            &[
                "xdv | guest a: started, 1 lanes, 64 MiB",
                "a | hello",
                "a | virtio: blk: Virtqueue is full",
                "a | self-check: blk FAILED: its driver gave up",
                "a | exit 19",
                "xdv | guest a: ended with code 19",
                "xdv | all guests ended",
            ],
            Ending::ByItself,
        );
        let why = "a ended with code 19 (self-check: blk FAILED: its driver gave up)";
        assert_eq!(row.why.as_deref(), Some(why));
        let json = json(&[row]);
        assert_eq!(
            (&json[0]["works"], &json[0]["why"]),
            (&json!(false), &json!(why))
        );
        let still = "xdv | guest a: still running after 1 ms: lane 0 at pc 0x0";
        let row = after(&["a | waiting", still], Ending::TimedOut);
        assert!(row.why.is_some_and(|why| why.ends_with("(waiting)")));
        let row = after(&["xdv | panic: x"], Ending::ByItself);
        assert_eq!(row.why.as_deref(), Some("the hypervisor failed: x"));
        let row = after(&[], Ending::Failed("no such CPU".to_owned()));
        assert!(row.why.is_some_and(|why| why.ends_with("no such CPU")));
    }
}
