//! Lanes that are called while another one runs, and lanes that answer: see [`domain_hv::Dialogue`].

use domain_hv::{Decision, Slot};
#[cfg(feature = "virtio")]
use hypervisor_arch::timer;

use super::Crew;
use super::member::Member;
#[cfg(feature = "virtio")]
use super::member::Stand;

/// A lane that has answered stands aside for a second divided by this at most.
#[cfg(feature = "virtio")]
const ASIDES_A_SECOND: u64 = 10_000;

impl Crew {
    /// Lanes that wait away from the CPU and have mail want to run.
    #[inline(always)]
    pub(super) fn answer_calls(&mut self, now: u64) {
        #[cfg(feature = "virtio")]
        let asker = self.latest.and_then(|latest| self.dialogue.asker(latest));
        for slot in Slot::each(self.waiting) {
            let member = self.members.get_mut(slot.index());
            if member.is_some_and(Member::is_called) {
                self.waiting &= !slot.bit();
                self.wake(slot, now);
                #[cfg(feature = "virtio")]
                if let Some(latest) = self.latest.filter(|_| asker != Some(slot)) {
                    self.dialogue.ask(latest, slot);
                }
            }
        }
        #[cfg(feature = "virtio")]
        if let Some(asker) = asker {
            self.answer(asker, now);
        }
    }

    /// The lane that runs stands aside for the one that has asked it, if that one has its answer.
    #[cfg(feature = "virtio")]
    #[inline(never)]
    fn answer(&mut self, asker: Slot, now: u64) {
        let to = self.members.get(asker.index());
        let Some(latest) = self
            .latest
            .filter(|_| to.is_some_and(|to| to.vm.virtio.has_called()))
        else {
            return;
        };
        if self.dialogue.is_aside(asker) {
            self.dialogue.back(asker);
            self.come_back(asker, now);
        }
        let is_up = |slot: Slot| {
            let member = self.members.get(slot.index());
            member.is_some_and(|member| member.stand == Stand::Ready)
        };
        if !is_up(asker)
            || !is_up(latest)
            || !self
                .dialogue
                .answer(&mut self.scheduler, latest, asker, now)
        {
            return;
        }
        if let Some(by) = self.members.get_mut(latest.index()) {
            let until = now.saturating_add(timer::frequency() / ASIDES_A_SECOND);
            by.stand = Stand::Waiting(until);
            self.due = self.due.min(until);
        }
    }

    /// Who runs: a lane stands aside only for one that does.
    #[inline(always)]
    pub(super) fn decide(&mut self, now: u64) -> Decision {
        #[cfg(feature = "virtio")]
        {
            let decision = self.scheduler.decide(now);
            let Some(slot) = self.dialogue.must_return(decision.run) else {
                return decision;
            };
            self.come_back(slot, now);
        }
        self.scheduler.decide(now)
    }

    /// The lane that stands aside wants to run after all.
    #[cfg(feature = "virtio")]
    #[inline(never)]
    pub(super) fn come_back(&mut self, slot: Slot, now: u64) {
        let Some(member) = self.members.get_mut(slot.index()) else {
            return;
        };
        if matches!(member.stand, Stand::Waiting(_)) && !member.paused {
            member.stand = Stand::Ready;
            self.waiting &= !slot.bit();
            self.scheduler.wake(slot, now);
        }
    }
}
