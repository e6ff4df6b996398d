//! Byte-granular ranges of guest memory.

use core::fmt;

use crate::{Ipa, IpaRegion, PAGE_SIZE};

/// A non-empty run of bytes in a guest's physical address space that does not wrap: what a guest alleges when it hands
/// over a buffer. That the bytes are the guest's own is for the address map to prove.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span {
    base: Ipa,
    len: u64,
}

/// Why an address and a length do not make a [`Span`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanError {
    /// A span has at least one byte.
    Empty {
        /// Where it would have begun.
        base: Ipa,
    },
    /// The end does not fit into the address space.
    Wraps {
        /// Where it would have begun.
        base: Ipa,
        /// How long it would have been.
        len: u64,
    },
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { base } => write!(f, "the span at {base} is empty"),
            Self::Wraps { base, len } => {
                write!(f, "{len:#x} bytes from {base} leave the address space")
            }
        }
    }
}

impl core::error::Error for SpanError {}

impl Span {
    /// The `len` bytes from `base`.
    ///
    /// # Errors
    /// When `len` is zero, or the exclusive end is not a 64-bit number.
    pub const fn new(base: Ipa, len: u64) -> Result<Self, SpanError> {
        if len == 0 {
            return Err(SpanError::Empty { base });
        }
        match base.checked_add(len) {
            Some(_) => Ok(Self { base, len }),
            None => Err(SpanError::Wraps { base, len }),
        }
    }

    /// The first byte.
    #[must_use]
    pub const fn base(&self) -> Ipa {
        self.base
    }

    /// How many bytes, at least one.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Never: a span has at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The first byte past the span.
    #[must_use]
    pub const fn end(&self) -> Ipa {
        // The constructor has proven that this does not saturate.
        Ipa::new(self.base.raw().saturating_add(self.len))
    }

    /// The last byte.
    #[must_use]
    pub const fn last(&self) -> Ipa {
        Ipa::new(self.base.raw().saturating_add(self.len - 1))
    }

    /// Whether every byte of the span is in `region`.
    #[must_use]
    pub fn is_within(&self, region: &IpaRegion) -> bool {
        region.contains(self.base) && region.contains(self.last())
    }

    /// The parts of the span page by page, in ascending order: only within one page are guest addresses contiguous in
    /// the machine.
    pub fn iter_by_page(&self) -> impl Iterator<Item = Span> + use<> {
        let mut rest = Some(*self);
        core::iter::from_fn(move || {
            let whole = rest?;
            let room = PAGE_SIZE - whole.base.page_offset();
            let take = whole.len.min(room);
            rest = whole
                .base
                .checked_add(take)
                .and_then(|base| Span::new(base, whole.len - take).ok());
            Some(Span {
                base: whole.base,
                len: take,
            })
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.base, self.end())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::vec::Vec;

    use super::*;
    use crate::PageCount;

    #[test]
    fn only_proven_spans_exist() {
        let base = Ipa::new(0x1001);
        assert_eq!(Span::new(base, 0), Err(SpanError::Empty { base }));
        assert_eq!(
            Span::new(base, u64::MAX),
            Err(SpanError::Wraps {
                base,
                len: u64::MAX
            })
        );
        let top = Ipa::new(u64::MAX);
        assert_eq!(
            Span::new(top, 1),
            Err(SpanError::Wraps { base: top, len: 1 })
        );
        let span = Span::new(base, 3).unwrap();
        assert_eq!(
            (span.base(), span.len(), span.last(), span.end()),
            (base, 3, Ipa::new(0x1003), Ipa::new(0x1004))
        );
        assert!(!span.is_empty());
        assert_eq!(format!("{span}"), "0x1001..0x1004");
        assert_eq!(
            format!("{}", Span::new(base, 0).unwrap_err()),
            "the span at 0x1001 is empty"
        );
        assert_eq!(
            format!("{}", Span::new(top, 1).unwrap_err()),
            "0x1 bytes from 0xffffffffffffffff leave the address space"
        );
    }

    #[test]
    fn membership_is_of_the_last_byte_too() {
        let page = IpaRegion::new(Ipa::new(0x1000), PageCount::ONE).unwrap();
        let within = |base, len| Span::new(Ipa::new(base), len).unwrap().is_within(&page);
        assert!(within(0x1000, 0x1000) && within(0x1fff, 1));
        assert!(
            !within(0x1000, 0x1001)
                && !within(0xfff, 1)
                && !within(0x2000, 1)
                && !within(0xfff, 0x2000)
        );
    }

    #[test]
    fn pieces_are_exact() {
        let pieces = |base, len| {
            let whole = Span::new(Ipa::new(base), len).unwrap();
            whole
                .iter_by_page()
                .map(|s| (s.base().raw(), s.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pieces(0x1ffe, 0x1004),
            [(0x1ffe, 2), (0x2000, 0x1000), (0x3000, 2)]
        );
        assert_eq!(pieces(0x1000, 0x1000), [(0x1000, 0x1000)]);
        assert_eq!(pieces(0x1234, 1), [(0x1234, 1)]);
    }
}
