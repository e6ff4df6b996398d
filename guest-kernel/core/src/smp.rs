//! What the lanes know of each other: who is up, which part of the program is on, who has done it.
//!
//! One value of [`Lanes`] is shared by all CPUs and their interrupt handlers. Every field is an
//! atomic or is written once, so there is nothing to alias.

use crate::MAX_LANES;
use crate::check::Failure;
use crate::ipi::Mailbox;
use crate::tick::TickLog;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use spin::Once;

/// A part of the program that all lanes do together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u32)]
pub enum Phase {
    /// Come up and say so.
    Arrive = 1,
    /// Write memory, read it back, write it again.
    Fill = 2,
    /// Ping each other.
    Ipi = 3,
    /// Keep time.
    Timer = 4,
    /// Read memory back.
    Verify = 5,
    /// Leave: the secondary lanes switch themselves off.
    Leave = 6,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 6] = [
        Self::Arrive,
        Self::Fill,
        Self::Ipi,
        Self::Timer,
        Self::Verify,
        Self::Leave,
    ];

    /// What the phase is called in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arrive => "arrive",
            Self::Fill => "fill",
            Self::Ipi => "ipi",
            Self::Timer => "timer",
            Self::Verify => "verify",
            Self::Leave => "leave",
        }
    }
}

/// No interrupt has this number.
const NONE: u32 = u32::MAX;

/// One lane, as the others see it.
#[derive(Default)]
pub struct Lane {
    /// Received interrupts of the IPI check.
    pub mailbox: Mailbox,
    /// Received interrupts of the timer check.
    pub ticks: TickLog,
    done: AtomicU32,
}

impl Lane {
    const fn new() -> Self {
        Self {
            mailbox: Mailbox::new(),
            ticks: TickLog::new(),
            done: AtomicU32::new(0),
        }
    }
}

/// All lanes.
pub struct Lanes {
    lanes: [Lane; MAX_LANES],
    phase: AtomicU32,
    digest: AtomicU64,
    failure: Once<Failure>,
    unexpected: AtomicU32,
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new()
    }
}

impl Lanes {
    /// Nobody is up, nothing is on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lanes: [const { Lane::new() }; MAX_LANES],
            phase: AtomicU32::new(Phase::Arrive as u32),
            digest: AtomicU64::new(0),
            failure: Once::new(),
            unexpected: AtomicU32::new(NONE),
        }
    }

    /// One lane.
    #[must_use]
    pub fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.get(lane)
    }

    /// Lets all lanes begin `phase`.
    pub fn begin(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// Whether `phase` has begun.
    #[must_use]
    pub fn has_begun(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u32
    }

    /// `lane` has done its part of `phase`.
    pub fn finish(&self, lane: usize, phase: Phase) {
        if let Some(lane) = self.lanes.get(lane) {
            lane.done.store(phase as u32, Ordering::Release);
        }
    }

    /// How many of the first `lanes` lanes have done their part of `phase`.
    #[must_use]
    pub fn finished(&self, lanes: usize, phase: Phase) -> usize {
        let done = |lane: &&Lane| lane.done.load(Ordering::Acquire) >= phase as u32;
        self.lanes.iter().take(lanes).filter(done).count()
    }

    /// The first of the first `lanes` lanes that has not.
    #[must_use]
    pub fn straggler(&self, lanes: usize, phase: Phase) -> Option<usize> {
        let behind = |lane: &Lane| lane.done.load(Ordering::Acquire) < phase as u32;
        self.lanes.iter().take(lanes).position(behind)
    }

    /// Adds a lane's part to the digest of memory.
    pub fn add_digest(&self, part: u64) {
        self.digest.fetch_add(part, Ordering::AcqRel);
    }

    /// The digest of memory, once every lane has added its part.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.load(Ordering::Acquire)
    }

    /// Reports a failed check. The first report counts.
    pub fn fail(&self, failure: Failure) {
        self.failure.call_once(|| failure);
    }

    /// The first failure reported.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get().copied()
    }

    /// An interrupt arrived that nobody asked for.
    pub fn note_unexpected(&self, intid: u32) {
        self.unexpected.store(intid, Ordering::Release);
    }

    /// The last interrupt that nobody asked for.
    #[must_use]
    pub fn unexpected(&self) -> Option<u32> {
        let intid = self.unexpected.load(Ordering::Acquire);
        (intid != NONE).then_some(intid)
    }

    /// The latest timer interrupt of the first `lanes` lanes, in counter steps.
    #[must_use]
    pub fn worst_tick(&self, lanes: usize) -> u64 {
        let worst = self.lanes.iter().take(lanes).map(|lane| lane.ticks.worst());
        worst.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_go_one_way() {
        let lanes = Lanes::default();
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            lanes.begin(phase);
            for (other, begun) in Phase::ALL.into_iter().enumerate() {
                assert_eq!(lanes.has_begun(begun), other <= index);
            }
            assert!(!phase.name().is_empty());
        }
        assert!(Phase::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn stragglers_are_named() {
        let lanes = Lanes::new();
        lanes.finish(0, Phase::Ipi);
        lanes.finish(2, Phase::Timer);
        lanes.finish(99, Phase::Timer);
        assert_eq!(lanes.finished(3, Phase::Fill), 2);
        assert_eq!(lanes.straggler(3, Phase::Fill), Some(1));
        assert_eq!(lanes.straggler(3, Phase::Timer), Some(0));
        lanes.finish(1, Phase::Fill);
        assert_eq!(lanes.straggler(3, Phase::Fill), None);
        assert!(lanes.lane(8).is_none() && lanes.lane(7).is_some());
    }

    #[test]
    fn the_first_failure_counts_and_digests_add_up() {
        let lanes = Lanes::new();
        assert_eq!(lanes.failure(), None);
        lanes.fail(Failure::Lanes {
            online: 1,
            wanted: 2,
        });
        lanes.fail(Failure::Lanes {
            online: 0,
            wanted: 2,
        });
        assert_eq!(
            lanes.failure(),
            Some(Failure::Lanes {
                online: 1,
                wanted: 2
            })
        );
        lanes.add_digest(u64::MAX);
        lanes.add_digest(3);
        assert_eq!(lanes.digest(), 2);
        assert_eq!(lanes.worst_tick(8), 0);
        assert_eq!(lanes.unexpected(), None);
        lanes.note_unexpected(0);
        assert_eq!(lanes.unexpected(), Some(0));
    }
}
