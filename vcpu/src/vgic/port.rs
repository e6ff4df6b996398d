//! The port: what the virtual GIC needs of the CPU it runs on.

use super::MAX_LRS;

/// `ICH_HCR_EL2`: the virtual CPU interface is on.
pub const HCR_EN: u64 = 1;
/// `ICH_HCR_EL2`: maintenance interrupt while an EOI found no list register (`EOIcount` ≠ 0).
pub const HCR_LRENPIE: u64 = 1 << 2;
/// `ICH_HCR_EL2`: maintenance interrupt while no list register is pending.
pub const HCR_NPIE: u64 = 1 << 3;
/// `ICH_HCR_EL2`: maintenance interrupt while the guest has group 0 on.
pub const HCR_VGRP0EIE: u64 = 1 << 4;
/// `ICH_HCR_EL2`: maintenance interrupt while the guest has group 0 off.
pub const HCR_VGRP0DIE: u64 = 1 << 5;
/// `ICH_HCR_EL2`: maintenance interrupt while the guest has group 1 on.
pub const HCR_VGRP1EIE: u64 = 1 << 6;
/// `ICH_HCR_EL2`: maintenance interrupt while the guest has group 1 off.
pub const HCR_VGRP1DIE: u64 = 1 << 7;
/// `ICH_HCR_EL2`: trap the guest's writes of `ICC_DIR_EL1`.
pub const HCR_TDIR: u64 = 1 << 14;
/// `ICH_HCR_EL2.EOIcount`: its lowest bit.
pub const HCR_EOICOUNT_SHIFT: u32 = 27;

/// `ICH_VMCR_EL2.VENG0`: the guest's `ICC_IGRPEN0_EL1`.
pub const VMCR_VENG0: u64 = 1;
/// `ICH_VMCR_EL2.VENG1`: the guest's `ICC_IGRPEN1_EL1`.
pub const VMCR_VENG1: u64 = 1 << 1;
/// `ICH_VMCR_EL2.VEOIM`: the guest's `ICC_CTLR_EL1.EOImode`.
pub const VMCR_VEOIM: u64 = 1 << 9;

/// What a guest keeps in the virtual CPU interface besides the list registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `ICH_VMCR_EL2`.
    pub vmcr: u64,
    /// `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2`; zero where they do not exist (`ICH_VTR_EL2.PREbits`).
    pub active: [[u64; 2]; 4],
}

impl Interface {
    /// As after reset.
    pub const RESET: Self = Self {
        vmcr: 0,
        active: [[0; 2]; 4],
    };
}

/// The GIC hardware of the CPU that calls, and of no other.
///
/// `hypervisor-arch` implements it over the system registers; tests implement it over a model of the CPU interface.
/// No method may touch a `Vgic`.
pub trait VirtGic {
    /// How many list registers there are (`ICH_VTR_EL2.ListRegs` + 1), at most 16.
    fn lr_count(&self) -> usize;
    /// `ICH_LR<index>_EL2`; `index` is below [`lr_count`](Self::lr_count).
    fn read_lr(&mut self, index: usize) -> u64;
    /// Writes `ICH_LR<index>_EL2`.
    fn write_lr(&mut self, index: usize, value: u64);
    /// Makes the interrupt of a list register pending, whatever state it is in: `body` is the register without state.
    /// On its own because the index selects a register, and one selection is cheaper than two.
    #[inline(always)]
    fn pend_lr(&mut self, index: usize, body: u64) {
        let state = self.read_lr(index) & super::lr::STATE;
        self.write_lr(index, body | state | super::lr::PENDING);
    }
    /// `ICH_ELRSR_EL2`: one bit for each empty list register.
    fn read_elrsr(&mut self) -> u64;
    /// `ICH_HCR_EL2`.
    fn read_hcr(&mut self) -> u64;
    /// Writes `ICH_HCR_EL2`.
    fn write_hcr(&mut self, value: u64);
    /// `ICH_VMCR_EL2`.
    fn read_vmcr(&mut self) -> u64;
    /// Writes `ICH_VMCR_EL2`.
    fn write_vmcr(&mut self, value: u64);
    /// Sends a physical SGI: `value` goes to `ICC_SGI1R_EL1`, after a `DSB ISHST` and before an `ISB`.
    fn send_sgi(&mut self, value: u64);
    /// Deactivates a physical PPI of this CPU, or an SPI (`ICC_DIR_EL1`, EOImode = 1).
    fn deactivate(&mut self, intid: u32);
    /// A lane whose VM has devices of the machine leaves this CPU: what they have refused of it, and is not told yet, is
    /// pended for it as a virtual system error.
    #[inline]
    fn take_late_error(&mut self) {}
    /// Enables or disables a physical SPI in the distributor.
    fn set_spi_enabled(&mut self, intid: u32, enabled: bool);
    /// Has exactly these of the PPIs that lanes are linked to enabled in this CPU's redistributor.
    fn set_ppis(&mut self, wanted: u32);
    /// Copies all list registers out.
    #[inline(always)]
    fn save_lrs(&mut self, lrs: &mut [u64; MAX_LRS]) {
        let count = self.lr_count();
        for (index, slot) in lrs.iter_mut().enumerate().take(count) {
            *slot = self.read_lr(index);
        }
    }
    /// Writes all list registers.
    #[inline(always)]
    fn load_lrs(&mut self, lrs: &[u64; MAX_LRS]) {
        let count = self.lr_count();
        for (index, value) in lrs.iter().enumerate().take(count) {
            self.write_lr(index, *value);
        }
    }
    /// Copies out what else of the virtual CPU interface is the guest's.
    fn save_interface(&mut self, into: &mut Interface);
    /// Writes it.
    fn load_interface(&mut self, from: &Interface);
    /// Called in each turn of a wait for another CPU. The place for a halt check when EL2 is ending.
    #[inline]
    fn relax(&mut self) {
        core::hint::spin_loop();
    }
}
