//! A lane comes to a CPU and leaves it, and the short way of both: list registers that are laid aside as they are.
//!
//! Lanes that share a CPU change places all the time, and mostly nothing becomes of their interrupts meanwhile. So a
//! lane that leaves does not fold: its list registers are copied out, under the lock, and copied back when it returns.
//! Whoever needs to see them before that folds them from the copy ([`State::collect`]); the lane finds that out and
//! refills. What this leaves as it is must not depend on where the lane is:
//!
//! - only private interrupts are in the list registers, and edges that are routed to this lane alone: another SPI may be
//!   somebody else's while its lane is away;
//! - no physical interrupt is active for the lane: another one's would be held up;
//! - nothing that was pending or active had to stay outside, and nothing is in the mail;
//! - no SPI is pending outside list registers: to whom it goes may change with the lanes that are here;
//! - its VM has no device of the machine, which may have refused something that the lane does not know of yet.
//!
//! Everything else takes the long way, on which the lane does not notice the difference.

use core::sync::atomic::Ordering;

use spin::MutexGuard;

use super::bits::{Ones, at, at_mut};
use super::lane::NO_SLOT;
use super::port::HCR_EN;
use super::state::{NOBODY, Snapshot, State};
use super::{LaneGic, MAIL_POSTED, MAIL_SGIS, Vgic, VirtGic, lr};
use crate::virtio::VIRTIO;

/// How a lane leaves its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// It is on and will be back: another lane has the CPU meanwhile, or it waits for an interrupt.
    On,
    /// It is off (PSCI), or its machine has ended.
    Off,
}

impl LaneGic {
    /// Puts the lane on this CPU: before its first entry and after [`depart`](Self::depart).
    #[inline(always)]
    pub fn arrive(&mut self, vgic: &Vgic, hw: &mut impl VirtGic) {
        hw.load_interface(&self.saved);
        let mut state = self.lock_at_once(vgic, hw);
        if !self.take_up(vgic, &mut state, hw) {
            self.unfold(vgic, state, hw);
        }
    }

    /// The rest of [`arrive`](Self::arrive), where the list registers are filled anew.
    #[cold]
    #[inline(never)]
    fn unfold(&mut self, vgic: &Vgic, mut state: MutexGuard<'_, State>, hw: &mut impl VirtGic) {
        // What was laid aside is folded before the list registers of this CPU are the lane's.
        self.fold_own(vgic, &mut state, hw);
        self.here = true;
        // No mask of PPIs is this one: whatever this CPU has on for another lane, the refill says what it is to be.
        self.physical = u32::MAX;
        state.lanes_at.arrive(self.id);
        state.spis.fresh = [u32::MAX; 2];
        self.close(vgic, state, 0, hw);
    }

    /// Takes the lane off this CPU. Its state moves into software; no physical interrupt stays active for it.
    ///
    /// A lane that leaves while it is [`Away::On`] is still told of what arrives for it, by the kick that
    /// [`Vgic::set_kick`] names; one that is off is not. What has arrived already and would end its wait is in its mail,
    /// or was in its list registers: whoever takes the place of a lane that waits asks [`would_wake`](Self::would_wake).
    #[inline(always)]
    pub fn depart(&mut self, away: Away, vgic: &Vgic, hw: &mut impl VirtGic) {
        let mut state = self.lock_at_once(vgic, hw);
        if away == Away::Off || !self.lay_aside(vgic, &mut state, hw) {
            self.put_away(away, vgic, state, hw);
        }
    }

    /// The rest of [`depart`](Self::depart), where everything moves into the software state.
    #[cold]
    #[inline(never)]
    fn put_away(
        &mut self,
        away: Away,
        vgic: &Vgic,
        mut state: MutexGuard<'_, State>,
        hw: &mut impl VirtGic,
    ) {
        if vgic.has_devices.load(Ordering::Relaxed) {
            hw.take_late_error();
        }
        self.fold_own(vgic, &mut state, hw);
        state.lanes_at.depart(self.id, away == Away::On);
        state.spis.fresh = [u32::MAX; 2];
        let bank = state.bank_mut(self.id);
        // The timers' lines stay high, so the physical interrupts come again when the lane is back.
        let owed = bank.token;
        bank.latch &= !owed;
        bank.token = 0;
        for intid in Ones(owed) {
            hw.deactivate(intid);
        }
        if away == Away::Off {
            hw.set_ppis(0);
        }
        // A sibling may have changed them since the last refill; from here on it calls the lane.
        self.open = state.open(self.id);
        self.here = false;
        hw.save_interface(&mut self.saved);
        hw.write_hcr(0);
        self.recall(vgic, &state);
        Self::publish(vgic, &mut state, hw);
        self.announce(vgic, &mut state, hw);
    }

    /// Leaves the CPU by the short way. False when the long way is due; nothing has changed then.
    #[inline(always)]
    pub(super) fn lay_aside(
        &mut self,
        vgic: &Vgic,
        state: &mut State,
        hw: &mut impl VirtGic,
    ) -> bool {
        let id = self.id;
        let shared = at(&vgic.shared, id);
        let lrs = at_mut(&mut state.laid, id);
        // Nothing is active without a list register, so what ICH_HCR_EL2.EOIcount has counted ended nothing.
        if !self.plain
            || self.held != 0
            || !vgic.has_no_spi()
            || shared.mail.load(Ordering::SeqCst) != 0
        {
            return false;
        }
        hw.save_lrs(lrs);
        let [timer, ..] = lrs;
        if *timer & lr::STATE != 0 {
            return false;
        }
        state.lanes_at.lay_aside(id);
        self.here = false;
        self.plain = false;
        hw.save_interface(&mut self.saved);
        hw.write_hcr(0);
        true
    }

    /// Comes back by the short way. False when the long way is due; nothing has changed then.
    #[inline(always)]
    pub(super) fn take_up(
        &mut self,
        vgic: &Vgic,
        state: &mut State,
        hw: &mut impl VirtGic,
    ) -> bool {
        let id = self.id;
        let mailbox = &at(&vgic.shared, id).mail;
        if !state.lanes_at.is_aside(id) || !vgic.has_no_spi() {
            return false;
        }
        let lrs = at_mut(&mut state.laid, id);
        let mail = mailbox.load(Ordering::SeqCst);
        if VIRTIO && mail == MAIL_POSTED {
            let Some(posted) = self.posted_seats(vgic) else {
                return false;
            };
            let taken = mailbox.compare_exchange(mail, 0, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_err() {
                return false;
            }
            self.take_seats(vgic, posted, lrs);
        } else if mail != 0 {
            // What wakes a lane is mostly one SGI, which has been there before.
            let slot = *at(&self.sgi_slot, mail.trailing_zeros() as usize);
            if mail & !MAIL_SGIS != 0 || !mail.is_power_of_two() || slot == NO_SLOT {
                return false;
            }
            let taken = mailbox.compare_exchange(mail, 0, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_err() {
                return false;
            }
            let index = usize::from(slot);
            let now = at_mut(lrs, index);
            *now = *at(&self.bodies, index) | *now & lr::STATE | lr::PENDING;
        }
        hw.load_lrs(lrs);
        hw.write_hcr(HCR_EN);
        hw.set_ppis(self.physical);
        self.here = true;
        self.plain = true;
        state.lanes_at.arrive(id);
        true
    }
}

impl State {
    /// Folds what a lane has laid aside, if it has.
    pub(super) fn collect(&mut self, lane: usize) {
        if !self.lanes_at.is_aside(lane) {
            return;
        }
        self.lanes_at.collect(lane);
        let lrs = *at(&self.laid, lane);
        let in_use = |index: &u32| *at(&lrs, *index as usize) & lr::STATE != 0;
        let used = Ones(0xffff)
            .filter(in_use)
            .fold(0, |bits, index| bits | 1 << index);
        let taken = Snapshot {
            used,
            lrs,
            ended: 0,
            sgis: 0,
        };
        self.fold(lane, &taken);
        if VIRTIO {
            // Those that the guest had finished are in nobody's list register either.
            for home in &mut self.spis.home {
                if usize::from(*home) == lane {
                    *home = NOBODY;
                }
            }
        }
    }
}

impl Vgic {
    /// Whether no SPI is pending outside list registers, and no level is high. To who holds the lock.
    #[inline(always)]
    fn has_no_spi(&self) -> bool {
        let [low, high] = &self.spi_pending;
        low.load(Ordering::Relaxed) | high.load(Ordering::Relaxed) == 0
    }
}
