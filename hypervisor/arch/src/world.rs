//! The world switch: everything of a lane that stays in the CPU while it runs.
//!
//! A lane is loaded when its CPU turns to it and saved when the CPU turns away; between two of its exits nothing here
//! is touched. EL2 is compiled without FP and SIMD; their registers appear in `load_fp` and `save_fp`, and in the copies of
//! `reach`, which put back what they find.

use core::arch::asm;
use core::mem::offset_of;

use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTVOFF_EL2, CPTR_EL2, HCR_EL2, MDCR_EL2, MIDR_EL1, VMPIDR_EL2, VTCR_EL2,
    VTTBR_EL2,
};
use tock_registers::fields::FieldValue;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::register_bitfields;
use vcpu::context::{El1State, FpState, Source};
use vcpu::inject::VirtualSError;
use vcpu::lane::Vcpu;

use crate::{debug, optional, registers};

/// Two at a time, as they lie in [`El1State`], so that two are loaded and stored at once.
macro_rules! el1_registers {
    ($($first:ident: $one:literal, $second:ident: $other:literal;)*) => {
        /// Writes a lane's EL1 and EL0 registers into the CPU. They count from the exception return on.
        fn load_el1(state: &El1State) {
            $(
                // SAFETY: an EL1 or EL0 register has no effect at EL2 (HCR_EL2.E2H = 0). The second first: a timer's
                // time is set before the timer is switched on.
                unsafe {
                    asm!(
                        concat!("msr ", $other, ", {}"), concat!("msr ", $one, ", {}"),
                        in(reg) state.$second, in(reg) state.$first,
                        options(nostack, preserves_flags)
                    );
                }
            )*
        }

        /// Reads them back.
        fn save_el1(state: &mut El1State) {
            let to = core::ptr::from_mut(state);
            $(
                // SAFETY: reads registers, into two neighbours of the state.
                unsafe {
                    asm!(
                        concat!("mrs {one}, ", $one), concat!("mrs {other}, ", $other),
                        "stp {one}, {other}, [{to}, #{at}]",
                        one = out(reg) _, other = out(reg) _,
                        to = in(reg) to, at = const offset_of!(El1State, $first),
                        options(nostack, preserves_flags)
                    );
                }
                const _: () = assert!(
                    offset_of!(El1State, $second) == offset_of!(El1State, $first) + 8
                );
            )*
        }
    };
}

el1_registers! {
    sp_el0: "sp_el0", sp_el1: "sp_el1";
    elr_el1: "elr_el1", spsr_el1: "spsr_el1";
    esr_el1: "esr_el1", far_el1: "far_el1";
    afsr0_el1: "afsr0_el1", afsr1_el1: "afsr1_el1";
    vbar_el1: "vbar_el1", sctlr_el1: "sctlr_el1";
    cpacr_el1: "cpacr_el1", ttbr0_el1: "ttbr0_el1";
    ttbr1_el1: "ttbr1_el1", tcr_el1: "tcr_el1";
    mair_el1: "mair_el1", amair_el1: "amair_el1";
    contextidr_el1: "contextidr_el1", tpidr_el0: "tpidr_el0";
    tpidrro_el0: "tpidrro_el0", tpidr_el1: "tpidr_el1";
    par_el1: "par_el1", csselr_el1: "csselr_el1";
    mdscr_el1: "mdscr_el1", cntkctl_el1: "cntkctl_el1";
    cntv_ctl_el0: "cntv_ctl_el0", cntv_cval_el0: "cntv_cval_el0";
    cntp_ctl_el0: "cntp_ctl_el0", cntp_cval_el0: "cntp_cval_el0";
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
fn load_fp(state: &FpState) {
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
fn save_fp(state: &mut FpState) {
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

register_bitfields! {u64,
    /// CPTR_EL2 while HCR_EL2.E2H is 0 (Arm ARM D19.2.30), of which `aarch64-cpu` names TAM only.
    CPTR [
        /// Traps the activity monitors.
        TAM OFFSET(30) NUMBITS(1) [],
        /// Traps trace registers.
        TTA OFFSET(20) NUMBITS(1) [],
        /// Traps SME; RES1 without it.
        TSM OFFSET(12) NUMBITS(1) [],
        /// Traps FP and SIMD.
        TFP OFFSET(10) NUMBITS(1) [],
        /// Traps SVE; RES1 without it.
        TZ OFFSET(8) NUMBITS(1) [],
        /// RES1: bits 13, 9 and 7:0.
        RES1_13 OFFSET(13) NUMBITS(1) [],
        RES1_9 OFFSET(9) NUMBITS(1) [],
        RES1_LOW OFFSET(0) NUMBITS(8) []
    ]
}

/// HCR_EL2 while a guest runs (Arm ARM D19.2.49): stage 2 on (VM), no table walks in device memory (PTW), set/way
/// invalidation also cleans (SWIO), so that it can destroy nothing; physical interrupts and SErrors to EL2 and virtual
/// ones to EL1 (IMO, FMO, AMO), AArch64 EL1 (RW); traps for ID registers (TID1, TID3, TID5), SMC, implementation
/// defined registers (TIDCP, TACR), LORegions, RAS error records. TWI and TWE are for lanes that share their CPU: one
/// that has it alone waits on it. APK and API stay 0: pointer authentication is hidden and its use is UNDEF.
fn guest_hcr() -> FieldValue<u64, HCR_EL2::Register> {
    idle_hcr()
        + HCR_EL2::VM::SET
        + HCR_EL2::PTW::SET
        + HCR_EL2::SWIO::SET
        + HCR_EL2::TID1::SET
        + HCR_EL2::TID3::SET
        + HCR_EL2::TID5::SET
        + HCR_EL2::TSC::SET
        + HCR_EL2::TIDCP::SET
        + HCR_EL2::TACR::SET
        + HCR_EL2::TLOR::SET
        + HCR_EL2::TERR::SET
}

/// HCR_EL2 while no guest is on the CPU: only interrupts come to EL2.
fn idle_hcr() -> FieldValue<u64, HCR_EL2::Register> {
    HCR_EL2::RW::EL1IsAarch64 + HCR_EL2::IMO::SET + HCR_EL2::FMO::SET + HCR_EL2::AMO::SET
}

/// Everything of a guest's that has no state here traps; FP and SIMD do not.
fn guest_cptr() -> FieldValue<u64, CPTR::Register> {
    CPTR::TAM::SET
        + CPTR::TTA::SET
        + CPTR::TSM::SET
        + CPTR::TFP::CLEAR
        + CPTR::TZ::SET
        + CPTR::RES1_13::SET
        + CPTR::RES1_9::SET
        + CPTR::RES1_LOW.val(0xFF)
}

/// Debug ROM, OS lock, debug registers, PMU, profiling and trace filter trap; HPMN keeps its reset value.
fn guest_mdcr() -> FieldValue<u64, MDCR_EL2::Register> {
    MDCR_EL2::TPMCR::SET
        + MDCR_EL2::TPM::SET
        + MDCR_EL2::TDA::SET
        + MDCR_EL2::TDOSA::SET
        + MDCR_EL2::TDRA::SET
        + MDCR_EL2::TPMS::SET
        + MDCR_EL2::TTRF::SET
        + MDCR_EL2::HPMN.val(MDCR_EL2.read(MDCR_EL2::HPMN))
}

/// Sets what is the same for every lane on this CPU: traps, and the CPU's identity.
pub fn configure() {
    HCR_EL2.write(idle_hcr());
    debug::clear();
    CPTR_EL2.set(guest_cptr().value);
    MDCR_EL2.write(guest_mdcr());
    registers::write_hstr_el2(0);
    optional::trap();
    // The guest reads the physical counter and owns the physical timer.
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCTEN::SET + CNTHCTL_EL2::EL1PCEN::SET);
    registers::write_vpidr_el2(MIDR_EL1.get());
    registers::isb();
}

/// Where a lane runs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its machine's tables.
    stage2: Stage2Registers,
    /// CNTVOFF_EL2: its machine's clock.
    counter_offset: u64,
    /// HCR_EL2.
    hcr: u64,
    /// Whether there is something to clear that no guest knows of.
    clears: bool,
}

impl Place {
    /// With these tables and this clock. WFI and WFE do not trap on a CPU that is the lane's own.
    #[must_use]
    pub fn new(stage2: Stage2Registers, counter_offset: u64, dedicated: bool) -> Self {
        let mut hcr = guest_hcr();
        if !dedicated {
            hcr = hcr + HCR_EL2::TWI::SET + HCR_EL2::TWE::SET;
        }
        Self {
            stage2,
            counter_offset,
            hcr: hcr.value,
            clears: optional::has_untrapped(),
        }
    }
}

/// Puts a lane's world into this CPU; nobody's is in it. The virtual GIC is the caller's.
pub fn load(lane: &Vcpu<'_>, place: &Place) {
    if place.clears {
        optional::clear();
    }
    let mut hcr = place.hcr;
    if let Some(vsesr) = lane.serror {
        hcr |= HCR_EL2::VSE::SET.value;
        set_vsesr(vsesr);
    }
    HCR_EL2.set(hcr);
    CNTVOFF_EL2.set(place.counter_offset);
    // Bit 31 is RES1; U = 0: part of a multiprocessor.
    VMPIDR_EL2.set((1 << 31) | lane.index() as u64);
    // The tables were written long before, but the write that publishes them may not pass them.
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::ISHST);
    VTCR_EL2.set(place.stage2.vtcr);
    VTTBR_EL2.set(place.stage2.vttbr);
    load_el1(&lane.el1);
    load_fp(&lane.fp);
    debug::load(&lane.sysregs.debug);
}

/// Takes a lane's world out of this CPU. Its timers are silent afterwards; stage 2 and the traps stay until the next
/// [`load`] or [`retire`].
pub fn save(lane: &mut Vcpu<'_>) {
    save_el1(&mut lane.el1);
    save_fp(&mut lane.fp);
    debug::unload(&lane.sysregs.debug);
    lane.serror = None;
    if HCR_EL2.is_set(HCR_EL2::VSE) {
        lane.serror = Some(vsesr());
    }
    registers::silence_timers();
}

/// Forgets what this CPU cached under the VMID in use for another lane of the same machine: a guest may keep different
/// translations of its own on each of its CPUs, and expects of none to see another's (Arm ARM D8.14.5).
///
/// All instructions too, and it cannot be less. A lane whose stage 1 is off may fetch from the point of coherency and leave
/// in the cache what another one, whose stage 1 is on and who expects the point of unification, must not see. Whether it
/// was off for a while nobody can tell: SCTLR_EL1 does not trap.
pub fn forget_sibling() {
    // SAFETY: drops cached translations and instructions, which are fetched again.
    unsafe {
        asm!(
            // VTTBR_EL2 has just been written.
            "isb",
            "tlbi vmalle1",
            "ic iallu",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Ends a machine's hold on this CPU: stage 2 off, no virtual interrupt, its timers silent.
pub fn retire() {
    load_el1(&El1State::reset());
    load_fp(&FpState::reset());
    debug::clear();
    registers::write_ich_hcr_el2(0);
    HCR_EL2.write(idle_hcr());
    registers::isb();
}

/// Sets what the hardware sees of a guest's MDSCR_EL1.
pub fn set_mdscr(value: u64) {
    registers::write_mdscr_el1(value);
}

/// VSESR_EL2, from which a guest's ESR_EL1 comes at a virtual SError, where there is ID_AA64PFR0_EL1.RAS.
fn set_vsesr(value: u64) {
    if optional::has_ras() {
        registers::write_vsesr_el2(value);
    }
}

fn vsesr() -> u64 {
    if optional::has_ras() {
        registers::read_vsesr_el2()
    } else {
        0
    }
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

/// The IPA behind an address of the guest on this CPU, by its own stage 1 (AT S1E1R or S1E0R). `None` when it does not
/// translate, or not any more. The guest may change its tables and its code meanwhile, so what is found there is an
/// allegation.
#[must_use]
#[inline(never)]
pub fn guest_address(va: u64, user: bool) -> Option<u64> {
    const PAGE: u64 = 0x000F_FFFF_FFFF_F000;
    let result: u64;
    // SAFETY: AT only translates; PAR_EL1 is the guest's and is put back.
    unsafe {
        asm!(
            "mrs {saved}, par_el1",
            "cbnz {user}, 2f",
            "at s1e1r, {va}",
            "b 3f",
            "2: at s1e0r, {va}",
            "3: isb",
            "mrs {result}, par_el1",
            "msr par_el1, {saved}",
            saved = out(reg) _,
            user = in(reg) u64::from(user),
            va = in(reg) va,
            result = out(reg) result,
            options(nostack, preserves_flags),
        );
    }
    // PAR_EL1.F: the translation failed.
    (result & 1 == 0).then_some(result & PAGE | va & 0xFFF)
}

/// VBAR_EL1 of the lane on this CPU, and ESR_EL1, ELR_EL1 and FAR_EL1: what its last exception left there.
#[must_use]
pub fn last_exception() -> [u64; 4] {
    let [vbar, esr, elr, far]: [u64; 4];
    // SAFETY: reads registers.
    unsafe {
        asm!(
            "mrs {vbar}, vbar_el1",
            "mrs {esr}, esr_el1",
            "mrs {elr}, elr_el1",
            "mrs {far}, far_el1",
            vbar = out(reg) vbar,
            esr = out(reg) esr,
            elr = out(reg) elr,
            far = out(reg) far,
            options(nomem, nostack, preserves_flags),
        );
    }
    [vbar, esr, elr, far]
}

/// Marks a virtual SError pending for the lane on this CPU.
pub fn pend_virtual_serror(error: VirtualSError) {
    set_vsesr(error.vsesr);
    HCR_EL2.modify(HCR_EL2::VSE::SET);
}
