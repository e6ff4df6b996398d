//! A VM of a few lanes, each on its own model CPU, run in turns by the test.

use core::cell::{Cell, RefCell};
use std::vec::Vec;

use crate::vgic::fake::FakeCpu;
use crate::vgic::fake::probe::Interrupts;
use crate::vgic::port::Interface;
use crate::vgic::{Frame, LINKED_PPIS, LaneGic, Refused, SgiRegister, Vgic, VirtGic, lr};

/// A lane and its CPU.
pub(super) struct Seat {
    pub(super) lane: LaneGic,
    pub(super) cpu: FakeCpu,
}

/// The SPIs of devices of the machine that the VM is given: as the VM knows them, and as the machine does.
pub(super) const GIVEN: [(u32, u16); 2] = [(42, 1001), (80, 77)];

/// One of them, in the machine's distributor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Device {
    pub(super) line: bool,
    pub(super) enabled: bool,
    pub(super) active: bool,
}

pub(super) struct World {
    pub(super) devices: [Cell<Device>; GIVEN.len()],
    pub(super) vgic: Vgic,
    seats: Vec<RefCell<Seat>>,
    /// CPUs with a physical kick pending.
    kicks: Cell<u32>,
    /// Slow-path calls, to see storms.
    pub(super) exits: Cell<u64>,
    /// Pulses that took the short path.
    pub(super) pulsed_fast: Cell<u64>,
    /// Pulses and kicks take the slow path.
    pub(super) slow: Cell<bool>,
}

/// The hardware port of one CPU in the world.
pub(super) struct Port<'w> {
    pub(super) cpu: &'w mut FakeCpu,
    world: &'w World,
}

impl VirtGic for Port<'_> {
    fn lr_count(&self) -> usize {
        self.cpu.lr_count()
    }
    fn read_lr(&mut self, index: usize) -> u64 {
        self.cpu.read_lr(index)
    }
    fn write_lr(&mut self, index: usize, value: u64) {
        self.cpu.write_lr(index, value);
    }
    fn read_elrsr(&mut self) -> u64 {
        self.cpu.read_elrsr()
    }
    fn read_hcr(&mut self) -> u64 {
        self.cpu.read_hcr()
    }
    fn write_hcr(&mut self, value: u64) {
        self.cpu.write_hcr(value);
    }
    fn read_vmcr(&mut self) -> u64 {
        self.cpu.read_vmcr()
    }
    fn write_vmcr(&mut self, value: u64) {
        self.cpu.write_vmcr(value);
    }
    fn save_interface(&mut self, into: &mut Interface) {
        self.cpu.save_interface(into);
    }
    fn load_interface(&mut self, from: &Interface) {
        self.cpu.load_interface(from);
    }
    fn send_sgi(&mut self, value: u64) {
        // Kick values are the lane's number plus one.
        self.world
            .kicks
            .set(self.world.kicks.get() | 1 << (value - 1));
        self.cpu.send_sgi(value);
    }
    fn deactivate(&mut self, intid: u32) {
        if intid >= 32 {
            return self.world.device(intid, |device| device.active = false);
        }
        assert!(LINKED_PPIS >> intid & 1 != 0, "deactivates a foreign line");
        self.cpu.deactivate(intid);
    }
    fn set_spi_enabled(&mut self, intid: u32, enabled: bool) {
        self.world.device(intid, |device| device.enabled = enabled);
    }
    fn set_ppis(&mut self, wanted: u32) {
        self.cpu.set_ppis(wanted);
    }
    /// While this CPU waits, the others get to answer freeze requests, as their kicks make them.
    fn relax(&mut self) {
        for seat in &self.world.seats {
            if let Ok(mut seat) = seat.try_borrow_mut() {
                let Seat { lane, cpu } = &mut *seat;
                lane.poll_freeze(
                    &self.world.vgic,
                    &mut Port {
                        cpu,
                        world: self.world,
                    },
                );
            }
        }
    }
}

impl World {
    /// `lanes` lanes on CPUs with `registers` list registers, all running, the GIC on, all priorities 0xa0.
    pub(super) fn new(lanes: usize, registers: usize) -> Self {
        let world = Self::at_reset(lanes, registers);
        world.write(0, Frame::Distributor, 0, 4, 3);
        for lane in 0..lanes {
            for offset in (0x1_0400..0x1_0420).step_by(4) {
                world.write(lane, Frame::Redistributor(lane), offset, 4, 0xa0a0_a0a0);
            }
            world.cpu(lane, |cpu| cpu.set_guest_control(0xf0, true, true, false));
        }
        for offset in (0x420..0x460).step_by(4) {
            world.write(0, Frame::Distributor, offset, 4, 0xa0a0_a0a0);
        }
        world
    }

    /// Gives the VM its devices of the machine.
    pub(super) fn give_devices(&self) {
        for (intid, physical) in GIVEN {
            self.vgic.link(intid, physical);
        }
    }

    pub(super) fn at_reset(lanes: usize, registers: usize) -> Self {
        let seat = |id| {
            RefCell::new(Seat {
                lane: LaneGic::new(id),
                cpu: FakeCpu::new(registers),
            })
        };
        let world = Self {
            devices: Default::default(),
            vgic: Vgic::new(lanes),
            seats: (0..lanes).map(seat).collect(),
            kicks: Cell::new(0),
            exits: Cell::new(0),
            pulsed_fast: Cell::new(0),
            slow: Cell::new(false),
        };
        for lane in 0..lanes {
            world.vgic.set_kick(lane, lane as u64 + 1);
            world.with(lane, |seat, vgic, port| seat.arrive(vgic, port));
        }
        world
    }

    /// A device of the machine, by its SPI there.
    pub(super) fn device(&self, physical: u32, change: impl FnOnce(&mut Device)) {
        let given = GIVEN
            .iter()
            .position(|(_, known)| u32::from(*known) == physical);
        let cell = &self.devices[given.expect("a foreign SPI")];
        let mut device = cell.get();
        change(&mut device);
        cell.set(device);
    }

    /// The machine's SPIs come to lane 0's CPU.
    fn take_device(&self) -> Option<u32> {
        let fires = |cell: &Cell<Device>| {
            let device = cell.get();
            device.line && device.enabled && !device.active
        };
        let (intid, physical) = GIVEN[self.devices.iter().position(fires)?];
        self.device(physical.into(), |device| device.active = true);
        self.with(0, |seat, vgic, port| seat.device_fired(vgic, intid, port));
        Some(intid)
    }

    /// What the guest's end of an interrupt does to the machine's.
    fn end_device(&self, lane: usize) {
        let ended = self.cpu(lane, |cpu| core::mem::take(&mut cpu.ended_spi));
        if ended != 0 {
            self.device(ended, |device| {
                assert!(device.active, "deactivated twice");
                device.active = false;
            });
        }
    }

    pub(super) fn forget_counts(&self) {
        self.exits.set(0);
        for seat in &self.seats {
            seat.borrow_mut().cpu.sends = 0;
        }
    }

    pub(super) fn lanes(&self) -> usize {
        self.seats.len()
    }

    /// Runs EL2 code on the CPU of `lane`.
    pub(super) fn with<R>(
        &self,
        lane: usize,
        run: impl FnOnce(&mut LaneGic, &Vgic, &mut Port<'_>) -> R,
    ) -> R {
        let mut seat = self.seats[lane].borrow_mut();
        let Seat { lane, cpu } = &mut *seat;
        run(lane, &self.vgic, &mut Port { cpu, world: self })
    }

    /// Runs guest code, or looks, on the CPU of `lane`.
    pub(super) fn cpu<R>(&self, lane: usize, run: impl FnOnce(&mut FakeCpu) -> R) -> R {
        self.resume(lane);
        run(&mut self.seats[lane].borrow_mut().cpu)
    }

    /// A lane whose list registers were taken is inside EL2, waiting for the lock: it refills before its guest runs.
    fn resume(&self, lane: usize) {
        if self.seats[lane].borrow().lane.emptied {
            self.serve(lane);
        }
    }

    /// What is pending and active for a lane. Changes nothing.
    pub(super) fn interrupts(&self, lane: usize) -> Interrupts {
        self.resume(lane);
        let seat = self.seats[lane].borrow();
        Interrupts::of(&self.vgic, &seat.lane, &seat.cpu)
    }

    pub(super) fn is_here(&self, lane: usize) -> bool {
        self.seats[lane].borrow().lane.here
    }

    pub(super) fn serve(&self, lane: usize) {
        self.exits.set(self.exits.get() + 1);
        self.with(lane, |seat, vgic, port| seat.serve(vgic, port));
    }

    pub(super) fn try_write(
        &self,
        lane: usize,
        frame: Frame,
        offset: u64,
        bytes: u32,
        value: u64,
    ) -> Result<(), Refused> {
        self.resume(lane);
        self.with(lane, |seat, vgic, port| {
            seat.mmio_write(vgic, frame, offset, bytes, value, port)
        })
    }

    pub(super) fn try_read(
        &self,
        lane: usize,
        frame: Frame,
        offset: u64,
        bytes: u32,
    ) -> Result<u64, Refused> {
        self.resume(lane);
        self.with(lane, |seat, vgic, port| {
            seat.mmio_read(vgic, frame, offset, bytes, port)
        })
    }

    pub(super) fn write(&self, lane: usize, frame: Frame, offset: u64, bytes: u32, value: u64) {
        self.try_write(lane, frame, offset, bytes, value).unwrap();
    }

    pub(super) fn read(&self, lane: usize, frame: Frame, offset: u64, bytes: u32) -> u64 {
        self.try_read(lane, frame, offset, bytes).unwrap()
    }

    /// The guest writes `ICC_SGI1R_EL1` on `lane`, by the hot path if that will.
    pub(super) fn sgi(&self, lane: usize, value: u64) {
        self.resume(lane);
        self.with(lane, |seat, vgic, port| {
            if !seat.fast_sgi1r(vgic, value, port) {
                seat.send_sgi(vgic, SgiRegister::Sgi1r, value, port);
            }
        });
    }

    pub(super) fn line(&self, lane: usize, intid: u32, high: bool) {
        self.resume(lane);
        self.with(lane, |seat, vgic, port| {
            seat.set_line(vgic, intid, high, port)
        });
    }

    pub(super) fn pulse(&self, lane: usize, spis: u64) {
        self.resume(lane);
        self.with(lane, |seat, vgic, port| {
            let left = if self.slow.get() {
                spis
            } else {
                seat.fast_pulse(vgic, spis, port)
            };
            self.pulsed_fast
                .set(self.pulsed_fast.get() + u64::from((spis & !left).count_ones()));
            if left != 0 {
                seat.pulse(vgic, left, port);
            }
        });
    }

    /// From the CPU of `lane`, which may have another VM's lane.
    pub(super) fn post(&self, lane: usize, intid: u32) {
        self.with(lane, |_, vgic, port| vgic.post_spi(intid, port));
    }

    /// Takes one physical interrupt on the CPU of `lane`, if one is pending. Returns the PPI that fired, if it was one.
    pub(super) fn interrupt(&self, lane: usize) -> Option<Option<u32>> {
        self.resume(lane);
        // Whether lane 0 is on its CPU or not.
        if lane == 0
            && let Some(intid) = self.take_device()
        {
            return Some(Some(intid));
        }
        if self.kicks.get() >> lane & 1 != 0 {
            self.kicks.set(self.kicks.get() & !(1 << lane));
            if !self.is_here(lane) {
                // Its CPU finds the mail, and it is looked at when the lane is back.
                return None;
            }
            let done =
                !self.slow.get() && self.with(lane, |seat, vgic, port| seat.fast_kick(vgic, port));
            if !done {
                self.serve(lane);
            }
            return Some(None);
        }
        let fired = self.with(lane, |seat, vgic, port| {
            let intid = port.cpu.take_physical()?;
            if intid != crate::vgic::VIRTUAL_TIMER || !seat.fast_timer(port) {
                seat.ppi_fired(vgic, intid, port);
            }
            Some(intid)
        });
        if fired.is_some() {
            return Some(fired);
        }
        if self.cpu(lane, |cpu| cpu.maintenance()) {
            self.serve(lane);
            return Some(None);
        }
        None
    }

    /// Lets all CPUs take their physical interrupts until none is left. Returns the PPIs that fired.
    pub(super) fn settle(&self) -> Vec<(usize, u32)> {
        let mut fired = Vec::new();
        for round in 0.. {
            let mut quiet = true;
            for lane in 0..self.lanes() {
                if let Some(ppi) = self.interrupt(lane) {
                    quiet = false;
                    fired.extend(ppi.map(|intid| (lane, intid)));
                }
            }
            if quiet {
                break;
            }
            assert!(round < 12, "a storm of exits");
        }
        self.check();
        fired
    }

    /// The guest takes its most urgent interrupt.
    pub(super) fn ack(&self, lane: usize) -> Option<u32> {
        self.cpu(lane, FakeCpu::acknowledge)
    }

    pub(super) fn eoi(&self, lane: usize, intid: u32) {
        self.cpu(lane, |cpu| cpu.end(intid));
        self.end_device(lane);
    }

    /// The guest writes `ICC_DIR_EL1`, which may trap.
    pub(super) fn dir(&self, lane: usize, intid: u32) {
        if self.cpu(lane, |cpu| cpu.deactivate_virtual(intid)) {
            self.with(lane, |seat, vgic, port| {
                seat.write_dir(vgic, u64::from(intid), port)
            });
        }
        self.end_device(lane);
    }

    /// What must always hold of the list registers.
    pub(super) fn check(&self) {
        let mut spis = Vec::new();
        for seat in &self.seats {
            let seat = seat.borrow();
            let mut own = Vec::new();
            for (index, value) in seat.cpu.lrs.iter().enumerate() {
                if value & lr::STATE == 0 {
                    continue;
                }
                assert!(index < seat.cpu.count);
                let intid = lr::intid(*value);
                assert_eq!(
                    index == 0,
                    intid == crate::vgic::VIRTUAL_TIMER,
                    "the timer's own list register"
                );
                assert!(!own.contains(&intid), "{intid} is in two list registers");
                own.push(intid);
                if intid >= 32 {
                    assert!(!spis.contains(&intid), "{intid} is in two lanes");
                    spis.push(intid);
                }
                if value & lr::HW != 0 {
                    assert_ne!(
                        value & lr::STATE,
                        lr::STATE,
                        "linked and both pending and active"
                    );
                    let given = GIVEN.iter().position(|(known, _)| *known == intid);
                    if let Some(given) = given {
                        assert_eq!(lr::physical(*value), u32::from(GIVEN[given].1));
                        assert!(self.devices[given].get().active);
                        continue;
                    }
                    assert_eq!(lr::physical(*value), intid);
                    assert!(seat.cpu.physically_active >> intid & 1 != 0);
                }
            }
        }
    }
}
