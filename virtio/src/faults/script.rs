//! Faults at exactly this request, and no other one.

use super::Kind;

/// The most of them for one device.
pub const MAX_STRIKES: usize = 16;

/// A fault of some requests one after the other; of a device that is no disk, of notifications; or of interrupts. They are
/// counted from the machine's start, whatever the driver resets, each queue's with the others'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strike {
    /// What goes wrong.
    pub kind: Kind,
    /// The first time, counted from 0.
    pub first: u64,
    /// How many times.
    pub count: u64,
}

/// All that is to go wrong exactly so with one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Script([Option<Strike>; MAX_STRIKES]);

impl Script {
    /// Nothing.
    pub const NONE: Self = Self([None; MAX_STRIKES]);

    /// One more; false if there is no room for it.
    pub fn add(&mut self, strike: Strike) -> bool {
        let free = self.0.iter_mut().find(|place| place.is_none());
        free.map(|place| *place = Some(strike)).is_some()
    }

    /// Whether there is such a fault in it.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().flatten().any(|strike| strike.kind == kind)
    }

    pub(super) fn hits(&self, kind: Kind, nth: u64) -> bool {
        let of_kind = |strike: &&Strike| strike.kind == kind;
        let mut strikes = self.0.iter().flatten().filter(of_kind);
        strikes.any(|strike| {
            let later = nth.checked_sub(strike.first);
            later.is_some_and(|later| later < strike.count)
        })
    }
}
