//! Page-granular ranges.

use core::fmt;

use crate::{Address, HostPhys, Ipa, PAGE_SIZE, PageCount};

/// A non-empty run of whole pages whose exclusive end is still a 64-bit number.
///
/// The very last page of the 64-bit space is therefore out of reach, which costs nothing (no implementation has more
/// than 56 address bits) and makes [`end`](Region::end) and [`bytes`](Region::bytes) total.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Region<A> {
    base: A,
    pages: PageCount,
}

/// A run of pages in a guest's physical address space.
pub type IpaRegion = Region<Ipa>;

/// A run of pages of the machine.
pub type HostRegion = Region<HostPhys>;

/// Why a base and a length do not make a [`Region`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionError {
    /// A region has at least one page.
    Empty {
        /// Where it would have begun.
        base: u64,
    },
    /// The base is not on a page boundary.
    MisalignedBase {
        /// The base.
        base: u64,
    },
    /// The length is not a whole number of pages.
    MisalignedLength {
        /// The length in bytes.
        bytes: u64,
    },
    /// The end does not fit into the address space.
    Wraps {
        /// Where it would have begun.
        base: u64,
        /// How long it would have been.
        pages: PageCount,
    },
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { base } => write!(f, "the region at {base:#x} is empty"),
            Self::MisalignedBase { base } => {
                write!(f, "the base {base:#x} is not on a page boundary")
            }
            Self::MisalignedLength { bytes } => {
                write!(f, "the length {bytes:#x} is not a whole number of pages")
            }
            Self::Wraps { base, pages } => {
                write!(f, "{pages} pages from {base:#x} leave the address space")
            }
        }
    }
}

impl core::error::Error for RegionError {}

impl<A: Address> Region<A> {
    /// The region of `pages` pages from `base`.
    ///
    /// # Errors
    /// When it would be empty, begin inside a page, or wrap.
    pub fn new(base: A, pages: PageCount) -> Result<Self, RegionError> {
        let raw = base.to_raw();
        if pages == PageCount::ZERO {
            return Err(RegionError::Empty { base: raw });
        }
        if !raw.is_multiple_of(PAGE_SIZE) {
            return Err(RegionError::MisalignedBase { base: raw });
        }
        match pages.bytes().and_then(|bytes| raw.checked_add(bytes)) {
            Some(_) => Ok(Self { base, pages }),
            None => Err(RegionError::Wraps { base: raw, pages }),
        }
    }

    /// The region of `bytes` bytes from `base`.
    ///
    /// # Errors
    /// As [`Region::new`], and when `bytes` is not a whole number of pages.
    pub fn from_bytes(base: A, bytes: u64) -> Result<Self, RegionError> {
        let pages = PageCount::from_bytes(bytes).ok_or(RegionError::MisalignedLength { bytes })?;
        Self::new(base, pages)
    }

    /// The region from `base` up to but not including `end`.
    ///
    /// # Errors
    /// As [`Region::from_bytes`]; an `end` below `base` counts as empty.
    pub fn between(base: A, end: A) -> Result<Self, RegionError> {
        let (from, to) = (base.to_raw(), end.to_raw());
        let bytes = to
            .checked_sub(from)
            .ok_or(RegionError::Empty { base: from })?;
        Self::from_bytes(base, bytes)
    }

    /// The smallest region that holds the `len` bytes from `base`, whole pages at both ends.
    ///
    /// # Errors
    /// When `len` is zero or the pages leave the address space.
    pub fn covering(base: A, len: u64) -> Result<Self, RegionError> {
        let raw = base.to_raw();
        if len == 0 {
            return Err(RegionError::Empty { base: raw });
        }
        let floor = raw & !(PAGE_SIZE - 1);
        let wraps = RegionError::Wraps {
            base: raw,
            pages: PageCount::covering(len),
        };
        let bytes = raw
            .checked_sub(floor)
            .and_then(|head| head.checked_add(len))
            .ok_or(wraps)?;
        Self::new(A::from_raw(floor), PageCount::covering(bytes))
    }

    /// The first byte.
    #[must_use]
    pub fn base(&self) -> A {
        self.base
    }

    /// How many pages, at least one.
    #[must_use]
    pub fn pages(&self) -> PageCount {
        self.pages
    }

    /// How many bytes, at least [`PAGE_SIZE`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // The constructor has proven that this does not saturate.
        self.pages.raw().saturating_mul(PAGE_SIZE)
    }

    /// The first byte past the region.
    #[must_use]
    pub fn end(&self) -> A {
        A::from_raw(self.base.to_raw().saturating_add(self.bytes()))
    }

    /// The last byte of the region.
    #[must_use]
    pub fn last(&self) -> A {
        A::from_raw(self.base.to_raw().saturating_add(self.bytes() - 1))
    }

    /// Whether the byte at `address` belongs to the region.
    #[must_use]
    pub fn contains(&self, address: A) -> bool {
        self.base <= address && address <= self.last()
    }

    /// Whether every page of `other` belongs to the region.
    #[must_use]
    pub fn contains_region(&self, other: &Self) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }

    /// Whether the two share a page.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    /// The pages that both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let base = self.base.max(other.base);
        Self::between(base, self.end().min(other.end())).ok()
    }

    /// Whether base and length are both multiples of `align`.
    #[must_use]
    pub fn is_aligned(&self, align: u64) -> bool {
        align != 0 && self.base.to_raw().is_multiple_of(align) && self.bytes().is_multiple_of(align)
    }

    /// The base of each page, in ascending order.
    pub fn iter_pages(&self) -> impl Iterator<Item = A> + use<A> {
        let base = self.base.to_raw();
        (0..self.pages.raw())
            .map(move |n| A::from_raw(base.saturating_add(n.saturating_mul(PAGE_SIZE))))
    }
}

impl<A: Address> fmt::Display for Region<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.base, self.end())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::vec::Vec;

    use super::*;

    fn region(base: u64, pages: u64) -> HostRegion {
        HostRegion::new(HostPhys::new(base), PageCount::new(pages)).unwrap()
    }

    #[test]
    fn only_proven_ranges_exist() {
        let new = |base, pages| IpaRegion::new(Ipa::new(base), PageCount::new(pages));
        assert_eq!(new(0x1000, 0), Err(RegionError::Empty { base: 0x1000 }));
        assert_eq!(
            new(0x1001, 1),
            Err(RegionError::MisalignedBase { base: 0x1001 })
        );
        let top = !0xfff;
        assert_eq!(
            new(top, 1),
            Err(RegionError::Wraps {
                base: top,
                pages: PageCount::ONE
            })
        );
        assert!(new(top - 0x1000, 1).is_ok());
        assert!(matches!(new(0, 1 << 52), Err(RegionError::Wraps { .. })));
        assert!(matches!(new(0, u64::MAX), Err(RegionError::Wraps { .. })));
    }

    #[test]
    fn bytes_and_bounds() {
        let at = Ipa::new(0x2000);
        assert_eq!(
            IpaRegion::from_bytes(at, 0x1001),
            Err(RegionError::MisalignedLength { bytes: 0x1001 })
        );
        assert_eq!(
            IpaRegion::from_bytes(at, 0),
            Err(RegionError::Empty { base: 0x2000 })
        );
        let r = IpaRegion::from_bytes(at, 0x3000).unwrap();
        assert_eq!(
            (r.base(), r.end(), r.last(), r.bytes()),
            (at, Ipa::new(0x5000), Ipa::new(0x4fff), 0x3000)
        );
        assert_eq!(r.pages(), PageCount::new(3));
        assert_eq!(IpaRegion::between(at, Ipa::new(0x5000)), Ok(r));
        assert_eq!(
            IpaRegion::between(at, Ipa::new(0x1000)),
            Err(RegionError::Empty { base: 0x2000 })
        );
        assert_eq!(
            r.iter_pages().map(Ipa::raw).collect::<Vec<_>>(),
            [0x2000, 0x3000, 0x4000]
        );
        assert_eq!(format!("{r}"), "0x2000..0x5000");
    }

    #[test]
    fn covering_rounds_outwards() {
        let cover = |base, len| HostRegion::covering(HostPhys::new(base), len);
        assert_eq!(cover(0x1fff, 2), Ok(region(0x1000, 2)));
        assert_eq!(cover(0x1000, 0x1000), Ok(region(0x1000, 1)));
        assert_eq!(cover(0x1000, 0), Err(RegionError::Empty { base: 0x1000 }));
        assert!(matches!(
            cover(0x1001, u64::MAX),
            Err(RegionError::Wraps { .. })
        ));
        assert!(matches!(
            cover(0x1fff, u64::MAX - 2),
            Err(RegionError::Wraps { .. })
        ));
    }

    #[test]
    fn set_relations_agree_with_counting_pages() {
        let all: Vec<_> = (0..6u64)
            .flat_map(|b| (1..4u64).map(move |n| region(b * 0x1000, n)))
            .collect();
        for a in &all {
            for b in &all {
                let shared: Vec<_> = a.iter_pages().filter(|p| b.contains(*p)).collect();
                assert_eq!(a.overlaps(b), !shared.is_empty());
                assert_eq!(
                    a.intersection(b)
                        .map(|r| r.iter_pages().collect::<Vec<_>>())
                        .unwrap_or_default(),
                    shared
                );
                assert_eq!(a.contains_region(b), b.iter_pages().all(|p| a.contains(p)));
            }
            assert!(a.contains(a.last()) && !a.contains(a.end()));
        }
    }

    #[test]
    fn alignment_is_of_both_ends() {
        assert!(region(0x20_0000, 512).is_aligned(0x20_0000));
        assert!(!region(0x20_0000, 511).is_aligned(0x20_0000));
        assert!(!region(0x20_1000, 512).is_aligned(0x20_0000));
        assert!(!region(0, 1).is_aligned(0));
    }

    #[test]
    fn errors_name_the_value() {
        let said = |base, bytes| {
            format!(
                "{}",
                IpaRegion::from_bytes(Ipa::new(base), bytes).unwrap_err()
            )
        };
        assert_eq!(said(0x1000, 0), "the region at 0x1000 is empty");
        assert_eq!(
            said(0x1234, 0x1000),
            "the base 0x1234 is not on a page boundary"
        );
        assert_eq!(
            said(0x1000, 0x123),
            "the length 0x123 is not a whole number of pages"
        );
        assert!(said(!0xfff, 0x2000).starts_with("2 pages from 0xfffffffffffff000"));
    }
}
