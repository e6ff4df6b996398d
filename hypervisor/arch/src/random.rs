//! The CPU's own random numbers (FEAT_RNG).

use crate::optional;

/// A number from RNDR; `None` without FEAT_RNG, or when the CPU has none at the moment.
#[must_use]
pub fn number() -> Option<u64> {
    // ID_AA64ISAR0_EL1.RNDR
    if optional::feature(6, 0, 60) == 0 {
        return None;
    }
    let (value, good): (u64, u64);
    // SAFETY: reads a register; Z says that it failed (Arm ARM C5.2.24), and the flags are declared.
    unsafe {
        core::arch::asm!(
            "mrs {value}, s3_3_c2_c4_0",
            "cset {good}, ne",
            value = out(reg) value,
            good = out(reg) good,
            options(nomem, nostack)
        );
    }
    (good != 0).then_some(value)
}
