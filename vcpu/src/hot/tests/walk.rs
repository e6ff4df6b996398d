//! Random guests on random machines.

use core::sync::atomic::Ordering;
use std::vec::Vec;
use std::{eprintln, println, thread};

use super::trap::Trap;
use super::twins::{Count, Twins};
use crate::exit::Exit;
use crate::rig::{Random, World, echoing};
use crate::serve;
use crate::vgic::{Frame, PHYSICAL_TIMER, VIRTUAL_TIMER};

/// Walks, of 32 steps on average.
const WALKS: u64 = 32_000;

/// What a guest of one lane has taken and not ended yet.
#[derive(Default)]
struct Guest {
    running: Vec<u32>,
    dropped: Vec<u32>,
}

struct Walk<'m> {
    twins: Twins<'m>,
    guests: Vec<Guest>,
    random: Random,
    /// ICC_CTLR_EL1.EOImode.
    split: bool,
}

/// A guest that uses its interrupts, as most do.
fn prepare(world: &World<'_>, random: &mut Random, split: bool) {
    world.write(0, Frame::Distributor, 0, 4, 3);
    for lane in 0..world.lanes() {
        let frame = Frame::Redistributor(lane);
        for offset in (0x1_0400..0x1_0420).step_by(4) {
            let priorities = u64::from(random.bits()) & 0x7878_7878 | 0x8080_8080;
            world.write(lane, frame, offset, 4, priorities);
        }
        let enabled = u64::from(random.bits()) | 0x0800_00ff;
        world.write(lane, frame, 0x1_0100, 4, enabled);
        world.cpu(lane, |cpu| {
            cpu.gic.set_guest_control(0xf8, true, true, split)
        });
        world.with(lane, |vcpu, _| vcpu.context.x.fill_with(|| random.next()));
    }
    for word in 0..2 {
        let enabled = u64::from(random.bits());
        world.write(0, Frame::Distributor, 0x104 + 4 * word, 4, enabled);
        world.write(
            0,
            Frame::Distributor,
            0xc08 + 4 * word,
            4,
            random.next() & 0xffff_ffff | if word == 1 { 0xaa } else { 0 },
        );
    }
    for spi in 0..16 {
        let target = random.below(world.lanes() as u64);
        world.write(0, Frame::Distributor, 0x6100 + 8 * spi, 8, target);
        world.write(0, Frame::Distributor, 0x420 + spi, 1, random.below(31) << 3);
    }
}

impl<'m> Walk<'m> {
    fn step(&mut self, count: &Count, name: &(u64, u64)) {
        let lane = usize::try_from(self.random.below(self.guests.len() as u64)).unwrap();
        match self.random.below(44) {
            0..=21 => {
                let trap = Trap::random(&mut self.random, self.guests.len() as u64);
                self.twins.trap(lane, &trap, count, name);
            }
            22..=25 => self.interrupt(lane, count, name),
            26 => self.twins.both(|world| world.kick(lane)),
            27 => self.foreign(lane, count, name),
            28..=31 => self.timer(lane),
            32..=35 => self.take(lane, name),
            36..=37 => self.end(lane),
            38 => self.deactivate(lane),
            39 => self.type_in(lane),
            40 => self.attend(),
            41..=42 => self.interrupt_slot(lane),
            _ => self.control(lane),
        }
        if self.random.one_in(3) {
            self.twins.settle();
            self.twins.compare_next(name);
        }
    }

    /// A physical interrupt, where one is pending.
    fn interrupt(&self, lane: usize, count: &Count, name: &(u64, u64)) {
        if self.twins.hot.is_interrupted(lane) && self.twins.slow.is_interrupted(lane) {
            self.twins.exit(lane, Exit::Irq, count, name);
        }
    }

    /// One that is none of the lane's, or that went away before it was acknowledged.
    fn foreign(&mut self, lane: usize, count: &Count, name: &(u64, u64)) {
        self.twins.settle();
        let intid = self.random.of(&[26, 0, 6, 8, 28, 33, 1019, 1020, 1023]);
        self.twins
            .both(|world| world.cpu(lane, |cpu| cpu.other = Some(intid)));
        self.twins.exit(lane, Exit::Irq, count, &(intid, name));
    }

    fn timer(&mut self, lane: usize) {
        let intid = self
            .random
            .of(&[VIRTUAL_TIMER, VIRTUAL_TIMER, PHYSICAL_TIMER]);
        let high = !self.random.one_in(3);
        self.twins.both(|world| {
            world.cpu(lane, |cpu| {
                cpu.gic.lines &= !(1 << intid);
                cpu.gic.lines |= u32::from(high) << intid;
            });
        });
    }

    fn take(&mut self, lane: usize, name: &(u64, u64)) {
        self.twins.settle();
        let taken = self.twins.hot.take(lane);
        assert_eq!(taken, self.twins.slow.take(lane), "{name:?}");
        self.guests[lane].running.extend(taken);
    }

    fn end(&mut self, lane: usize) {
        let Some(intid) = self.guests[lane].running.pop() else {
            return;
        };
        self.twins
            .both(|world| world.cpu(lane, |cpu| cpu.gic.end(intid)));
        if self.split {
            self.guests[lane].dropped.push(intid);
        }
    }

    /// A write of ICC_DIR_EL1, which traps only where list registers are short.
    fn deactivate(&mut self, lane: usize) {
        let Some(intid) = self.guests[lane].dropped.pop() else {
            return;
        };
        self.twins.both(|world| {
            if world.cpu(lane, |cpu| cpu.gic.deactivate_virtual(intid)) {
                world.with(lane, |vcpu, port| {
                    let value = u64::from(intid);
                    vcpu.gic.write_dir(&world.machine.vgic, value, port);
                });
            }
        });
    }

    /// Somebody attaches to the console, or turns away, or looks at the unfinished line.
    fn attend(&mut self) {
        let (now, on, looks) = (
            self.random.next() >> 1,
            self.random.one_in(2),
            self.random.one_in(2),
        );
        self.twins.both(|world| {
            if looks {
                world.machine.show_unfinished(now, 1000, |_| ());
            } else {
                world.machine.watch_console(on, now);
            }
        });
    }

    /// Somebody types, and the lane is told: what the UART's flags say changes.
    fn type_in(&mut self, lane: usize) {
        let bytes = [0; 40];
        let some = usize::try_from(1 + self.random.below(40)).unwrap();
        self.twins.both(|world| {
            world.machine.input(&bytes[..some]);
            world.with(lane, |vcpu, port| serve::console_input(vcpu, port));
        });
    }

    /// A virtio device has something to say, to itself or to another machine's.
    fn interrupt_slot(&mut self, lane: usize) {
        let slot = usize::try_from(self.random.below(4)).unwrap();
        let bits = self.random.of(&[1, 1, 1, 2, 3]);
        let posts = self.random.one_in(2);
        self.twins.both(|world| {
            if posts {
                world.with(lane, |_, port| world.machine.post_virtio(slot, bits, port));
            } else {
                let _ = world.machine.pend_virtio(slot, bits);
            }
        });
    }

    /// The guest's own mask and group enables.
    fn control(&mut self, lane: usize) {
        let pmr = self.random.of(&[0, 0x80, 0xa0, 0xf0, 0xf8, 0xf8]);
        let (group0, group1) = (!self.random.one_in(4), !self.random.one_in(4));
        self.twins.both(|world| {
            world.cpu(lane, |cpu| {
                cpu.gic.set_guest_control(pmr, group0, group1, self.split);
            });
        });
    }
}

fn walk(seed: u64, count: &Count) {
    let mut random = Random::new(seed);
    let lanes = random.of(&[1, 2, 2, 3, 4, 8]);
    let machines = [echoing(lanes), echoing(lanes)];
    let registers = random.of(&[2, 3, 4, 4, 4, 8, 16]);
    let twins = Twins::new(&machines, registers);
    let split = random.one_in(3);
    let start = Random::new(random.next());
    twins.both(|world| prepare(world, &mut start.clone(), split));
    let mut walk = Walk {
        guests: (0..lanes).map(|_| Guest::default()).collect(),
        twins,
        random,
        split,
    };
    for step in 0..walk.random.below(64) {
        walk.step(count, &(seed, step));
    }
    walk.twins.compare_all(&seed);
}

/// `HOT_SEED` runs one walk; `HOT_WALKS` another number of them.
#[test]
fn random_guests_cannot_tell_the_hot_path_from_the_slow_path() {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let count = Count::default();
    if let Some(seed) = number("HOT_SEED") {
        walk(seed, &count);
        return;
    }
    let walks = number("HOT_WALKS").unwrap_or(WALKS);
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    thread::scope(|scope| {
        for first in 0..threads {
            let count = &count;
            scope.spawn(move || {
                for seed in (first..walks).step_by(usize::try_from(threads).unwrap()) {
                    let seen = std::panic::catch_unwind(|| walk(seed, count));
                    if let Err(cause) = seen {
                        eprintln!("HOT_SEED={seed}");
                        std::panic::resume_unwind(cause);
                    }
                }
            });
        }
    });
    let cases = count.cases.load(Ordering::Relaxed);
    let answered = count.answered.load(Ordering::Relaxed);
    println!("hot path: {cases} differential cases by random guests, {answered} answered hot");
    assert!(answered * 6 > cases, "the hot path hardly ever answers");
}
