//! What only newer CPUs have and a guest is not told of: its traps, and the little of it that nothing traps.

use crate::hardware::id_register;
use crate::registers;

/// The field of an ID register from this bit up, 4 bits wide.
pub(crate) fn feature(crm: u8, op2: u8, bit: u32) -> u64 {
    (id_register(crm, op2) >> bit) & 0xF
}

/// ID_AA64PFR0_EL1.RAS.
pub(crate) fn has_ras() -> bool {
    feature(4, 0, 28) != 0
}

/// ID_AA64MMFR0_EL1.FGT: 1, or 2 with the second set of registers.
fn fine_grained_traps() -> u64 {
    feature(7, 0, 56)
}

/// Closes every optional feature, whatever firmware left open: no optional instruction enabled behind the back of the
/// ID registers, no trap that the table of system registers does not know. And the OS lock off: it would keep a
/// guest's debug exceptions from ever firing.
pub(crate) fn trap() {
    // Every bit of HCRX_EL2 that enables something is 0; of those that trap, TALLINT makes FEAT_NMI's mask read-only.
    const TALLINT: u64 = 1 << 6;
    // ID_AA64MMFR1_EL1.HCX, ID_AA64PFR1_EL1.NMI
    if feature(7, 1, 40) != 0 {
        let nmi = feature(4, 1, 36) != 0;
        registers::write_hcrx_el2(if nmi { TALLINT } else { 0 });
    }
    // Zero lets pass what was there before FEAT_FGT, and traps what came with or after it ("n" bits).
    if fine_grained_traps() != 0 {
        registers::write_hfgrtr_el2(0);
        registers::write_hfgwtr_el2(0);
        registers::write_hfgitr_el2(0);
        registers::write_hdfgrtr_el2(0);
        registers::write_hdfgwtr_el2(0);
    }
    if fine_grained_traps() >= 2 {
        registers::write_hfgrtr2_el2(0);
        registers::write_hfgwtr2_el2(0);
        registers::write_hfgitr2_el2(0);
        registers::write_hdfgrtr2_el2(0);
        registers::write_hdfgwtr2_el2(0);
    }
    // MPAM2_EL2.{TRAPMPAM0EL1, TRAPMPAM1EL1, TIDR}. ID_AA64PFR0_EL1.MPAM
    if feature(4, 0, 40) != 0 {
        registers::write_mpam2_el2(1 << 49 | 1 << 48 | 1 << 58);
    }
    registers::write_oslar_el1(0);
}

/// ID_AA64PFR1_EL1.SME
fn has_untrapped_sme() -> bool {
    feature(4, 1, 24) != 0 && fine_grained_traps() == 0
}

/// Whether [`clear`] has anything to do on this CPU.
pub(crate) fn has_untrapped() -> bool {
    has_ras() || has_untrapped_sme()
}

/// Zeroes what guests can reach of hidden features without a trap. It is cleared, not switched: no guest that believes
/// its ID registers has anything there, and what the one before wrote must not be read by the next.
#[cold]
#[inline(never)]
pub(crate) fn clear() {
    // DISR_EL1 is VDISR_EL2 while HCR_EL2.AMO is set (Arm ARM D19.2.42).
    if has_ras() {
        registers::write_vdisr_el2(0);
        registers::write_vsesr_el2(0);
    }
    // SMPRI_EL1 and TPIDR2_EL0 trap by FEAT_FGT, which every CPU with SME has. Emulators before QEMU 8 have the one
    // without the other. ID_AA64PFR1_EL1.SME
    if has_untrapped_sme() {
        registers::write_smpri_el1(0);
        registers::write_tpidr2_el0(0);
    }
}
