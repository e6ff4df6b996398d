//! QEMU's version, as it tells it.

use std::fmt;

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 10 in 10.0.2.
    pub major: u32,
    /// 0 in 10.0.2.
    pub minor: u32,
    /// 2 in 10.0.2.
    pub patch: u32,
}

impl Version {
    /// Older ones lack what XDV needs of `virt`.
    pub const OLDEST: Self = Self {
        major: 7,
        minor: 2,
        patch: 0,
    };

    /// Reads `QEMU emulator version 7.2.22 (Debian …)`.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.lines().next()?.split_once("version ")?;
        let numbers = rest
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()?;
        let mut parts = numbers.split('.').map(|part| part.parse::<u32>());
        let major = parts.next()?.ok()?;
        let minor = parts.next()?.ok()?;
        let patch = parts.next().and_then(Result::ok).unwrap_or(0);
        Some(Self {
            major,
            minor,
            patch,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_ubuntu_and_plain_versions_are_read() {
        let read = |text| Version::parse(text).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(
            read("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright"),
            Some((7, 2, 22))
        );
        assert_eq!(read("QEMU emulator version 10.0.2"), Some((10, 0, 2)));
        assert_eq!(read("QEMU emulator version 9.1"), Some((9, 1, 0)));
        assert_eq!(read("QEMU emulator version 8.2.0-rc1"), Some((8, 2, 0)));
        assert_eq!(read("bash: not found"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn what_is_too_old_is_known() {
        let old = |text| Version::parse(text).is_some_and(|v| v < Version::OLDEST);
        assert!(old(
            "QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6)"
        ));
        assert!(!old("QEMU emulator version 7.2.0"));
        assert!(!old("QEMU emulator version 10.0.2"));
    }
}
