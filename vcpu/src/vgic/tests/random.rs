//! Random guests: whatever they do, no interrupt is lost, none comes twice, priorities are obeyed, and exits are bounded.

use proptest::prelude::*;
use std::vec::Vec;

use super::oracle::Oracle;
use super::step::{Step, step};
use super::world::{GIVEN, World};
use crate::vgic::fake::{FakeCpu, probe};
use crate::vgic::{Away, Frame, PHYSICAL_TIMER, VIRTUAL_TIMER};

struct Run {
    world: World,
    oracle: Oracle,
    split: bool,
    devices: bool,
    /// The timers' lines of lanes that are away.
    lines: [u32; 4],
}

impl Run {
    fn new(lanes: usize, registers: usize, split: bool, devices: bool) -> Self {
        let world = World::new(lanes, registers);
        if devices {
            world.give_devices();
        }
        for lane in 0..lanes {
            world.cpu(lane, |cpu| cpu.set_guest_control(0xf0, true, true, split));
        }
        let mut run = Self {
            world,
            oracle: Oracle::new(lanes),
            split,
            devices,
            lines: [0; 4],
        };
        // A guest that uses its interrupts: most are on from the start.
        for lane in 0..lanes {
            run.step(
                lane,
                &Step::PrivateBits {
                    of: lane,
                    offset: 0x1_0100,
                    bits: 0xcfff_ff0f,
                },
            );
        }
        run.step(
            0,
            &Step::Bits {
                offset: 0x104,
                bits: 0xffff_04ff,
            },
        );
        // The pulsed ones are edges, as their devices' nodes say.
        run.config(0, 1, u32::MAX);
        run
    }

    fn each(
        &mut self,
        lane: usize,
        base: u32,
        bits: u32,
        mut change: impl FnMut(&mut super::oracle::Interrupt, bool),
    ) {
        for bit in 0..32 {
            change(self.oracle.get(lane, base + bit), bits >> bit & 1 != 0);
        }
    }

    fn bits(&mut self, lane: usize, base: u32, register: u64, bits: u32) {
        self.each(lane, base, bits, |it, set| match register {
            0x80 => it.group1 = set,
            0x100 => it.enabled |= set,
            0x180 => it.enabled &= !set,
            0x200 => it.latch |= set,
            _ => it.latch &= !set,
        });
    }

    fn step(&mut self, lane: usize, step: &Step) {
        if !self.world.is_here(lane) && !matches!(step, Step::Post { .. }) {
            self.come_back(lane);
        }
        match *step {
            Step::Sgi { value } => self.sgi(lane, value),
            Step::Bits { .. }
            | Step::PrivateBits { .. }
            | Step::Priority { .. }
            | Step::Config { .. }
            | Step::Route { .. }
            | Step::Control { .. } => self.write(lane, step),
            Step::Line { intid, high } => {
                self.world.line(lane, intid, high);
                let it = self.oracle.get(lane, intid);
                it.latch |= high && !it.line && it.edge;
                it.line = high;
            }
            Step::Timer { .. } | Step::Guest { .. } | Step::Take | Step::End => {
                self.cpu(lane, step)
            }
            Step::Pulse { spis } => {
                self.world.pulse(lane, spis);
                for spi in (0..64).filter(|spi| spis >> spi & 1 != 0) {
                    self.oracle.get(lane, 32 + spi).latch = true;
                }
            }
            Step::Post { intid } => {
                self.world.post(lane, intid);
                self.oracle.get(lane, intid).latch = true;
            }
            Step::Deactivate { which } => self.deactivate(lane, which),
            Step::Look { of } => self.look(lane, of % self.world.lanes()),
            Step::Leave => self.leave(lane),
            Step::Device { which, high } => {
                let (_, physical) = GIVEN[which];
                self.world
                    .device(physical.into(), |device| device.line = high);
            }
        }
        for (lane, intid) in self.world.settle() {
            self.oracle.get(lane, intid).latch = true;
        }
        self.no_stuck_timer();
        if self.devices {
            self.no_stuck_device();
        }
    }

    /// The guest writes a register of the interrupt controller.
    fn write(&mut self, lane: usize, step: &Step) {
        match *step {
            Step::Bits { offset, bits } => {
                let word = (offset & 0x7f) / 4;
                let fast = offset & !0x7f == 0x100
                    && self
                        .world
                        .vgic
                        .fast_isenabler(usize::try_from(word).unwrap(), bits);
                if !fast {
                    self.world
                        .write(lane, Frame::Distributor, offset, 4, u64::from(bits));
                }
                let register = if offset < 0x100 { 0x80 } else { offset & !0x7f };
                let base = u32::try_from((offset - register) / 4 * 32).unwrap();
                self.bits(lane, base, register, bits);
            }
            Step::PrivateBits { of, offset, bits } => {
                let of = of % self.world.lanes();
                self.world
                    .write(lane, Frame::Redistributor(of), offset, 4, u64::from(bits));
                self.bits(of, 0, offset & 0xffff, bits);
            }
            Step::Priority { intid, priority } => {
                let (frame, offset) = if intid < 32 {
                    (Frame::Redistributor(lane), 0x1_0400)
                } else {
                    (Frame::Distributor, 0x400)
                };
                self.world.write(
                    lane,
                    frame,
                    offset + u64::from(intid),
                    1,
                    u64::from(priority),
                );
                self.oracle.get(lane, intid).priority = priority;
            }
            Step::Config { word, value } => self.config(lane, word, value),
            Step::Route { spi, value } => {
                self.world
                    .write(lane, Frame::Distributor, 0x6100 + 8 * spi, 8, value);
                let target = usize::try_from(value).unwrap();
                self.oracle
                    .get(lane, 32 + u32::try_from(spi).unwrap())
                    .route = (target < self.world.lanes()).then_some(target);
            }
            Step::Control { value } => {
                self.world
                    .write(lane, Frame::Distributor, 0, 4, u64::from(value));
                self.oracle.control = value;
            }
            Step::Sgi { .. }
            | Step::Line { .. }
            | Step::Timer { .. }
            | Step::Guest { .. }
            | Step::Device { .. }
            | Step::Pulse { .. }
            | Step::Post { .. }
            | Step::Take
            | Step::End
            | Step::Deactivate { .. }
            | Step::Look { .. }
            | Step::Leave => unreachable!("not a register"),
        }
    }

    fn config(&mut self, lane: usize, word: u64, value: u32) {
        self.world.write(
            lane,
            Frame::Distributor,
            0xc08 + 4 * word,
            4,
            u64::from(value),
        );
        for spi in 0..16 {
            let intid = 32 + 16 * u32::try_from(word).unwrap() + spi;
            self.oracle.get(lane, intid).edge = value >> (2 * spi + 1) & 1 != 0;
        }
    }

    /// Something happens on the lane's CPU.
    fn cpu(&mut self, lane: usize, step: &Step) {
        match *step {
            Step::Timer { intid, high } => self.world.cpu(lane, |cpu| {
                cpu.lines = if high {
                    cpu.lines | 1 << intid
                } else {
                    cpu.lines & !(1 << intid)
                };
            }),
            Step::Guest {
                pmr,
                group0,
                group1,
            } => {
                self.world.cpu(lane, |cpu| {
                    cpu.set_guest_control(pmr, group0, group1, self.split)
                });
                self.oracle.cpus[lane].pmr = pmr;
                self.oracle.cpus[lane].groups = [group0, group1];
            }
            Step::Take => {
                let taken = self.world.ack(lane);
                self.oracle.acknowledged(lane, taken);
            }
            Step::End => {
                if let Some(intid) = self.oracle.ended(lane, self.split) {
                    self.world.eoi(lane, intid);
                }
            }
            Step::Sgi { .. }
            | Step::Bits { .. }
            | Step::PrivateBits { .. }
            | Step::Priority { .. }
            | Step::Config { .. }
            | Step::Route { .. }
            | Step::Control { .. }
            | Step::Line { .. }
            | Step::Device { .. }
            | Step::Pulse { .. }
            | Step::Post { .. }
            | Step::Deactivate { .. }
            | Step::Look { .. }
            | Step::Leave => unreachable!("not the CPU's"),
        }
    }

    /// The lane leaves its CPU to another VM, until there is something for it to do.
    fn leave(&mut self, lane: usize) {
        let left = self.world.with(lane, |seat, vgic, port| {
            seat.depart(Away::On, vgic, port);
            assert_eq!(
                port.cpu.physically_active, 0,
                "a physical interrupt stays active for a lane that left"
            );
            let lines = port.cpu.lines;
            *port.cpu = FakeCpu::new(port.cpu.count);
            self.lines[lane] = lines;
            probe::private_pending(vgic, lane)
        });
        for intid in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
            // What was pending from the line is gone, and comes again with the line.
            self.oracle.get(lane, intid).latch &= left >> intid & 1 != 0;
        }
    }

    fn come_back(&mut self, lane: usize) {
        self.world.with(lane, |seat, vgic, port| {
            // Another VM had the CPU.
            let count = port.cpu.count;
            port.cpu.lrs[..count].fill(u64::MAX);
            port.cpu.hcr = u64::MAX;
            port.cpu.enabled = u32::MAX;
            seat.arrive(vgic, port);
            port.cpu.lines = self.lines[lane];
        });
        for (lane, intid) in self.world.settle() {
            self.oracle.get(lane, intid).latch = true;
        }
    }

    fn sgi(&mut self, lane: usize, value: u64) {
        self.world.sgi(lane, value);
        let intid = u32::try_from(value >> 24 & 15).unwrap();
        for target in 0..self.world.lanes() {
            let named = if value >> 40 != 0 {
                target != lane
            } else {
                value >> target & 1 != 0
            };
            let it = self.oracle.get(target, intid);
            it.latch |= named && it.group1;
        }
    }

    fn deactivate(&mut self, lane: usize, which: usize) {
        let dropped = &mut self.oracle.cpus[lane].dropped;
        if dropped.is_empty() {
            return;
        }
        let intid = dropped.remove(which % dropped.len());
        self.world.dir(lane, intid);
        self.oracle.get(lane, intid).active = false;
    }

    /// Pending and active registers, read by one lane about another.
    fn look(&mut self, lane: usize, of: usize) {
        for word in 0..3u32 {
            let (frame, offset) = match word {
                0 => (Frame::Redistributor(of), 0x1_0000),
                _ => (Frame::Distributor, 4 * u64::from(word)),
            };
            let pending = self.world.read(lane, frame, offset + 0x200, 4);
            assert_eq!(pending, self.world.read(lane, frame, offset + 0x280, 4));
            let active = self.world.read(lane, frame, offset + 0x300, 4);
            for bit in 0..32 {
                let it = self.oracle.get(of, word * 32 + bit).clone();
                assert_eq!(
                    pending >> bit & 1 != 0,
                    it.pending(),
                    "pending of {}",
                    word * 32 + bit
                );
                assert_eq!(
                    active >> bit & 1 != 0,
                    it.active,
                    "active of {}",
                    word * 32 + bit
                );
            }
        }
    }

    /// A physical timer interrupt is active exactly while the guest has the virtual one pending or active.
    fn no_stuck_timer(&mut self) {
        for lane in (0..self.world.lanes()).filter(|lane| self.world.is_here(*lane)) {
            let (active, lines, enabled) = self
                .world
                .cpu(lane, |cpu| (cpu.physically_active, cpu.lines, cpu.enabled));
            for intid in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
                let it = self.oracle.get(lane, intid).clone();
                let bit = 1 << intid;
                assert!(
                    active & bit == 0 || it.pending() || it.active,
                    "physical {intid} is stuck"
                );
                assert_eq!(enabled & bit != 0, it.enabled);
                assert!(lines & enabled & bit == 0 || active & bit != 0);
            }
        }
    }

    /// The SPI of a device is active in the machine only while the guest has it pending or active, and is enabled there
    /// exactly while the guest has it so.
    fn no_stuck_device(&mut self) {
        for ((intid, _), device) in GIVEN.into_iter().zip(&self.world.devices) {
            let device = device.get();
            let it = self.oracle.get(0, intid);
            let (busy, enabled) = (it.pending() || it.active, it.enabled);
            assert!(!device.active || busy, "the device's SPI {intid} is stuck");
            assert_eq!(device.enabled, enabled);
            assert!(!device.line || !enabled || device.active, "{intid} is lost");
        }
    }

    /// Everything is enabled, nothing is masked, and every SPI has a lane to go to.
    fn open_up(&mut self) {
        let lanes = self.world.lanes();
        for lane in 0..lanes {
            self.step(
                lane,
                &Step::Timer {
                    intid: VIRTUAL_TIMER,
                    high: false,
                },
            );
            self.step(
                lane,
                &Step::Timer {
                    intid: PHYSICAL_TIMER,
                    high: false,
                },
            );
            self.step(
                lane,
                &Step::PrivateBits {
                    of: lane,
                    offset: 0x1_0100,
                    bits: u32::MAX,
                },
            );
            self.step(
                lane,
                &Step::Guest {
                    pmr: 0xff,
                    group0: true,
                    group1: true,
                },
            );
        }
        self.step(0, &Step::Control { value: 3 });
        for word in 1..3 {
            self.step(
                0,
                &Step::Bits {
                    offset: 0x100 + 4 * word,
                    bits: u32::MAX,
                },
            );
        }
        for spi in 0..64 {
            self.step(
                0,
                &Step::Route {
                    spi,
                    value: spi % lanes as u64,
                },
            );
        }
    }

    /// At the end the guest opens up and takes everything: nothing may be left, nothing may come for ever.
    fn drain(&mut self) {
        let lanes = self.world.lanes();
        for intid in 32..42 {
            self.step(0, &Step::Line { intid, high: false });
        }
        for which in 0..GIVEN.len() {
            self.step(0, &Step::Device { which, high: false });
        }
        self.open_up();
        for lane in 0..lanes {
            for _ in 0..200 {
                self.step(lane, &Step::Take);
                self.step(lane, &Step::End);
                self.step(lane, &Step::Deactivate { which: 0 });
            }
            while !self.oracle.cpus[lane].running.is_empty() {
                self.step(lane, &Step::End);
            }
            while !self.oracle.cpus[lane].dropped.is_empty() {
                self.step(lane, &Step::Deactivate { which: 1 });
            }
        }
        for lane in 0..lanes {
            for _ in 0..100 {
                self.step(lane, &Step::Take);
                self.step(lane, &Step::End);
                self.step(lane, &Step::Deactivate { which: 0 });
            }
            self.look(lane, lane);
            let left: Vec<u32> = (0..96)
                .filter(|id| {
                    self.oracle.get(lane, *id).pending()
                        && self.oracle.get(lane, *id).route == Some(lane)
                })
                .collect();
            assert!(left.is_empty(), "lane {lane} never got {left:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(3000), max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn random_guests_lose_nothing_and_get_nothing_twice(
        lanes in 1usize..=4,
        registers in prop::sample::select(std::vec![2usize, 3, 4, 4, 4, 8, 16]),
        split in any::<bool>(),
        devices in any::<bool>(),
        steps in prop::collection::vec((0usize..4, step()), 0..120),
    ) {
        let mut run = Run::new(lanes, registers, split, devices);
        for (lane, step) in &steps {
            run.step(lane % lanes, step);
        }
        for lane in 0..lanes {
            run.step(0, &Step::Look { of: lane });
        }
        run.drain();
    }
}
