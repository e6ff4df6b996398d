//! Whose world is in the CPU, and how one takes the place of another.

#[cfg(feature = "virtio")]
use domain_hv::Slot;
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::{cpu, timer, world};
use vcpu::vgic::Away;

use super::member::Stand;
use super::{Crew, NEVER};

impl Crew {
    /// Puts a lane's world into the CPU. Nobody's is in it.
    pub(super) fn load(&mut self, index: usize) {
        self.exchange(Some(index));
    }

    /// Takes the world of the lane that is there out of the CPU, so that it can go on later.
    pub(super) fn unload(&mut self) {
        self.exchange(None);
    }

    /// Takes the world of the lane that is there out of the CPU, so that it can go on later, and puts another one's in.
    /// True when the one that leaves waits no more: nobody's is in the CPU then.
    #[inline(never)]
    pub(super) fn exchange(&mut self, to: Option<usize>) -> bool {
        #[cfg(feature = "virtio")]
        let asker = to
            .and_then(Slot::new)
            .and_then(|to| self.dialogue.asker(to));
        let members = self.members.as_mut_slice();
        if let Some(member) = self.loaded.take().and_then(|from| members.get_mut(from)) {
            let (lane, vgic) = (&mut *member.lane, &member.vm.machine.vgic);
            let away = match member.stand {
                Stand::Ready | Stand::Waiting(_) => Away::On,
                Stand::Off | Stand::Gone | Stand::Building(_) => Away::Off,
            };
            // One that is only put off will be back without being called.
            let mut is_awake = false;
            let kick = match member.stand {
                Stand::Waiting(_) => {
                    // An interrupt may have come since anybody has looked, and leaves with the lane.
                    is_awake = lane.gic.would_wake(&mut ThisCpu);
                    // What made one that stands aside do so can wait with it.
                    #[cfg(feature = "virtio")]
                    {
                        is_awake &= !self.dialogue.is_aside(member.slot);
                    }
                    member.seat.call
                }
                Stand::Ready | Stand::Off | Stand::Gone | Stand::Building(_) => 0,
            };
            // One that waits for the answer of the lane that comes is called when that is there.
            #[cfg(feature = "virtio")]
            if away == Away::On && asker == Some(member.slot) {
                member.vm.virtio.await_answer(member.seat.call);
            }
            vgic.set_kick(lane.index(), kick);
            lane.gic.depart(away, vgic, &mut ThisCpu);
            world::save(lane);
            if let Stand::Waiting(until) = member.stand {
                let now = timer::now();
                let event = match lane.next_event(member.vm.clock, now) {
                    _ if is_awake => 0,
                    event => event.unwrap_or(NEVER),
                };
                member.stand = Stand::Waiting(until.min(event));
                self.waiting |= member.slot.bit();
                self.due = self.due.min(event);
                if vgic.has_mail(lane.index()) || event <= now {
                    return true;
                }
            }
        }
        let Some((index, member)) = to.and_then(|to| Some((to, members.get_mut(to)?))) else {
            return false;
        };
        let (lane, number) = (&mut *member.lane, member.vm.id.number());
        world::load(lane, &member.place);
        let last = self.last.get_mut(usize::from(number));
        if last.and_then(|last| last.replace(index)) != Some(index) {
            world::forget_sibling();
        }
        #[cfg(feature = "virtio")]
        member.vm.virtio.await_answer(0);
        // The kick first, the mail then: see `Vgic::set_kick`.
        let vgic = &member.vm.machine.vgic;
        vgic.set_kick(lane.index(), member.seat.kick);
        lane.gic.arrive(vgic, &mut ThisCpu);
        cpu::note_vm(Some(u32::from(number)));
        self.loaded = Some(index);
        false
    }

    /// Leaves nobody's world in the CPU: what was there is over.
    pub(super) fn clear(&mut self) {
        if let Some(member) = self.loaded.take().and_then(|one| self.members.get_mut(one)) {
            let vgic = &member.vm.machine.vgic;
            vgic.set_kick(member.lane.index(), 0);
            member.lane.gic.depart(Away::Off, vgic, &mut ThisCpu);
        }
        world::retire();
        cpu::note_vm(None);
    }
}
