//! The world switch: everything of a lane that stays in the CPU while it runs.
//!
//! A pinned lane is loaded when it starts and saved when it goes off; between two of its exits
//! nothing here is touched. FP and SIMD registers appear in `load_fp`, `save_fp` and nowhere else in
//! EL2, which is compiled without them.

use core::arch::asm;

use vcpu::context::{El1State, FpState, Source};
use vcpu::inject::VirtualSError;

use crate::hardware::id_register;
use crate::registers;

macro_rules! el1_registers {
    ($($field:ident: $name:literal;)*) => {
        /// Writes a lane's EL1 and EL0 registers into the CPU.
        pub fn load_el1(state: &El1State) {
            $(
                // SAFETY: an EL1 or EL0 register has no effect at EL2 (HCR_EL2.E2H = 0).
                unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) state.$field, options(nostack, preserves_flags)) };
            )*
            registers::isb();
        }

        /// Reads them back.
        pub fn save_el1(state: &mut El1State) {
            $(
                // SAFETY: reads a register.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) state.$field, options(nostack, preserves_flags)) };
            )*
        }
    };
}

el1_registers! {
    sp_el0: "sp_el0";
    sp_el1: "sp_el1";
    elr_el1: "elr_el1";
    spsr_el1: "spsr_el1";
    esr_el1: "esr_el1";
    far_el1: "far_el1";
    afsr0_el1: "afsr0_el1";
    afsr1_el1: "afsr1_el1";
    vbar_el1: "vbar_el1";
    sctlr_el1: "sctlr_el1";
    cpacr_el1: "cpacr_el1";
    ttbr0_el1: "ttbr0_el1";
    ttbr1_el1: "ttbr1_el1";
    tcr_el1: "tcr_el1";
    mair_el1: "mair_el1";
    amair_el1: "amair_el1";
    contextidr_el1: "contextidr_el1";
    tpidr_el0: "tpidr_el0";
    tpidrro_el0: "tpidrro_el0";
    tpidr_el1: "tpidr_el1";
    par_el1: "par_el1";
    csselr_el1: "csselr_el1";
    mdscr_el1: "mdscr_el1";
    cntkctl_el1: "cntkctl_el1";
    cntv_cval_el0: "cntv_cval_el0";
    cntv_ctl_el0: "cntv_ctl_el0";
    cntp_cval_el0: "cntp_cval_el0";
    cntp_ctl_el0: "cntp_ctl_el0";
}

/// Every pair of vector registers, by its first number and its byte offset in [`FpState::v`].
macro_rules! vector_pairs {
    ($op:literal) => {
        concat!(
            $op,
            " q0, q1, [{v}, #0]\n",
            $op,
            " q2, q3, [{v}, #32]\n",
            $op,
            " q4, q5, [{v}, #64]\n",
            $op,
            " q6, q7, [{v}, #96]\n",
            $op,
            " q8, q9, [{v}, #128]\n",
            $op,
            " q10, q11, [{v}, #160]\n",
            $op,
            " q12, q13, [{v}, #192]\n",
            $op,
            " q14, q15, [{v}, #224]\n",
            $op,
            " q16, q17, [{v}, #256]\n",
            $op,
            " q18, q19, [{v}, #288]\n",
            $op,
            " q20, q21, [{v}, #320]\n",
            $op,
            " q22, q23, [{v}, #352]\n",
            $op,
            " q24, q25, [{v}, #384]\n",
            $op,
            " q26, q27, [{v}, #416]\n",
            $op,
            " q28, q29, [{v}, #448]\n",
            $op,
            " q30, q31, [{v}, #480]\n",
        )
    };
}

/// Puts a lane's FP and SIMD registers into the CPU.
pub fn load_fp(state: &FpState) {
    // SAFETY: EL2 is compiled without FP and SIMD, so the registers are a guest's alone; CPTR_EL2 does
    // not trap them at EL2 (`configure`). The pointer covers 32 registers of 16 bytes.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            vector_pairs!("ldp"),
            "msr fpcr, {fpcr}", "msr fpsr, {fpsr}",
            ".arch_extension nosimd", ".arch_extension nofp",
            v = in(reg) state.v.as_ptr(), fpcr = in(reg) state.fpcr, fpsr = in(reg) state.fpsr,
            options(nostack, preserves_flags),
        );
    }
}

/// Takes them out again.
pub fn save_fp(state: &mut FpState) {
    // SAFETY: as in `load_fp`; the pointer is to 32 registers of 16 bytes that may be written.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            vector_pairs!("stp"),
            "mrs {fpcr}, fpcr", "mrs {fpsr}, fpsr",
            ".arch_extension nosimd", ".arch_extension nofp",
            v = in(reg) state.v.as_mut_ptr(), fpcr = out(reg) state.fpcr, fpsr = out(reg) state.fpsr,
            options(nostack, preserves_flags),
        );
    }
}

/// What makes a machine's lane this machine's: its tables, its identity, its clock.
#[derive(Clone, Copy, Debug)]
pub struct Stage2Registers {
    /// VTTBR_EL2: VMID and root table.
    pub vttbr: u64,
    /// VTCR_EL2.
    pub vtcr: u64,
}

/// HCR_EL2 while a guest runs (Arm ARM D19.2.49): stage 2 on (VM), no table walks in device memory (PTW), set/way
/// invalidation also cleans (SWIO), so that it can destroy nothing, physical interrupts and SErrors to EL2 and virtual ones to EL1 (IMO, FMO, AMO), AArch64 EL1
/// (RW); traps for ID registers (TID1, TID3, TID5), SMC, implementation defined registers (TIDCP, TACR),
/// set/way maintenance (TSW), LORegions, RAS error records. TWI and TWE stay 0: a pinned lane waits on its
/// own CPU. APK and API stay 0: pointer authentication is hidden and its use is UNDEF.
pub const GUEST_HCR: u64 =
    VM | SWIO | PTW | FMO | IMO | AMO | TID1 | TID3 | TSC | TIDCP | TACR | RW | TLOR | TERR | TID5;
const VM: u64 = 1 << 0;
const SWIO: u64 = 1 << 1;
const PTW: u64 = 1 << 2;
const FMO: u64 = 1 << 3;
const IMO: u64 = 1 << 4;
const AMO: u64 = 1 << 5;
const TID1: u64 = 1 << 16;
const TID3: u64 = 1 << 18;
const TSC: u64 = 1 << 19;
const TIDCP: u64 = 1 << 20;
const TACR: u64 = 1 << 21;
const RW: u64 = 1 << 31;
const TLOR: u64 = 1 << 35;
const TERR: u64 = 1 << 36;
const TID5: u64 = 1 << 58;
/// HCR_EL2.VSE: a virtual SError is pending.
pub const VSE: u64 = 1 << 8;

/// CPTR_EL2 with HCR_EL2.E2H = 0: RES1 bits, trap SVE (TZ), SME (TSM), AMU (TAM) and trace (TTA), not FP.
const GUEST_CPTR: u64 = 0x32FF | (1 << 8) | (1 << 12) | (1 << 20) | (1 << 30);
/// MDCR_EL2: trap debug ROM, OS lock, debug registers, PMU, trace buffer and filter; HPMN stays.
const GUEST_MDCR: u64 =
    (1 << 5) | (1 << 6) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 14) | (1 << 19);
/// CNTHCTL_EL2 with E2H = 0: the guest reads the physical counter and owns the physical timer.
const GUEST_CNTHCTL: u64 = 0b11;

/// Sets the traps and the identity under which a lane of a machine runs on this CPU.
pub fn configure(stage2: Stage2Registers, lane_affinity: u64, counter_offset: u64) {
    registers::write_hcr_el2(GUEST_HCR);
    registers::write_cptr_el2(GUEST_CPTR);
    registers::write_mdcr_el2(GUEST_MDCR | (registers::read_mdcr_el2() & 0x1F));
    registers::write_hstr_el2(0);
    clear_optional_traps();
    registers::write_cnthctl_el2(GUEST_CNTHCTL);
    registers::write_cntvoff_el2(counter_offset);
    registers::write_vpidr_el2(registers::read_midr_el1());
    // Bit 31 is RES1; U = 0: part of a multiprocessor.
    registers::write_vmpidr_el2((1 << 31) | lane_affinity);
    // The tables were written long before, but the write that publishes them may not pass them.
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
    registers::write_vtcr_el2(stage2.vtcr);
    registers::write_vttbr_el2(stage2.vttbr);
    registers::isb();
}

/// The field of an ID register from this bit up, 4 bits wide.
fn feature(crm: u8, op2: u8, bit: u32) -> u64 {
    (id_register(crm, op2) >> bit) & 0xF
}

/// Puts what only newer CPUs have to zero, whatever firmware left there: no optional instruction enabled behind
/// the back of the ID registers, no trap that our table does not know. And the OS lock off: it would keep a guest's
/// software step from ever firing.
fn clear_optional_traps() {
    // ID_AA64MMFR1_EL1.HCX
    if feature(7, 1, 40) != 0 {
        registers::write_hcrx_el2(0);
    }
    // ID_AA64MMFR0_EL1.FGT
    if feature(7, 0, 56) != 0 {
        registers::write_hfgrtr_el2(0);
        registers::write_hfgwtr_el2(0);
        registers::write_hfgitr_el2(0);
        registers::write_hdfgrtr_el2(0);
        registers::write_hdfgwtr_el2(0);
    }
    registers::write_oslar_el1(0);
}

/// Ends a machine's hold on this CPU: stage 2 off, no virtual interrupt, its timers silent.
pub fn retire() {
    let silent = El1State::RESET;
    load_el1(&silent);
    load_fp(&FpState::RESET);
    registers::write_ich_hcr_el2(0);
    registers::write_hcr_el2(RW | FMO | IMO | AMO);
    registers::isb();
}

/// Sets what the hardware sees of a guest's MDSCR_EL1.
pub fn set_mdscr(value: u64) {
    registers::write_mdscr_el1(value);
}

/// The stack pointer that a guest in this mode uses.
#[must_use]
pub fn stack_pointer(source: Source) -> u64 {
    let value: u64;
    match source {
        // SAFETY: reads a register.
        Source::El1h => unsafe {
            asm!("mrs {}, sp_el1", out(reg) value, options(nomem, nostack, preserves_flags))
        },
        // SAFETY: reads a register.
        Source::El1t | Source::El0A64 | Source::El0A32 => unsafe {
            asm!("mrs {}, sp_el0", out(reg) value, options(nomem, nostack, preserves_flags));
        },
    }
    value
}

/// Moves it.
pub fn set_stack_pointer(source: Source, value: u64) {
    match source {
        // SAFETY: EL2 runs on SP_EL2 (SPSel = 1); SP_EL1 is the guest's.
        Source::El1h => unsafe {
            asm!("msr sp_el1, {}", in(reg) value, options(nomem, nostack, preserves_flags))
        },
        // SAFETY: as above, for SP_EL0.
        Source::El1t | Source::El0A64 | Source::El0A32 => unsafe {
            asm!("msr sp_el0, {}", in(reg) value, options(nomem, nostack, preserves_flags));
        },
    }
}

/// The IPA behind an address that a guest has just executed at, by its own stage 1 (AT S1E1R or S1E0R). `None` when it
/// does not translate any more. The guest may change its tables and its code meanwhile, so what is found there is an
/// allegation.
#[must_use]
pub fn fetch_address(pc: u64, user: bool) -> Option<u64> {
    const PAGE: u64 = 0x000F_FFFF_FFFF_F000;
    let result: u64;
    // SAFETY: AT only translates; PAR_EL1 is the guest's and is put back.
    unsafe {
        asm!(
            "mrs {saved}, par_el1",
            "cbnz {user}, 2f",
            "at s1e1r, {pc}",
            "b 3f",
            "2: at s1e0r, {pc}",
            "3: isb",
            "mrs {result}, par_el1",
            "msr par_el1, {saved}",
            saved = out(reg) _,
            user = in(reg) u64::from(user),
            pc = in(reg) pc,
            result = out(reg) result,
            options(nostack, preserves_flags),
        );
    }
    // PAR_EL1.F: the translation failed.
    (result & 1 == 0).then_some(result & PAGE | pc & 0xFFF)
}

/// Marks a virtual SError pending for the lane on this CPU.
pub fn pend_virtual_serror(error: VirtualSError) {
    // ID_AA64PFR0_EL1.RAS: only then does the guest's ESR_EL1 come from VSESR_EL2.
    if feature(4, 0, 28) != 0 {
        registers::write_vsesr_el2(error.vsesr);
    }
    registers::write_hcr_el2(registers::read_hcr_el2() | VSE);
}
