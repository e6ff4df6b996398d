//! Which call a function identifier names.

use crate::hvc;

/// A call of XDV's range.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u32)]
pub enum Call {
    /// [`hvc::CALL_COUNT`]
    CallCount = hvc::CALL_COUNT,
    /// [`hvc::UID`]
    Uid = hvc::UID,
    /// [`hvc::REVISION`]
    Revision = hvc::REVISION,
    /// [`hvc::VERSION`]
    Version = hvc::VERSION,
    /// [`hvc::CONSOLE_WRITE`]
    ConsoleWrite = hvc::CONSOLE_WRITE,
    /// [`hvc::EXIT`]
    Exit = hvc::EXIT,
    /// [`hvc::YIELD_TO`]
    YieldTo = hvc::YIELD_TO,
}

const _: () = assert!(size_of::<Call>() == 4);

impl Call {
    /// Every call, in the order of [`hvc::ALL`].
    pub const ALL: [Self; 7] = [
        Self::CallCount,
        Self::Uid,
        Self::Revision,
        Self::Version,
        Self::ConsoleWrite,
        Self::Exit,
        Self::YieldTo,
    ];

    /// The function identifier.
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::CallCount => hvc::CALL_COUNT,
            Self::Uid => hvc::UID,
            Self::Revision => hvc::REVISION,
            Self::Version => hvc::VERSION,
            Self::ConsoleWrite => hvc::CONSOLE_WRITE,
            Self::Exit => hvc::EXIT,
            Self::YieldTo => hvc::YIELD_TO,
        }
    }

    /// The call that `w0` names; `None` is for the caller to answer with
    /// [`Status::NotSupported`](crate::Status::NotSupported).
    #[must_use]
    #[inline]
    pub const fn from_id(w0: u32) -> Option<Self> {
        match w0 {
            hvc::CALL_COUNT => Some(Self::CallCount),
            hvc::UID => Some(Self::Uid),
            hvc::REVISION => Some(Self::Revision),
            hvc::VERSION => Some(Self::Version),
            hvc::CONSOLE_WRITE => Some(Self::ConsoleWrite),
            hvc::EXIT => Some(Self::Exit),
            hvc::YIELD_TO => Some(Self::YieldTo),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identifier_of_the_range_names_its_call() {
        for (call, id) in Call::ALL.into_iter().zip(hvc::ALL) {
            assert_eq!(call.id(), id);
            assert_eq!(call as u32, id);
            assert_eq!(Call::from_id(id), Some(call));
        }
    }

    #[test]
    fn nothing_else_in_the_owner_range_does() {
        let known = (0x8600_0000..=0x8600_FFFF)
            .chain(0xC600_0000..=0xC600_FFFFu32)
            .filter(|id| Call::from_id(*id).is_some())
            .count();
        assert_eq!(known, hvc::ALL.len());
    }
}
