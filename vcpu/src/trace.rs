//! The last exits of a lane, for the report when something ends badly, and how many there were.
//!
//! Always on: a trace that has to be switched on is off when it is needed. A record is two words that
//! the exit has in registers anyway.

use core::sync::atomic::{AtomicU64, Ordering};

/// How many exits are remembered. A power of two.
pub const DEPTH: usize = 32;

/// One exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Record {
    /// ESR_EL2, or [`Record::IRQ`] and the INTID.
    pub cause: u64,
    /// ELR_EL2.
    pub pc: u64,
}

impl Record {
    /// Marks the cause as an interrupt; no ESR_EL2 has this bit.
    pub const IRQ: u64 = 1 << 63;

    /// The physical interrupt that was the cause, if one was.
    #[must_use]
    pub fn interrupt(&self) -> Option<u32> {
        (self.cause & Self::IRQ != 0).then(|| u32::try_from(self.cause & 0xFF_FFFF).unwrap_or(0))
    }

    /// The exception class (ESR_EL2.EC) of a synchronous exit.
    #[must_use]
    pub const fn class(&self) -> u64 {
        (self.cause >> 26) & 0x3F
    }
}

/// The interrupts that are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A timer of the guest.
    Timer,
    /// Another lane.
    Kick,
    /// Anything else: EL2's own, the virtual GIC's maintenance, errors.
    Other,
}

/// How many exception classes ESR_EL2.EC can name.
const CLASSES: usize = 64;

/// How many exits of each kind a lane has had in all its lives. The lane adds to it, anybody may read it.
#[derive(Debug)]
pub struct Counts {
    classes: [AtomicU64; CLASSES],
    interrupts: [AtomicU64; 3],
}

impl Counts {
    /// None yet.
    #[expect(clippy::new_without_default, reason = "one way to say it is enough")]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            classes: [const { AtomicU64::new(0) }; CLASSES],
            interrupts: [const { AtomicU64::new(0) }; 3],
        }
    }

    /// Exits by exceptions of this class.
    #[must_use]
    pub fn of_class(&self, class: u8) -> u64 {
        read(self.classes.get(usize::from(class)))
    }

    /// Exits by interrupts.
    #[must_use]
    pub fn of_interrupts(&self, source: Source) -> u64 {
        read(self.interrupts.get(source as usize))
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let all = self.classes.iter().chain(&self.interrupts);
        all.fold(0, |sum, one| sum.wrapping_add(read(Some(one))))
    }
}

fn read(counter: Option<&AtomicU64>) -> u64 {
    counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
}

/// Only the lane writes, so this need not be one step.
#[inline(always)]
fn add_one(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        let next = counter.load(Ordering::Relaxed).wrapping_add(1);
        counter.store(next, Ordering::Relaxed);
    }
}

/// A ring of records.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Trace<'m> {
    count: u64,
    counts: &'m Counts,
    ring: [Record; DEPTH],
}

impl<'m> Trace<'m> {
    /// Nothing has happened. Exits are counted here.
    #[must_use]
    pub const fn new(counts: &'m Counts) -> Self {
        Self {
            count: 0,
            counts,
            ring: [Record { cause: 0, pc: 0 }; DEPTH],
        }
    }

    /// Remembers a synchronous exit.
    #[inline(always)]
    pub fn note(&mut self, esr: u64, pc: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "six bits")]
        let class = (esr >> 26) as usize & (CLASSES - 1);
        add_one(self.counts.classes.get(class));
        self.record(esr, pc);
    }

    /// Remembers an interrupt.
    #[inline(always)]
    pub fn note_interrupt(&mut self, intid: u32, source: Source, pc: u64) {
        add_one(self.counts.interrupts.get(source as usize));
        self.record(Record::IRQ | u64::from(intid), pc);
    }

    #[inline(always)]
    fn record(&mut self, cause: u64, pc: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
        let place = (self.count as usize) & (DEPTH - 1);
        if let Some(record) = self.ring.get_mut(place) {
            *record = Record { cause, pc };
        }
        self.count = self.count.wrapping_add(1);
    }

    /// How many exits there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The remembered exits, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Record> {
        let kept = self.count.min(DEPTH as u64);
        let first = self.count - kept;
        (first..self.count).filter_map(|n| {
            let place = usize::try_from(n % DEPTH as u64).ok()?;
            self.ring.get(place).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_last_exits_oldest_first() {
        let counts = Counts::new();
        let mut trace = Trace::new(&counts);
        assert_eq!(trace.iter().count(), 0);
        for n in 0..5 {
            trace.note(n, n * 10);
        }
        let seen: Vec<_> = trace
            .iter()
            .map(|record| (record.cause, record.pc))
            .collect();
        assert_eq!(seen, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
        for n in 5..100 {
            trace.note(n, 0);
        }
        let seen: Vec<_> = trace.iter().map(|record| record.cause).collect();
        assert_eq!(seen, (100 - DEPTH as u64..100).collect::<Vec<_>>());
        assert_eq!(trace.count(), 100);
    }

    #[test]
    fn exits_are_counted_by_what_they_were() {
        let counts = Counts::new();
        let mut trace = Trace::new(&counts);
        for class in 0..64_u64 {
            for _ in 0..=class {
                trace.note(class << 26 | 0x3ff_ffff, 0);
            }
        }
        trace.note_interrupt(27, Source::Timer, 0);
        trace.note_interrupt(7, Source::Kick, 0);
        trace.note_interrupt(1023, Source::Other, 0);
        trace.note_interrupt(6, Source::Other, 0);
        for class in 0..64_u8 {
            assert_eq!(counts.of_class(class), u64::from(class) + 1);
        }
        let interrupts = [Source::Timer, Source::Kick, Source::Other];
        assert_eq!(interrupts.map(|one| counts.of_interrupts(one)), [1, 1, 2]);
        assert_eq!(counts.total(), trace.count());
        let last = trace.iter().last().unwrap();
        assert_eq!(last.interrupt(), Some(6));
    }

    #[test]
    fn an_interrupt_is_not_mistaken_for_an_exception() {
        assert_eq!(
            Record {
                cause: Record::IRQ | 27,
                pc: 0
            }
            .interrupt(),
            Some(27)
        );
        let hypercall = Record {
            cause: 0x5a00_0000,
            pc: 0,
        };
        assert_eq!((hypercall.interrupt(), hypercall.class()), (None, 0x16));
    }
}
