//! The system registers that `aarch64-cpu` lacks or leaves untyped, as plain 64-bit accessors.
//!
//! None of the `asm!` blocks is `nomem`: the compiler may not move memory accesses across them, so a
//! store made before a write that publishes it (a page table before VTTBR, a mailbox before an SGI)
//! is in program order. What order other observers see is the caller's barrier.

/// Declares `pub(crate) fn read_x() -> u64` and `write_x(u64)` for system registers.
macro_rules! system_registers {
    ($($reg:literal: $($read:ident)? / $($write:ident)?;)*) => {$(
        $(
            #[inline(always)]
            pub(crate) fn $read() -> u64 {
                let value: u64;
                // SAFETY: reading this register at EL2 has no effect on memory or on Rust's state.
                unsafe { core::arch::asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nostack, preserves_flags)) };
                value
            }
        )?
        $(
            #[inline(always)]
            pub(crate) fn $write(value: u64) {
                // SAFETY: the register steers a guest's world or the GIC, not EL2's own memory map.
                unsafe { core::arch::asm!(concat!("msr ", $reg, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
            }
        )?
    )*};
}

system_registers! {
    "esr_el2": read_esr_el2 /;
    "far_el2": read_far_el2 /;
    "hpfar_el2": read_hpfar_el2 /;
    "elr_el2": read_elr_el2 / write_elr_el2;
    "spsr_el2": read_spsr_el2 / write_spsr_el2;
    "sctlr_el1": read_sctlr_el1 /;
    "mdscr_el1": / write_mdscr_el1;
    "vpidr_el2": / write_vpidr_el2;
    "hstr_el2": / write_hstr_el2;
    // HCRX_EL2.
    "s3_4_c1_c2_2": / write_hcrx_el2;
    // HFGRTR_EL2, HFGWTR_EL2, HFGITR_EL2, HDFGRTR_EL2, HDFGWTR_EL2.
    "s3_4_c1_c1_4": / write_hfgrtr_el2;
    "s3_4_c1_c1_5": / write_hfgwtr_el2;
    "s3_4_c1_c1_6": / write_hfgitr_el2;
    "s3_4_c3_c1_4": / write_hdfgrtr_el2;
    "s3_4_c3_c1_5": / write_hdfgwtr_el2;
    // The same of FEAT_FGT2.
    "s3_4_c3_c1_2": / write_hfgrtr2_el2;
    "s3_4_c3_c1_3": / write_hfgwtr2_el2;
    "s3_4_c3_c1_7": / write_hfgitr2_el2;
    "s3_4_c3_c1_0": / write_hdfgrtr2_el2;
    "s3_4_c3_c1_1": / write_hdfgwtr2_el2;
    // MPAM2_EL2.
    "s3_4_c10_c5_0": / write_mpam2_el2;
    // SMPRI_EL1 and TPIDR2_EL0.
    "s3_0_c1_c2_4": / write_smpri_el1;
    "s3_3_c13_c0_5": / write_tpidr2_el0;
    // VDISR_EL2 and VSESR_EL2.
    "s3_4_c12_c1_1": / write_vdisr_el2;
    "s3_4_c5_c2_3": read_vsesr_el2 / write_vsesr_el2;
    "oslar_el1": / write_oslar_el1;
    "isr_el1": read_isr_el1 /;
    "cntpct_el0": read_cntpct_el0 /;
    // CNTHP_CVAL_EL2.
    "s3_4_c14_c2_2": / write_cnthp_cval_el2;
    // CNTHP_CTL_EL2.
    "s3_4_c14_c2_1": / write_cnthp_ctl_el2;
    // ICC_IAR1_EL1: reading acknowledges (IHI 0069, 12.2.14).
    "s3_0_c12_c12_0": read_icc_iar1_el1 /;
    // ICC_EOIR1_EL1: priority drop, with EOImode 1.
    "s3_0_c12_c12_1": / write_icc_eoir1_el1;
    // ICC_IAR0_EL1 and ICC_EOIR0_EL1.
    "s3_0_c12_c8_0": read_icc_iar0_el1 /;
    "s3_0_c12_c8_1": / write_icc_eoir0_el1;
    // ICC_DIR_EL1.
    "s3_0_c12_c11_1": / write_icc_dir_el1;
    // ICC_SGI1R_EL1.
    "s3_0_c12_c11_5": / write_icc_sgi1r_el1;
    // ICC_CTLR_EL1.
    "s3_0_c12_c12_4": / write_icc_ctlr_el1;
    // ICC_SRE_EL1.
    "s3_0_c12_c12_5": / write_icc_sre_el1;
    // ICC_BPR1_EL1.
    "s3_0_c12_c12_3": / write_icc_bpr1_el1;
    // ICH_HCR_EL2.
    "s3_4_c12_c11_0": read_ich_hcr_el2 / write_ich_hcr_el2;
    // ICH_VTR_EL2.
    "s3_4_c12_c11_1": read_ich_vtr_el2 /;
    // ICH_ELRSR_EL2.
    "s3_4_c12_c11_5": read_ich_elrsr_el2 /;
    // ICH_AP0R0_EL2 and ICH_AP1R0_EL2.
    "s3_4_c12_c8_0": read_ich_ap0r0_el2 / write_ich_ap0r0_el2;
    "s3_4_c12_c9_0": read_ich_ap1r0_el2 / write_ich_ap1r0_el2;
    // ICH_LR0_EL2 to ICH_LR3_EL2.
    "s3_4_c12_c12_0": read_ich_lr0_el2 / write_ich_lr0_el2;
    "s3_4_c12_c12_1": read_ich_lr1_el2 / write_ich_lr1_el2;
    "s3_4_c12_c12_2": read_ich_lr2_el2 / write_ich_lr2_el2;
    "s3_4_c12_c12_3": read_ich_lr3_el2 / write_ich_lr3_el2;
    // ICH_VMCR_EL2.
    "s3_4_c12_c11_7": read_ich_vmcr_el2 / write_ich_vmcr_el2;
}

/// Both EL1 timers off.
pub(crate) fn silence_timers() {
    // SAFETY: the guest's timers, whose state is its own.
    unsafe {
        core::arch::asm!(
            "msr cntv_ctl_el0, xzr",
            "msr cntp_ctl_el0, xzr",
            options(nostack, preserves_flags)
        );
    }
}

/// `DSB` and `ISB` by name.
#[inline(always)]
pub(crate) fn isb() {
    aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
}
