//! Two machines with the same past.

use core::fmt::Debug;
use core::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use super::trap::Trap;
use crate::exit::Exit;
use crate::lane::NO_INTERRUPT;
use crate::machine::{Console, Machine};
use crate::rig::{Cpu, Event, Path, World};
use crate::serve::Task;
use crate::trace::Record;
use crate::vgic::fake::probe::Interrupts;
use crate::vgic::{Frame, MAIL_ATTENTION, MAX_LRS};

/// How many exits were compared, and how many of them the hot path has answered.
#[derive(Default)]
pub(super) struct Count {
    pub(super) cases: AtomicU64,
    pub(super) answered: AtomicU64,
}

/// Everything that a declined exit must leave alone.
#[derive(PartialEq, Debug)]
struct Untouched {
    x: [u64; 31],
    cpu: Cpu,
    mail: Vec<u32>,
    noted: u64,
    console: Console,
    kicks: u32,
}

impl Untouched {
    fn of(world: &World<'_>, lane: usize) -> Self {
        world.with(lane, |vcpu, port| Self {
            x: vcpu.context.x,
            cpu: port.cpu.clone(),
            mail: mail(world),
            noted: vcpu.trace.count(),
            console: world.machine.console.lock().clone(),
            kicks: world.kicks(),
        })
    }
}

fn mail(world: &World<'_>) -> Vec<u32> {
    let shared = &world.machine.vgic.shared;
    shared
        .iter()
        .map(|lane| lane.mail.load(Ordering::Relaxed))
        .collect()
}

/// One lane as its guest, its report and the physical machine see it.
#[derive(PartialEq, Debug)]
struct Seen {
    x: [u64; 31],
    pc: (u64, u64),
    el1: crate::context::El1State,
    sysregs: crate::sysreg::Lane,
    interrupt: u32,
    private: (u32, u32),
    physical: (u32, u32, u32),
    guest: (u64, u64, u64),
}

impl Seen {
    /// And the SPIs, pending and active, that are in the lane's list registers or in nobody's.
    fn of(world: &World<'_>, lane: usize) -> (Self, [u32; 4]) {
        world.with(lane, |vcpu, port| {
            let cpu = &*port.cpu;
            let gic = &cpu.gic;
            let Interrupts { pending, active } =
                Interrupts::of(&world.machine.vgic, &vcpu.gic, gic);
            let seen = Self {
                x: vcpu.context.x,
                pc: (cpu.elr, cpu.spsr),
                el1: cpu.el1.clone(),
                sysregs: vcpu.sysregs,
                interrupt: vcpu.interrupt,
                private: (pending[0], active[0]),
                physical: (gic.lines, gic.enabled, gic.physically_active),
                guest: (gic.vmcr, gic.ap0r, gic.ap1r),
            };
            (seen, [pending[1], pending[2], active[1], active[2]])
        })
    }
}

/// The machines.
pub(super) struct Twins<'m> {
    pub(super) hot: World<'m>,
    pub(super) slow: World<'m>,
}

impl<'m> Twins<'m> {
    pub(super) fn new(machines: &'m [Machine; 2], registers: usize) -> Self {
        let [hot, slow] = machines;
        Self {
            hot: World::new(hot, registers),
            slow: World::new(slow, registers),
        }
    }

    /// The same happens to both.
    pub(super) fn both(&self, change: impl Fn(&World<'m>)) {
        change(&self.hot);
        change(&self.slow);
    }

    /// A synchronous exit.
    pub(super) fn trap(&self, lane: usize, trap: &Trap, count: &Count, name: &dyn Debug) {
        self.both(|world| trap.set(world, lane));
        self.exit(lane, Exit::Sync, count, &(trap, name));
    }

    /// An exit of both, by either path.
    pub(super) fn exit(&self, lane: usize, exit: Exit, count: &Count, name: &dyn Debug) {
        self.both(|world| world.cpu(lane, |cpu| cpu.events.clear()));
        let same_mail = mail(&self.hot) == mail(&self.slow);
        let calm = |world: &World<'_>| world.cpu(lane, |cpu| !cpu.gic.maintenance());
        let calm = calm(&self.hot) && calm(&self.slow);
        let noted = |world: &World<'_>| world.with(lane, |vcpu, _| vcpu.trace.count());
        let before = (noted(&self.hot), noted(&self.slow));
        let state = (exit == Exit::Sync).then(|| Untouched::of(&self.hot, lane));
        let done = self.hot.hot(lane, exit);
        count.cases.fetch_add(1, Ordering::Relaxed);
        count.answered.fetch_add(u64::from(done), Ordering::Relaxed);
        if !done && let Some(state) = state {
            assert_eq!(state, Untouched::of(&self.hot, lane), "declined {name:x?}");
        }
        let mine = (!done).then(|| self.hot.declined(lane, exit));
        let right = self.slow.exit(lane, exit, Path::Slow).unwrap();
        match mine {
            None => assert!(right == Task::Enter, "{right:x?}, not an answer, {name:x?}"),
            Some(mine) => assert_eq!(mine, right, "{name:x?}"),
        }
        let after = (noted(&self.hot), noted(&self.slow));
        assert_eq!(after, (before.0 + 1, before.1 + 1), "one record, {name:x?}");
        assert_eq!(last(&self.hot, lane), last(&self.slow, lane), "{name:x?}");
        if exit == Exit::Irq {
            self.both(|world| world.cpu(lane, |cpu| check_ended(&cpu.events)));
        }
        if !calm {
            // The slow path may see on the way what a maintenance interrupt is about to say.
            self.settle();
        } else if same_mail {
            self.compare_port(lane, right, name);
        }
        self.compare(name);
    }

    /// What was done to the physical interrupt controller, and the SGIs in the other lanes' mail. Mail of its own a
    /// lane may take sooner on the slow path; and whom it asks for list registers, or tells once more of an SPI that
    /// waits, is its own business: who misses what is seen when all is quiet.
    fn compare_port(&self, lane: usize, answer: Task, name: &dyn Debug) {
        let asked = self.hot.exported() | self.slow.exported() | 1 << lane;
        let mut called = asked;
        for world in [&self.hot, &self.slow] {
            for (lane, mail) in mail(world).into_iter().enumerate() {
                called |= u32::from(mail & MAIL_ATTENTION != 0) << lane;
            }
        }
        let is_call = |event: &Event| {
            let kick = |other: usize| *event == Event::Sent(other as u64 + 1);
            (0..self.hot.lanes()).any(|other| called >> other & 1 != 0 && kick(other))
        };
        let done = |world: &World<'_>| {
            let mut events = world.cpu(lane, |cpu| cpu.events.clone());
            events.retain(|event| !is_call(event));
            let mut mail = mail(world);
            for (other, mail) in mail.iter_mut().enumerate() {
                *mail &= if asked >> other & 1 != 0 {
                    0
                } else {
                    !MAIL_ATTENTION
                };
            }
            (events, mail, world.kicks() & !called)
        };
        assert_eq!(done(&self.hot), done(&self.slow), "{answer:?} {name:x?}");
    }

    /// What anybody can see.
    pub(super) fn compare(&self, name: &dyn Debug) {
        let mut spis = [[0; 4]; 2];
        for lane in 0..self.hot.lanes() {
            let (mine, my_spis) = Seen::of(&self.hot, lane);
            let (right, right_spis) = Seen::of(&self.slow, lane);
            assert_eq!(mine, right, "lane {lane}, {name:x?}");
            assert_eq!(mine.interrupt, NO_INTERRUPT);
            for word in 0..4 {
                spis[0][word] |= my_spis[word];
                spis[1][word] |= right_spis[word];
            }
        }
        assert_eq!(spis[0], spis[1], "SPIs, {name:x?}");
        let enabled = |world: &World<'_>| {
            let enable = &world.machine.vgic.spi_enable;
            [0, 1].map(|word| enable[word].load(Ordering::Relaxed))
        };
        assert_eq!(enabled(&self.hot), enabled(&self.slow), "{name:x?}");
        let console = |world: &World<'_>| world.machine.console.lock().clone();
        assert_eq!(console(&self.hot), console(&self.slow), "{name:x?}");
        let slots = |world: &World<'_>| {
            let status = world.machine.virtio_status.each_ref();
            let stored = world.machine.virtio.read(31, 0x1f8, 8);
            (status.map(|one| one.load(Ordering::Relaxed)), stored)
        };
        assert_eq!(slots(&self.hot), slots(&self.slow), "{name:x?}");
        let due = |world: &World<'_>| world.machine.console_due();
        assert_eq!(due(&self.hot), due(&self.slow), "{name:x?}");
        assert_eq!(self.hot.lines, self.slow.lines, "{name:x?}");
    }

    /// Every physical interrupt is taken, each by its own path.
    pub(super) fn settle(&self) {
        self.hot.settle(Path::Hot);
        self.slow.settle(Path::Slow);
    }

    /// The interrupt that each guest would take now, when all is quiet.
    pub(super) fn compare_next(&self, name: &dyn Debug) {
        let next = |world: &World<'_>, lane| {
            let index = world.next(lane)?;
            // Which list register it is in, and whether its end is to be reported, is EL2's business.
            world.cpu(lane, |cpu| Some(cpu.gic.lrs[index] & !crate::vgic::lr::EOI))
        };
        for lane in 0..self.hot.lanes() {
            assert_eq!(
                next(&self.hot, lane),
                next(&self.slow, lane),
                "lane {lane} is interrupted, {name:x?}"
            );
        }
        self.compare(name);
    }

    /// When both have put everything into their list registers anew, those are the same, bit for bit, and so are all
    /// registers of the interrupt controller.
    pub(super) fn compare_all(&self, name: &dyn Debug) {
        self.settle();
        for lane in 0..self.hot.lanes() {
            let lrs = |world: &World<'_>| -> ([u64; MAX_LRS], u64) {
                world.with(lane, |vcpu, port| {
                    vcpu.gic.serve(&world.machine.vgic, port);
                    (port.cpu.gic.lrs, port.cpu.gic.hcr)
                })
            };
            assert_eq!(lrs(&self.hot), lrs(&self.slow), "lane {lane}, {name:x?}");
            let private = |world: &World<'_>| {
                [
                    0x14, 0x1_0080, 0x1_0100, 0x1_0200, 0x1_0300, 0x1_0400, 0x1_0404, 0x1_0408,
                    0x1_040c, 0x1_0418, 0x1_041c,
                ]
                .map(|offset| world.read(0, Frame::Redistributor(lane), offset, 4))
            };
            assert_eq!(private(&self.hot), private(&self.slow), "{name:x?}");
        }
        let shared = |world: &World<'_>| {
            [
                0, 0x84, 0x88, 0x104, 0x108, 0x204, 0x208, 0x304, 0x308, 0x420, 0x424, 0x440,
                0xc08, 0xc0c, 0x6100, 0x6108,
            ]
            .map(|offset| world.read(0, Frame::Distributor, offset, 4))
        };
        assert_eq!(shared(&self.hot), shared(&self.slow), "{name:x?}");
        self.settle();
        self.compare_next(name);
    }
}

fn last(world: &World<'_>, lane: usize) -> Option<Record> {
    world.with(lane, |vcpu, _| vcpu.trace.iter().last())
}

/// Every acknowledged interrupt has its priority dropped once; a kick and a maintenance interrupt are also
/// deactivated, at once.
fn check_ended(events: &[Event]) {
    let Some(Event::Acknowledged(intid)) = events.first() else {
        panic!("{events:?}")
    };
    let count = |event| events.iter().filter(|seen| **seen == event).count();
    let ours = matches!(intid, 7 | 25);
    assert_eq!(
        count(Event::Dropped(*intid)),
        usize::from(ours || matches!(intid, 27 | 30))
    );
    assert!(!ours || count(Event::Deactivated(*intid)) == 1);
}
