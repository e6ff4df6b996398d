//! One lane of a CPU, and how things stand with it.

use domain_hv::Slot;
use hypervisor_arch::hardware::ThisCpu;
use hypervisor_arch::world::Place;
use vcpu::lane::Vcpu;
use vcpu::serve;

use super::NEVER;
use crate::fill::Fill;
use crate::life::Phase;
use crate::vm::{Seat, Vm};
use crate::watch::Signs;

/// A lane of this CPU.
pub struct Member {
    pub lane: &'static mut Vcpu<'static>,
    pub vm: &'static Vm,
    pub(super) seat: &'static Seat,
    pub(super) slot: Slot,
    pub(super) place: Place,
    pub(super) stand: Stand,
    /// Its machine is paused: it does not run, however things stand.
    pub(super) paused: bool,
    /// Exits that were EL2's business and no sign of its life.
    pub(super) foreign: u64,
    pub(super) signs: Signs,
}

/// How things stand with a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stand {
    /// Off, and ready for its next life.
    Off,
    /// It wants to run.
    Ready,
    /// It waits for an interrupt, or until this count.
    Waiting(u64),
    /// Its machine is not running, and it has left.
    Gone,
    /// Its machine is being built, on its time: it is lane 0.
    Building(Fill),
}

impl Member {
    /// Whether the lane does, or may do, what its machine does in this phase.
    pub(super) fn is_live(&self, phase: Phase) -> bool {
        phase == Phase::Running && !self.paused && self.stand != Stand::Gone
    }

    /// When this CPU must look at the lane again, whoever runs meanwhile. Only what that look deals with counts: anything
    /// else would stay due, and its alarm would let nobody run here any more.
    pub(super) fn due(&self) -> u64 {
        let machine = &self.vm.machine;
        let leads = self.lane.index() == 0;
        let phase = self.vm.life.phase();
        let mut due = machine.console_due();
        if self.is_live(phase) {
            #[cfg(feature = "virtio")]
            {
                due = due.min(self.vm.virtio.due());
            }
            if leads {
                due = due.min(machine.next_alarm().unwrap_or(NEVER));
            }
            if self.vm.watchdog.is_on() {
                due = due.min(self.signs.look_at());
            }
            if let Stand::Waiting(until) = self.stand {
                due = due.min(until);
            }
        } else if leads && phase == Phase::Out && self.stand == Stand::Gone {
            due = due.min(self.vm.life.due());
        }
        due
    }

    /// Whether something is due that [`tend_devices`](Self::tend_devices) does.
    pub(super) fn has_device_work(&self, now: u64) -> bool {
        let machine = &self.vm.machine;
        let is_due = || machine.next_alarm().is_some_and(|alarm| alarm <= now);
        self.lane.index() == 0
            && self.is_live(self.vm.life.phase())
            && (machine.has_input() || is_due())
    }

    /// Whether it wants to run and did not before.
    pub(super) fn wakes(&mut self, resident: bool, now: u64) -> bool {
        match self.stand {
            Stand::Off => return self.start(resident),
            Stand::Waiting(until) => {
                let called = if resident {
                    self.lane.gic.would_wake(&mut ThisCpu)
                } else {
                    self.vm.machine.vgic.has_mail(self.lane.index())
                };
                if !called && now < until {
                    return false;
                }
                self.stand = Stand::Ready;
            }
            Stand::Ready | Stand::Gone | Stand::Building(_) => return false,
        }
        true
    }

    /// Whether mail has come for it while it waits away from the CPU. It does not wait any more then.
    pub(super) fn is_called(&mut self) -> bool {
        let vm = self.vm;
        let is_called = matches!(self.stand, Stand::Waiting(_))
            && !self.paused
            && vm.machine.vgic.has_mail(self.lane.index())
            && vm.life.phase() == Phase::Running;
        if is_called {
            self.stand = Stand::Ready;
        }
        is_called
    }

    /// Does what the machine's devices have to do by themselves. Lane 0 does, on or off.
    pub(super) fn tend_devices(&mut self) {
        if self.vm.machine.has_input() {
            serve::console_input(self.lane, &mut ThisCpu);
        }
        serve::tick(self.lane, &mut ThisCpu);
    }

    /// Begins a life, if CPU_ON has said so.
    #[inline(always)]
    pub(super) fn start(&mut self, resident: bool) -> bool {
        let Some((entry, argument)) = self.seat.take_order() else {
            return false;
        };
        let machine = &self.vm.machine;
        self.lane.context.elr = entry;
        let [x0, ..] = &mut self.lane.context.x;
        *x0 = argument;
        // A kick stands for all the mail there is, and one of them may have been taken for the order's.
        if resident && machine.vgic.has_mail(self.lane.index()) {
            self.lane.gic.serve(&machine.vgic, &mut ThisCpu);
        }
        self.stand = Stand::Ready;
        machine.power.started(self.lane.index());
        true
    }
}
