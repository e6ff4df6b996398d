//! Lanes that call each other, as one that sends a datagram and waits for the answer.
//!
//! A lane whose call has woken another one has *asked* it. When the answer comes, who gives it has most likely nothing
//! left to do but to find out that it has to wait, which costs a system more than the answer. So it stands aside for the
//! lane that waits for it: it blocks, as if it slept, and comes back as soon as that lane is not who would run, or has an
//! answer for it, or after a time that is set.
//!
//! This is only a memory of who called whom. What a lane that stands aside costs is for the [`Scheduler`] to say, and to
//! it, it is a lane that sleeps: nobody runs on another one's account, and no third lane waits longer than for a sleeper.
//! One call, one answer: who sends on and on stands aside once.
//!
//! [`Scheduler`]: super::Scheduler

use super::{Scheduler, Slot};

/// Who waits for whose answer, and who stands aside for whom: one each, the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialogue {
    asked: Option<Pair>,
    aside: Option<Pair>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Pair {
    from: Slot,
    to: Slot,
}

impl Dialogue {
    /// Nobody has said anything.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            asked: None,
            aside: None,
        }
    }

    /// The call of `from`, which ran, has woken `to`.
    pub const fn ask(&mut self, from: Slot, to: Slot) {
        self.asked = Some(Pair { from, to });
    }

    /// Who waits for an answer of this lane.
    #[must_use]
    pub fn asker(&self, of: Slot) -> Option<Slot> {
        let pair = self.asked.filter(|pair| pair.to == of);
        pair.map(|pair| pair.from)
    }

    /// `by`, which runs, has answered `to`: it stands aside, and may have an answer in its turn. Not if one of them does not
    /// want to run, and not if `to` has used up what it was promised while `by` has not: one's promise is nobody else's.
    /// Whether it does: then it is to be woken when it has an answer, in time, and when [`must_return`](Self::must_return)
    /// says so. Decide afterwards.
    #[must_use]
    pub fn answer(&mut self, cpu: &mut Scheduler, by: Slot, to: Slot, now: u64) -> bool {
        let both = by.bit() | to.bit();
        cpu.settle(now);
        if by == to || cpu.ready() & both != both || cpu.has_budget(by) && !cpu.has_budget(to) {
            return false;
        }
        cpu.block(by, now);
        let pair = Pair { from: by, to };
        self.asked = Some(pair);
        self.aside = Some(pair);
        true
    }

    /// Whether this lane stands aside.
    #[must_use]
    pub fn is_aside(&self, slot: Slot) -> bool {
        self.aside.is_some_and(|pair| pair.from == slot)
    }

    /// This lane wants the CPU again.
    pub fn back(&mut self, slot: Slot) {
        if self.is_aside(slot) {
            self.aside = None;
        }
    }

    /// Who is to be woken before it can be said that `run` runs: who stands aside for another one.
    pub fn must_return(&mut self, run: Option<Slot>) -> Option<Slot> {
        let pair = self.aside.filter(|pair| Some(pair.to) != run)?;
        self.aside = None;
        Some(pair.from)
    }
}
