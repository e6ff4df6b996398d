//! A model CPU: what the exit path reads and writes of the one it runs on.

use std::vec::Vec;

use super::World;
use crate::context::El1State;
use crate::hot::{Hardware, KICK};
use crate::inject::El1Regs;
use crate::lane::NO_INTERRUPT;
use crate::vgic::fake::{FakeCpu, probe};
use crate::vgic::port::Interface;
use crate::vgic::{MAINTENANCE, VirtGic};

/// What EL2 did to the physical interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// ICC_IAR1_EL1 was read.
    Acknowledged(u32),
    /// ICC_EOIR1_EL1 was written.
    Dropped(u32),
    /// ICC_DIR_EL1 was written.
    Deactivated(u32),
    /// ICC_SGI1R_EL1 was written.
    Sent(u64),
}

/// How often the model's counter counts in a second.
pub(crate) const FREQUENCY: u64 = 1000;

/// The registers of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) gic: FakeCpu,
    pub(crate) esr: u64,
    pub(crate) far: u64,
    pub(crate) hpfar: u64,
    pub(crate) elr: u64,
    pub(crate) spsr: u64,
    pub(crate) el1: El1State,
    /// What the guest's stage 1 makes of any address: its lower 40 bits, this, or nothing.
    pub(crate) stage1: Result<Option<u64>, ()>,
    /// A physical interrupt of nobody's that is pending.
    pub(crate) other: Option<u32>,
    /// The physical counter.
    pub(crate) count: u64,
    pub(crate) events: Vec<Event>,
    /// The lane has given its list registers away and is still inside EL2.
    pub(crate) exported: bool,
}

impl Cpu {
    pub(crate) fn new(registers: usize) -> Self {
        Self {
            gic: FakeCpu::new(registers),
            esr: 0,
            far: 0,
            hpfar: 0,
            elr: 0x4008_0000,
            spsr: 0x3c5,
            el1: El1State::reset(),
            stage1: Ok(None),
            other: None,
            count: 0,
            events: Vec::new(),
            exported: false,
        }
    }
}

/// The hardware port of lane `lane`'s CPU.
pub(crate) struct Port<'w, 'm> {
    pub(crate) cpu: &'w mut Cpu,
    pub(crate) lane: usize,
    pub(crate) world: &'w World<'m>,
}

impl VirtGic for Port<'_, '_> {
    fn lr_count(&self) -> usize {
        self.cpu.gic.lr_count()
    }
    fn read_lr(&mut self, index: usize) -> u64 {
        self.cpu.gic.read_lr(index)
    }
    fn write_lr(&mut self, index: usize, value: u64) {
        self.cpu.gic.write_lr(index, value);
    }
    fn read_elrsr(&mut self) -> u64 {
        self.cpu.gic.read_elrsr()
    }
    fn read_hcr(&mut self) -> u64 {
        self.cpu.gic.read_hcr()
    }
    fn write_hcr(&mut self, value: u64) {
        self.cpu.gic.write_hcr(value);
        let meddler = self.world.meddlers.borrow_mut().pop();
        if let Some(meddle) = meddler {
            meddle(self.world.machine);
        }
    }
    fn read_vmcr(&mut self) -> u64 {
        self.cpu.gic.read_vmcr()
    }
    fn write_vmcr(&mut self, value: u64) {
        self.cpu.gic.write_vmcr(value);
    }
    fn save_interface(&mut self, into: &mut Interface) {
        self.cpu.gic.save_interface(into);
    }
    fn load_interface(&mut self, from: &Interface) {
        self.cpu.gic.load_interface(from);
    }
    fn send_sgi(&mut self, value: u64) {
        // The kick of a lane is its number plus one.
        self.world.kick(usize::try_from(value - 1).unwrap());
        self.cpu.events.push(Event::Sent(value));
    }
    fn deactivate(&mut self, intid: u32) {
        self.cpu.gic.deactivate(intid);
        self.cpu.events.push(Event::Deactivated(intid));
    }
    fn set_spi_enabled(&mut self, intid: u32, enabled: bool) {
        self.cpu.gic.set_spi_enabled(intid, enabled);
    }
    fn set_ppis(&mut self, wanted: u32) {
        self.cpu.gic.set_ppis(wanted);
    }
    /// While this CPU waits, the others answer freeze requests, as their kicks make them.
    fn relax(&mut self) {
        for (lane, seat) in self.world.seats.iter().enumerate() {
            if let Ok(mut seat) = seat.try_borrow_mut() {
                let seat = &mut *seat;
                let port = &mut Port {
                    cpu: &mut seat.cpu,
                    lane,
                    world: self.world,
                };
                let exported = probe::wait_turn(&mut seat.vcpu.gic, &self.world.machine.vgic, port);
                seat.cpu.exported |= exported;
            }
        }
    }
}

impl Hardware for Port<'_, '_> {
    fn esr(&self) -> u64 {
        self.cpu.esr
    }
    fn far(&self) -> u64 {
        self.cpu.far
    }
    fn hpfar(&self) -> u64 {
        self.cpu.hpfar
    }
    fn elr(&self) -> u64 {
        self.cpu.elr
    }
    fn set_elr(&mut self, value: u64) {
        self.cpu.elr = value;
    }
    fn spsr(&self) -> u64 {
        self.cpu.spsr
    }
    fn set_spsr(&mut self, value: u64) {
        self.cpu.spsr = value;
    }
    fn sctlr_el1(&self) -> u64 {
        self.cpu.el1.sctlr_el1
    }
    fn translate(&self, va: u64, _el0: bool) -> Option<u64> {
        let told = self.cpu.stage1.ok()?;
        Some(told.unwrap_or(va & 0xff_ffff_ffff))
    }
    fn count(&self) -> u64 {
        self.cpu.count
    }
    fn frequency(&self) -> u64 {
        FREQUENCY
    }
    fn acknowledge(&mut self) -> u32 {
        let intid = if self.world.take_kick(self.lane) {
            KICK
        } else if let Some(intid) = self.cpu.other.take() {
            intid
        } else if let Some(intid) = self.cpu.gic.take_physical() {
            intid
        } else if self.cpu.gic.maintenance() {
            MAINTENANCE
        } else {
            NO_INTERRUPT
        };
        self.cpu.events.push(Event::Acknowledged(intid));
        intid
    }
    fn drop_priority(&mut self, intid: u32) {
        self.cpu.events.push(Event::Dropped(intid));
    }
}

impl El1Regs for Port<'_, '_> {
    fn vbar(&self) -> u64 {
        self.cpu.el1.vbar_el1
    }
    fn sctlr(&self) -> u64 {
        self.cpu.el1.sctlr_el1
    }
    fn set_elr(&mut self, value: u64) {
        self.cpu.el1.elr_el1 = value;
    }
    fn set_spsr(&mut self, value: u64) {
        self.cpu.el1.spsr_el1 = value;
    }
    fn set_esr(&mut self, value: u64) {
        self.cpu.el1.esr_el1 = value;
    }
    fn set_far(&mut self, value: u64) {
        self.cpu.el1.far_el1 = value;
    }
}
