//! The timer check: an interrupt for each deadline, never early, not too late.
//!
//! An emulator's host may stand still for seconds, and whatever is due then is late. So a deadline that was met too late
//! may be set again a few times, unless the caller knows better: a timer that is late is late each time.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Deadlines per lane in a full check.
pub const FULL_TICKS: u32 = 10;
/// Deadlines per lane in a quick check.
pub const QUICK_TICKS: u32 = 3;

/// What one lane's timer interrupt has seen. The handler writes; anyone may read.
#[derive(Default)]
pub struct TickLog {
    deadline: AtomicU64,
    count: AtomicU32,
    early: AtomicU32,
    last: AtomicU64,
    worst: AtomicU64,
}

impl TickLog {
    /// An empty log.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: AtomicU64::new(0),
            count: AtomicU32::new(0),
            early: AtomicU32::new(0),
            last: AtomicU64::new(0),
            worst: AtomicU64::new(0),
        }
    }

    /// Expects an interrupt at `deadline`.
    fn expect(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Release);
    }

    /// A timer interrupt arrived when the counter stood at `now`. Interrupts that no tick expects
    /// (the timer also ends ordinary waits) are not counted.
    pub fn arrived(&self, now: u64) {
        let deadline = self.deadline.swap(0, Ordering::AcqRel);
        if deadline == 0 {
            return;
        }
        match now.checked_sub(deadline) {
            Some(late) => {
                self.last.store(late, Ordering::Release);
                self.worst.fetch_max(late, Ordering::AcqRel);
            }
            None => {
                self.early.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// How many expected interrupts have arrived.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// How late the latest was, in counter steps.
    #[must_use]
    pub fn worst(&self) -> u64 {
        self.worst.load(Ordering::Acquire)
    }
}

/// What the check needs from the hardware, seen from one lane.
pub trait Timer {
    /// The counter.
    fn now(&self) -> u64;

    /// Takes interrupts, the timer's due at `deadline` among them, until `done` or until patience
    /// ends; says whether it was `done`.
    fn wait_with_timer(&self, deadline: u64, done: impl Fn() -> bool) -> bool;
}

/// A timer that does not keep its word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Untimely {
    /// No interrupt came for this tick.
    Missing(u32),
    /// An interrupt came before its deadline.
    Early,
    /// An interrupt was this many microseconds late, each time.
    Late(u64),
}

/// How late an interrupt may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// In microseconds.
    pub late_us: u32,
    /// How often a deadline may be set until its interrupt is not later than that.
    pub tries: u32,
}

/// One lane's part: `ticks` deadlines, `period` counter steps apart, each at most `limit` late.
/// `frequency` is the counter's.
///
/// # Errors
/// How the timer failed.
pub fn play(
    timer: &impl Timer,
    log: &TickLog,
    ticks: u32,
    frequency: u64,
    limit: Limit,
) -> Result<(), Untimely> {
    let period = (frequency / 1000).max(1);
    let set = |tick| {
        let before = log.count();
        let deadline = timer.now().saturating_add(period);
        log.expect(deadline);
        if !timer.wait_with_timer(deadline, || log.count() > before) {
            return Err(Untimely::Missing(tick));
        }
        if log.early.load(Ordering::Acquire) > 0 {
            return Err(Untimely::Early);
        }
        Ok(microseconds(log.last.load(Ordering::Acquire), frequency))
    };
    for tick in 0..ticks {
        let mut late = set(tick)?;
        for _ in 1..limit.tries {
            if late > u64::from(limit.late_us) {
                late = set(tick)?;
            }
        }
        if late > u64::from(limit.late_us) {
            return Err(Untimely::Late(late));
        }
    }
    Ok(())
}

/// Counter steps as whole microseconds, rounded up so that only nothing is nothing.
#[must_use]
pub fn microseconds(steps: u64, frequency: u64) -> u64 {
    let micros = (u128::from(steps) * 1_000_000).div_ceil(u128::from(frequency.max(1)));
    u64::try_from(micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Fake<'a> {
        log: &'a TickLog,
        now: Cell<u64>,
        /// Added to each deadline to get the moment of the interrupt; `None`: no interrupt.
        error: Option<i64>,
        /// For so many deadlines from now on the host stands still for a second.
        stands_still: Cell<u32>,
    }

    impl Timer for Fake<'_> {
        fn now(&self) -> u64 {
            self.now.get()
        }

        fn wait_with_timer(&self, deadline: u64, done: impl Fn() -> bool) -> bool {
            if let Some(error) = self.error {
                let stands_still = self.stands_still.get();
                self.stands_still.set(stands_still.saturating_sub(1));
                let error = error + i64::from(stands_still.min(1)) * MHZ.cast_signed();
                self.now.set(deadline.checked_add_signed(error).unwrap());
                self.log.arrived(self.now.get());
                self.log.arrived(self.now.get());
            }
            done()
        }
    }

    const MHZ: u64 = 62_500_000;

    fn run(error: Option<i64>, limit_us: u32) -> Result<(), Untimely> {
        let log = TickLog::default();
        let timer = Fake {
            log: &log,
            now: Cell::new(1000),
            error,
            stands_still: Cell::new(0),
        };
        let limit = Limit {
            late_us: limit_us,
            tries: 1,
        };
        play(&timer, &log, 5, MHZ, limit)?;
        assert_eq!(log.count(), 5, "an interrupt nobody expects is not a tick");
        assert_eq!(log.worst(), u64::try_from(error.unwrap()).unwrap());
        Ok(())
    }

    #[test]
    fn a_timer_on_time_passes_even_with_no_tolerance() {
        assert_eq!(run(Some(0), 0), Ok(()));
        assert_eq!(run(Some(62), 1), Ok(()));
    }

    #[test]
    fn late_early_and_missing_interrupts_are_told_apart() {
        assert_eq!(run(Some(1), 0), Err(Untimely::Late(1)));
        assert_eq!(run(Some(62_500), 999), Err(Untimely::Late(1000)));
        assert_eq!(run(Some(-1), 999), Err(Untimely::Early));
        assert_eq!(run(None, 999), Err(Untimely::Missing(0)));
    }

    #[test]
    fn a_host_that_stands_still_now_and_then_is_not_a_late_timer() {
        let played = |stands_still, error, tries| {
            let log = TickLog::default();
            let timer = Fake {
                log: &log,
                now: Cell::new(1000),
                error: Some(error),
                stands_still: Cell::new(stands_still),
            };
            let limit = Limit {
                late_us: 1000,
                tries,
            };
            play(&timer, &log, 5, MHZ, limit).map(|()| log.count())
        };
        assert_eq!(played(3, 0, 4), Ok(8));
        assert_eq!(played(4, 0, 4), Err(Untimely::Late(1_000_000)));
        assert_eq!(played(1, 0, 1), Err(Untimely::Late(1_000_000)));
        // A late timer is late each time.
        assert_eq!(played(0, 62_501, 4), Err(Untimely::Late(1001)));
        assert_eq!(played(1, -1, 4), Err(Untimely::Early));
    }

    #[test]
    fn microseconds_round_up_and_never_overflow() {
        assert_eq!(microseconds(0, MHZ), 0);
        assert_eq!(microseconds(63, MHZ), 2);
        assert_eq!(microseconds(u64::MAX, 1), u64::MAX);
        assert_eq!(microseconds(5, 0), 5_000_000);
    }
}
