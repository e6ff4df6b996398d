//! What goes wrong on purpose, for who writes a driver and wants to know what it does then.
//!
//! Nothing of it is in the way of devices without faults: a disk with faults is another disk ([`FaultyDisk`]), and a device
//! with faults another device ([`FaultyDevice`]), each around the real one.
//!
//! Whether the nth request of a device has a fault is a function of the seed, the kind of fault and n, and of nothing else.
//! So the same requests have the same faults, however long anything took, and one kind's rate does not change where
//! another one strikes. Time comes from [`Env`](crate::device::Env) alone.
//!
//! What is to go wrong can be said exactly as well: a [`Script`] names the request, and strikes whatever chance says.

mod device;
mod disk;
mod script;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use device::{FaultyDevice, Link};
pub use disk::{FaultyDisk, MAX_HELD};
pub use script::{MAX_STRIKES, Script, Strike};

/// How often something goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Often {
    /// So many times in a million.
    Rate(u32),
    /// The nth time, counted from 0, and then each `every`th time after it; once, if that is 0.
    From {
        /// The first time.
        nth: u64,
        /// How many times later the next one is.
        every: u64,
    },
}

impl Often {
    /// It does not happen.
    pub const NEVER: Self = Self::Rate(0);
    /// It happens each time.
    pub const ALWAYS: Self = Self::Rate(1_000_000);
}

/// What goes wrong, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// What chance depends on. Devices of one guest have seeds of their own.
    pub seed: u64,
    /// A request is finished late, or a notification served late: by up to 10 ms.
    pub delay: Often,
    /// A request does half of its work and fails.
    pub short: Often,
    /// A request fails, and nothing was done.
    pub error: Often,
    /// A request is never finished, or what is sent by one notification is lost.
    pub drop: Often,
    /// A request is finished after one that came later, or 10 ms later if none does.
    pub reorder: Often,
    /// The driver is not told of what was finished.
    pub interrupt: Often,
    /// The link is down for up to 100 ms.
    pub link: Often,
    /// The device needs a reset.
    pub reset: Often,
    /// What goes wrong besides, and exactly when.
    pub script: Script,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        seed: 0,
        delay: Often::NEVER,
        short: Often::NEVER,
        error: Often::NEVER,
        drop: Often::NEVER,
        reorder: Often::NEVER,
        interrupt: Often::NEVER,
        link: Often::NEVER,
        reset: Often::NEVER,
        script: Script::NONE,
    };

    /// The same with a seed of its own, for one of a guest's devices.
    #[must_use]
    pub const fn of(self, device: u64) -> Self {
        Self {
            seed: mix(self.seed ^ mix(device)),
            ..self
        }
    }

    const fn often(&self, kind: Kind) -> Often {
        match kind {
            Kind::Delay => self.delay,
            Kind::Short => self.short,
            Kind::Error => self.error,
            Kind::Drop => self.drop,
            Kind::Reorder => self.reorder,
            Kind::Interrupt => self.interrupt,
            Kind::Link => self.link,
            Kind::Reset => self.reset,
        }
    }

    /// Whether there is such a fault at all.
    fn has(&self, kind: Kind) -> bool {
        self.often(kind) != Often::NEVER || self.script.has(kind)
    }

    /// Whether it happens the nth time.
    fn hit(&self, kind: Kind, nth: u64) -> bool {
        self.script.hits(kind, nth) || self.dice().hits(self.often(kind), kind, nth)
    }

    const fn dice(&self) -> Dice {
        Dice { seed: self.seed }
    }
}

/// Kinds of faults. Chance has numbers of its own for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Something is late.
    Delay = 1,
    /// A request does half of its work and fails.
    Short,
    /// A request fails.
    Error,
    /// A request is never finished, or what is sent is lost.
    Drop,
    /// A request is finished after a later one.
    Reorder,
    /// The driver is not told.
    Interrupt,
    /// The link is down for a while.
    Link,
    /// The device needs a reset.
    Reset,
}

/// The kind of chance that says how long something takes.
const HOW_LONG: u64 = 9;

/// Chance, for one device.
#[derive(Clone, Copy)]
struct Dice {
    seed: u64,
}

impl Dice {
    /// Any number, for the nth time of something.
    const fn roll(self, kind: u64, nth: u64) -> u64 {
        mix(mix(self.seed ^ kind).wrapping_add(nth))
    }

    /// Whether it happens the nth time.
    fn hits(self, often: Often, kind: Kind, nth: u64) -> bool {
        match often {
            Often::Rate(rate) => {
                let draw = (u128::from(self.roll(kind as u64, nth)) * 1_000_000) >> 64;
                draw < u128::from(rate)
            }
            Often::From { nth: first, every } => match nth.checked_sub(first) {
                None => false,
                Some(0) => true,
                Some(later) => later.checked_rem(every) == Some(0),
            },
        }
    }

    /// A time up to such a part of a second as there are so many of, in ticks.
    fn time(self, nth: u64, frequency: u64, per_second: u64) -> u64 {
        let most = frequency / per_second;
        let share = u64::from(self.roll(HOW_LONG, nth).to_le_bytes()[0]) + 1;
        (most.saturating_mul(share) / 256).max(1)
    }
}

/// Steele, Lea and Flood's `SplitMix64`, one step: every bit of the result depends on every bit of the number.
const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// What a device and its disk, both with faults, know of time: the device says what it is, and the disk when it wants to be
/// asked. Both are under the device's lock.
#[derive(Debug)]
pub struct Clock {
    now: AtomicU64,
    frequency: AtomicU64,
    due: AtomicU64,
}

impl Clock {
    /// Time has not begun.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            frequency: AtomicU64::new(1),
            due: AtomicU64::new(u64::MAX),
        }
    }

    fn set(&self, now: u64, frequency: u64) {
        self.now.store(now, Relaxed);
        self.frequency.store(frequency, Relaxed);
    }

    fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    fn frequency(&self) -> u64 {
        self.frequency.load(Relaxed)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
