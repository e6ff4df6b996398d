//! Who still runs. A machine ends once, whichever of its lanes says so first.

use core::sync::atomic::{AtomicU32, Ordering};

/// How many machines have not ended yet, counted by all CPUs at once.
#[derive(Debug)]
pub struct Roster {
    running: AtomicU32,
}

/// The ending that only the first of several competing lanes gets to announce.
#[derive(Debug)]
pub struct Once {
    ended: AtomicU32,
}

impl Roster {
    /// This many machines run.
    #[must_use]
    pub const fn new(machines: u32) -> Self {
        Self {
            running: AtomicU32::new(machines),
        }
    }

    /// One machine has ended; says whether it was the last. Call once per machine ([`Once`]).
    pub fn leave(&self) -> bool {
        self.running.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A machine that had left is started again; false if it was too late: the last one has left, and with it goes
    /// everything.
    pub fn rejoin(&self) -> bool {
        self.running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| {
                if running == 0 {
                    None
                } else {
                    running.checked_add(1)
                }
            })
            .is_ok()
    }

    /// How many still run.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Acquire)
    }
}

impl Once {
    /// Not ended.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ended: AtomicU32::new(0),
        }
    }

    /// True for exactly one caller.
    pub fn claim(&self) -> bool {
        self.ended.swap(1, Ordering::AcqRel) == 0
    }

    /// Whether somebody has claimed it.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        self.ended.load(Ordering::Acquire) != 0
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::thread;

    #[test]
    fn who_left_may_come_back_while_somebody_is_there() {
        let roster = Roster::new(2);
        assert!(!roster.leave());
        assert!(roster.rejoin());
        assert!(!roster.leave());
        assert!(roster.leave());
        assert!(!roster.rejoin());
        assert_eq!(roster.running(), 0);
    }

    #[test]
    fn one_of_many_lanes_announces_and_one_machine_is_last() {
        for _ in 0..200 {
            let roster = Roster::new(4);
            let endings: [Once; 4] = Default::default();
            let last: u32 = thread::scope(|scope| {
                let lanes: std::vec::Vec<_> = (0..4)
                    .flat_map(|vm| (0..3).map(move |_| vm))
                    .map(|vm: usize| {
                        let (roster, ending) = (&roster, &endings[vm]);
                        scope.spawn(move || u32::from(ending.claim() && roster.leave()))
                    })
                    .collect();
                lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
            });
            assert_eq!(last, 1);
            assert_eq!(roster.running(), 0);
            assert!(endings.iter().all(Once::is_claimed));
        }
    }
}
