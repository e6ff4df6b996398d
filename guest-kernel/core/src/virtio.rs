//! What is asked of virtio devices, and what of their answers is wrong.
//!
//! The devices are driven by the crate `virtio-drivers`; here it is decided what to do with them, behind small ports,
//! so that a check that misses something is found on the build machine.

pub mod disk;
pub mod frames;
pub mod random;
pub mod stream;
pub mod transport;

use core::fmt;

/// A kind of device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A disk.
    Blk,
    /// A network card.
    Net,
    /// A console.
    Console,
    /// A source of random numbers.
    Rng,
    /// A socket device.
    Vsock,
}

impl Kind {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Self; 5] = [Self::Blk, Self::Rng, Self::Console, Self::Net, Self::Vsock];

    /// What the command line calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blk => "blk",
            Self::Net => "net",
            Self::Console => "console",
            Self::Rng => "rng",
            Self::Vsock => "vsock",
        }
    }
}

/// Some kinds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Kinds([bool; Kind::ALL.len()]);

impl Kinds {
    /// Reads a list such as `blk,net`. `None`: there is something else in it, or nothing.
    #[must_use]
    pub fn parse(list: &str) -> Option<Self> {
        let mut kinds = Self::default();
        for word in list.split(',') {
            let at = Kind::ALL.iter().position(|kind| kind.name() == word)?;
            *kinds.0.get_mut(at)? = true;
        }
        Some(kinds)
    }

    /// Those of them, in the order in which they are checked.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        let all = Kind::ALL.into_iter().zip(self.0);
        all.filter_map(|(kind, wanted)| wanted.then_some(kind))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// How a device failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// There is none.
    Absent,
    /// The driver would not go on; what it said was printed.
    Driver,
    /// It did what it was asked and never interrupted.
    Silent,
    /// It refused a request that it should have carried out; here.
    Refused(u64),
    /// It carried out a request that it should have refused; here.
    Accepted(u64),
    /// It answered with other bytes than it was given; here.
    Changed(u64),
    /// What should be random is not.
    Predictable,
    /// Nobody is at the other end.
    Alone,
    /// The other end stopped answering, after so many answers.
    Mute(u64),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such device"),
            Self::Driver => f.write_str("its driver gave up"),
            Self::Silent => f.write_str("no interrupt of it ever came"),
            Self::Refused(at) => write!(f, "what it should do it refused, at {at}"),
            Self::Accepted(at) => write!(f, "what it should refuse it did, at {at}"),
            Self::Changed(at) => write!(f, "what came back is not what was sent, at {at}"),
            Self::Predictable => f.write_str("its bytes are not random"),
            Self::Alone => f.write_str("nobody is at the other end"),
            Self::Mute(count) => write!(f, "after {count} answers the other end was silent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_nonsense_is_not() {
        let kinds = Kinds::parse("net,blk,net").unwrap();
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [Kind::Blk, Kind::Net]);
        assert!(!kinds.is_empty() && Kinds::default().is_empty());
        for wrong in ["", "blk,", "disk", "blk net"] {
            assert_eq!(Kinds::parse(wrong), None, "{wrong}");
        }
        let all = Kind::ALL.map(Kind::name).join(",");
        assert!(Kinds::parse(&all).unwrap().iter().eq(Kind::ALL));
    }
}
