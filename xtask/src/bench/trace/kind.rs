//! What an instruction is of that which a count of instructions does not show: on silicon a system register, a barrier or a TLB
//! costs many times what an addition does.

/// The kinds that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MRS and MSR, of a register or of a field of PSTATE.
    Sysreg,
    /// ISB, DSB, DMB and their kin.
    Barrier,
    /// TLBI, and what else is done to or asked of translation, caches and predictors (SYS, SYSL).
    Tlb,
}

/// Arm ARM C4.1.95, "Branches, Exception Generating and System instructions": bits 31 to 22 of a system instruction, and of one on
/// a pair of registers (FEAT_D128, FEAT_SYSINSTR128); behind them L, op0, op1, CRn, CRm, op2, Rt.
const SYSTEM: u32 = 0b11_0101_0100;
const SYSTEM_PAIR: u32 = 0b11_0101_0101;

/// The kind of an A64 instruction word, if it is counted apart.
pub const fn of(word: u32) -> Option<Kind> {
    let [op0, op1, crn, crm, op2] = [
        word >> 19 & 3,
        word >> 16 & 7,
        word >> 12 & 15,
        word >> 8 & 15,
        word >> 5 & 7,
    ];
    let is_pair = match word >> 22 {
        SYSTEM => false,
        SYSTEM_PAIR => true,
        _ => return None,
    };
    match op0 {
        0 if is_pair => None,
        0 => without_register(op1, crn, crm, op2),
        // DC ZVA, GVA and GZVA are stores.
        1 if crn == 7 && op1 == 3 && crm == 4 => None,
        1 => Some(Kind::Tlb),
        _ => Some(Kind::Sysreg),
    }
}

const fn without_register(op1: u32, crn: u32, crm: u32, op2: u32) -> Option<Kind> {
    match (crn, op1) {
        // ESB, PSB, TSB, GCSB and CSDB among the hints.
        (2, 3) if crm == 2 && op2 <= 4 => Some(Kind::Barrier),
        // DSB nXS, DSB with SSBB and PSSBB, DMB, ISB, SB; not CLREX.
        (3, 3) if op2 == 1 || op2 >= 4 => Some(Kind::Barrier),
        // CFINV, XAFLAG and AXFLAG change flags.
        (4, 0) if op2 <= 2 => None,
        (4, _) => Some(Kind::Sysreg),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SYSREG: Option<Kind> = Some(Kind::Sysreg);
    const BARRIER: Option<Kind> = Some(Kind::Barrier);
    const TLB: Option<Kind> = Some(Kind::Tlb);

    /// Words as LLVM's assembler writes them; those of pairs are the Arm ARM's.
    const TABLE: [(&str, u32, Option<Kind>); 67] = [
        ("mrs x0, esr_el2", 0xd53c_5200, SYSREG),
        ("msr elr_el2, x0", 0xd51c_4020, SYSREG),
        ("mrs x1, nzcv", 0xd53b_4201, SYSREG),
        ("msr icc_sgi1r_el1, x1", 0xd518_cba1, SYSREG),
        ("mrs x0, s3_4_c15_c0_0", 0xd53c_f000, SYSREG),
        ("mrs x0, dbgbvr0_el1", 0xd530_0080, SYSREG),
        ("msr daifset, #2", 0xd503_42df, SYSREG),
        ("msr daifclr, #15", 0xd503_4fff, SYSREG),
        ("msr spsel, #1", 0xd500_41bf, SYSREG),
        ("msr pan, #1", 0xd500_419f, SYSREG),
        ("mrrs x0, x1, ttbr0_el1", 0xd578_2000, SYSREG),
        ("msrr ttbr0_el1, x0, x1", 0xd558_2000, SYSREG),
        ("isb", 0xd503_3fdf, BARRIER),
        ("dsb sy", 0xd503_3f9f, BARRIER),
        ("dsb ishst", 0xd503_3a9f, BARRIER),
        ("dsb nsh", 0xd503_379f, BARRIER),
        ("dsb oshnxs", 0xd503_323f, BARRIER),
        ("dmb ish", 0xd503_3bbf, BARRIER),
        ("dmb ishld", 0xd503_39bf, BARRIER),
        ("ssbb", 0xd503_309f, BARRIER),
        ("pssbb", 0xd503_349f, BARRIER),
        ("sb", 0xd503_30ff, BARRIER),
        ("esb", 0xd503_221f, BARRIER),
        ("psb csync", 0xd503_223f, BARRIER),
        ("tsb csync", 0xd503_225f, BARRIER),
        ("csdb", 0xd503_229f, BARRIER),
        ("tlbi vmalls12e1is", 0xd50c_83df, TLB),
        ("tlbi ipas2e1is, x0", 0xd50c_8020, TLB),
        ("tlbi alle2", 0xd50c_871f, TLB),
        ("tlbi vmalls12e1isnxs", 0xd50c_93df, TLB),
        ("tlbip vae1, x0, x1", 0xd548_8720, TLB),
        ("at s12e1r, x0", 0xd50c_7880, TLB),
        ("at s1e1r, x0", 0xd508_7800, TLB),
        ("at s1e1rp, x0", 0xd508_7900, TLB),
        ("ic iallu", 0xd508_751f, TLB),
        ("ic ivau, x0", 0xd50b_7520, TLB),
        ("dc civac, x0", 0xd50b_7e20, TLB),
        ("dc cvau, x0", 0xd50b_7b20, TLB),
        ("dc isw, x0", 0xd508_7640, TLB),
        ("cfp rctx, x0", 0xd50b_7380, TLB),
        ("sys #4, c11, c0, #1, x0", 0xd50c_b020, TLB),
        ("sysl x0, #4, c11, c0, #1", 0xd52c_b020, TLB),
        ("dc zva, x0", 0xd50b_7420, None),
        ("dc gva, x0", 0xd50b_7460, None),
        ("eret", 0xd69f_03e0, None),
        ("eretaa", 0xd69f_0bff, None),
        ("wfi", 0xd503_207f, None),
        ("wfe", 0xd503_205f, None),
        ("wfit x0", 0xd503_1020, None),
        ("wfet x0", 0xd503_1000, None),
        ("yield", 0xd503_203f, None),
        ("nop", 0xd503_201f, None),
        ("sev", 0xd503_209f, None),
        ("hint #112", 0xd503_2e1f, None),
        ("bti c", 0xd503_245f, None),
        ("clrex", 0xd503_3f5f, None),
        ("cfinv", 0xd500_401f, None),
        ("xaflag", 0xd500_403f, None),
        ("axflag", 0xd500_405f, None),
        ("hvc #0", 0xd400_0002, None),
        ("smc #0", 0xd400_0003, None),
        ("svc #0", 0xd400_0001, None),
        ("add x0, x1, x2", 0x8b02_0020, None),
        ("ldr x0, [x1]", 0xf940_0020, None),
        ("str x0, [sp, #-16]!", 0xf81f_0fe0, None),
        ("ret", 0xd65f_03c0, None),
        ("udf #0", 0, None),
    ];

    #[test]
    fn instructions_are_what_the_assembler_says() {
        for (text, word, kind) in TABLE {
            assert_eq!(of(word), kind, "{text}");
        }
    }

    proptest! {
        #[test]
        fn only_system_instructions_are_counted_apart(word: u32) {
            if word >> 23 != 0b1_1010_1010 {
                prop_assert_eq!(of(word), None);
            }
        }
    }
}
