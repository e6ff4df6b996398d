//! Whole lanes on model CPUs, for tests of what an exit does: the vector, the run loop and the dispatch, as on
//! the machine, without the machine.

mod cpu;
mod random;

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

pub(crate) use cpu::{Cpu, Event, FREQUENCY, Port};
pub(crate) use random::Random;

use crate::exit::Exit;
use crate::hot::{self, Answer, Hardware, KICK};
use crate::idregs::{IdRegs, Limits};
use crate::inject::Features;
use crate::lane::Vcpu;
use crate::machine::Machine;
use crate::serve::{self, Lines, Task};
use crate::smccc::Workarounds;
use crate::vgic::fake::probe;
use crate::vgic::port::{VMCR_VENG0, VMCR_VENG1};
use crate::vgic::{Frame, VIRTUAL_TIMER, VirtGic, lr};
use crate::virtio::Slots;
use vcpu_board::virtio;

/// How an exit is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// By the hot path, and by the slow path when that declines.
    Hot,
    /// By the slow path alone.
    Slow,
}

/// A lane and its CPU.
pub(crate) struct Seat<'m> {
    pub(crate) vcpu: Vcpu<'m>,
    pub(crate) cpu: Cpu,
}

/// A machine whose lanes all run.
pub(crate) struct World<'m> {
    pub(crate) machine: &'m Machine,
    pub(crate) seats: Vec<RefCell<Seat<'m>>>,
    kicks: Cell<u32>,
    pub(crate) lines: RefCell<Vec<String>>,
    /// What others do, one at each time that a lane has filled its list registers, the last one first.
    pub(crate) meddlers: RefCell<Vec<fn(&Machine)>>,
}

/// The console of a [`World`].
pub(crate) struct Terminal<'w>(pub(crate) &'w RefCell<Vec<String>>);

impl Lines for Terminal<'_> {
    fn line(&mut self, text: &str) {
        self.0.borrow_mut().push(text.into());
    }
}

/// Bytes of RAM of every machine here.
pub(crate) const RAM: u64 = 0x100_0000;

/// A machine whose identification registers are all different.
pub(crate) fn machine(lanes: usize) -> Machine {
    let host = |crm: u16, op2: u16| match (crm, op2) {
        (4, 0) => 0x1101_0011_0000_0012,
        _ => 0x1111_2222_1111_2200 | u64::from(crm) << 4 | u64::from(op2),
    };
    let features = Features {
        pan: true,
        ..Features::default()
    };
    let ids = IdRegs::sanitise(&host, Limits::MAX);
    Machine::new(lanes, RAM, ids, features, Workarounds::default())
}

/// The same with something in its virtio slots.
pub(crate) fn echoing(lanes: usize) -> Machine {
    let mut machine = machine(lanes);
    machine.set_virtio(Box::leak(Box::new(Echo::default())));
    machine
}

/// Slots that interrupt for what is stored to them, and keep account of it.
#[derive(Default)]
pub(crate) struct Echo {
    stores: AtomicU64,
}

impl Echo {
    fn store(&self, what: u64) -> u32 {
        let note = |before: u64| Some((before ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let _ = self
            .stores
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, note);
        // Mostly few: the upper half is the slots', if the lower one is odd.
        let [.., b0, b1] = what.to_be_bytes();
        (u32::from(b0) << 4) * u32::from(b1 & 1)
    }
}

impl Slots for Echo {
    /// At the end of the last slot: what was stored so far.
    fn read(&self, slot: usize, offset: u64, bytes: u32) -> u64 {
        match (slot, offset) {
            (31, 0x1f8) => self.stores.load(Ordering::Relaxed),
            _ => virtio::read_empty(offset, bytes),
        }
    }
    fn write(&self, slot: usize, offset: u64, bytes: u32, value: u64) -> u32 {
        self.store(value ^ (slot as u64) << 40 ^ offset << 48 ^ u64::from(bytes) << 60)
    }
    fn notify(&self, slot: usize, value: u32) -> u32 {
        self.store(u64::from(value) ^ (slot as u64) << 32)
    }
}

/// X20 to X30 and the resumption point while the hot path runs: it must neither read nor write them.
const POISON: u64 = 0xdead_beef_dead_beef;

impl<'m> World<'m> {
    /// All lanes on CPUs with `registers` list registers; the interrupt controller as at reset.
    pub(crate) fn new(machine: &'m Machine, registers: usize) -> Self {
        let seat = |index| {
            let mut vcpu = Vcpu::new(machine, index);
            vcpu.start(0x4008_0000, 0);
            RefCell::new(Seat {
                vcpu,
                cpu: Cpu::new(registers),
            })
        };
        let world = Self {
            machine,
            seats: (0..machine.vgic.lanes()).map(seat).collect(),
            kicks: Cell::new(0),
            lines: RefCell::new(Vec::new()),
            meddlers: RefCell::new(Vec::new()),
        };
        for lane in 0..world.lanes() {
            machine.vgic.set_kick(lane, lane as u64 + 1);
            world.with(lane, |vcpu, port| vcpu.gic.arrive(&machine.vgic, port));
        }
        world
    }

    pub(crate) fn lanes(&self) -> usize {
        self.seats.len()
    }

    /// A physical kick reaches the CPU of `lane`.
    pub(crate) fn kick(&self, lane: usize) {
        self.kicks.set(self.kicks.get() | 1 << lane);
    }

    pub(crate) fn kicks(&self) -> u32 {
        self.kicks.get()
    }

    /// The lanes that were asked for their list registers since they last ran.
    pub(crate) fn exported(&self) -> u32 {
        let seats = self.seats.iter().enumerate();
        seats.fold(0, |lanes, (lane, seat)| {
            lanes | u32::from(seat.borrow().cpu.exported) << lane
        })
    }

    fn take_kick(&self, lane: usize) -> bool {
        let kicks = self.kicks.get();
        self.kicks.set(kicks & !(1 << lane));
        kicks >> lane & 1 != 0
    }

    /// Runs EL2 code on the CPU of `lane`.
    pub(crate) fn with<R>(
        &self,
        lane: usize,
        run: impl FnOnce(&mut Vcpu<'m>, &mut Port<'_, 'm>) -> R,
    ) -> R {
        let seat = &mut *self.seats[lane].borrow_mut();
        let port = &mut Port {
            cpu: &mut seat.cpu,
            lane,
            world: self,
        };
        if port.cpu.exported {
            // The lane is inside EL2, waiting for the lock: it refills before it does anything else.
            port.cpu.exported = false;
            probe::end_wait(&mut seat.vcpu.gic, &self.machine.vgic, port);
        }
        run(&mut seat.vcpu, port)
    }

    /// Guest code, or the test, changes the CPU of `lane`.
    pub(crate) fn cpu<R>(&self, lane: usize, run: impl FnOnce(&mut Cpu) -> R) -> R {
        self.with(lane, |_, port| run(port.cpu))
    }

    /// A store to the interrupt controller that is none of the exits under test.
    pub(crate) fn write(&self, lane: usize, frame: Frame, offset: u64, bytes: u32, value: u64) {
        self.with(lane, |vcpu, port| {
            vcpu.gic
                .mmio_write(&self.machine.vgic, frame, offset, bytes, value, port)
        })
        .unwrap();
    }

    /// A load from it.
    pub(crate) fn read(&self, lane: usize, frame: Frame, offset: u64, bytes: u32) -> u64 {
        self.with(lane, |vcpu, port| {
            vcpu.gic
                .mmio_read(&self.machine.vgic, frame, offset, bytes, port)
        })
        .unwrap()
    }

    /// The vector's first half: the hot path. True when it has answered.
    pub(crate) fn hot(&self, lane: usize, exit: Exit) -> bool {
        self.with(lane, |vcpu, port| match exit {
            Exit::Sync => {
                let mut answer = short(20, vcpu, port, |vcpu, port| hot::sync(vcpu, port));
                if answer == Answer::Warm {
                    let saved = if port.cpu.esr & 1 << 20 == 0 { 20 } else { 31 };
                    short(saved, vcpu, port, |vcpu, port| hot::warm(vcpu, port));
                    return true;
                }
                if answer == Answer::Unsaved {
                    answer = short(31, vcpu, port, |vcpu, port| hot::uart_saved(vcpu, port));
                }
                answer == Answer::Done
            }
            Exit::Irq => short(20, vcpu, port, |vcpu, port| hot::irq(vcpu, port)),
            Exit::Fiq | Exit::SError => false,
        })
    }

    /// The vector's second half, when the hot path has declined.
    pub(crate) fn declined(&self, lane: usize, exit: Exit) -> Task {
        self.with(lane, |vcpu, port| {
            vcpu.context.elr = port.cpu.elr;
            vcpu.context.spsr = port.cpu.spsr;
            let answer = self.slow(vcpu, exit, port);
            port.cpu.elr = vcpu.context.elr;
            port.cpu.spsr = vcpu.context.spsr;
            answer
        })
    }

    /// An exit of `lane`: `None` when the hot path has answered it.
    pub(crate) fn exit(&self, lane: usize, exit: Exit, path: Path) -> Option<Task> {
        match path {
            Path::Hot if self.hot(lane, exit) => return None,
            Path::Slow if exit == Exit::Irq => self.with(lane, acknowledge),
            Path::Hot | Path::Slow => {}
        }
        Some(self.declined(lane, exit))
    }

    /// The run loop's turn. Here no instruction can be fetched, so what the hardware has not described is an abort.
    fn slow(&self, vcpu: &mut Vcpu<'m>, exit: Exit, port: &mut Port<'_, 'm>) -> Task {
        let task = serve::answer(vcpu, exit, port, &mut Terminal(&self.lines));
        if task == Task::Fetch {
            let _ = serve::undescribed(vcpu, None, port, &mut Terminal(&self.lines));
        }
        task
    }

    /// Whether the CPU of `lane` has a physical interrupt pending.
    pub(crate) fn is_interrupted(&self, lane: usize) -> bool {
        self.kicks() >> lane & 1 != 0
            || self.cpu(lane, |cpu| {
                let gic = &cpu.gic;
                let ppis = gic.lines & gic.enabled & !gic.physically_active;
                ppis != 0 || cpu.other.is_some() || gic.maintenance()
            })
    }

    /// Lets all CPUs take their physical interrupts until none is left.
    pub(crate) fn settle(&self, path: Path) {
        for round in 0.. {
            let mut quiet = true;
            for lane in 0..self.lanes() {
                if self.is_interrupted(lane) {
                    quiet = false;
                    let _ = self.exit(lane, Exit::Irq, path);
                }
            }
            if quiet {
                return;
            }
            assert!(round < 24, "a storm of exits");
        }
    }

    /// The interrupt that the guest of `lane` would take now: its list register. Of equals, the lowest INTID.
    pub(crate) fn next(&self, lane: usize) -> Option<usize> {
        self.cpu(lane, |cpu| {
            let best = lr::priority(cpu.gic.lrs[cpu.gic.highest()?]);
            let fits = |index: &usize| {
                let value = cpu.gic.lrs[*index];
                let group = if value & lr::GROUP1 == 0 {
                    VMCR_VENG0
                } else {
                    VMCR_VENG1
                };
                value & lr::STATE == lr::PENDING
                    && lr::priority(value) == best
                    && cpu.gic.vmcr & group != 0
            };
            (0..cpu.gic.count)
                .filter(fits)
                .min_by_key(|index| lr::intid(cpu.gic.lrs[*index]))
        })
    }

    /// The guest takes it.
    pub(crate) fn take(&self, lane: usize) -> Option<u32> {
        let index = self.next(lane)?;
        self.cpu(lane, |cpu| {
            // The model takes the first of equals.
            let saved = cpu.gic.lrs;
            for (other, value) in cpu.gic.lrs.iter_mut().enumerate() {
                if other != index {
                    *value &= !lr::STATE;
                }
            }
            let taken = cpu.gic.acknowledge();
            for (other, value) in cpu.gic.lrs.iter_mut().enumerate() {
                if other != index {
                    *value = saved[other];
                }
            }
            taken
        })
    }
}

/// What the vector does on the way to the hot path: so many general registers are saved, X0 to X19 at first, and the rest
/// is still the guest's.
fn short<'m, R>(
    saved: usize,
    vcpu: &mut Vcpu<'m>,
    port: &mut Port<'_, 'm>,
    path: impl FnOnce(&mut Vcpu<'m>, &mut Port<'_, 'm>) -> R,
) -> R {
    let kept = vcpu.context.clone();
    for x in vcpu.context.x.iter_mut().skip(saved) {
        *x = POISON;
    }
    vcpu.context.elr = POISON;
    vcpu.context.spsr = POISON;
    let done = path(vcpu, port);
    let unsaved = &mut vcpu.context;
    assert!(unsaved.x.iter().skip(saved).all(|x| *x == POISON));
    assert_eq!((unsaved.elr, unsaved.spsr), (POISON, POISON));
    for (x, kept) in unsaved.x.iter_mut().zip(kept.x).skip(saved) {
        *x = kept;
    }
    unsaved.elr = kept.elr;
    unsaved.spsr = kept.spsr;
    done
}

/// What the slow path finds done about an interrupt: acknowledged, and its priority dropped if it is one of two.
fn acknowledge(vcpu: &mut Vcpu<'_>, port: &mut Port<'_, '_>) {
    vcpu.interrupt = Hardware::acknowledge(port);
    match vcpu.interrupt {
        VIRTUAL_TIMER => port.drop_priority(VIRTUAL_TIMER),
        KICK => {
            port.drop_priority(KICK);
            port.deactivate(KICK);
        }
        _ => {}
    }
}
