//! Puts a machine's memory into the state it starts in, a piece at a time: nothing of its last life, its files in
//! place, and memory itself holding both.

use hypervisor_arch::memory::GuestRam;

use crate::vm::File;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// So many bytes are zero.
    Scrub(u64),
    /// So many bytes of the file with this number are in place, and all files before it.
    Copy(usize, u64),
    /// So many bytes are where a machine without caches finds them.
    HandOver(u64),
    /// It is ready.
    Done,
}

impl Fill {
    /// Nothing is done yet.
    pub const START: Self = Self::Scrub(0);

    /// Does the next piece of the work, of at most so many bytes, whole pages. `None`, and no further, when a file does
    /// not fit.
    #[must_use]
    pub fn step(self, ram: &GuestRam, files: &[File], bytes: u64) -> Option<Self> {
        let total = ram.region().bytes();
        let rest = |at: u64| bytes.min(total.saturating_sub(at));
        Some(match self {
            Self::Scrub(at) if at < total => {
                ram.scrub(at, rest(at))?;
                Self::Scrub(at.saturating_add(bytes))
            }
            Self::Scrub(_) => Self::Copy(0, 0),
            Self::Copy(number, at) => match files.get(number) {
                None => Self::HandOver(0),
                Some(file) => match piece(file.bytes, at, bytes) {
                    [] => Self::Copy(number.saturating_add(1), 0),
                    piece => {
                        ram.write(file.offset.checked_add(at)?, piece)?;
                        Self::Copy(number, at.saturating_add(bytes))
                    }
                },
            },
            Self::HandOver(at) if at < total => {
                ram.hand_over(at, rest(at))?;
                Self::HandOver(at.saturating_add(bytes))
            }
            Self::HandOver(_) | Self::Done => Self::Done,
        })
    }
}

/// At most `bytes` bytes of a file from `at` on; none past its end.
fn piece(file: &[u8], at: u64, bytes: u64) -> &[u8] {
    let (at, bytes) = (usize::try_from(at), usize::try_from(bytes));
    let (at, bytes) = (at.unwrap_or(usize::MAX), bytes.unwrap_or(usize::MAX));
    let rest = file.get(at..).unwrap_or(&[]);
    rest.get(..bytes).unwrap_or(rest)
}
