//! How a run ended, told from the lines that EL2 writes for us.
//!
//! A line of a guest begins with the guest's name, and no guest may be called `xdv`; so what begins with
//! `xdv | ` was said by EL2.

use std::fmt;

use crate::debian::ramdisk::{SELFTEST_FAILED, SELFTEST_OK};

/// How one guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was never started.
    NeverStarted,
    /// It was started, and nothing was heard of its end.
    Unknown,
    /// It exited with 0 or switched its machine off.
    Well,
    /// It exited with a code.
    Code(u64),
    /// It was stopped.
    Stopped(String),
    /// It ended badly and is kept as it was.
    Held(String),
    /// It ended well, and its self-test did not.
    SelfTest(String),
    /// The deadline found it running.
    StillRunning(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverStarted => f.write_str("was never started"),
            Self::Unknown => f.write_str("had not ended when the machine went down"),
            Self::Well => f.write_str("ended well"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Held(reason) => write!(f, "held: {reason}"),
            Self::SelfTest(what) => write!(f, "self-test: {what}"),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
            Self::StillRunning(state) => write!(f, "still running {state}"),
        }
    }
}

/// What a guest has said of its self-test so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum SelfTest {
    #[default]
    Unheard,
    Passed,
    Failed(String),
}

/// What EL2 has said so far, and guests of their self-tests.
#[derive(Debug, Default)]
pub struct Outcome {
    guests: Vec<(String, End)>,
    selftests: Vec<(String, SelfTest)>,
    all_ended: bool,
    panic: Option<String>,
    refused: Option<String>,
    spoke: bool,
    boot_ticks: Option<u64>,
    memory_ticks: Option<u64>,
}

impl Outcome {
    /// Nothing said yet; these guests are to come.
    pub fn expecting(names: &[String]) -> Self {
        Self {
            guests: names
                .iter()
                .map(|name| (name.clone(), End::NeverStarted))
                .collect(),
            ..Self::default()
        }
    }

    /// These guests are to say that their self-test passed.
    #[must_use]
    pub fn with_selftests(mut self, names: &[String]) -> Self {
        self.selftests
            .extend(names.iter().map(|name| (name.clone(), SelfTest::Unheard)));
        self
    }

    /// Takes one line of the console.
    pub fn take(&mut self, line: &str) {
        let Some(said) = line.strip_prefix("xdv | ") else {
            self.hear(line);
            return;
        };
        self.spoke = true;
        if said.trim_end() == "all guests ended" {
            self.all_ended = true;
        } else if let Some(report) = said.strip_prefix("panic: ") {
            self.panic
                .get_or_insert_with(|| report.trim_end().to_owned());
        } else if let Some(why) = said.strip_prefix("refused: ") {
            self.refused
                .get_or_insert_with(|| why.trim_end().to_owned());
        } else if let Some(rest) = said.strip_prefix("boot: ") {
            let mut numbers = rest.split_whitespace().filter_map(|word| word.parse().ok());
            self.boot_ticks = self.boot_ticks.or_else(|| numbers.next());
            self.memory_ticks = self.memory_ticks.or_else(|| numbers.next());
        } else if let Some((name, what)) = said
            .strip_prefix("guest ")
            .and_then(|rest| rest.split_once(": "))
            && let Some(end) = end_of(what.trim_end())
        {
            self.set(name, end);
        }
    }

    /// A guest's own line: the one thing that is believed of it is how its self-test went.
    fn hear(&mut self, line: &str) {
        let Some((name, said)) = line.split_once(" | ") else {
            return;
        };
        let Some((_, test)) = self.selftests.iter_mut().find(|(known, _)| known == name) else {
            return;
        };
        if let Some(what) = said.strip_prefix(SELFTEST_FAILED) {
            *test = SelfTest::Failed(what.trim_end().to_owned());
        } else if said.trim_end() == SELFTEST_OK && *test == SelfTest::Unheard {
            *test = SelfTest::Passed;
        }
    }

    fn set(&mut self, name: &str, end: End) {
        let test = self.selftests.iter().find(|(known, _)| known == name);
        let end = match (end, test) {
            (End::Well, Some((_, SelfTest::Failed(what)))) => {
                End::SelfTest(format!("FAILED: {what}"))
            }
            (End::Well, Some((_, SelfTest::Unheard))) => End::SelfTest("no result".to_owned()),
            (end, _) => end,
        };
        match self.guests.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = end,
            None => self.guests.push((name.to_owned(), end)),
        }
    }

    /// The guests and how they ended.
    pub fn guests(&self) -> &[(String, End)] {
        &self.guests
    }

    /// What EL2 said of its own failure.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// Why EL2 would not have the machine, or what the loader gave it.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Whether EL2 has said anything at all.
    pub fn spoke(&self) -> bool {
        self.spoke
    }

    /// Whether at least one guest was started.
    pub fn any_started(&self) -> bool {
        self.guests.iter().any(|(_, end)| *end != End::NeverStarted)
    }

    /// The ticks from EL2's entry to the first instruction of a guest.
    pub fn boot_ticks(&self) -> Option<u64> {
        self.boot_ticks
    }

    /// The ticks that preparing the guests' memory took, which the boot's do not include.
    pub fn memory_ticks(&self) -> Option<u64> {
        self.memory_ticks
    }

    /// EL2 has nothing more to do and is about to switch the machine off.
    pub fn is_over(&self) -> bool {
        self.all_ended || self.panic.is_some() || self.refused.is_some()
    }

    /// The code that the only guest ended with, if it ended with one.
    pub fn code(&self) -> Option<u64> {
        match self.guests.as_slice() {
            [(_, End::Code(code))] if self.panic.is_none() => Some(*code),
            _ => None,
        }
    }

    /// Every guest ended well, and EL2 said that all have ended.
    pub fn is_success(&self) -> bool {
        self.all_ended
            && self.panic.is_none()
            && self.refused.is_none()
            && !self.guests.is_empty()
            && self.guests.iter().all(|(_, end)| *end == End::Well)
    }
}

fn end_of(what: &str) -> Option<End> {
    if what == "ended well" {
        Some(End::Well)
    } else if what.starts_with("started") || what.starts_with("restarting: ") {
        Some(End::Unknown)
    } else if let Some(code) = what.strip_prefix("ended with code ") {
        // A code that does not read as a number is still a failure.
        Some(
            code.trim()
                .parse()
                .map_or_else(|_| End::Stopped(what.to_owned()), End::Code),
        )
    } else if let Some(reason) = what.strip_prefix("stopped: ") {
        Some(End::Stopped(reason.to_owned()))
    } else if let Some(reason) = what.strip_prefix("held: ") {
        Some(End::Held(reason.to_owned()))
    } else {
        what.strip_prefix("still running ")
            .map(|state| End::StillRunning(state.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome::expecting(&["alpha".to_owned(), "beta".to_owned()]);
        lines.iter().for_each(|line| outcome.take(line));
        outcome
    }

    const STARTED: [&str; 2] = [
        "xdv | guest alpha: started, 2 lanes, 64 MiB",
        "xdv | guest beta: started, 1 lanes, 64 MiB",
    ];

    #[test]
    fn all_well_is_success() {
        let mut lines = STARTED.to_vec();
        lines.extend([
            "xdv | boot: 1234 ticks to the first guest instruction, and 99 for the guests' memory",
            "alpha | hello",
            "xdv | guest beta: ended well",
            "xdv | guest alpha: ended well",
            "xdv | all guests ended",
        ]);
        let outcome = after(&lines);
        assert!(outcome.is_success());
        assert_eq!(outcome.boot_ticks(), Some(1234));
        assert_eq!(outcome.memory_ticks(), Some(99));
    }

    #[test]
    fn without_the_last_line_it_is_none() {
        let mut lines = STARTED.to_vec();
        lines.extend([
            "xdv | guest beta: ended well",
            "xdv | guest alpha: ended well",
        ]);
        assert!(!after(&lines).is_success());
    }

    #[test]
    fn a_code_a_stop_and_a_deadline_are_told_apart() {
        let outcome = after(&[
            "xdv | guest alpha: ended with code 3",
            "xdv | guest beta: stopped: lane 0 panicked",
            "xdv | all guests ended",
        ]);
        assert!(!outcome.is_success());
        assert_eq!(outcome.guests()[0].1, End::Code(3));
        assert_eq!(
            outcome.guests()[1].1.to_string(),
            "stopped: lane 0 panicked"
        );
        let outcome =
            after(&["xdv | guest alpha: still running after 5000 ms: lane 0 masked at 0x40001000"]);
        assert_eq!(
            outcome.guests()[0].1.to_string(),
            "still running after 5000 ms: lane 0 masked at 0x40001000"
        );
    }

    #[test]
    fn the_code_of_the_only_guest_is_the_runs() {
        let alone = |lines: &[&str]| {
            let mut outcome = Outcome::expecting(&["alpha".to_owned()]);
            lines.iter().for_each(|line| outcome.take(line));
            outcome.code()
        };
        assert_eq!(alone(&["xdv | guest alpha: ended with code 3"]), Some(3));
        assert_eq!(alone(&["xdv | guest alpha: ended well"]), None);
        assert_eq!(alone(&["xdv | guest alpha: stopped: it crashed"]), None);
        let panic = ["xdv | guest alpha: ended with code 3", "xdv | panic: x"];
        assert_eq!(alone(&panic), None);
        assert_eq!(
            after(&["xdv | guest alpha: ended with code 3"]).code(),
            None
        );
    }

    #[test]
    fn a_guest_cannot_speak_for_the_hypervisor() {
        let outcome = after(&[
            "alpha | xdv | guest beta: ended well",
            "alpha | xdv | all guests ended",
            " xdv | all guests ended",
        ]);
        assert!(!outcome.is_over());
        assert_eq!(outcome.guests()[1].1, End::NeverStarted);
    }

    #[test]
    fn a_panic_is_over_and_no_success() {
        let outcome = after(&["xdv | panic: stack guard hit", "xdv |   cpu 1"]);
        assert!(outcome.is_over() && !outcome.is_success());
        assert_eq!(outcome.panic(), Some("stack guard hit"));
    }

    #[test]
    fn a_refusal_is_over_and_no_success() {
        let outcome = after(&["xdv | refused: the machine has 2 CPUs, the plan needs 3\r"]);
        assert!(outcome.is_over() && !outcome.is_success() && !outcome.any_started());
        assert_eq!(
            outcome.refused(),
            Some("the machine has 2 CPUs, the plan needs 3")
        );
        let outcome = after(&["alpha | xdv | refused: me"]);
        assert!(!outcome.is_over() && !outcome.spoke());
    }

    #[test]
    fn a_guest_that_begins_anew_counts_by_how_it_ends_at_last() {
        let mut lines = STARTED.to_vec();
        lines.extend([
            "xdv | guest alpha: restarting: it asked for a reset",
            "xdv | guest beta: restarting: ended with code 3",
            "xdv | guest beta: restarts 100 ms after its end",
        ]);
        assert!(
            after(&lines)
                .guests()
                .iter()
                .all(|(_, end)| *end == End::Unknown)
        );
        lines.push("xdv | guest alpha: ended well");
        lines.push("xdv | guest beta: held: ended with code 3");
        let outcome = after(&lines);
        assert_eq!(outcome.guests()[0].1, End::Well);
        assert_eq!(outcome.guests()[1].1.to_string(), "held: ended with code 3");
        lines.push("xdv | all guests ended");
        assert!(!after(&lines).is_success());
    }

    #[test]
    fn a_self_test_must_be_heard_to_pass() {
        let after = |lines: &[&str]| {
            let names = ["alpha".to_owned()];
            let mut outcome = Outcome::expecting(&names).with_selftests(&names);
            lines.iter().for_each(|line| outcome.take(line));
            outcome.take("xdv | guest alpha: ended well");
            outcome.take("xdv | all guests ended");
            outcome
        };
        assert!(after(&["alpha | selftest: ok"]).is_success());
        let silent = after(&["beta | selftest: ok", "alpha | echo selftest: ok"]);
        assert!(!silent.is_success());
        assert_eq!(silent.guests()[0].1.to_string(), "self-test: no result");
        let failed = after(&[
            "alpha | selftest: FAILED: a CPU does not go",
            "alpha | selftest: ok",
        ]);
        assert!(!failed.is_success());
        assert_eq!(
            failed.guests()[0].1.to_string(),
            "self-test: FAILED: a CPU does not go"
        );
        // Whoever was not asked for one needs none.
        let outcome = self::after(&["xdv | guest alpha: ended well"]);
        assert_eq!(outcome.guests()[0].1, End::Well);
    }

    #[test]
    fn no_guest_at_all_is_no_success() {
        let mut outcome = Outcome::default();
        outcome.take("xdv | all guests ended");
        assert!(!outcome.is_success());
    }
}
