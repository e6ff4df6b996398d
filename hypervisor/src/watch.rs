//! A machine's watchdog: whether any of its lanes has given a sign of life.
//!
//! A sign of life is an exit of a lane's own: a trap, a call, an interrupt it was given. A lane that waits for an
//! interrupt, is off or has not had the CPU owes none. What counts against a machine is time in which a lane ran and
//! nothing came of it: the timer's interrupt not taken, nothing asked of anybody.

use core::sync::atomic::{AtomicU64, Ordering};

/// What a machine's lanes share of it. Times are counts.
#[derive(Debug)]
pub struct Watchdog {
    /// Without a sign for so long it hangs; 0 for no watchdog.
    patience: u64,
    seen: AtomicU64,
}

/// What one lane's CPU remembers since it last looked.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    exits: u64,
    ran: u64,
    look_at: u64,
}

/// How often a lane is looked at while its machine's patience lasts.
const LOOKS: u64 = 4;

impl Watchdog {
    /// One with so much patience, in ticks; none without.
    pub const fn new(patience: Option<u64>) -> Self {
        Self {
            patience: match patience {
                Some(ticks) => ticks,
                None => 0,
            },
            seen: AtomicU64::new(0),
        }
    }

    /// Whether there is one.
    pub const fn is_on(&self) -> bool {
        self.patience != 0
    }

    /// A life begins.
    pub fn begin(&self, now: u64) {
        self.seen.store(now, Ordering::Relaxed);
    }

    /// For how long it has been silent, once that is too long.
    pub fn hangs(&self, now: u64) -> Option<u64> {
        let silent = now.saturating_sub(self.seen.load(Ordering::Relaxed));
        (self.is_on() && silent >= self.patience).then_some(silent)
    }
}

impl Signs {
    /// A lane that nobody has looked at yet.
    pub const NONE: Self = Self {
        exits: 0,
        ran: 0,
        look_at: 0,
    };

    /// When the lane has to be looked at next.
    pub const fn look_at(&self) -> u64 {
        self.look_at
    }

    /// Looks at a lane: the exits of its own so far, the ticks that it ran, and whether it wants to run at all.
    pub fn look(&mut self, dog: &Watchdog, exits: u64, ran: u64, busy: bool, now: u64) {
        if now < self.look_at {
            return;
        }
        if !busy || exits != self.exits || ran == self.ran {
            dog.seen.fetch_max(now, Ordering::Relaxed);
        }
        *self = Self {
            exits,
            ran,
            look_at: now.saturating_add(dog.patience / LOOKS),
        };
    }
}
