//! What becomes of a guest that fails.

/// What EL2 does with a guest that crashed: that stopped itself with an error, that EL2 stopped, or that hangs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCrash {
    /// It ends.
    #[default]
    Stop,
    /// It starts anew, from scrubbed memory.
    Restart,
    /// It stays as it is, not running, for a person to look at.
    Hold,
}

/// The shortest time after which a watchdog calls a guest hung, in milliseconds.
pub const MIN_WATCHDOG_MS: u32 = 100;
/// The longest: an hour.
pub const MAX_WATCHDOG_MS: u32 = 3_600_000;

impl OnCrash {
    /// The number that stands for it in a plan.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Stop => 0,
            Self::Restart => 1,
            Self::Hold => 2,
        }
    }

    /// What this number stands for.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Stop),
            1 => Some(Self::Restart),
            2 => Some(Self::Hold),
            _ => None,
        }
    }
}
