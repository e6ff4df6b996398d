//! Page-granular ranges.

use core::fmt;
use core::num::NonZero;

use crate::{Address, HostPhys, Ipa, PAGE_SIZE, PageCount};

/// A non-empty run of whole pages whose exclusive end is still a 64-bit number.
///
/// The very last page of the 64-bit space is therefore out of reach, which costs nothing (no implementation has more
/// than 56 address bits) and makes [`end`](Region::end) and [`bytes`](Region::bytes) total.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Region<A> {
    base: A,
    /// The end is what most questions are about. It is above the base, and so never zero: an `Option` is as large.
    end: NonZero<u64>,
}

/// A run of pages in a guest's physical address space.
pub type IpaRegion = Region<Ipa>;

/// A run of pages of the machine.
pub type HostRegion = Region<HostPhys>;

/// Why a base and a length do not make a [`Region`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionError {
    /// A region has at least one page.
    Empty,
    /// The base is not on a page boundary.
    MisalignedBase,
    /// The length is not a whole number of pages.
    MisalignedLength,
    /// The end does not fit into the address space.
    Wraps,
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the region is empty",
            Self::MisalignedBase => "the base is not on a page boundary",
            Self::MisalignedLength => "the length is not a whole number of pages",
            Self::Wraps => "the region leaves the address space",
        })
    }
}

impl core::error::Error for RegionError {}

/// Where `bytes` bytes from `base` end, if they are a region. One for all kinds of addresses.
#[inline(never)]
fn end_of(base: u64, bytes: u64) -> Result<NonZero<u64>, RegionError> {
    if bytes == 0 {
        return Err(RegionError::Empty);
    }
    if !base.is_multiple_of(PAGE_SIZE) {
        return Err(RegionError::MisalignedBase);
    }
    if !bytes.is_multiple_of(PAGE_SIZE) {
        return Err(RegionError::MisalignedLength);
    }
    let end = base.checked_add(bytes).and_then(NonZero::new);
    end.ok_or(RegionError::Wraps)
}

impl<A: Address> Region<A> {
    /// The region of `pages` pages from `base`.
    ///
    /// # Errors
    /// When it would be empty, begin inside a page, or wrap.
    pub fn new(base: A, pages: PageCount) -> Result<Self, RegionError> {
        let bytes = pages.bytes().ok_or(RegionError::Wraps)?;
        Self::from_bytes(base, bytes)
    }

    /// The region of `bytes` bytes from `base`.
    ///
    /// # Errors
    /// As [`Region::new`], and when `bytes` is not a whole number of pages.
    pub fn from_bytes(base: A, bytes: u64) -> Result<Self, RegionError> {
        let end = end_of(base.to_raw(), bytes)?;
        Ok(Self { base, end })
    }

    /// The region from `base` up to but not including `end`.
    ///
    /// # Errors
    /// As [`Region::from_bytes`]; an `end` below `base` counts as empty.
    pub fn between(base: A, end: A) -> Result<Self, RegionError> {
        Self::from_bytes(base, end.to_raw().saturating_sub(base.to_raw()))
    }

    /// The smallest region that holds the `len` bytes from `base`, whole pages at both ends.
    ///
    /// # Errors
    /// When `len` is zero or the pages leave the address space.
    pub fn covering(base: A, len: u64) -> Result<Self, RegionError> {
        let raw = base.to_raw();
        if len == 0 {
            return Err(RegionError::Empty);
        }
        let end = raw
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
        let end = end.and_then(NonZero::new).ok_or(RegionError::Wraps)?;
        let base = A::from_raw(raw & !(PAGE_SIZE - 1));
        Ok(Self { base, end })
    }

    /// The first byte.
    #[must_use]
    pub fn base(&self) -> A {
        self.base
    }

    /// How many pages, at least one.
    #[must_use]
    pub fn pages(&self) -> PageCount {
        PageCount::covering(self.bytes())
    }

    /// How many bytes, at least [`PAGE_SIZE`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // The end is above the base.
        self.end.get().wrapping_sub(self.base.to_raw())
    }

    /// The first byte past the region.
    #[must_use]
    pub fn end(&self) -> A {
        A::from_raw(self.end.get())
    }

    /// The last byte of the region.
    #[must_use]
    pub fn last(&self) -> A {
        A::from_raw(self.end.get() - 1)
    }

    /// Whether the byte at `address` belongs to the region.
    #[must_use]
    pub fn contains(&self, address: A) -> bool {
        self.base <= address && address.to_raw() < self.end.get()
    }

    /// Whether every page of `other` belongs to the region.
    #[must_use]
    pub fn contains_region(&self, other: &Self) -> bool {
        self.base <= other.base && other.end <= self.end
    }

    /// Whether the two share a page.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    /// The pages that both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (base, end) = (self.base.max(other.base), self.end.min(other.end));
        (base.to_raw() < end.get()).then_some(Self { base, end })
    }

    /// Whether base and length are both multiples of `align`.
    #[must_use]
    pub fn is_aligned(&self, align: u64) -> bool {
        align != 0 && self.base.to_raw().is_multiple_of(align) && self.bytes().is_multiple_of(align)
    }

    /// The base of each page, in ascending order.
    pub fn iter_pages(&self) -> impl Iterator<Item = A> + use<A> {
        let base = self.base.to_raw();
        (0..self.pages().raw())
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
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    fn region(base: u64, pages: u64) -> HostRegion {
        HostRegion::new(HostPhys::new(base), PageCount::new(pages)).unwrap()
    }

    #[test]
    fn only_proven_ranges_exist() {
        let new = |base, pages| IpaRegion::new(Ipa::new(base), PageCount::new(pages));
        assert_eq!(new(0x1000, 0), Err(RegionError::Empty));
        assert_eq!(new(0x1001, 1), Err(RegionError::MisalignedBase));
        let top = !0xfff;
        assert_eq!(new(top, 1), Err(RegionError::Wraps));
        assert!(new(top - 0x1000, 1).is_ok());
        assert!(matches!(new(0, 1 << 52), Err(RegionError::Wraps)));
        assert!(matches!(new(0, u64::MAX), Err(RegionError::Wraps)));
    }

    #[test]
    fn bytes_and_bounds() {
        let at = Ipa::new(0x2000);
        assert_eq!(
            IpaRegion::from_bytes(at, 0x1001),
            Err(RegionError::MisalignedLength)
        );
        assert_eq!(IpaRegion::from_bytes(at, 0), Err(RegionError::Empty));
        let r = IpaRegion::from_bytes(at, 0x3000).unwrap();
        assert_eq!(
            (r.base(), r.end(), r.last(), r.bytes()),
            (at, Ipa::new(0x5000), Ipa::new(0x4fff), 0x3000)
        );
        assert_eq!(r.pages(), PageCount::new(3));
        assert_eq!(IpaRegion::between(at, Ipa::new(0x5000)), Ok(r));
        assert_eq!(
            IpaRegion::between(at, Ipa::new(0x1000)),
            Err(RegionError::Empty)
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
        assert_eq!(cover(0x1000, 0), Err(RegionError::Empty));
        assert!(matches!(cover(0x1001, u64::MAX), Err(RegionError::Wraps)));
        assert!(matches!(
            cover(0x1fff, u64::MAX - 2),
            Err(RegionError::Wraps)
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
                assert_eq!(a.intersection(b).is_some(), a.overlaps(b));
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

    /// What is asked for often takes two words, with and without an answer.
    #[test]
    fn an_option_is_as_large_as_a_region() {
        assert_eq!(size_of::<Option<HostRegion>>(), 16);
        assert_eq!(size_of::<Result<IpaRegion, RegionError>>(), 16);
    }

    #[test]
    fn errors_have_words() {
        let said = |base, bytes| {
            IpaRegion::from_bytes(Ipa::new(base), bytes)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(said(0x1000, 0), "the region is empty");
        assert_eq!(said(0x1234, 0x1000), "the base is not on a page boundary");
        assert_eq!(
            said(0x1000, 0x123),
            "the length is not a whole number of pages"
        );
        assert_eq!(said(!0xfff, 0x2000), "the region leaves the address space");
    }
}
