//! Refill: which interrupts get the list registers, and what brings the lane back for the others.

use super::bits::{Ones, Words, at, at_mut, low8, low32};
use super::lane::{NO_SLOT, lr_count};
use super::port::{
    HCR_EN, HCR_LRENPIE, HCR_NPIE, HCR_TDIR, HCR_VGRP0DIE, HCR_VGRP0EIE, HCR_VGRP1DIE,
    HCR_VGRP1EIE, VMCR_VENG0, VMCR_VENG1,
};
use super::state::State;
use super::{LINKED_PPIS, LaneGic, MAX_LRS, SPI_WORDS, VIRTUAL_TIMER, Vgic, VirtGic, lr};
use crate::virtio::VIRTIO;

impl LaneGic {
    /// Fills the list registers from the software state and sets `ICH_HCR_EL2` for what did not fit.
    pub(super) fn refill(&mut self, vgic: &Vgic, state: &mut State, hw: &mut impl VirtGic) {
        self.emptied = false;
        self.settle_physical(state, hw);
        let vmcr = hw.read_vmcr();
        let pending = state.deliverable(self.id, vgic.spi_enables());
        let active = state.active(self.id);
        let count = lr_count(hw);
        let mut plan = Plan {
            pending,
            active,
            values: [0; MAX_LRS],
            used: 0,
            count,
        };
        let left = plan.fill(self.id, state, vmcr);
        for (index, value) in plan.values.iter().enumerate().take(count) {
            hw.write_lr(index, *value);
            *at_mut(&mut self.bodies, index) = *value & !lr::STATE;
        }
        self.used = plan.used;
        hw.write_hcr(HCR_EN | maintenance(left, vmcr));
        self.prepare_hot(vgic, state, &plan, left);
    }

    /// Pays physical deactivations that no interrupt stands for any more, and mirrors the enables.
    fn settle_physical(&mut self, state: &mut State, hw: &mut impl VirtGic) {
        let bank = state.bank_mut(self.id);
        let owed = bank.token & !(bank.latch | bank.active);
        bank.token &= !owed;
        let wanted = bank.enable & LINKED_PPIS;
        for intid in Ones(owed) {
            hw.deactivate(intid);
        }
        if wanted != self.physical {
            hw.set_ppis(wanted);
            self.physical = wanted;
        }
    }

    /// What the hot path may do until the next refill.
    fn prepare_hot(&mut self, vgic: &Vgic, state: &State, plan: &Plan, left: Left) {
        let bank = state.bank(self.id);
        self.open = state.open(self.id);
        self.group = bank.group;
        self.sgi_slot = [NO_SLOT; 16];
        if VIRTIO {
            self.spi_slot = [0; SPI_WORDS];
        }
        self.free = 0;
        self.timer = 0;
        self.plain = false;
        // What is pending outside though everything has a list register is of an interrupt that is active in one, where the
        // short path would make it pending once more.
        if left.pending || left.active || bank.latch & self.open != 0 {
            return;
        }
        let all = low32((1u64 << plan.count) - 1);
        self.free = all & !(plan.used | 1);
        for (slot, priority) in self.sgi_priority.iter_mut().zip(bank.priority) {
            *slot = priority;
        }
        // A debt for which no list register stands would be forgotten.
        self.plain = bank.token == 0;
        for index in Ones(plan.used) {
            let value = *at(&plan.values, index as usize);
            let intid = lr::intid(value);
            let pulsed = VIRTIO && intid >= 32 && state.is_pulsed(vgic, self.id, intid - 32);
            if pulsed {
                self.seat_spi(intid - 32, index);
            }
            self.plain &= (intid < 32 || pulsed) && (index == 0 || value & lr::HW == 0);
            if intid < 16 && value & lr::GROUP1 != 0 && self.open >> intid & 1 != 0 {
                *at_mut(&mut self.sgi_slot, intid as usize) = low8(u64::from(index));
            }
        }
        let linked = plan.used & 1 == 0 || plan.values[0] & lr::HW != 0;
        if self.open >> VIRTUAL_TIMER & 1 != 0 && linked {
            let (priority, group1) = state.rank(self.id, VIRTUAL_TIMER);
            let body = lr::template(VIRTUAL_TIMER, priority, group1) | lr::linked(VIRTUAL_TIMER);
            self.timer = body | lr::PENDING;
            self.used |= 1;
            self.bodies[0] = body;
        }
    }
}

/// What did not get a list register.
#[derive(Clone, Copy)]
struct Left {
    pending: bool,
    active: bool,
}

/// A refill in the making.
struct Plan {
    pending: Words,
    active: Words,
    values: [u64; MAX_LRS],
    used: u32,
    count: usize,
}

impl Plan {
    /// Chooses: the most urgent pending, the most urgent active, then the other pending, then the other active ones.
    fn fill(&mut self, lane: usize, state: &mut State, vmcr: u64) -> Left {
        let groups = vmcr & (VMCR_VENG0 | VMCR_VENG1);
        let mut pending = self.pending;
        for (pending, active) in pending.iter_mut().zip(&self.active) {
            *pending &= !active;
        }
        let wanted: u32 = pending
            .iter()
            .chain(&self.active)
            .map(|word| word.count_ones())
            .sum();
        if wanted as usize >= self.count {
            // Crowded: an interrupt that becomes pending again in its list register would be ahead of more urgent ones
            // that have none. So active ones are only active, and what else is pending of them stays outside.
            self.pending = pending;
        }
        let mut active = self.active;
        let mut left = Left {
            pending: false,
            active: false,
        };
        self.next(lane, state, &mut pending, groups, &mut left.pending);
        self.next(lane, state, &mut active, 3, &mut left.active);
        while !left.pending && self.next(lane, state, &mut pending, groups, &mut left.pending) {}
        while self.next(lane, state, &mut active, 3, &mut left.active) {}
        left
    }

    /// Gives the most urgent of `set` a list register; sets `failed` when there is none for it. False at the end of `set`.
    fn next(
        &mut self,
        lane: usize,
        state: &mut State,
        set: &mut Words,
        groups: u64,
        failed: &mut bool,
    ) -> bool {
        let Some(intid) = state.most_urgent(lane, set, groups) else {
            return false;
        };
        let (word, bit) = ((intid >> 5) as usize, 1 << (intid & 31));
        if let Some(word) = set.get_mut(word) {
            *word &= !bit;
        }
        let has = |words: &Words| words.get(word).is_some_and(|word| word & bit != 0);
        match self.vacant(intid) {
            Some(index) => {
                let value = state.take(lane, intid, has(&self.pending), has(&self.active));
                *at_mut(&mut self.values, index) = value;
                self.used |= 1 << index;
            }
            None => *failed = true,
        }
        true
    }

    /// The list register for `intid`: the first for the virtual timer, any other for all others.
    fn vacant(&self, intid: u32) -> Option<usize> {
        if intid == VIRTUAL_TIMER {
            return Some(0);
        }
        let index = usize::try_from((self.used | 1).trailing_ones()).unwrap_or(usize::MAX);
        (index < self.count).then_some(index)
    }
}

/// The `ICH_HCR_EL2` bits that bring the lane back for what did not fit.
fn maintenance(left: Left, vmcr: u64) -> u64 {
    let mut bits = 0;
    if left.pending {
        bits |= HCR_NPIE;
        // Interrupts of a group that the guest has off rank last: look again when it switches one on, or one of two off.
        // When it switches the only one off there is nothing to deliver, and an emulator (QEMU 7.2) raises VGrp0D
        // for as long as group 1 is off, whatever group 0 is.
        bits |= match (vmcr & VMCR_VENG0 != 0, vmcr & VMCR_VENG1 != 0) {
            (false, false) => HCR_VGRP0EIE | HCR_VGRP1EIE,
            (false, true) => HCR_VGRP0EIE,
            (true, false) => HCR_VGRP1EIE,
            (true, true) => HCR_VGRP0DIE | HCR_VGRP1DIE,
        };
    }
    if left.active {
        bits |= HCR_LRENPIE | HCR_TDIR;
    }
    bits
}
