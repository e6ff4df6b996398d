//! Which ABI is spoken.

use core::fmt;

/// The version that this crate describes.
pub const CURRENT: Version = Version { major: 1, minor: 1 };

/// [`CURRENT`] as `x0` of the version call carries it.
pub const CURRENT_WORD: u32 = CURRENT.to_word();

/// An ABI version. A caller may rely on every minor version below the one it gets; a different
/// major version is a different ABI.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// Changes when something that worked stops working.
    pub major: u16,
    /// Changes when something is added.
    pub minor: u16,
}

const _: () = assert!(size_of::<Version>() == 4);

impl Version {
    /// Packs the version as `major << 16 | minor`.
    #[must_use]
    pub const fn to_word(self) -> u32 {
        let [m1, m0] = self.major.to_be_bytes();
        let [n1, n0] = self.minor.to_be_bytes();
        u32::from_be_bytes([m1, m0, n1, n0])
    }

    /// Reads the version out of a word.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        let [m1, m0, n1, n0] = word.to_be_bytes();
        Self {
            major: u16::from_be_bytes([m1, m0]),
            minor: u16::from_be_bytes([n1, n0]),
        }
    }

    /// Whether a program built against `wanted` runs on `self`.
    #[must_use]
    pub const fn satisfies(self, wanted: Self) -> bool {
        self.major == wanted.major && self.minor >= wanted.minor
    }

    /// Reads the version call's answer: `None` when there is no XDV (a negative status, or a value
    /// wider than a version).
    #[must_use]
    pub fn from_register(x0: u64) -> Option<Self> {
        // NOT_SUPPORTED comes back sign-extended over all of x0, or (from a 32-bit implementation)
        // over w0 only; a major version with its top bit set is therefore never given out.
        let word = u32::try_from(x0).ok()?;
        (word.cast_signed() >= 0).then(|| Self::from_word(word))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Optional parts of the ABI, `x1` of the version call. Each bit names one; none is defined yet,
/// and a caller ignores bits it does not know.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features(u64);

const _: () = assert!(size_of::<Features>() == 8);

impl Features {
    /// No optional part.
    pub const NONE: Self = Self(0);

    /// The set as a register carries it.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.0
    }

    /// Reads the set out of a register, unknown bits included.
    #[must_use]
    pub const fn from_register(x1: u64) -> Self {
        Self(x1)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_current_version_is_pinned() {
        assert_eq!(CURRENT_WORD, 0x0001_0001);
        assert_eq!(CURRENT.to_string(), "1.1");
    }

    #[test]
    fn words_and_versions_are_the_same_thing() {
        for word in [0, 1, 0x0001_0000, 0x7FFF_FFFF, 0x1234_5678] {
            assert_eq!(Version::from_word(word).to_word(), word);
            assert_eq!(
                Version::from_register(u64::from(word)),
                Some(Version::from_word(word))
            );
        }
    }

    #[test]
    fn firmware_without_xdv_is_recognised() {
        assert_eq!(Version::from_register(u64::MAX), None);
        assert_eq!(Version::from_register(0xFFFF_FFFF), None);
        assert_eq!(Version::from_register(0x1_0000_0000), None);
    }

    #[test]
    fn newer_minor_versions_serve_older_programs() {
        let v = |major, minor| Version { major, minor };
        assert!(v(1, 2).satisfies(v(1, 0)));
        assert!(!v(1, 0).satisfies(v(1, 1)));
        assert!(!v(2, 0).satisfies(v(1, 0)));
    }

    #[test]
    fn features_keep_unknown_bits() {
        assert_eq!(Features::default(), Features::NONE);
        assert_eq!(Features::from_register(6).to_register(), 6);
    }
}
