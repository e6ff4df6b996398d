//! The two kinds of address and the count of pages.

use core::fmt;
use core::hash::Hash;

use crate::{PAGE_SHIFT, PAGE_SIZE};

/// What [`Region`](crate::Region) needs of an address. Implemented by [`Ipa`] and [`HostPhys`] only.
pub trait Address: Copy + Ord + Hash + fmt::Debug + fmt::LowerHex {
    /// The address with this numeric value.
    fn from_raw(raw: u64) -> Self;
    /// The numeric value, for registers, descriptors and reports.
    fn to_raw(self) -> u64;
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this numeric value.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The numeric value, for registers, descriptors and reports.
            #[must_use]
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// This address moved up by `bytes`, unless that leaves the 64-bit space.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// This address moved down by `bytes`, unless that passes zero.
            #[must_use]
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// Bytes from `lower` up to this address, unless `lower` is above it.
            #[must_use]
            pub const fn offset_from(self, lower: Self) -> Option<u64> {
                self.0.checked_sub(lower.0)
            }

            /// Whether the address is a multiple of `align`. No address is a multiple of zero.
            #[must_use]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0.is_multiple_of(align) && align != 0
            }

            /// The first byte of the page this address is in.
            #[must_use]
            pub const fn page_floor(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// The distance from the first byte of its page, below [`PAGE_SIZE`].
            #[must_use]
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
        }

        impl Address for $name {
            fn from_raw(raw: u64) -> Self {
                Self(raw)
            }
            fn to_raw(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// An intermediate physical address: what a guest believes is physical.
    Ipa
}

address! {
    /// A physical address of the real machine.
    HostPhys
}

/// A number of 4 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct PageCount(u64);

impl PageCount {
    /// No pages.
    pub const ZERO: Self = Self(0);
    /// One page.
    pub const ONE: Self = Self(1);

    /// So many pages.
    #[must_use]
    pub const fn new(pages: u64) -> Self {
        Self(pages)
    }

    /// The pages that `bytes` fill exactly, or `None` when they do not fill the last one.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        if bytes.is_multiple_of(PAGE_SIZE) {
            Some(Self(bytes >> PAGE_SHIFT))
        } else {
            None
        }
    }

    /// The pages needed to hold `bytes`.
    #[must_use]
    pub const fn covering(bytes: u64) -> Self {
        Self(bytes.div_ceil(PAGE_SIZE))
    }

    /// The number itself.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// How many bytes that is, unless a `u64` cannot hold it.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        self.0.checked_mul(PAGE_SIZE)
    }

    /// The sum, unless it wraps.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(pages) => Some(Self(pages)),
            None => None,
        }
    }

    /// The difference, unless `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(pages) => Some(Self(pages)),
            None => None,
        }
    }
}

impl fmt::Display for PageCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn arithmetic_never_leaves_the_address_space() {
        let top = Ipa::new(u64::MAX);
        assert_eq!(top.checked_add(1), None);
        assert_eq!(top.checked_add(0), Some(top));
        assert_eq!(Ipa::new(4).checked_sub(5), None);
        assert_eq!(Ipa::new(5).checked_sub(5), Some(Ipa::new(0)));
        assert_eq!(HostPhys::new(9).offset_from(HostPhys::new(4)), Some(5));
        assert_eq!(HostPhys::new(4).offset_from(HostPhys::new(9)), None);
    }

    #[test]
    fn pages_and_alignment() {
        let a = HostPhys::new(0x4000_1234);
        assert_eq!(a.page_floor(), HostPhys::new(0x4000_1000));
        assert_eq!(a.page_offset(), 0x234);
        assert!(a.is_aligned(4));
        assert!(!a.is_aligned(8));
        assert!(
            !a.is_aligned(0),
            "zero divides nothing, and must not divide here"
        );
        assert!(!HostPhys::new(0).is_aligned(0));
    }

    #[test]
    fn reports_are_hexadecimal() {
        assert_eq!(format!("{}", Ipa::new(0x4000)), "0x4000");
        assert_eq!(format!("{:?}", Ipa::new(0x4000)), "Ipa(0x4000)");
        assert_eq!(format!("{:#x}", HostPhys::new(0xabc)), "0xabc");
        assert_eq!(format!("{:x}", HostPhys::new(0xabc)), "abc");
        assert_eq!(format!("{}", PageCount::new(12)), "12");
    }

    #[test]
    fn the_trait_agrees_with_the_inherent_functions() {
        assert_eq!(<Ipa as Address>::from_raw(7), Ipa::new(7));
        assert_eq!(Address::to_raw(HostPhys::new(7)), 7);
    }

    #[test]
    fn counts_are_exact_or_refused() {
        assert_eq!(PageCount::from_bytes(8192), Some(PageCount::new(2)));
        assert_eq!(PageCount::from_bytes(8191), None);
        assert_eq!(PageCount::covering(8193), PageCount::new(3));
        assert_eq!(PageCount::covering(0), PageCount::ZERO);
        assert_eq!(PageCount::covering(u64::MAX), PageCount::new(1 << 52));
        assert_eq!(PageCount::new(1 << 52).bytes(), None);
        assert_eq!(PageCount::ONE.bytes(), Some(4096));
        assert_eq!(PageCount::new(u64::MAX).checked_add(PageCount::ONE), None);
        assert_eq!(
            PageCount::new(2).checked_add(PageCount::ONE),
            Some(PageCount::new(3))
        );
        assert_eq!(PageCount::new(2).checked_sub(PageCount::new(3)), None);
        assert_eq!(
            PageCount::new(2).checked_sub(PageCount::new(2)),
            Some(PageCount::ZERO)
        );
    }
}
