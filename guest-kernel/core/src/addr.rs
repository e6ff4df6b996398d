//! Addresses as the guest sees them.

use core::fmt;

/// A guest physical address. The kernel maps its memory one to one, so it is a virtual address too;
/// `guest-kernel-arch` alone turns one into a pointer.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GuestPhys(u64);

impl GuestPhys {
    /// Names an address.
    #[must_use]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on, unless that wraps.
    #[must_use]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The address rounded down to a multiple of `align`, a power of two.
    #[must_use]
    pub const fn align_down(self, align: u64) -> Self {
        debug_assert!(align.is_power_of_two());
        Self(self.0 & !(align - 1))
    }

    /// The address rounded up to a multiple of `align`, a power of two, unless that wraps.
    #[must_use]
    pub const fn align_up(self, align: u64) -> Option<Self> {
        match self.checked_add(align - 1) {
            Some(sum) => Some(sum.align_down(align)),
            None => None,
        }
    }

    /// Whether the address is a multiple of `align`, a power of two.
    #[must_use]
    pub const fn is_aligned(self, align: u64) -> bool {
        self.0 & (align - 1) == 0
    }
}

impl fmt::Debug for GuestPhys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for GuestPhys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A range of guest physical addresses that does not wrap.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct PhysRange {
    start: GuestPhys,
    end: GuestPhys,
}

impl PhysRange {
    /// `len` bytes from `start`, unless that wraps.
    #[must_use]
    pub const fn new(start: GuestPhys, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// From `start` up to, not including, `end`; empty when `end` comes first.
    #[must_use]
    pub fn between(start: GuestPhys, end: GuestPhys) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// The first address.
    #[must_use]
    pub const fn start(self) -> GuestPhys {
        self.start
    }

    /// The address after the last.
    #[must_use]
    pub const fn end(self) -> GuestPhys {
        self.end
    }

    /// The length in bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether the range holds no address.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether the address lies in the range.
    #[must_use]
    pub fn contains(self, address: GuestPhys) -> bool {
        self.start <= address && address < self.end
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The range grown outwards to multiples of `align`, unless that wraps.
    #[must_use]
    pub fn grow_to(self, align: u64) -> Option<Self> {
        Some(Self::between(
            self.start.align_down(align),
            self.end.align_up(align)?,
        ))
    }

    /// The range shrunk inwards to multiples of `align`; empty when nothing whole is left.
    #[must_use]
    pub fn shrink_to(self, align: u64) -> Self {
        let start = self.start.align_up(align).unwrap_or(self.end);
        Self::between(start, self.end.align_down(align))
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::between(GuestPhys::new(start), GuestPhys::new(end))
    }

    #[test]
    fn rounding_goes_the_right_way_and_never_wraps() {
        let a = GuestPhys::new(0x1001);
        assert_eq!(a.align_down(0x1000), GuestPhys::new(0x1000));
        assert_eq!(a.align_up(0x1000), Some(GuestPhys::new(0x2000)));
        assert_eq!(GuestPhys::new(u64::MAX).align_up(0x1000), None);
        assert!(GuestPhys::new(0x2000).is_aligned(0x1000) && !a.is_aligned(2));
        assert_eq!(PhysRange::new(GuestPhys::new(u64::MAX), 2), None);
        assert_eq!(a.to_string(), "0x1001");
    }

    #[test]
    fn ranges_know_their_neighbours() {
        let r = range(0x1000, 0x3000);
        assert!(r.contains(GuestPhys::new(0x1000)) && !r.contains(GuestPhys::new(0x3000)));
        assert!(r.overlaps(range(0x2FFF, 0x9000)) && !r.overlaps(range(0x3000, 0x4000)));
        assert!(
            !r.overlaps(range(0x2000, 0x2000)),
            "an empty range overlaps nothing"
        );
        assert_eq!((r.len(), range(5, 1).is_empty()), (0x2000, true));
        assert_eq!(format!("{r:?}"), "0x1000..0x3000");
    }

    #[test]
    fn growing_and_shrinking_keep_to_the_alignment() {
        assert_eq!(
            range(0x1001, 0x2001).grow_to(0x1000),
            Some(range(0x1000, 0x3000))
        );
        assert_eq!(
            range(0x1001, 0x3001).shrink_to(0x1000),
            range(0x2000, 0x3000)
        );
        assert!(range(0x1001, 0x1FFF).shrink_to(0x1000).is_empty());
        assert!(range(u64::MAX - 1, u64::MAX).shrink_to(0x1000).is_empty());
        assert_eq!(range(0, u64::MAX).grow_to(0x1000), None);
    }
}
