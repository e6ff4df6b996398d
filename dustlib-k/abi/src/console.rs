//! The console-write call.

use crate::Status;

/// The longest text one call takes: a page, so that EL2 copies a bounded amount per exit.
pub const MAX_LEN: u64 = 4096;

/// A request to print bytes. `x1` = guest physical address of the first byte, `x2` = length, at
/// most [`MAX_LEN`]. The answer: `x0` = status, `x1` = bytes taken.
///
/// Success does not mean that all were taken. EL2 stops behind the first byte that ends a line, or sooner, since a line may
/// take long to print; of a text that is not empty it takes at least one. The caller goes on with the rest.
///
/// The bytes may be any: EL2 shows what is not printable escaped, ends an unfinished line only when
/// its newline arrives or the machine ends, and puts the guest's name before each line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConsoleWrite {
    address: u64,
    len: u64,
}

impl ConsoleWrite {
    /// Shapes a request.
    ///
    /// # Errors
    /// [`Status::InvalidParameters`] when the length is over [`MAX_LEN`] or the range wraps around
    /// the end of the address space.
    pub const fn new(address: u64, len: u64) -> Result<Self, Status> {
        if len > MAX_LEN || address.checked_add(len).is_none() {
            return Err(Status::InvalidParameters);
        }
        Ok(Self { address, len })
    }

    /// Reads the request out of `x1` and `x2`. Whether the caller owns the memory is still open.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub const fn from_arguments(x1: u64, x2: u64) -> Result<Self, Status> {
        Self::new(x1, x2)
    }

    /// The request as `x1` and `x2`.
    #[must_use]
    pub const fn to_arguments(self) -> [u64; 2] {
        [self.address, self.len]
    }

    /// Guest physical address of the first byte.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Number of bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Whether there is nothing to print.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Reads the answer: how many bytes were taken, never more than were offered.
    ///
    /// # Errors
    /// The status, when it is not success; [`Status::NotSupported`] when `x0` is no status at all
    /// or the count is impossible, since then whoever answered does not speak this ABI.
    pub fn taken(self, x0: u64, x1: u64) -> Result<u64, Status> {
        Status::from_register(x0)
            .ok_or(Status::NotSupported)?
            .ok()?;
        if x1 > self.len {
            return Err(Status::NotSupported);
        }
        Ok(x1)
    }
}

const _: () = assert!(size_of::<ConsoleWrite>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_registers() {
        for (address, len) in [(0, 0), (0x4000_0123, 1), (0x4000_0000, MAX_LEN)] {
            let request = ConsoleWrite::new(address, len).unwrap();
            let [x1, x2] = request.to_arguments();
            assert_eq!(ConsoleWrite::from_arguments(x1, x2), Ok(request));
            assert_eq!((request.address(), request.len()), (address, len));
            assert_eq!(request.is_empty(), len == 0);
        }
    }

    #[test]
    fn too_long_and_wrapping_requests_have_no_shape() {
        for (x1, x2) in [
            (0, MAX_LEN + 1),
            (0, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX - 4095, 4096),
        ] {
            assert_eq!(
                ConsoleWrite::from_arguments(x1, x2),
                Err(Status::InvalidParameters),
                "{x1:#x} {x2:#x}"
            );
        }
        assert!(ConsoleWrite::new(u64::MAX - 4096, 4096).is_ok());
    }

    #[test]
    fn answers_are_not_believed_blindly() {
        let request = ConsoleWrite::new(0x4000_0000, 10).unwrap();
        let success = Status::Success.to_register();
        assert_eq!(request.taken(success, 10), Ok(10));
        assert_eq!(request.taken(success, 3), Ok(3));
        assert_eq!(request.taken(success, 11), Err(Status::NotSupported));
        assert_eq!(request.taken(77, 0), Err(Status::NotSupported));
        assert_eq!(
            request.taken(Status::InvalidParameters.to_register(), 0),
            Err(Status::InvalidParameters)
        );
    }
}
