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

/// A ring of records.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Trace {
    count: u64,
    ring: [Record; DEPTH],
}

impl Trace {
    /// Nothing has happened.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: 0,
            ring: [Record { cause: 0, pc: 0 }; DEPTH],
        }
    }

    /// Remembers an exit.
    #[inline(always)]
    pub fn note(&mut self, cause: u64, pc: u64) {
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
