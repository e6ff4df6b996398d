//! A model of one CPU's GICv3 hardware, for host tests: the virtual CPU interface with its list registers, and the
//! physical PPIs that may be linked to them. It behaves as IHI 0069 says, chapters 6 and 12.4, for five priority bits.

#[cfg(test)]
pub mod probe;

use super::bits::{Ones, at, at_mut, low8, low32};
use super::port::{
    HCR_EN, HCR_EOICOUNT_SHIFT, HCR_LRENPIE, HCR_NPIE, HCR_TDIR, HCR_VGRP0DIE, HCR_VGRP0EIE,
    HCR_VGRP1DIE, HCR_VGRP1EIE, Interface, VMCR_VENG0, VMCR_VENG1, VMCR_VEOIM,
};
use super::{MAX_LRS, VirtGic, lr};

/// `ICH_VMCR_EL2.VPMR`: its lowest bit.
const PMR_SHIFT: u32 = 24;
const COUNT_MASK: u64 = 0x1f << HCR_EOICOUNT_SHIFT;

/// The registers of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeCpu {
    /// How many list registers exist.
    pub count: usize,
    /// `ICH_LR<n>_EL2`.
    pub lrs: [u64; MAX_LRS],
    /// `ICH_HCR_EL2`.
    pub hcr: u64,
    /// `ICH_VMCR_EL2`.
    pub vmcr: u64,
    /// `ICH_AP0R0_EL2`.
    pub ap0r: u64,
    /// `ICH_AP1R0_EL2`.
    pub ap1r: u64,
    /// Physical PPIs whose line is high.
    pub lines: u32,
    /// Physical PPIs that are enabled.
    pub enabled: u32,
    /// Physical PPIs that are active.
    pub physically_active: u32,
    /// The physical SPI that the guest has deactivated last; 0 for none.
    pub ended_spi: u32,
    /// The last values sent to `ICC_SGI1R_EL1`.
    pub sent: [u64; 8],
    /// How many were sent.
    pub sends: usize,
    /// How many writes of registers and physical state there were.
    pub writes: u64,
}

impl FakeCpu {
    /// A CPU at reset with `count` list registers.
    #[must_use]
    pub const fn new(count: usize) -> Self {
        Self {
            count,
            lrs: [0; MAX_LRS],
            hcr: 0,
            vmcr: 0,
            ap0r: 0,
            ap1r: 0,
            lines: 0,
            enabled: 0,
            physically_active: 0,
            ended_spi: 0,
            sent: [0; 8],
            sends: 0,
            writes: 0,
        }
    }

    /// The guest's `ICC_PMR_EL1`, `ICC_IGRPEN0_EL1`, `ICC_IGRPEN1_EL1` and `ICC_CTLR_EL1.EOImode`.
    pub const fn set_guest_control(&mut self, pmr: u8, group0: bool, group1: bool, split: bool) {
        self.vmcr = (pmr as u64) << PMR_SHIFT
            | if group0 { VMCR_VENG0 } else { 0 }
            | if group1 { VMCR_VENG1 } else { 0 }
            | if split { VMCR_VEOIM } else { 0 };
    }

    /// The running priority; 0xff when idle.
    #[must_use]
    pub const fn running(&self) -> u8 {
        let active = low32(self.ap0r | self.ap1r);
        if active == 0 {
            0xff
        } else {
            low8(active.trailing_zeros() as u64) << 3
        }
    }

    /// The list register that the guest would be interrupted for.
    #[must_use]
    pub fn highest(&self) -> Option<usize> {
        if self.hcr & HCR_EN == 0 {
            return None;
        }
        let best = (0..self.count)
            .filter(|index| {
                let value = *at(&self.lrs, *index);
                let group = if value & lr::GROUP1 != 0 {
                    VMCR_VENG1
                } else {
                    VMCR_VENG0
                };
                value & lr::STATE == lr::PENDING && self.vmcr & group != 0
            })
            .min_by_key(|index| lr::priority(*at(&self.lrs, *index)))?;
        let priority = lr::priority(*at(&self.lrs, best));
        let mask = low8(self.vmcr >> PMR_SHIFT);
        (priority < mask && (priority & 0xf8) < self.running()).then_some(best)
    }

    /// The guest reads `ICC_IAR<n>_EL1` of the group that interrupts it.
    pub fn acknowledge(&mut self) -> Option<u32> {
        let index = self.highest()?;
        let slot = at_mut(&mut self.lrs, index);
        *slot = *slot & !lr::STATE | lr::ACTIVE;
        let level = 1 << (lr::priority(*slot) >> 3);
        if *slot & lr::GROUP1 != 0 {
            self.ap1r |= level;
        } else {
            self.ap0r |= level;
        }
        Some(lr::intid(*slot))
    }

    /// The guest writes `ICC_EOIR<n>_EL1`.
    pub fn end(&mut self, intid: u32) {
        let active = self.ap0r | self.ap1r;
        if active == 0 || intid >= 1020 {
            return;
        }
        let level = active & active.wrapping_neg();
        self.ap0r &= !level;
        self.ap1r &= !level;
        if self.vmcr & VMCR_VEOIM == 0 {
            self.finish(intid);
        }
    }

    /// The guest writes `ICC_DIR_EL1`. True when the write traps to EL2 instead.
    #[must_use]
    pub fn deactivate_virtual(&mut self, intid: u32) -> bool {
        if self.hcr & HCR_TDIR != 0 {
            return true;
        }
        if self.vmcr & VMCR_VEOIM != 0 && intid < 1020 {
            self.finish(intid);
        }
        false
    }

    fn finish(&mut self, intid: u32) {
        for slot in self.lrs.iter_mut().take(self.count) {
            if lr::intid(*slot) == intid && *slot & lr::ACTIVE != 0 {
                *slot &= !lr::ACTIVE;
                if *slot & lr::HW != 0 {
                    let physical = lr::physical(*slot);
                    self.physically_active &= !(1u32.checked_shl(physical).unwrap_or(0));
                    if physical >= 32 {
                        self.ended_spi = physical;
                    }
                }
                return;
            }
        }
        if self.hcr & COUNT_MASK != COUNT_MASK {
            self.hcr += 1 << HCR_EOICOUNT_SHIFT;
        }
    }

    /// Whether the maintenance interrupt is asserted (`ICH_MISR_EL2` ≠ 0).
    #[must_use]
    pub fn maintenance(&self) -> bool {
        let held = |bit: u64, condition: bool| self.hcr & bit != 0 && condition;
        let used = || self.lrs.iter().take(self.count);
        let ended = used().any(|value| value & (lr::STATE | lr::HW | lr::EOI) == lr::EOI);
        let none_pending = !used().any(|value| value & lr::STATE == lr::PENDING);
        self.hcr & HCR_EN != 0
            && (ended
                || held(HCR_NPIE, none_pending)
                || held(HCR_LRENPIE, self.hcr & COUNT_MASK != 0)
                || held(HCR_VGRP0EIE, self.vmcr & VMCR_VENG0 != 0)
                || held(HCR_VGRP0DIE, self.vmcr & VMCR_VENG0 == 0)
                || held(HCR_VGRP1EIE, self.vmcr & VMCR_VENG1 != 0)
                || held(HCR_VGRP1DIE, self.vmcr & VMCR_VENG1 == 0))
    }

    /// EL2 acknowledges a physical PPI, which becomes active and has its priority dropped.
    pub fn take_physical(&mut self) -> Option<u32> {
        let intid = Ones(self.lines & self.enabled & !self.physically_active).next()?;
        self.physically_active |= 1 << intid;
        Some(intid)
    }
}

impl VirtGic for FakeCpu {
    fn lr_count(&self) -> usize {
        self.count
    }
    fn read_lr(&mut self, index: usize) -> u64 {
        *at(&self.lrs, index)
    }
    fn write_lr(&mut self, index: usize, value: u64) {
        self.writes += 1;
        *at_mut(&mut self.lrs, index) = value;
    }
    fn read_elrsr(&mut self) -> u64 {
        let empty = |value: &u64| value & lr::STATE == 0 && value & (lr::HW | lr::EOI) != lr::EOI;
        (0..self.count)
            .filter(|index| empty(at(&self.lrs, *index)))
            .fold(0, |bits, index| bits | 1 << index)
    }
    fn read_hcr(&mut self) -> u64 {
        self.hcr
    }
    fn write_hcr(&mut self, value: u64) {
        self.writes += 1;
        self.hcr = value;
    }
    fn read_vmcr(&mut self) -> u64 {
        self.vmcr
    }
    fn write_vmcr(&mut self, value: u64) {
        self.writes += 1;
        self.vmcr = value;
    }
    fn save_interface(&mut self, into: &mut Interface) {
        *into = Interface {
            vmcr: self.vmcr,
            active: [[self.ap0r, self.ap1r], [0; 2], [0; 2], [0; 2]],
        };
    }
    fn load_interface(&mut self, from: &Interface) {
        self.writes += 1;
        self.vmcr = from.vmcr;
        [[self.ap0r, self.ap1r], ..] = from.active;
    }
    fn send_sgi(&mut self, value: u64) {
        *at_mut(&mut self.sent, self.sends) = value;
        self.sends += 1;
    }
    fn deactivate(&mut self, intid: u32) {
        self.writes += 1;
        self.physically_active &= !(1u32.checked_shl(intid).unwrap_or(0));
    }
    /// One distributor serves all CPUs: whoever has several keeps its state.
    fn set_spi_enabled(&mut self, _: u32, _: bool) {
        self.writes += 1;
    }
    fn set_ppis(&mut self, wanted: u32) {
        self.writes += 1;
        self.enabled = wanted;
    }
}
