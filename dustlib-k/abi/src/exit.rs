//! The exit call.

/// Why a machine ended, in its own words. `w1` of the exit call.
///
/// Zero is the good end. The other values are the guest's to choose; those named here are the
/// XDV guest kernel's, so that a report can be read without its source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExitCode(pub u32);

const _: () = assert!(size_of::<ExitCode>() == 4);

impl ExitCode {
    /// The machine did what it was for.
    pub const SUCCESS: Self = Self(0);
    /// The guest kernel panicked.
    pub const PANIC: Self = Self(101);
    /// The guest kernel took an exception it has no answer to.
    pub const EXCEPTION: Self = Self(102);

    /// Reads the code out of `x1`; the upper half is ignored, as for every 32-bit argument.
    #[must_use]
    pub const fn from_register(x1: u64) -> Self {
        let [b0, b1, b2, b3, ..] = x1.to_le_bytes();
        Self(u32::from_le_bytes([b0, b1, b2, b3]))
    }

    /// The code as `x1` carries it.
    #[must_use]
    pub fn to_register(self) -> u64 {
        u64::from(self.0)
    }

    /// Whether this is the good end.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_the_register() {
        for code in [0, 1, 101, u32::MAX] {
            let code = ExitCode(code);
            assert_eq!(ExitCode::from_register(code.to_register()), code);
        }
        assert_eq!(ExitCode::from_register(0xFFFF_FFFF_0000_0007), ExitCode(7));
    }

    #[test]
    fn only_zero_is_good() {
        assert!(ExitCode::SUCCESS.is_success());
        assert!(!ExitCode::PANIC.is_success() && !ExitCode::EXCEPTION.is_success());
    }
}
