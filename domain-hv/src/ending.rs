//! How a machine ended, in the words `cargo xtask run` reads.

use core::fmt;

/// How a machine ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It switched itself off (PSCI SYSTEM_OFF) or ended with code 0.
    Well,
    /// It ended itself with this code, not 0.
    Code(u32),
    /// EL2 ended it.
    Stopped(StopReason),
}

/// Why EL2 ended a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopReason {
    /// Every lane is off: nothing can ever run again.
    AllLanesOff,
    /// An SError that no lane of the guest can be told about.
    SystemError,
    /// Its operator wanted it.
    Operator,
    /// It gave no sign of life for this long.
    Hung {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Something EL2 cannot answer rightly; the syndrome says what.
    Unanswerable {
        /// ESR_EL2.
        esr: u64,
    },
}

impl Ending {
    /// What an exit code means.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        if code == 0 {
            Self::Well
        } else {
            Self::Code(code)
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Well => f.write_str("ended well"),
            Self::Code(code) => write!(f, "ended with code {}", u64::from(*code)),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::AllLanesOff => f.write_str("it switched off its last lane"),
            Self::SystemError => f.write_str("a system error (SError) of the machine"),
            Self::Operator => f.write_str("by its operator"),
            Self::Hung { ms } => write!(f, "no sign of life for {ms} ms"),
            Self::Unanswerable { esr } => {
                write!(f, "an exit that has no answer (ESR_EL2 {esr:#x})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_words_are_those_that_run_reads() {
        assert_eq!(Ending::from_code(0).to_string(), "ended well");
        assert_eq!(Ending::from_code(101).to_string(), "ended with code 101");
        assert_eq!(
            Ending::Stopped(StopReason::AllLanesOff).to_string(),
            "stopped: it switched off its last lane"
        );
        for reason in [
            StopReason::SystemError,
            StopReason::Operator,
            StopReason::Hung { ms: 10_000 },
            StopReason::Unanswerable { esr: 0xbeef },
        ] {
            assert!(Ending::Stopped(reason).to_string().starts_with("stopped: "));
        }
    }
}
