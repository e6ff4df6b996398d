//! What has passed a port, for a person to read.

use core::fmt;

use super::port::{Passed, Reason};

impl Passed {
    /// What did not go on, and why, in words; `None` if all did.
    #[must_use]
    pub fn drops(&self) -> Option<Drops<'_>> {
        let any = self.dropped.iter().any(|count| *count != 0);
        any.then_some(Drops(self))
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames, {} bytes", self.frames, self.bytes)
    }
}

/// [`Passed::drops`].
pub struct Drops<'a>(&'a Passed);

impl fmt::Display for Drops<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        let counts = Reason::ALL.iter().zip(self.0.dropped);
        for (reason, count) in counts.filter(|(_, count)| *count != 0) {
            write!(f, "{comma}{count} {}", reason.text())?;
            comma = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_has_passed_is_said_in_words() {
        let mut passed = Passed {
            frames: 3,
            bytes: 180,
            ..Passed::default()
        };
        assert_eq!(passed.to_string(), "3 frames, 180 bytes");
        assert!(passed.drops().is_none());
        passed.dropped[2] = 1;
        passed.dropped[9] = 70;
        let drops = passed.drops().map(|drops| drops.to_string());
        assert_eq!(drops.as_deref(), Some("1 spoofed address, 70 no buffers"));
    }

    #[test]
    fn every_reason_has_words_of_its_own() {
        for (at, one) in Reason::ALL.iter().enumerate() {
            let same = Reason::ALL
                .iter()
                .filter(|other| other.text() == one.text());
            assert_eq!(same.count(), 1, "{at}");
        }
    }
}
