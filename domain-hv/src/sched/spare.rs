//! Time that no lane with budget wants: who of the throttled gets it.
//!
//! The highest priority goes first, whatever it takes; lower ones still have their guarantee. Lanes of equal priority
//! take turns. The next turn is for the lane that got the least spare time so far, where only time counts that another
//! lane of the same priority wanted too. One that was away begins with the least of those that stayed: absence earns
//! nothing. So among n lanes nobody waits longer than two turns of each other lane.
//!
//! A turn lasts a quarter of the shortest period on this CPU: the lane in the greatest hurry sets the pace.

use super::{Account, MAX_SLOTS, Mode, NEVER, PRIORITIES, Scheduler, Server, Slot};

/// A turn is the shortest period divided by this.
const TURNS: u64 = 4;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    holder: Slot,
    /// What is left of the turn.
    left: u64,
    length: u64,
    /// The lanes of each priority.
    classes: [u64; PRIORITIES],
    /// What the last lane whose turn came had got by then: the least of its class.
    floors: [u64; PRIORITIES],
}

impl Turn {
    pub(super) const fn new() -> Self {
        Self {
            holder: Slot(0),
            left: 0,
            length: NEVER,
            classes: [0; PRIORITIES],
            floors: [0; PRIORITIES],
        }
    }

    pub(super) fn add(&mut self, slot: Slot, server: &Server) {
        self.length = self.length.min(server.period / TURNS);
        if let Some(class) = self.classes.get_mut(usize::from(server.priority)) {
            *class |= slot.bit();
        }
    }

    /// How long a turn lasts.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// What was used of the turn; says whether that was all.
    pub(super) fn spend(&mut self, ticks: u64) -> bool {
        self.left = self.left.saturating_sub(ticks);
        self.left == 0
    }

    /// Those of the highest priority among some lanes.
    fn highest(&self, lanes: u64) -> u64 {
        let classes = self.classes.iter().rev().map(|class| class & lanes);
        classes.into_iter().find(|class| *class != 0).unwrap_or(0)
    }

    /// Whose turn it is among lanes of one priority, `lowest` the first of them.
    fn next(&mut self, class: u64, lowest: Slot, accounts: &mut [Account; MAX_SLOTS]) -> Slot {
        if self.left > 0 && class & self.holder.bit() != 0 {
            return self.holder;
        }
        let priority = super::at(accounts, lowest).server.priority;
        let mut spare = 0;
        let floor = self
            .floors
            .get_mut(usize::from(priority))
            .unwrap_or(&mut spare);
        let mut next = lowest;
        let mut least = NEVER;
        for slot in Slot::each(class) {
            let got = super::at(accounts, slot).spare.max(*floor);
            if got < least {
                next = slot;
                least = got;
            }
        }
        *floor = least;
        super::at_mut(accounts, next).spare = least;
        self.holder = next;
        self.left = self.length;
        next
    }
}

impl Scheduler {
    /// All that are ready, more than one, are throttled: who runs, and when that must be reconsidered.
    #[inline(never)]
    pub(super) fn pick_spare(&mut self, now: u64) -> u64 {
        let class = self.turn.highest(self.ready);
        let Some(lowest) = Slot::lowest(class) else {
            return NEVER;
        };
        if class == lowest.bit() {
            self.run(lowest, Mode::Spare);
            return NEVER;
        }
        let next = self.turn.next(class, lowest, &mut self.accounts);
        self.run(next, Mode::Turn);
        now.saturating_add(self.turn.left)
    }

    /// A turn was used.
    pub(super) fn charge_turn(&mut self, ticks: u64) {
        let payer = self.account_mut(self.payer);
        payer.spare = payer.spare.saturating_add(ticks);
        if self.turn.spend(ticks) {
            self.end_gift(self.payer);
        }
    }
}
