//! How a self-check fails, in words and as an exit code.

use crate::ipi::Lost;
use crate::isolation::Breach;
use crate::pattern::Mismatch;
use crate::smp::Phase;
use crate::tick::Untimely;
use crate::virtio::{Kind, Wrong};
use core::fmt;
use dustlib_k_abi::ExitCode;

/// The exit code of a command line that asks for something impossible.
pub const BAD_COMMAND_LINE: ExitCode = ExitCode(10);

/// A check that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Not every lane came up.
    Lanes {
        /// How many did.
        online: usize,
        /// How many there are.
        wanted: usize,
    },
    /// A lane did not finish its part.
    Stuck {
        /// Which.
        lane: usize,
        /// Of what.
        phase: Phase,
    },
    /// An interprocessor interrupt went missing or came twice.
    Ipi(Lost),
    /// A lane's timer did not keep its word.
    Timer {
        /// Which lane's.
        lane: usize,
        /// How.
        how: Untimely,
    },
    /// A word of memory did not keep its value.
    Memory(Mismatch),
    /// Something that is not this guest's answered, or its own did not.
    Isolation(Breach),
    /// A lane that switched itself off is still on.
    Lingering(usize),
    /// An interrupt came that nobody asked for.
    Unexpected(u32),
    /// A virtio device did not do what it should.
    Virtio {
        /// Of which kind.
        kind: Kind,
        /// What it did.
        wrong: Wrong,
    },
}

impl Failure {
    /// The check's name.
    #[must_use]
    pub const fn check(self) -> &'static str {
        match self {
            Self::Lanes { .. } | Self::Lingering(_) => "lanes",
            Self::Stuck { phase, .. } => phase.name(),
            Self::Ipi(_) => "ipi",
            Self::Unexpected(_) => "interrupts",
            Self::Timer { .. } => "timer",
            Self::Memory(_) => "memory",
            Self::Isolation(_) => "isolation",
            Self::Virtio { kind, .. } => kind.name(),
        }
    }

    /// The exit code that tells the check.
    #[must_use]
    pub const fn exit_code(self) -> ExitCode {
        ExitCode(match self {
            Self::Lanes { .. } | Self::Lingering(_) => 11,
            Self::Ipi(_) => 12,
            Self::Timer { .. } => 13,
            Self::Memory(_) => 14,
            Self::Isolation(_) => 15,
            Self::Stuck { .. } => 16,
            Self::Unexpected(_) => 18,
            Self::Virtio { .. } => 19,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lanes { online, wanted } => write!(f, "only {online} of {wanted} lanes came up"),
            Self::Lingering(lane) => write!(f, "lane {lane} is still on after switching off"),
            Self::Unexpected(intid) => write!(f, "nobody asked for interrupt {intid}"),
            Self::Stuck { lane, phase } => {
                write!(f, "lane {lane} did not finish '{}' in time", phase.name())
            }
            Self::Ipi(Lost {
                from,
                to,
                rounds,
                answered,
            }) => write!(
                f,
                "lane {from} pinged lane {to}: {answered} answers when {rounds} rounds were played"
            ),
            Self::Timer { lane, how } => match how {
                Untimely::Missing(tick) => write!(f, "lane {lane}: tick {tick} never came"),
                Untimely::Early => write!(f, "lane {lane}: an interrupt before its deadline"),
                Untimely::Late(us) => write!(f, "lane {lane}: an interrupt {us} us late"),
            },
            Self::Memory(Mismatch {
                address,
                wanted,
                found,
            }) => {
                write!(f, "{address:#x} holds {found:#018x}, not {wanted:#018x}")
            }
            Self::Isolation(breach) => breach.fmt(f),
            Self::Virtio { wrong, .. } => wrong.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestPhys;
    use crate::isolation::Access;

    #[test]
    fn every_failure_names_its_check_and_has_its_own_code() {
        let mismatch = Mismatch {
            address: 0x4000_0000,
            wanted: 1,
            found: 2,
        };
        let lost = Lost {
            from: 0,
            to: 1,
            rounds: 64,
            answered: 63,
        };
        let breach = Breach::Reached(GuestPhys::new(0x1000), Access::Write);
        let (kind, wrong) = (Kind::Blk, Wrong::Absent);
        let failures = [
            (
                Failure::Lanes {
                    online: 1,
                    wanted: 2,
                },
                "lanes",
                "1 of 2",
            ),
            (Failure::Lingering(3), "lanes", "lane 3"),
            (Failure::Ipi(lost), "ipi", "63 answers"),
            (Failure::Unexpected(40), "interrupts", "40"),
            (
                Failure::Timer {
                    lane: 1,
                    how: Untimely::Missing(4),
                },
                "timer",
                "tick 4",
            ),
            (
                Failure::Timer {
                    lane: 1,
                    how: Untimely::Early,
                },
                "timer",
                "before",
            ),
            (
                Failure::Timer {
                    lane: 1,
                    how: Untimely::Late(9),
                },
                "timer",
                "9 us",
            ),
            (Failure::Memory(mismatch), "memory", "0x40000000"),
            (Failure::Isolation(breach), "isolation", "0x1000"),
            (Failure::Virtio { kind, wrong }, "blk", "no such device"),
            (
                Failure::Stuck {
                    lane: 2,
                    phase: Phase::Fill,
                },
                "fill",
                "lane 2",
            ),
        ];
        for (failure, check, word) in failures {
            assert_eq!(failure.check(), check);
            assert!(failure.to_string().contains(word), "{failure}");
            assert!((11..=19).contains(&failure.exit_code().0));
        }
    }
}
