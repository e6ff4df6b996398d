//! One lane's account: what is left of its guarantee, and the three ways it changes.
//!
//! This is a constant-bandwidth server (Abeni and Buttazzo, *Integrating Multimedia Applications in Hard Real-Time
//! Systems*, RTSS 1998) that is hard: a lane that used its budget up gets the next one at its deadline, not before.

use super::Server;

/// A lane's account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) server: Server,
    /// What is left of the budget.
    pub(super) left: u64,
    /// By when it may be used, and when the next budget comes.
    pub(super) deadline: u64,
    /// What it used beyond its budget, because the interrupt that was to end its turn came late.
    pub(super) debt: u64,
    /// Its share of spare time that others wanted too ([`super::spare`]).
    pub(super) spare: u64,
    /// Ticks it ran in all.
    pub(super) ran: u64,
}

impl Account {
    pub(super) const fn new(server: Server) -> Self {
        Self {
            server,
            left: 0,
            deadline: 0,
            debt: 0,
            spare: 0,
            ran: 0,
        }
    }

    /// The wake-up rule. What is left by the deadline is kept if it is no denser than the guarantee; otherwise a lane
    /// could sleep until shortly before its deadline and then claim more than its share at once.
    #[inline(always)]
    pub(super) fn wake(&mut self, now: u64) {
        let Server { budget, period, .. } = self.server;
        let window = self.deadline.saturating_sub(now);
        let kept = window > 0
            && u128::from(self.left) * u128::from(period)
                <= u128::from(window) * u128::from(budget);
        if !kept {
            self.begin(now);
        }
    }

    /// A fresh budget, to be used within a period from now.
    fn begin(&mut self, now: u64) {
        self.fill(now.saturating_add(self.server.period));
    }

    /// The budget of the next period, at the deadline of the last one or later.
    pub(super) fn refill(&mut self, now: u64) {
        let next = self.deadline.saturating_add(self.server.period);
        if next > now {
            self.fill(next);
        } else {
            self.begin(now);
        }
    }

    fn fill(&mut self, deadline: u64) {
        self.left = self.server.budget;
        if self.debt > 0 {
            // At least one tick is left, so that a lane with a budget is one that can use it.
            self.left = self.left.saturating_sub(self.debt).max(1);
            self.debt = 0;
        }
        self.deadline = deadline;
    }

    /// Charges the budget; returns what it did not cover.
    pub(super) fn spend(&mut self, ticks: u64) -> u64 {
        let over = ticks.saturating_sub(self.left);
        self.left = self.left.saturating_sub(ticks);
        over
    }

    /// What would have become of the account had every end of a budget and every deadline between `since` and `now`
    /// been attended to, for a lane that ran all that time because nobody else wanted to.
    #[inline(always)]
    pub(super) fn catch_up(&mut self, since: u64, now: u64) {
        let ticks = now.saturating_sub(since);
        if ticks < self.left {
            self.left = self.left.saturating_sub(ticks);
            return;
        }
        let empty = since.saturating_add(self.left);
        self.left = 0;
        let first = self.deadline.max(empty);
        let Some(late) = now.checked_sub(first) else {
            return;
        };
        let Server { budget, period, .. } = self.server;
        // Whole periods went by; of the one that has begun, the budget was used first.
        let (periods, into) = if late < period {
            (0, late)
        } else {
            let periods = late.checked_div(period).unwrap_or(0);
            (periods, late.saturating_sub(periods.saturating_mul(period)))
        };
        self.debt = 0;
        self.left = budget.saturating_sub(into);
        self.deadline = first
            .saturating_add(periods.saturating_mul(period))
            .saturating_add(period);
    }
}
