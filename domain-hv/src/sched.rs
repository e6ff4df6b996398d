//! Who runs on one CPU, and until when.
//!
//! Every shared lane is bound to one CPU, and every CPU has a [`Scheduler`] of its own: nothing here is locked.
//! A lane is promised a *budget* of ticks in every *period*. Lanes with budget left run by earliest deadline first,
//! each within a constant-bandwidth server ([`account`]), so that every promise holds whatever the other lanes do.
//! A lane that has used its budget up is *throttled* until its deadline, but may have *spare* time, which no lane with
//! budget wants ([`spare`]). **Priority never breaks a guarantee; it orders the time that nobody reserved.**
//!
//! Three properties that the tests hold on to:
//!
//! - *Total*: any call in any order with any time has an answer; a clock that goes backwards counts as standing still.
//! - *Deterministic*: the same calls give the same decisions. Ties go to the lower slot. A superfluous
//!   [`Scheduler::decide`] or [`Scheduler::settle`] changes nothing.
//! - *Tickless*: a lane that is the only one ready gets no end of its turn. What its budget and deadlines would have
//!   been meanwhile is computed when somebody else wakes ([`account::Account::catch_up`]).
//!
//! Times are ticks of the CPU's counter.

mod account;
pub mod admission;
mod budget;
mod dialogue;
mod spare;
mod switch;
#[cfg(test)]
mod tests;

pub use admission::{AdmissionError, MAX_PERIOD, MIN_PERIOD};
pub use dialogue::Dialogue;

use account::Account;
use spare::Turn;

/// Lanes one CPU carries at most.
pub const MAX_SLOTS: usize = 64;
/// How many priorities there are: 0 is the lowest.
pub const PRIORITIES: usize = 5;

/// What a lane is promised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Server {
    /// Ticks of the CPU that it has in every period, whatever others do.
    pub budget: u64,
    /// The period, in ticks.
    pub period: u64,
    /// Who gets spare time first: 4 before 0.
    pub priority: u8,
}

/// Microseconds in a second.
const MICROS: u64 = 1_000_000;

impl Server {
    /// A promise in microseconds, for a counter of `hz` ticks a second. The budget is rounded down and the period up:
    /// promises that fit on a CPU in microseconds fit in ticks too.
    #[must_use]
    pub const fn from_micros(budget: u32, period: u32, priority: u8, hz: u64) -> Self {
        Self {
            budget: (budget as u64).saturating_mul(hz) / MICROS,
            period: (period as u64).saturating_mul(hz).div_ceil(MICROS),
            priority,
        }
    }
}

/// A lane's place on its CPU.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u8);

impl Slot {
    /// The slot with this number: the n-th lane that was added has slot n.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        let number = u8::try_from(index).ok()?;
        (index < MAX_SLOTS).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// A word with the slot's bit set, as in [`Scheduler::ready`].
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << (self.0 & 63)
    }

    /// The slots whose bits are set, lowest first.
    pub fn each(mut bits: u64) -> impl Iterator<Item = Self> {
        core::iter::from_fn(move || {
            let slot = Self::lowest(bits)?;
            bits &= bits.wrapping_sub(1);
            Some(slot)
        })
    }

    /// The next one after this slot whose bit is set, around: who asks again and again from slot to slot comes to each.
    #[must_use]
    pub fn next(self, among: u64) -> Option<Self> {
        let others = among & !self.bit();
        // All bits above the slot's own.
        let above = others & self.bit().wrapping_neg();
        Self::lowest(above).or_else(|| Self::lowest(others))
    }

    fn lowest(bits: u64) -> Option<Self> {
        if bits == 0 {
            None
        } else {
            Self::new(usize::try_from(bits.trailing_zeros()).ok()?)
        }
    }
}

/// What the CPU is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The lane to run; none if no lane is ready.
    pub run: Option<Slot>,
    /// When to decide again if no lane wakes or blocks before. `None`: not at all.
    pub until: Option<u64>,
}

impl Decision {
    const IDLE: Self = Self {
        run: None,
        until: None,
    };
}

/// On what account the CPU's time goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// Nobody's.
    Idle,
    /// A lane that is the only one ready: attended to when that changes.
    Alone,
    /// A lane's budget.
    Budget,
    /// Spare time that no lane of the same priority wants.
    Spare,
    /// Spare time in turns.
    Turn,
}

/// A donation: while the donor's turn lasts, the heir runs in its place and on its account.
#[derive(Clone, Copy, Debug)]
struct Gift {
    donor: Slot,
    heir: Slot,
    left: u64,
}

/// One CPU's scheduler.
// In this order: what every call reads is together, and the accounts come after.
#[derive(Debug)]
#[repr(C)]
pub struct Scheduler {
    /// Lanes that want to run.
    ready: u64,
    /// Lanes with budget left, whether they want to run or not.
    funded: u64,
    /// What the time goes to.
    mode: Mode,
    /// Whose account is charged. Stale when idle.
    payer: Slot,
    /// Who runs: the payer, or its heir.
    runner: Slot,
    /// Until when the accounts are right; [`NEVER`] before the first call.
    since: u64,
    /// The first deadline of a lane that is ready and throttled.
    refill_at: u64,
    gift: Option<Gift>,
    turn: Turn,
    idle: u64,
    lanes: usize,
    accounts: [Account; MAX_SLOTS],
}

/// Later than anything.
const NEVER: u64 = u64::MAX;

impl Scheduler {
    /// A CPU without lanes.
    #[must_use]
    pub const fn new() -> Self {
        let nobody = Account::new(Server {
            budget: 0,
            period: MAX_PERIOD,
            priority: 0,
        });
        Self {
            ready: 0,
            funded: 0,
            mode: Mode::Idle,
            payer: Slot(0),
            runner: Slot(0),
            since: NEVER,
            refill_at: NEVER,
            gift: None,
            turn: Turn::new(),
            idle: 0,
            lanes: 0,
            accounts: [nobody; MAX_SLOTS],
        }
    }

    /// Admits a lane, blocked.
    ///
    /// # Errors
    /// The promise makes no sense, or the CPU could not keep it beside those it has made; nothing has changed then.
    pub fn add(&mut self, server: Server) -> Result<Slot, AdmissionError> {
        let others = self.accounts.iter().take(self.lanes);
        admission::admit(&mut others.map(|account| account.server), server)?;
        let slot = Slot::new(self.lanes).ok_or(AdmissionError::Full)?;
        *self.account_mut(slot) = Account::new(server);
        self.turn.add(slot, &server);
        self.lanes = self.lanes.saturating_add(1);
        Ok(slot)
    }

    /// A lane has nothing to do until it is woken. Decide afterwards.
    pub fn block(&mut self, slot: Slot, now: u64) {
        self.settle(now);
        if !self.is_ready(slot) {
            return;
        }
        self.ready &= !slot.bit();
        if self.funded & slot.bit() == 0 {
            self.refill_at = self.next_refill();
        }
        let involved = |gift: Gift| gift.donor == slot || gift.heir == slot;
        if self.gift.is_some_and(involved) {
            self.gift = None;
        }
        if self.mode != Mode::Idle && (self.payer == slot || self.runner == slot) {
            self.mode = Mode::Idle;
        }
    }

    /// Who runs from now on.
    #[inline]
    pub fn decide(&mut self, now: u64) -> Decision {
        if self.mode == Mode::Alone {
            return Decision {
                run: Some(self.runner),
                until: None,
            };
        }
        let now = self.settle(now);
        match Slot::lowest(self.ready) {
            None => {
                self.mode = Mode::Idle;
                Decision::IDLE
            }
            // It may be throttled, and its deadline may have come: attended to when it is not alone any more.
            Some(only) if self.ready == only.bit() => {
                self.run(only, Mode::Alone);
                Decision {
                    run: Some(only),
                    until: None,
                }
            }
            Some(_) => {
                let until = self.choose(now);
                Decision {
                    run: Some(self.runner),
                    until: Some(until),
                }
            }
        }
    }

    /// Who runs of several, until when.
    #[inline(always)]
    fn choose(&mut self, now: u64) -> u64 {
        if now >= self.refill_at {
            self.refill(now);
        }
        let end = match Slot::lowest(self.ready & self.funded) {
            Some(first) => self.pick_funded(first, now),
            None => self.pick_spare(now),
        };
        self.follow_gift(end, now).min(self.refill_at)
    }

    /// `from`, which runs, has nothing better to do than wait for `to`: `to` runs in its place and on its account,
    /// until `from`'s budget or turn of spare time is used up, but not for longer than a turn of spare time lasts.
    /// Nothing happens if `from` does not run or `to` is not ready. No third lane can tell. Decide afterwards.
    pub fn yield_to(&mut self, from: Slot, to: Slot, now: u64) {
        self.settle(now);
        if self.mode == Mode::Idle || self.runner != from || !self.is_ready(to) || from == to {
            return;
        }
        // An heir that yields passes on what is left of what it was given; one that yields to its donor gives it back.
        let left = match self.gift {
            Some(gift) if gift.donor == self.payer && gift.heir == from => gift.left,
            // What it was given is used up.
            Some(_) | None if from != self.payer => return,
            Some(_) | None => self.turn.length(),
        };
        self.gift = (to != self.payer).then_some(Gift {
            donor: self.payer,
            heir: to,
            left,
        });
    }

    /// Whether a lane has budget left.
    #[must_use]
    pub const fn has_budget(&self, slot: Slot) -> bool {
        self.funded & slot.bit() != 0
    }

    /// Brings all accounts up to now, for who wants to read them. Returns the time that counts, which never goes back.
    #[inline]
    pub fn settle(&mut self, now: u64) -> u64 {
        let Some(ticks) = now.checked_sub(self.since) else {
            if self.since == NEVER {
                self.since = now;
            }
            return self.since;
        };
        let since = core::mem::replace(&mut self.since, now);
        if self.mode == Mode::Idle {
            self.idle = self.idle.saturating_add(ticks);
        } else if ticks > 0 {
            self.charge(since, ticks, now);
        }
        now
    }

    /// A lane ran.
    #[inline(never)]
    fn charge(&mut self, since: u64, ticks: u64, now: u64) {
        let runner = self.account_mut(self.runner);
        runner.ran = runner.ran.saturating_add(ticks);
        match self.mode {
            Mode::Alone => {
                self.account_mut(self.payer).catch_up(since, now);
                self.refill_at = NEVER;
                return self.note(self.payer);
            }
            Mode::Budget => self.charge_budget(ticks, now),
            Mode::Turn => self.charge_turn(ticks),
            Mode::Idle | Mode::Spare => {}
        }
        if let Some(gift) = &mut self.gift
            && gift.donor == self.payer
        {
            gift.left = gift.left.saturating_sub(ticks);
            if gift.left == 0 {
                self.gift = None;
            }
        }
    }

    /// Whether a lane wants to run.
    #[must_use]
    pub const fn is_ready(&self, slot: Slot) -> bool {
        self.ready & slot.bit() != 0
    }

    /// All lanes that want to run, as bits.
    #[must_use]
    pub const fn ready(&self) -> u64 {
        self.ready
    }

    /// How many ticks a lane ran, until the last call ([`Scheduler::settle`]).
    #[must_use]
    pub fn ran(&self, slot: Slot) -> u64 {
        self.account(slot).ran
    }

    /// How many ticks nobody ran, since the first call and until the last.
    #[must_use]
    pub const fn idle(&self) -> u64 {
        self.idle
    }

    /// What a lane is promised.
    #[must_use]
    pub fn server(&self, slot: Slot) -> Server {
        self.account(slot).server
    }

    /// How many lanes the CPU carries.
    #[must_use]
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    /// Runs a lane on its own account.
    fn run(&mut self, slot: Slot, mode: Mode) {
        self.mode = mode;
        self.payer = slot;
        self.runner = slot;
    }

    /// Runs the payer's heir instead of the payer, if it has one.
    fn follow_gift(&mut self, end: u64, now: u64) -> u64 {
        match self.gift {
            Some(gift) if gift.donor == self.payer => {
                self.runner = gift.heir;
                end.min(now.saturating_add(gift.left))
            }
            Some(_) | None => end,
        }
    }

    fn end_gift(&mut self, donor: Slot) {
        if self.gift.is_some_and(|gift| gift.donor == donor) {
            self.gift = None;
        }
    }

    fn account(&self, slot: Slot) -> &Account {
        at(&self.accounts, slot)
    }

    fn account_mut(&mut self, slot: Slot) -> &mut Account {
        at_mut(&mut self.accounts, slot)
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "no Slot is MAX_SLOTS or more; the mask lets the compiler see it"
)]
fn at(accounts: &[Account; MAX_SLOTS], slot: Slot) -> &Account {
    &accounts[slot.index() % MAX_SLOTS]
}

#[expect(
    clippy::indexing_slicing,
    reason = "no Slot is MAX_SLOTS or more; the mask lets the compiler see it"
)]
fn at_mut(accounts: &mut [Account; MAX_SLOTS], slot: Slot) -> &mut Account {
    &mut accounts[slot.index() % MAX_SLOTS]
}
