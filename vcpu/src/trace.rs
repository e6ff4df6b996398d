//! The last exits of a lane, for the report when something ends badly, and how many there were.
//!
//! Always on: a trace that has to be switched on is off when it is needed. A record is two words that
//! the exit has in registers anyway.

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

/// How many sources there are.
const SOURCES: usize = 3;

/// What a person calls the reasons of exits.
pub const REASONS: [&str; 10] = [
    "hypercalls",
    "secure calls",
    "system registers",
    "device accesses",
    "waits",
    "debug",
    "other exceptions",
    "timer interrupts",
    "kicks",
    "other interrupts",
];

/// Which of the reasons an exception class is (ESR_EL2.EC, Arm ARM D19.2.37).
const fn reason_of(class: usize) -> usize {
    match class {
        0x12 | 0x16 => 0,
        0x13 | 0x17 => 1,
        0x03..=0x06 | 0x08 | 0x0c | 0x18 => 2,
        0x24 => 3,
        0x01 => 4,
        0x30 | 0x32 | 0x34 | 0x38 | 0x3a | 0x3c => 5,
        _ => 6,
    }
}

/// A ring of records, and how many exits of each kind there were. The ring comes first: as near to the lane's registers as
/// it is one instruction writes a record.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Trace {
    ring: [Record; DEPTH],
    count: u64,
    interrupts: [u64; SOURCES],
    classes: [u64; CLASSES],
}

impl Trace {
    /// Nothing has happened.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: 0,
            interrupts: [0; SOURCES],
            classes: [0; CLASSES],
            ring: [Record { cause: 0, pc: 0 }; DEPTH],
        }
    }

    /// How many exits there were for each of the [`REASONS`].
    #[must_use]
    pub fn by_reason(&self) -> [u64; REASONS.len()] {
        let mut sums = [0_u64; REASONS.len()];
        let mut add = |reason: usize, number: u64| {
            if let Some(sum) = sums.get_mut(reason) {
                *sum = sum.wrapping_add(number);
            }
        };
        for (class, number) in self.classes.iter().enumerate() {
            add(reason_of(class), *number);
        }
        for (source, number) in self.interrupts.iter().enumerate() {
            add(REASONS.len() - SOURCES + source, *number);
        }
        sums
    }

    /// Remembers a synchronous exit.
    #[inline(always)]
    pub fn note(&mut self, esr: u64, pc: u64) {
        self.note_class((esr >> 26) as usize & (CLASSES - 1), esr, pc);
    }

    /// As [`note`](Self::note), of a data abort: who knows what it was need not look again.
    #[inline(always)]
    pub fn note_data_abort(&mut self, esr: u64, pc: u64) {
        self.note_class(0x24, esr, pc);
    }

    #[inline(always)]
    fn note_class(&mut self, class: usize, esr: u64, pc: u64) {
        if let Some(counter) = self.classes.get_mut(class) {
            *counter = counter.wrapping_add(1);
        }
        self.record(esr, pc);
    }

    /// Remembers an interrupt.
    #[inline(always)]
    pub fn note_interrupt(&mut self, intid: u32, source: Source, pc: u64) {
        if let Some(counter) = self.interrupts.get_mut(source as usize) {
            *counter = counter.wrapping_add(1);
        }
        self.record(Record::IRQ | u64::from(intid), pc);
    }

    /// Counts an interrupt that was EL2's own: the lane has nothing to do with it.
    #[inline(always)]
    pub fn note_foreign(&mut self) {
        let [_, _, other] = &mut self.interrupts;
        *other = other.wrapping_add(1);
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

    /// How many exits there were, but for [`note_foreign`](Self::note_foreign).
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

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_last_exits_oldest_first() {
        let mut trace = Trace::new();
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
        let mut trace = Trace::new();
        for class in 0..64_u64 {
            for _ in 0..=class {
                trace.note(class << 26 | 0x3ff_ffff, 0);
            }
        }
        trace.note_interrupt(27, Source::Timer, 0);
        trace.note_interrupt(7, Source::Kick, 0);
        trace.note_interrupt(1023, Source::Other, 0);
        trace.note_interrupt(6, Source::Other, 0);
        let sums = trace.by_reason();
        assert_eq!(sums[7..], [1, 1, 2]);
        assert_eq!(sums.iter().sum::<u64>(), trace.count());
        let of = |classes: &[u64]| classes.iter().map(|class| class + 1).sum::<u64>();
        assert_eq!(sums[0], of(&[0x12, 0x16]));
        assert_eq!(sums[1], of(&[0x13, 0x17]));
        assert_eq!(sums[3..5], [of(&[0x24]), of(&[0x01])]);
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
