//! What a run printed, told apart by who said it.

use anyhow::ensure;

/// A run's exit status and everything it printed.
#[derive(Debug, Clone)]
pub struct Transcript {
    status: i32,
    text: String,
}

impl Transcript {
    /// From a run.
    #[must_use]
    pub const fn new(status: i32, text: String) -> Self {
        Self { status, text }
    }

    /// The exit status.
    #[must_use]
    pub const fn status(&self) -> i32 {
        self.status
    }

    /// All of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines of one speaker: a guest's name, or `xdv`.
    pub fn lines_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| {
            let (speaker, said) = line.split_once('|')?;
            (speaker.trim() == name).then(|| said.strip_prefix(' ').unwrap_or(said).trim_end())
        })
    }

    /// True when a line contains this.
    #[must_use]
    pub fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// The run ended with this status.
    ///
    /// # Errors
    /// It did not; the whole transcript is the message.
    pub fn ended(&self, status: i32) -> anyhow::Result<()> {
        ensure!(
            self.status == status,
            "exit status {} instead of {status}:\n{}",
            self.status,
            self.text
        );
        Ok(())
    }

    /// A line contains this.
    ///
    /// # Errors
    /// None does; the whole transcript is the message.
    pub fn has(&self, words: &str) -> anyhow::Result<()> {
        ensure!(self.says(words), "nothing says `{words}`:\n{}", self.text);
        Ok(())
    }

    /// What the lint says of virtio drivers: of whose, in which rank, and which rule.
    #[must_use]
    pub fn findings(&self) -> Vec<[&str; 3]> {
        let said = self.lines_of("xdv").filter_map(|line| {
            let (guest, said) = line.strip_prefix("  ")?.split_once(": ")?;
            let (rank, said) = said.split_once(' ')?;
            let (rule, _) = said.split_once(": ")?;
            let is_one = rank == "lint" || rank == "advice";
            is_one.then_some([guest, rank, rule])
        });
        said.collect()
    }

    /// This guest ended well.
    ///
    /// # Errors
    /// It did not.
    pub fn well(&self, guest: &str) -> anyhow::Result<()> {
        self.has(&format!("xdv | guest {guest}: ended well"))
    }

    /// Every case of a hostile guest held, and there were so many at least.
    ///
    /// # Errors
    /// One failed, or the guest did not come to its end.
    pub fn cases(&self, guest: &str, least: usize) -> anyhow::Result<()> {
        let cases: Vec<&str> = self
            .lines_of(guest)
            .filter_map(|line| line.strip_prefix("case "))
            .collect();
        let held = cases.iter().filter(|case| case.contains(" ok")).count();
        let failed: Vec<&&str> = cases.iter().filter(|case| case.contains("FAIL")).collect();
        ensure!(failed.is_empty(), "{guest}: {failed:#?}\n{}", self.text);
        ensure!(
            held >= least,
            "{guest}: {held} cases held, at least {least} were to:\n{}",
            self.text
        );
        ensure!(
            self.lines_of(guest).any(|line| line.starts_with("cases ")),
            "{guest} did not come to its end:\n{}",
            self.text
        );
        Ok(())
    }

    /// The neighbour noticed nothing: same digest before and after, and it says so itself.
    ///
    /// # Errors
    /// It noticed.
    pub fn unharmed(&self, victim: &str) -> anyhow::Result<()> {
        let digests: Vec<&str> = self
            .lines_of(victim)
            .filter_map(|line| line.strip_prefix("victim digest "))
            .filter_map(|rest| rest.get(..16))
            .collect();
        ensure!(
            matches!(digests.as_slice(), [before, after] if before == after),
            "{victim}: digests {digests:?}\n{}",
            self.text
        );
        ensure!(
            self.lines_of(victim).any(|line| line == "victim ok"),
            "{victim} is not well:\n{}",
            self.text
        );
        self.well(victim)
    }

    /// The emulator's major version, as `run` announces it.
    #[must_use]
    pub fn qemu_major(&self) -> Option<u32> {
        let version = self.text.split("QEMU ").nth(1)?;
        version.split('.').next()?.parse().ok()
    }

    /// EL2 did not fault.
    ///
    /// # Errors
    /// It did.
    pub fn no_panic(&self) -> anyhow::Result<()> {
        ensure!(
            !self
                .text
                .lines()
                .any(|line| line.starts_with("xdv | panic")),
            "EL2 panicked:\n{}",
            self.text
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Transcript {
        Transcript::new(0, text.to_owned())
    }

    #[test]
    fn speakers_are_told_apart() {
        let transcript =
            said("alpha | one\nxdv | alpha | no\nbeta | alpha | two\nalpha | three | four\n");
        assert_eq!(
            transcript.lines_of("alpha").collect::<Vec<_>>(),
            ["one", "three | four"]
        );
    }

    #[test]
    fn a_failed_case_fails_and_so_does_a_missing_end() {
        assert!(
            said("a | case S2-01 ok, 3 checks\na | cases 1 failed 0\n")
                .cases("a", 1)
                .is_ok()
        );
        assert!(
            said("a | case S2-01 ok, 3 checks\na | cases 1 failed 0\n")
                .cases("a", 2)
                .is_err()
        );
        assert!(said("a | case S2-01 ok, 3 checks\n").cases("a", 1).is_err());
        assert!(
            said("a | case S2-01 FAIL read\na | cases 1 failed 1\n")
                .cases("a", 0)
                .is_err()
        );
    }

    #[test]
    fn the_emulator_is_read_from_the_announcement() {
        assert_eq!(said("xtask: QEMU 10.0.2, 2 x max").qemu_major(), Some(10));
        assert_eq!(said("xtask: nothing").qemu_major(), None);
    }

    #[test]
    fn a_digest_that_changed_is_seen() {
        let lines = |after: &str| {
            said(&format!(
                "v | victim digest 0123456789abcdef of 8 words\nv | victim digest {after}, 0 words changed\nv | victim ok\nxdv | guest v: ended well\n"
            ))
        };
        assert!(lines("0123456789abcdef").unharmed("v").is_ok());
        assert!(lines("0123456789abcdee").unharmed("v").is_err());
        assert!(
            said("v | victim ok\nxdv | guest v: ended well\n")
                .unharmed("v")
                .is_err()
        );
    }
}
