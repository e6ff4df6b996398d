//! The lanes of one CPU, and whose turn it is.
//!
//! A crew is the CPU's alone: nobody else ever touches it, so nothing in it is locked. What others want of a lane they
//! leave where they can reach it (its seat, its mail, its machine), then send this CPU the wake interrupt; the crew
//! looks around ([`Crew::gather`]) and finds it.
//!
//! The world of the lane that ran last stays in the CPU until another lane needs the place. A lane that waits while
//! nobody else wants to run is therefore woken by its own timer and its own kicks, without a switch.

mod answer;
mod follow;
mod member;
mod place;
mod stopwatch;

use arrayvec::ArrayVec;
use configs_plan::MAX_GUESTS;
use domain_hv::sched::{MAX_SLOTS, Scheduler, Slot};
use domain_hv::{AdmissionError, Server};
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::timer;
use hypervisor_arch::world::Place;
use vcpu::lane::{Cause, Vcpu};
use vcpu::psci::LastOut;
use vcpu::serve::Wait;

use crate::house::House;
use crate::life::{self, Phase};
use crate::report;
use crate::vm::{Seat, Vm};
use crate::watch::Signs;
use member::{Member, Stand};
use stopwatch::Stopwatch;

/// [`Crew::latency`] is a second divided by this.
const EXITS_A_SECOND: u64 = 1_000_000;
/// Later than anything.
const NEVER: u64 = u64::MAX;

/// The list of a CPU's lanes.
pub type Members = ArrayVec<Member, MAX_SLOTS>;

/// The lanes of one CPU.
pub struct Crew {
    members: &'static mut Members,
    scheduler: Scheduler,
    /// Who has called whom.
    #[cfg(feature = "virtio")]
    dialogue: domain_hv::Dialogue,
    /// Whose world is in the CPU.
    loaded: Option<usize>,
    /// Who was put into the CPU last, and may have left since.
    latest: Option<Slot>,
    /// Which lane of each machine was here last.
    last: [Option<usize>; MAX_GUESTS],
    /// Who may have a machine to build, as bits.
    building: u64,
    /// Nothing but a call, or the end of a turn, has come since the crew last decided.
    is_quiet: bool,
    /// Who waits away from the CPU, to be called there, as bits.
    waiting: u64,
    /// The first thing that this CPU must not miss, whoever runs.
    due: u64,
    /// From an interrupt to the crew's finding out whom it was for takes no longer, in ticks.
    latency: u64,
    /// What EL2's own timer is set to; [`NEVER`] when it is off.
    alarm: u64,
    /// When the whole run is over, on the CPU that sees to it.
    deadline: u64,
    /// When there may be more from outside, on the CPU that sees to it.
    #[cfg(feature = "virtio")]
    outside: u64,
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
            #[cfg(feature = "virtio")]
            dialogue: domain_hv::Dialogue::new(),
            loaded: None,
            latest: None,
            last: [None; MAX_GUESTS],
            building: 0,
            is_quiet: false,
            waiting: 0,
            due: NEVER,
            latency: 0,
            alarm: NEVER,
            deadline: NEVER,
            #[cfg(feature = "virtio")]
            outside: NEVER,
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
        let place = Place::new(vm.stage2, vm.clock.offset(), dedicated);
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
        self.latency = timer::frequency() / EXITS_A_SECOND;
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
        // Not sooner than its timer: the end of a turn is no reason to look at anything.
        let is_clock_due = || machine.next_alarm().is_some_and(|alarm| alarm < self.due);
        machine.console_due() < self.due || member.lane.index() == 0 && is_clock_due()
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

    /// Finds out what has happened, decides, and puts the lane whose turn it is into the CPU.
    #[inline(always)]
    pub fn next(&mut self, house: &'static House) -> Turn {
        loop {
            let now = timer::now();
            let is_quiet = core::mem::take(&mut self.is_quiet);
            if is_quiet && now < self.due {
                self.answer_calls(now);
            } else {
                if house.last_look() != self.looked {
                    self.look(house.last_look());
                }
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
            }
            if let Some(turn) = self.turn(now) {
                return turn;
            }
        }
    }

    /// A call has come, or the end of a turn, and nothing else has happened: a lane that waits away from the CPU may have
    /// mail. What time brings besides has its time, and what others want has an interrupt of its own.
    #[inline(always)]
    pub const fn call(&mut self) {
        self.is_quiet = !self.is_single();
    }

    /// EL2's own timer has come. A sibling on another CPU may have set the clock that lane 0's CPU looks at, and says so to
    /// nobody.
    pub fn tick(&mut self) {
        for member in self
            .members
            .iter()
            .filter(|member| member.lane.index() == 0)
        {
            let alarm = member.vm.machine.next_alarm();
            self.due = self.due.min(alarm.unwrap_or(NEVER));
        }
        self.call();
    }

    /// Decides, and puts the lane whose turn it is into the CPU. None when something came for the lane that had to leave:
    /// who is next is open again.
    #[inline(always)]
    fn turn(&mut self, now: u64) -> Option<Turn> {
        let decision = self.decide(now);
        let mut until = decision.until.unwrap_or(NEVER);
        let Some(slot) = decision.run else {
            self.latest = None;
            self.arm(NEVER);
            return Some(Turn::Idle);
        };
        // A slot's number is its member's: both are in the order of admission.
        let index = slot.index();
        if self.loaded != Some(index) {
            if self.building & slot.bit() != 0 && self.is_building(index) {
                self.arm(until);
                return Some(Turn::Build(index));
            }
            // One that is put off by a lane with an earlier deadline does not pay for it, neither now nor when it is back.
            // One that has left by itself, or used up what it had, does.
            let payer = self.latest;
            let payer = payer.filter(|one| *one != slot && !self.scheduler.is_put_off(*one));
            let is_open = self.exchange(Some(index));
            if !is_open {
                self.latest = Some(slot);
            }
            if let Some(payer) = payer {
                let then = timer::now();
                self.scheduler.charge_to(payer, then);
                until = self.scheduler.put_off(until, then.saturating_sub(now));
            }
            if is_open {
                return None;
            }
        }
        self.arm(until);
        Some(Turn::Run(index))
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
            #[cfg(feature = "virtio")]
            self.tend_virtio(index, now);
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
        let due = self.members.iter().map(Member::due);
        self.due = due.fold(self.deadline, u64::min);
        #[cfg(feature = "virtio")]
        self.look_outside(house, now);
    }

    /// A lane wants the CPU.
    fn ready(&mut self, index: usize, now: u64) {
        if !self.is_single()
            && let Some(member) = self.members.get(index)
        {
            let slot = member.slot;
            self.waiting &= !slot.bit();
            self.wake(slot, now);
        }
    }

    #[inline(always)]
    fn wake(&mut self, slot: Slot, now: u64) {
        #[cfg(feature = "virtio")]
        self.dialogue.back(slot);
        if self.latest.is_some_and(|latest| latest != slot) {
            // The interrupt that ended another lane's run came for this one.
            let came = now.saturating_sub(self.latency);
            self.scheduler.wake_by_interrupt(slot, came, now);
        } else {
            self.scheduler.wake(slot, now);
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

    /// Sets EL2's own timer to the first thing that this CPU must not miss.
    fn arm(&mut self, until: u64) {
        let alarm = until.min(self.due);
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
