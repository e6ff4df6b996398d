//! The lanes of one CPU, and whose turn it is.
//!
//! A crew is the CPU's alone: nobody else ever touches it, so nothing in it is locked. What others want of a lane they
//! leave where they can reach it (its seat, its mail, its machine), then send this CPU the wake interrupt; the crew
//! looks around ([`Crew::gather`]) and finds it.
//!
//! The world of the lane that ran last stays in the CPU until another lane needs the place. A lane that waits while
//! nobody else wants to run is therefore woken by its own timer and its own kicks, without a switch.

mod follow;
mod member;
mod stopwatch;

use arrayvec::ArrayVec;
use configs_plan::MAX_GUESTS;
use domain_hv::sched::{MAX_SLOTS, Scheduler, Slot};
use domain_hv::{AdmissionError, Server};
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::world::{self, Place};
use hypervisor_arch::{cpu, timer};
use vcpu::lane::{Cause, Vcpu};
use vcpu::psci::LastOut;
use vcpu::serve::Wait;
use vcpu::vgic::Away;

use crate::house::House;
use crate::life::{self, Phase};
use crate::report;
use crate::vm::{Seat, Vm};
use crate::watch::Signs;
use member::{Member, Stand};
use stopwatch::Stopwatch;

/// From an interrupt to the crew's finding out whom it was for takes no longer than a second divided by this.
const EXITS_A_SECOND: u64 = 1_000_000;
/// Later than anything.
const NEVER: u64 = u64::MAX;

/// The list of a CPU's lanes.
pub type Members = ArrayVec<Member, MAX_SLOTS>;

/// The lanes of one CPU.
pub struct Crew {
    members: &'static mut Members,
    scheduler: Scheduler,
    /// Whose world is in the CPU.
    loaded: Option<usize>,
    /// Who was put into the CPU last, and may have left since.
    latest: Option<Slot>,
    /// Which lane of each machine was here last.
    last: [Option<usize>; MAX_GUESTS],
    /// What EL2's own timer is set to; [`NEVER`] when it is off.
    alarm: u64,
    /// When the whole run is over, on the CPU that sees to it.
    deadline: u64,
    /// The last look around that its lanes were in.
    looked: u64,
    /// How long the only lane ran, where there is only one.
    alone: Stopwatch,
}

/// What the CPU is to do now.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// Run this member: its world is in the CPU.
    Run(usize),
    /// Build this member's machine.
    Build(usize),
    /// Wait for an interrupt.
    Idle,
}

impl Crew {
    /// A CPU without lanes, and the list that they go into.
    pub fn new(members: &'static mut Members) -> Self {
        Self {
            members,
            scheduler: Scheduler::new(),
            loaded: None,
            latest: None,
            last: [None; MAX_GUESTS],
            alarm: NEVER,
            deadline: NEVER,
            looked: report::BEFORE_ANY,
            alone: Stopwatch::ZERO,
        }
    }

    /// Takes a lane in, switched off.
    ///
    /// # Errors
    /// The CPU cannot promise it what it is to have.
    pub fn admit(
        &mut self,
        lane: &'static mut Vcpu<'static>,
        vm: &'static Vm,
        seat: &'static Seat,
        server: Server,
        dedicated: bool,
    ) -> Result<(), AdmissionError> {
        let slot = self.scheduler.add(server)?;
        let place = Place {
            stage2: vm.stage2,
            counter_offset: vm.clock.offset(),
            dedicated,
        };
        let member = Member {
            lane,
            vm,
            seat,
            slot,
            place,
            stand: Stand::Off,
            paused: false,
            foreign: 0,
            signs: Signs::NONE,
        };
        self.members
            .try_push(member)
            .map_err(|_| AdmissionError::Full)
    }

    /// Makes this crew the one that ends the run, at this count.
    pub const fn end_run_at(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    /// On the crew's own CPU, before anything else. A lane that is alone is put in place for its CPU_ON.
    pub fn settle_in(&mut self) {
        if self.is_single() {
            self.load(0);
        }
    }

    /// Whether a machine's console, or its clock, has to be looked at sooner than this CPU would look. Lane 0's CPU
    /// looks at the clock.
    pub fn must_rearm(&self, index: usize) -> bool {
        let Some(member) = self.members.get(index) else {
            return false;
        };
        let machine = &member.vm.machine;
        let is_clock_due = || machine.next_alarm().is_some_and(|alarm| alarm < self.alarm);
        machine.console_due() < self.alarm || member.lane.index() == 0 && is_clock_due()
    }

    /// The member with this number.
    pub fn member(&mut self, index: usize) -> Option<&mut Member> {
        self.members.get_mut(index)
    }

    /// The lane whose world is in the CPU.
    pub fn resident(&mut self) -> Option<&mut Vcpu<'static>> {
        let member = self.members.get_mut(self.loaded?)?;
        Some(member.lane)
    }

    /// Looks around, decides, and puts the lane whose turn it is into the CPU.
    pub fn next(&mut self, house: &'static House) -> Turn {
        if house.last_look() != self.looked {
            self.look(house.last_look());
        }
        loop {
            let now = timer::now();
            if now >= self.deadline {
                self.unload();
                let number = house.look_around();
                self.look(number);
                report::deadline(house, number);
            }
            self.gather(house, now);
            if self.is_single() {
                return self.next_single(now);
            }
            let decision = self.scheduler.decide(now);
            let Some(slot) = decision.run else {
                self.latest = None;
                self.arm(NEVER);
                return Turn::Idle;
            };
            // A slot's number is its member's: both are in the order of admission.
            let index = slot.index();
            if self.is_building(index) {
                self.arm(decision.until.unwrap_or(NEVER));
                return Turn::Build(index);
            }
            if self.loaded != Some(index) {
                let payer = self.pays_for_switch().filter(|payer| *payer != slot);
                // When something came for the lane that has just left, who is next is open again.
                if !self.unload() {
                    self.load(index);
                    self.latest = Some(slot);
                }
                if let Some(payer) = payer {
                    self.scheduler.charge_to(payer, timer::now());
                }
                if self.loaded != Some(index) || payer.is_some() {
                    // Until when it may run has moved.
                    continue;
                }
            }
            self.arm(decision.until.unwrap_or(NEVER));
            return Turn::Run(index);
        }
    }

    /// Whom a switch is charged to, if not to the lane that comes: the one that has left by itself or used up what it
    /// had. One that is put off by a lane with an earlier deadline does not pay for it, neither now nor when it is back.
    fn pays_for_switch(&self) -> Option<Slot> {
        let slot = self.latest?;
        let member = self.members.get(slot.index())?;
        let put_off = member.stand == Stand::Ready && self.scheduler.has_budget(slot);
        (!put_off).then_some(slot)
    }

    /// The only lane of this CPU when CPU_ON has just called it and it can run at once: the short way through
    /// [`next`](Self::next), after the wake interrupt was ended. What else a look around does is lane 0's, a watchdog's,
    /// or due at a time that EL2's own timer is set to already.
    pub fn ordered(&mut self, house: &'static House) -> Option<usize> {
        if !self.is_single() || self.loaded.is_none() || house.last_look() != self.looked {
            return None;
        }
        let member = self.members.first_mut()?;
        let may = matches!(member.stand, Stand::Off)
            && !member.paused
            && member.lane.index() != 0
            && !member.vm.watchdog.is_on()
            && member.vm.life.phase() == Phase::Running;
        (may && member.start(true)).then_some(0)
    }

    /// Whether a lane has this CPU all to itself, so that there is nothing to schedule.
    const fn is_single(&self) -> bool {
        self.members.len() == 1
    }

    /// What the only lane of the CPU does: its world is always in place.
    fn next_single(&mut self, now: u64) -> Turn {
        self.arm(NEVER);
        let turn = match self.members.first().map(|member| member.stand) {
            Some(Stand::Ready) if !self.is_paused(0) => {
                if self.loaded.is_none() {
                    self.load(0);
                }
                Turn::Run(0)
            }
            Some(Stand::Building(_)) => Turn::Build(0),
            Some(Stand::Ready | Stand::Off | Stand::Waiting(_) | Stand::Gone) | None => Turn::Idle,
        };
        self.alone.turn(matches!(turn, Turn::Run(_)), now);
        turn
    }

    fn is_building(&self, index: usize) -> bool {
        let member = self.members.get(index);
        member.is_some_and(|member| matches!(member.stand, Stand::Building(_)))
    }

    fn is_paused(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|member| member.paused)
    }

    /// Finds out what has happened to the lanes and their machines.
    fn gather(&mut self, house: &'static House, now: u64) {
        self.tend_devices(now);
        for index in 0..self.members.len() {
            let Some(member) = self.members.get_mut(index) else {
                return;
            };
            if member.vm.machine.console_due() <= now {
                member.vm.show_unfinished(now);
            }
            let phase = member.vm.life.phase();
            if member.is_live(phase) {
                if member.vm.watchdog.is_on() {
                    self.watch(house, index, now);
                }
                let Some(member) = self.members.get_mut(index) else {
                    return;
                };
                if member.wakes(self.loaded == Some(index), now) {
                    self.ready(index, now);
                }
            } else {
                self.follow(house, index, phase, now);
            }
        }
    }

    /// A lane wants the CPU.
    fn ready(&mut self, index: usize, now: u64) {
        if !self.is_single()
            && let Some(member) = self.members.get(index)
        {
            if self.latest.is_some_and(|latest| latest != member.slot) {
                // The interrupt that ended another lane's run came for this one.
                let came = now.saturating_sub(timer::frequency() / EXITS_A_SECOND);
                self.scheduler.settle(came);
                self.scheduler.charge_to(member.slot, now);
            }
            self.scheduler.wake(member.slot, now);
        }
    }

    /// A lane has nothing to do. True when it goes on all the same.
    pub fn wait(&mut self, index: usize, wait: Wait) -> bool {
        let Some(member) = self.members.get_mut(index) else {
            return false;
        };
        let now = timer::now();
        if wait.for_event {
            // Most likely it spins for a lock. Who holds it may be a sibling that has lost the CPU to this very lane.
            let from = member.slot;
            let sibling = self.sibling(index);
            if let Some(sibling) = sibling {
                self.scheduler.yield_to(from, sibling, now);
            }
            return sibling.is_none();
        }
        if member.lane.gic.would_wake(&mut ThisCpu) {
            return true;
        }
        let until = wait
            .until
            .map_or(NEVER, |count| member.vm.clock.physical_count(count, now));
        if until <= now {
            return true;
        }
        member.stand = Stand::Waiting(until);
        self.scheduler.block(member.slot, now);
        false
    }

    /// A lane lends its turn to another lane of its machine. False when that one could not run here now.
    pub fn yield_to(&mut self, index: usize, other: usize) -> bool {
        let Some(member) = self.members.get(index) else {
            return false;
        };
        let (from, vm) = (member.slot, member.vm.id);
        let heir = self.members.iter().find(|member| {
            member.vm.id == vm && member.lane.index() == other && member.stand == Stand::Ready
        });
        let Some(to) = heir.map(|member| member.slot).filter(|to| *to != from) else {
            return false;
        };
        self.scheduler.yield_to(from, to, timer::now());
        true
    }

    /// The next ready lane of the same machine on this CPU, around: nobody knows which of them holds the lock.
    fn sibling(&self, index: usize) -> Option<Slot> {
        let member = self.members.get(index)?;
        let vm = member.vm.id;
        let ready = |member: &&Member| member.vm.id == vm && member.stand == Stand::Ready;
        let ready = self.members.iter().filter(ready);
        let siblings = ready.fold(0, |bits, one| bits | one.slot.bit());
        member.slot.next(siblings)
    }

    /// A lane has switched itself off.
    pub fn off(&mut self, house: &'static House, index: usize) {
        self.clear();
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let (vm, lane, slot) = (member.vm, member.lane.index(), member.slot);
        // Everything that CPU_ON will find is put in place before it comes, not after.
        member.lane.gic.reset(&vm.machine.vgic, &mut ThisCpu);
        self.prepare(index);
        // The work of it is on the lane's own account.
        self.scheduler.block(slot, timer::now());
        // Off to the other lanes only now: what they send or set from here on is for the lane's next life.
        if vm.machine.power.turned_off(lane) == LastOut::NoneRemain {
            life::end(house, vm, Cause::AllLanesOff, None);
        }
    }

    /// Readies a lane whose world is nowhere for its next CPU_ON.
    fn prepare(&mut self, index: usize) {
        if let Some(member) = self.members.get_mut(index) {
            member.stand = Stand::Off;
            member.paused = false;
            member.lane.start(0, 0);
            // Nothing of another life may be left in the CPU either.
            if let Some(last) = self.last.get_mut(usize::from(member.vm.id.number())) {
                *last = None;
            }
        }
        if self.is_single() {
            self.load(index);
        }
    }

    /// Its machine has ended: a lane goes for good.
    fn dismiss(&mut self, index: usize, now: u64) {
        if self.loaded == Some(index) {
            self.clear();
        }
        if let Some(member) = self.members.get_mut(index) {
            self.scheduler.block(member.slot, now);
            member.stand = Stand::Gone;
            // It may have been waiting for a call.
            let vgic = &member.vm.machine.vgic;
            vgic.set_kick(member.lane.index(), 0);
        }
    }

    /// Puts a lane's world into the CPU. Nobody's is in it.
    fn load(&mut self, index: usize) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let (vm, lane) = (member.vm, &mut *member.lane);
        world::load(lane, &member.place);
        let was = self
            .last
            .get_mut(usize::from(vm.id.number()))
            .and_then(|last| last.replace(index));
        if was != Some(index) {
            world::forget_sibling();
        }
        // The kick first, the mail then: see `Vgic::set_kick`.
        let vgic = &vm.machine.vgic;
        vgic.set_kick(lane.index(), member.seat.kick);
        lane.gic.arrive(vgic, &mut ThisCpu);
        cpu::note_vm(Some(u32::from(vm.id.number())));
        self.loaded = Some(index);
    }

    /// Takes the world of the lane that is there out of the CPU, so that it can go on later. True when it waits no more.
    fn unload(&mut self) -> bool {
        let Some(index) = self.loaded.take() else {
            return false;
        };
        let Some(member) = self.members.get_mut(index) else {
            return false;
        };
        let (vm, lane) = (member.vm, &mut *member.lane);
        let vgic = &vm.machine.vgic;
        let away = match member.stand {
            Stand::Ready | Stand::Waiting(_) => Away::On,
            Stand::Off | Stand::Gone | Stand::Building(_) => Away::Off,
        };
        lane.gic.depart(away, vgic, &mut ThisCpu);
        world::save(lane);
        let Stand::Waiting(until) = member.stand else {
            // It will be back without being called.
            vgic.set_kick(lane.index(), 0);
            return false;
        };
        vgic.set_kick(lane.index(), member.seat.wake);
        let now = timer::now();
        let event = lane.next_event(vm.clock, now).unwrap_or(NEVER);
        member.stand = Stand::Waiting(until.min(event));
        vgic.has_mail(lane.index()) || event <= now
    }

    /// Leaves nobody's world in the CPU: what was there is over.
    fn clear(&mut self) {
        if let Some(member) = self.loaded.take().and_then(|one| self.members.get_mut(one)) {
            let vgic = &member.vm.machine.vgic;
            vgic.set_kick(member.lane.index(), 0);
            member.lane.gic.depart(Away::Off, vgic, &mut ThisCpu);
        }
        world::retire();
        cpu::note_vm(None);
    }

    /// Sets EL2's own timer to the first thing that this CPU must not miss.
    fn arm(&mut self, until: u64) {
        let mut alarm = until.min(self.deadline);
        for member in self.members.iter() {
            alarm = alarm.min(member.due());
        }
        if alarm != self.alarm {
            self.alarm = alarm;
            if alarm == NEVER {
                timer::clear_deadline();
            } else {
                timer::set_deadline(alarm);
            }
        }
    }
}
