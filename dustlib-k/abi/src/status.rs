//! The one status type of the ABI.

use core::fmt;

/// How a call ended, as `x0` carries it.
///
/// Closed on purpose: a value outside this list is not a status, and
/// [`from_register`](Self::from_register) says so instead of guessing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(i64)]
pub enum Status {
    /// The call did what was asked.
    Success = 0,
    /// There is no such call here. Also what firmware without XDV answers (DEN0028).
    NotSupported = -1,
    /// An argument is out of range, or names memory the caller does not own.
    InvalidParameters = -2,
    /// The caller may not ask for this.
    Denied = -3,
}

const _: () = assert!(size_of::<Status>() == 8);

impl Status {
    /// Every status.
    pub const ALL: [Self; 4] = [
        Self::Success,
        Self::NotSupported,
        Self::InvalidParameters,
        Self::Denied,
    ];

    /// The signed value.
    #[must_use]
    pub const fn to_i64(self) -> i64 {
        match self {
            Self::Success => 0,
            Self::NotSupported => -1,
            Self::InvalidParameters => -2,
            Self::Denied => -3,
        }
    }

    /// The status with this value, if there is one.
    #[must_use]
    pub const fn from_i64(value: i64) -> Option<Self> {
        match value {
            0 => Some(Self::Success),
            -1 => Some(Self::NotSupported),
            -2 => Some(Self::InvalidParameters),
            -3 => Some(Self::Denied),
            _ => None,
        }
    }

    /// The status as `x0` carries it.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.to_i64().cast_unsigned()
    }

    /// Reads a status out of `x0`.
    #[must_use]
    pub const fn from_register(x0: u64) -> Option<Self> {
        Self::from_i64(x0.cast_signed())
    }

    /// `Ok` for [`Success`](Self::Success), the status itself as the error otherwise.
    ///
    /// # Errors
    /// Every status but `Success`.
    pub const fn ok(self) -> Result<(), Self> {
        match self {
            Self::Success => Ok(()),
            Self::NotSupported | Self::InvalidParameters | Self::Denied => Err(self),
        }
    }
}

impl From<Status> for i64 {
    fn from(status: Status) -> Self {
        status.to_i64()
    }
}

impl TryFrom<i64> for Status {
    type Error = UnknownStatus;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        Self::from_i64(value).ok_or(UnknownStatus(value))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success",
            Self::NotSupported => "not supported",
            Self::InvalidParameters => "invalid parameters",
            Self::Denied => "denied",
        })
    }
}

/// A register value that is not a [`Status`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownStatus(pub i64);

impl fmt::Display for UnknownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a status of the XDV ABI", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_status_survives_the_register() {
        for status in Status::ALL {
            assert_eq!(Status::from_register(status.to_register()), Some(status));
            assert_eq!(Status::try_from(i64::from(status)), Ok(status));
            assert_eq!(status as i64, status.to_i64(), "repr and conversion agree");
            assert_eq!(status.ok().is_ok(), status == Status::Success);
            assert!(!status.to_string().is_empty());
        }
    }

    #[test]
    fn the_values_are_pinned() {
        assert_eq!(Status::NotSupported.to_register(), 0xFFFF_FFFF_FFFF_FFFF);
        assert_eq!(
            Status::InvalidParameters.to_register(),
            0xFFFF_FFFF_FFFF_FFFE
        );
        assert_eq!(Status::Denied.to_i64(), -3);
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for value in [1, -4, i64::MAX, i64::MIN, 0xFFFF_FFFF] {
            assert_eq!(Status::try_from(value), Err(UnknownStatus(value)));
            assert!(
                UnknownStatus(value)
                    .to_string()
                    .contains(&value.to_string())
            );
        }
    }
}
