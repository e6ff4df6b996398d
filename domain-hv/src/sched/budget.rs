//! Time that lanes have reserved: who of those with budget left runs, and what becomes of an account that is empty.

use super::{Mode, NEVER, Scheduler, Slot};

impl Scheduler {
    /// The lane with budget whose deadline comes first, `first` the lowest of them; returns when its budget ends.
    pub(super) fn pick_funded(&mut self, first: Slot, now: u64) -> u64 {
        let others = self.ready & self.funded & !first.bit();
        let mut next = first;
        let mut earliest = self.account(first).deadline;
        for slot in Slot::each(others) {
            let deadline = self.account(slot).deadline;
            if deadline < earliest {
                next = slot;
                earliest = deadline;
            }
        }
        self.run(next, Mode::Budget);
        now.saturating_add(self.account(next).left)
    }

    /// A lane ran on its budget.
    pub(super) fn charge_budget(&mut self, ticks: u64, now: u64) {
        let payer = self.payer;
        let others = self.ready & self.funded & !payer.bit();
        let account = self.account_mut(payer);
        let over = account.spend(ticks);
        if account.left > 0 {
            return;
        }
        // Somebody with budget had to wait: that was no spare time.
        if others != 0 {
            account.debt = account.debt.saturating_add(over);
        }
        if account.deadline <= now {
            account.refill(now);
        }
        self.note(payer);
        self.end_gift(payer);
    }

    /// Gives every throttled lane whose deadline has come its next budget.
    #[inline(never)]
    pub(super) fn refill(&mut self, now: u64) {
        for slot in Slot::each(self.ready & !self.funded) {
            let account = self.account_mut(slot);
            if account.deadline <= now {
                account.refill(now);
                self.funded |= slot.bit();
            }
        }
        self.refill_at = self.next_refill();
    }

    /// The first deadline of a lane that is ready and throttled.
    pub(super) fn next_refill(&self) -> u64 {
        Slot::each(self.ready & !self.funded)
            .map(|slot| self.account(slot).deadline)
            .min()
            .unwrap_or(NEVER)
    }

    /// Takes note of what an account has become.
    pub(super) fn note(&mut self, slot: Slot) {
        self.note_here(slot);
    }

    /// The same, where every instruction counts.
    #[inline(always)]
    pub(super) fn note_here(&mut self, slot: Slot) {
        let (left, deadline) = {
            let account = self.account(slot);
            (account.left, account.deadline)
        };
        if left > 0 {
            self.funded |= slot.bit();
            return;
        }
        self.funded &= !slot.bit();
        if self.is_ready(slot) {
            self.refill_at = self.refill_at.min(deadline);
        }
    }
}
