//! What a crew does about its lanes' machines: it pauses, leaves, builds and watches as their lives demand.

use hypervisor_arch::{timer, world};
use stage2_addr::Ipa;
use vcpu::lane::Vcpu;

use super::Crew;
use super::member::{Member, Stand};
use crate::fill::Fill;
use crate::house::House;
use crate::life::{self, Phase};
use crate::report;
use crate::seeds;
use crate::vm::Vm;

/// Bytes of a machine's memory that are put in order at a time: how long an interrupt may have to wait for it.
const PIECE: u64 = 64 << 10;
/// For how many times as long as they worked a machine's devices leave a CPU to those whose turn it is.
#[cfg(feature = "virtio")]
const PAUSES_OF_OTHERS: u64 = 7;

impl Crew {
    /// Does what machines' devices have to do by themselves.
    ///
    /// A lane that acts while it is away must be alone here. It waits for its machine's interrupt controller, and whoever
    /// holds that may be waiting for the list registers of the lane whose world is in this CPU; it may even be the lane
    /// that acts which needs them. Only their own lane gives them up while it waits.
    pub(super) fn tend_devices(&mut self, now: u64) {
        for index in 0..self.members.len() {
            let is_due = |member: &Member| member.has_device_work(now);
            if !self.members.get(index).is_some_and(is_due) {
                continue;
            }
            if self.loaded != Some(index) {
                // Whether the lane that leaves still waits is asked of every lane afterwards.
                self.unload();
            }
            if let Some(member) = self.members.get_mut(index) {
                member.tend_devices();
            }
        }
    }

    /// Goes on with what the devices of a lane's machine have to do, on that machine's account. While a lane wants to run
    /// here there are pauses: a driver whose queues are full of large requests would stop everybody for as long as those
    /// take. Whose turn it is stops its own lanes at most half of the time, and others an eighth.
    #[cfg(feature = "virtio")]
    pub(super) fn tend_virtio(&mut self, index: usize, now: u64) {
        let Some(member) = self.members.get(index) else {
            return;
        };
        let devices = &member.vm.virtio;
        if !devices.has_work(now) {
            return;
        }
        if self.is_single() {
            let pauses = u64::from(member.stand == Stand::Ready);
            return devices.work(now, pauses);
        }
        let turn = self.latest.and_then(|slot| self.members.get(slot.index()));
        let own = turn.filter(|turn| turn.vm.id == member.vm.id);
        let payer = own.unwrap_or(member).slot;
        let pauses = if self.scheduler.ready() == 0 {
            0
        } else if own.is_some() {
            1
        } else {
            PAUSES_OF_OTHERS
        };
        self.scheduler.settle(now);
        devices.work(now, pauses);
        self.scheduler.charge_to(payer, timer::now());
    }

    /// There may be more from outside at this time.
    #[cfg(feature = "virtio")]
    pub fn look_outside_at(&mut self, at: u64) {
        self.outside = self.outside.min(at);
    }

    /// Looks for what comes from outside, for what waits in vain, and for what the operator waits for, when it is time, and
    /// has the CPU's timer see to that.
    #[cfg(feature = "virtio")]
    pub(super) fn look_outside(&mut self, house: &'static House, now: u64) {
        if self.outside <= now {
            self.outside = crate::virtio::look(now).min(crate::operator::look(house, now));
        }
        self.due = self.due.min(self.outside);
    }

    /// A lane whose machine is not simply running does its share of what is.
    #[cold]
    pub(super) fn follow(&mut self, house: &'static House, index: usize, phase: Phase, now: u64) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let (vm, lane, stand) = (member.vm, member.lane.index(), member.stand);
        match phase {
            Phase::Running if stand == Stand::Gone => {
                member.lane.gic.renew();
                self.prepare(index);
                self.wake_if(index, now);
            }
            Phase::Running => {
                member.paused = false;
                if stand == Stand::Ready {
                    self.ready(index, now);
                } else {
                    self.wake_if(index, now);
                }
            }
            Phase::Paused if member.paused => {}
            Phase::Paused => {
                member.paused = true;
                let slot = member.slot;
                self.scheduler.block(slot, now);
                if self.loaded == Some(index) {
                    self.unload();
                }
            }
            Phase::Out if stand == Stand::Gone => {
                if lane == 0 {
                    life::look(house, vm, now);
                }
            }
            Phase::Out => {
                self.dismiss(index, now);
                life::left(house, vm, lane);
            }
            Phase::Building if lane == 0 && stand == Stand::Gone => {
                member.stand = Stand::Building(Fill::START);
                self.building |= member.slot.bit();
                self.ready(index, now);
            }
            Phase::Building => {}
        }
    }

    /// Looks for a sign of life.
    #[cold]
    pub(super) fn watch(&mut self, house: &'static House, index: usize, now: u64) {
        let single = self.is_single();
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let vm = member.vm;
        let ran = if single {
            now
        } else {
            self.scheduler.settle(now);
            self.scheduler.ran(member.slot)
        };
        let exits = member.lane.trace.count().wrapping_sub(member.foreign);
        let busy = member.stand == Stand::Ready && !(single && in_wait(vm, member.lane));
        member.signs.look(&vm.watchdog, exits, ran, busy, now);
        let resident = self.loaded == Some(index);
        let measured = if single { self.alone.read(now) } else { ran };
        report::look(member.seat, self.looked, member.lane, resident, measured);
        if member.lane.index() == 0
            && let Some(ticks) = vm.watchdog.hangs(now)
        {
            let ms = ticks.saturating_mul(1000) / timer::frequency().max(1);
            life::hang(house, vm, ms);
        }
    }

    fn wake_if(&mut self, index: usize, now: u64) {
        let resident = self.loaded == Some(index);
        if let Some(member) = self.members.get_mut(index)
            && member.wakes(resident, now)
        {
            self.ready(index, now);
        }
    }

    /// Does a piece of building a machine. When it is done, the machine runs.
    pub fn build(&mut self, house: &'static House, index: usize) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let Stand::Building(fill) = member.stand else {
            return;
        };
        let vm = member.vm;
        // A file that does not fit has been refused at boot.
        let next = fill.step(&vm.ram, vm.files, PIECE).unwrap_or(Fill::Done);
        member.stand = Stand::Building(next);
        if next == Fill::HandOver(0) {
            seeds::renew(vm);
        }
        if next != Fill::Done {
            return;
        }
        let slot = member.slot;
        member.stand = Stand::Gone;
        self.building &= !slot.bit();
        self.scheduler.block(slot, timer::now());
        vm.reset();
        life::begin(house, vm);
    }

    /// Notes where each lane is and how long it has run, for a report.
    pub fn look(&mut self, number: u64) {
        self.looked = number;
        let now = timer::now();
        let alone = self.is_single();
        if !alone {
            self.scheduler.settle(now);
        }
        for (index, member) in self.members.iter().enumerate() {
            let ran = if alone {
                self.alone.read(now)
            } else {
                self.scheduler.ran(member.slot)
            };
            let resident = self.loaded == Some(index);
            report::look(member.seat, number, member.lane, resident, ran);
        }
    }

    /// An exit of a lane was EL2's own business, and no sign of its life.
    pub fn not_a_sign(&mut self, index: usize) {
        if let Some(member) = self.members.get_mut(index) {
            member.foreign = member.foreign.wrapping_add(1);
        }
    }
}

/// Whether a lane whose waits do not trap stands in one: EL2 has just interrupted it.
fn in_wait(vm: &Vm, lane: &Vcpu<'static>) -> bool {
    const WFI: u32 = 0xd503_207f;
    let pc = lane.context.pc();
    let mut word = [0; 4];
    let before = pc.elr.wrapping_sub(4);
    world::guest_address(before, pc.is_el0())
        .and_then(|ipa| vm.read(Ipa::new(ipa), &mut word))
        .is_some_and(|()| u32::from_le_bytes(word) == WFI)
}
