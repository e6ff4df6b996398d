//! Lanes that begin to want the CPU, and who pays for the way to them.

use super::{Mode, NEVER, Scheduler, Slot};

impl Scheduler {
    /// A blocked lane wants to run. Decide afterwards.
    pub fn wake(&mut self, slot: Slot, now: u64) {
        let now = self.settle(now);
        // Slots that were never given out, and lanes that are up already.
        if slot.index() < self.lanes && !self.is_ready(slot) {
            self.rise(slot, now);
        }
    }

    /// [`wake`](Self::wake) by an interrupt that came at `came`, in the time of another lane: from then on time went by
    /// on account of the lane that wakes ([`charge_to`](Self::charge_to)).
    #[inline(never)]
    pub fn wake_by_interrupt(&mut self, slot: Slot, came: u64, now: u64) {
        if self.mode == Mode::Alone && came > self.since {
            self.end_alone(came);
        } else {
            self.settle(came);
        }
        if slot.index() >= self.lanes || self.is_ready(slot) {
            return self.charge_to(slot, now);
        }
        self.bill(slot, now);
        self.rise(slot, self.since);
    }

    /// The lane that had the CPU to itself has it no more: what [`settle`](Self::settle) says of it, and on what account
    /// it goes on.
    #[inline(always)]
    fn end_alone(&mut self, now: u64) {
        let since = core::mem::replace(&mut self.since, now);
        let payer = self.payer;
        let account = self.account_mut(payer);
        account.ran = account.ran.saturating_add(now.saturating_sub(since));
        account.catch_up(since, now);
        self.refill_at = NEVER;
        self.note_here(payer);
        self.not_alone();
    }

    #[inline(always)]
    const fn not_alone(&mut self) {
        self.mode = match self.funded & self.payer.bit() {
            0 => Mode::Spare,
            _ => Mode::Budget,
        };
    }

    /// A lane is ready from now on.
    #[inline(always)]
    fn rise(&mut self, slot: Slot, now: u64) {
        if self.mode == Mode::Alone {
            self.not_alone();
        }
        self.account_mut(slot).wake(now);
        self.ready |= slot.bit();
        self.note_here(slot);
    }

    /// What went by since the last call was not for the lane that was decided to run: `slot` caused it. A lane that
    /// sleeps and wakes again and again pays for the switches to it and back, not whom it keeps from running.
    pub fn charge_to(&mut self, slot: Slot, now: u64) {
        if self.bill(slot, now) {
            self.note(slot);
        }
    }

    /// The account's half of it; whether that has emptied it.
    #[inline(always)]
    fn bill(&mut self, slot: Slot, now: u64) -> bool {
        let Some(ticks) = now.checked_sub(self.since) else {
            return false;
        };
        self.since = now;
        if slot.index() >= self.lanes {
            return false;
        }
        let others = self.ready & self.funded & !slot.bit();
        let account = self.account_mut(slot);
        account.ran = account.ran.saturating_add(ticks);
        let before = account.left;
        let over = account.spend(ticks);
        let is_empty = before > 0 && account.left == 0;
        // Nobody with budget had to wait: it was spare time.
        if others != 0 {
            account.debt = account.debt.saturating_add(over);
        }
        is_empty
    }

    /// Whether a lane with budget left wants to run: if it does not, another one's deadline comes before its own.
    #[must_use]
    pub const fn is_put_off(&self, slot: Slot) -> bool {
        self.ready & self.funded & slot.bit() != 0
    }

    /// When to decide again, after all, if `ticks` went by since the last decision and were charged to a lane that was
    /// not decided to run. `until` is when that decision was to end.
    #[must_use]
    pub fn put_off(&self, until: u64, ticks: u64) -> u64 {
        if until == NEVER {
            return NEVER;
        }
        until.saturating_add(ticks).min(self.refill_at)
    }
}
