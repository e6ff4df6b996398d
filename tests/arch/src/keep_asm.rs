//! The registers of a lane, written and read in one sweep each, and the ways to give a CPU away in between.
//!
//! While a way runs, no register holds anything of this runtime's: not even `TPIDR_EL1`, the vector base or the stack
//! pointer are what they were. A lane finds its [`crate::keep::Kept`] by `MPIDR_EL1`.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::keep::{Frame, KEPT, Kept};

/// Calls a macro with every register: its name, what an assembler calls it, the bits that may be set without harm, and
/// those that are always set.
macro_rules! kept_registers {
    ($then:ident) => {
        $then! {
            plain [
            SP_EL0 "sp_el0" u64::MAX, 0;
            TPIDR_EL0 "tpidr_el0" u64::MAX, 0;
            TPIDRRO_EL0 "tpidrro_el0" u64::MAX, 0;
            TPIDR_EL1 "tpidr_el1" u64::MAX, 0;
            CONTEXTIDR_EL1 "contextidr_el1" 0xffff_ffff, 0;
            TTBR0_EL1 "ttbr0_el1" 0xffff_ffff_ffff_fffe, 0;
            TTBR1_EL1 "ttbr1_el1" 0xffff_ffff_ffff_fffe, 0;
            MAIR_EL1 "mair_el1" u64::MAX, 0;
            AMAIR_EL1 "amair_el1" u64::MAX, 0;
            TCR_EL1 "tcr_el1" 0x77_ffff_ffbf, 0;
            // What concerns EL0 only: E0E, UCI, nTWE, nTWI, UCT, DZE, UMA.
            SCTLR_EL1 "sctlr_el1" 0x0505_c200, 0x30d0_0800;
            // FP and SIMD stay open.
            CPACR_EL1 "cpacr_el1" 0x1003_0000, 0x0030_0000;
            AFSR0_EL1 "afsr0_el1" 0xffff_ffff, 0;
            AFSR1_EL1 "afsr1_el1" 0xffff_ffff, 0;
            ESR_EL1 "esr_el1" 0xffff_ffff, 0;
            FAR_EL1 "far_el1" u64::MAX, 0;
            ELR_EL1 "elr_el1" u64::MAX, 0;
            SPSR_EL1 "spsr_el1" 0xf000_03cf, 0;
            // Four tables, one behind the other; where they are is put in when the guest runs.
            VBAR_EL1 "vbar_el1" 0x1800, 0;
            PAR_EL1 "par_el1" u64::MAX, 0;
            CSSELR_EL1 "csselr_el1" 0xf, 0;
            CNTKCTL_EL1 "cntkctl_el1" 0x3ff, 0;
            CNTV_CVAL_EL0 "cntv_cval_el0" u64::MAX, 0;
            CNTV_CTL_EL0 "cntv_ctl_el0" 2, 0;
            CNTP_CVAL_EL0 "cntp_cval_el0" u64::MAX, 0;
            CNTP_CTL_EL0 "cntp_ctl_el0" 2, 0;
            MDSCR_EL1 "mdscr_el1" 0xffff_ffff, 0;
            // The first or third breakpoint and watchpoint are armed; the second ones are off, and only kept.
            DBGBVR1_EL1 "s2_0_c0_c1_4" 0xffff_ffff_ffff_fffc, 0;
            DBGBCR1_EL1 "s2_0_c0_c1_5" 0xffff_fffe, 0;
            DBGWVR1_EL1 "s2_0_c0_c1_6" 0xffff_ffff_ffff_fffc, 0;
            DBGWCR1_EL1 "s2_0_c0_c1_7" 0xffff_fffe, 0;
            // Above the priority of what is to wake the lane, which is 0x10.
            ICC_PMR_EL1 "s3_0_c4_c6_0" 0xd8, 0x20;
            ICC_BPR0_EL1 "s3_0_c12_c8_3" 5, 2;
            ICC_BPR1_EL1 "s3_0_c12_c12_3" 4, 3;
            ICC_CTLR_EL1 "s3_0_c12_c12_4" 2, 0;
            ICC_IGRPEN0_EL1 "s3_0_c12_c12_6" 1, 0;
            ICC_IGRPEN1_EL1 "s3_0_c12_c12_7" 1, 0;
            FPCR "s3_3_c4_c4_0" 0x07c8_0000, 0;
            FPSR "s3_3_c4_c4_1" 0x0800_009f, 0;
            NZCV "nzcv" 0xf000_0000, 0;
            DAIF "daif" 0x140, 0x280;
            ]
            // Of features that not every CPU has; the bit says which of `Kept::has`.
            optional [
            PAN "s3_0_c4_c2_3" 1 << 22, 0, "#0";
            UAO "s3_0_c4_c2_4" 1 << 23, 0, "#1";
            DIT "s3_3_c4_c2_5" 1 << 24, 0, "#2";
            SSBS "s3_3_c4_c2_6" 1 << 12, 0, "#3";
            TCO "s3_3_c4_c2_7" 1 << 25, 0, "#4";
            ]
            // These are what the hypervisor and the lane's own interrupts make of them.
            fixed [
            MPIDR_EL1 "mpidr_el1";
            MIDR_EL1 "midr_el1";
            CNTFRQ_EL0 "cntfrq_el0";
            OSLSR_EL1 "s2_0_c1_c1_4";
            ICC_RPR_EL1 "s3_0_c12_c11_3";
            ICC_AP1R0_EL1 "s3_0_c12_c9_0";
            ]
        }
    };
}

pub(crate) use kept_registers;

/// Every pair of vector registers.
macro_rules! vectors {
    ($op:literal) => {
        vectors!(@ $op, "0" "1" "0", "2" "3" "32", "4" "5" "64", "6" "7" "96", "8" "9" "128", "10" "11" "160",
            "12" "13" "192", "14" "15" "224", "16" "17" "256", "18" "19" "288", "20" "21" "320", "22" "23" "352",
            "24" "25" "384", "26" "27" "416", "28" "29" "448", "30" "31" "480")
    };
    (@ $op:literal, $($low:literal $high:literal $at:literal),*) => {
        concat!($($op, " q", $low, ", q", $high, ", [x1, #", $at, "]\n",)*)
    };
}

/// X2 to X29 in pairs, from or to the frame at x0.
macro_rules! pairs {
    ($op:literal) => {
        pairs!(@ $op, "2" "3" "16", "4" "5" "32", "6" "7" "48", "8" "9" "64", "10" "11" "80", "12" "13" "96",
            "14" "15" "112", "16" "17" "128", "18" "19" "144", "20" "21" "160", "22" "23" "176", "24" "25" "192",
            "26" "27" "208", "28" "29" "224")
    };
    (@ $op:literal, $($low:literal $high:literal $at:literal),*) => {
        concat!($($op, " x", $low, ", x", $high, ", [x0, #", $at, "]\n",)*)
    };
}

/// The two sweeps. x0 = frame; x1 to x3 are theirs. No flag is changed.
macro_rules! sweeps {
    (
        plain [ $($name:ident $register:literal $may:expr, $must:expr;)* ]
        optional [ $($oname:ident $oregister:literal $omay:expr, $omust:expr, $bit:literal;)* ]
        fixed [ $($fname:ident $fregister:literal;)* ]
    ) => {
        global_asm!(
            ".section .text.tests_keep, \"ax\"",
            ".arch_extension fp",
            ".arch_extension simd",
            "tests_keep_fill:",
            "and x3, x0, #0xfffffffffffff000",
            "ldr x3, [x3, #{has}]",
            "add x1, x0, #{v}",
            vectors!("ldp"),
            "add x1, x0, #{system}",
            $("ldr x2, [x1], #8", concat!("msr ", $register, ", x2"),)*
            $("ldr x2, [x1], #8", concat!("tbz x3, ", $bit, ", 2f"), concat!("msr ", $oregister, ", x2"), "2:",)*
            "isb",
            "ret",
            "tests_keep_spill:",
            "and x3, x0, #0xfffffffffffff000",
            "ldr x3, [x3, #{has}]",
            "add x1, x0, #{v}",
            vectors!("stp"),
            "add x1, x0, #{system}",
            $(concat!("mrs x2, ", $register), "str x2, [x1], #8",)*
            $("mov x2, xzr", concat!("tbz x3, ", $bit, ", 2f"), concat!("mrs x2, ", $oregister), "2: str x2, [x1], #8",)*
            $(concat!("mrs x2, ", $fregister), "str x2, [x1], #8",)*
            "ret",
            ".arch_extension nosimd",
            ".arch_extension nofp",
            has = const offset_of!(Kept, has),
            v = const offset_of!(Frame, v),
            system = const offset_of!(Frame, system),
        );
    };
}

kept_registers!(sweeps);

/// This lane's `Kept`, into x0; x1 is used, no flag is.
macro_rules! here {
    () => {
        "adrp x0, {kept}\nadd x0, x0, :lo12:{kept}\nmrs x1, mpidr_el1\nand x1, x1, #7\nadd x0, x0, x1, lsl #12\n"
    };
}

macro_rules! way {
    ($name:literal, $($line:literal),* $(,)?) => {
        global_asm!(
            ".section .text.tests_keep, \"ax\"",
            concat!(".global ", $name, "\n", $name, ":"),
            "sub sp, sp, #96",
            "stp x19, x20, [sp]",
            "stp x21, x22, [sp, #16]",
            "stp x23, x24, [sp, #32]",
            "stp x25, x26, [sp, #48]",
            "stp x27, x28, [sp, #64]",
            "stp x29, x30, [sp, #80]",
            here!(),
            "add x0, x0, #{environment}",
            "mov x1, sp",
            "str x1, [x0, #{sp}]",
            "bl tests_keep_spill",
            "add x0, x0, #({want} - {environment})",
            "bl tests_keep_fill",
            "ldr x1, [x0, #{sp}]",
            "mov sp, x1",
            pairs!("ldp"),
            "ldr x30, [x0, #240]",
            "ldp x0, x1, [x0]",
            $($line,)*
            "stp x0, x1, [sp, #-16]!",
            here!(),
            "add x0, x0, #{got}",
            pairs!("stp"),
            "str x30, [x0, #240]",
            "ldp x2, x3, [sp], #16",
            "stp x2, x3, [x0]",
            "mov x2, sp",
            "str x2, [x0, #{sp}]",
            "bl tests_keep_spill",
            // Nothing may come while half of what an interrupt needs is the test's.
            "msr daifset, #0xf",
            "msr cntv_ctl_el0, xzr",
            "msr cntp_ctl_el0, xzr",
            "sub x0, x0, #({got} - {environment})",
            "ldr x1, [x0, #{sp}]",
            "mov sp, x1",
            "bl tests_keep_fill",
            "ldp x19, x20, [sp]",
            "ldp x21, x22, [sp, #16]",
            "ldp x23, x24, [sp, #32]",
            "ldp x25, x26, [sp, #48]",
            "ldp x27, x28, [sp, #64]",
            "ldp x29, x30, [sp, #80]",
            "add sp, sp, #96",
            "ret",
            kept = sym KEPT,
            environment = const offset_of!(Kept, environment),
            want = const offset_of!(Kept, want),
            got = const offset_of!(Kept, got),
            sp = const offset_of!(Frame, sp),
        );
    };
}

way!("tests_keep_nothing", "nop");
way!("tests_keep_wfi", "wfi");
way!("tests_keep_wfe", "wfe");
way!("tests_keep_hvc", "hvc #0");
// Until the counter jumps by more than x2, which becomes 0 then, or is beyond x3.
way!(
    "tests_keep_spin",
    "mrs x0, cntvct_el0",
    "2: mrs x1, cntvct_el0",
    "sub x0, x1, x0",
    "sub x0, x2, x0",
    "tbnz x0, #63, 3f",
    "sub x0, x3, x1",
    "tbnz x0, #63, 4f",
    "mov x0, x1",
    "b 2b",
    "3: mov x2, xzr",
    "4:",
);
// SGIs as x0 says, again and again until the counter is beyond x3.
way!(
    "tests_keep_storm",
    "2: msr S3_0_C12_C11_5, x0",
    "isb",
    "mov x1, #64",
    "3: sub x1, x1, #1",
    "cbnz x1, 3b",
    "mrs x1, cntvct_el0",
    "sub x1, x3, x1",
    "tbz x1, #63, 2b",
);
// x4 times: the SGI of x0 (of x1 every other time), then wait for the sibling's: x2 = where it is counted, x3 = where a
// timer that gave up is counted. x5 = 0: by WFI; else by WFE.
way!(
    "tests_keep_ping",
    "mov x6, xzr",
    "2: msr S3_0_C12_C11_5, x0",
    "isb",
    "eor x0, x0, x1",
    "eor x1, x0, x1",
    "eor x0, x0, x1",
    "add x6, x6, #1",
    "3: msr daifset, #2",
    "ldr x7, [x3]",
    "cbnz x7, 6f",
    "ldr x7, [x2]",
    "sub x7, x7, x6",
    "tbz x7, #63, 5f",
    "cbnz x5, 4f",
    "wfi",
    "msr daifclr, #2",
    "isb",
    "b 3b",
    "4: msr daifclr, #2",
    "wfe",
    "b 3b",
    "5: msr daifclr, #2",
    "sub x7, x6, x4",
    "tbnz x7, #63, 2b",
    "b 7f",
    // How many came in time.
    "6: msr daifclr, #2",
    "sub x6, x6, #1",
    "7:",
);

global_asm!(
    ".section .text.tests_keep, \"ax\"",
    ".macro keep_table",
    ".rept 4",
    ".balign 128",
    "b tests_keep_fault",
    ".balign 128",
    "b tests_keep_interrupt",
    ".balign 128",
    "b tests_keep_interrupt",
    ".balign 128",
    "b tests_keep_fault",
    ".endr",
    ".endm",
    ".balign 8192",
    ".global tests_keep_vectors",
    "tests_keep_vectors:",
    "keep_table",
    ".balign 2048",
    "keep_table",
    ".balign 2048",
    "keep_table",
    ".balign 2048",
    "keep_table",
    // Nobody asked for it: the usual vectors say so, once they have the lane's record again.
    "tests_keep_fault:",
    "stp x0, x1, [sp, #-16]!",
    here!(),
    "ldr x1, [x0, #{record}]",
    "msr tpidr_el1, x1",
    "ldp x0, x1, [sp], #16",
    "b tests_vectors + 0x200",
    "tests_keep_interrupt:",
    "stp x0, x1, [sp, #-16]!",
    "stp x2, x3, [sp, #-16]!",
    here!(),
    "mrs x1, S3_0_C12_C12_0",
    "cmp x1, #1020",
    "b.hs 4f",
    "cmp x1, #16",
    "b.lo 2f",
    "msr cntv_ctl_el0, xzr",
    "msr cntp_ctl_el0, xzr",
    "isb",
    "ldr x2, [x0, #{timers}]",
    "add x2, x2, #1",
    "str x2, [x0, #{timers}]",
    "b 3f",
    "2: add x3, x0, #{sgis}",
    "ldr x2, [x3, x1, lsl #3]",
    "add x2, x2, #1",
    "str x2, [x3, x1, lsl #3]",
    "cmp x1, #{pings}",
    "b.lo 3f",
    "ldr x2, [x0, #{pongs}]",
    "add x2, x2, #1",
    "str x2, [x0, #{pongs}]",
    "3: msr S3_0_C12_C12_1, x1",
    "isb",
    "4: ldp x2, x3, [sp], #16",
    "ldp x0, x1, [sp], #16",
    "eret",
    // A lane's first instruction after CPU_ON. x0 = its `Kept`: what there is, is noted before anything else happens.
    ".global tests_keep_entry",
    "tests_keep_entry:",
    "add x0, x0, #{got}",
    "str x1, [x0, #8]",
    pairs!("stp"),
    "str x30, [x0, #240]",
    "str xzr, [x0]",
    "mov x1, sp",
    "str x1, [x0, #{sp}]",
    "mrs x4, cpacr_el1",
    "mov x1, #0x300000",
    "msr cpacr_el1, x1",
    "isb",
    "bl tests_keep_spill",
    "str x4, [x0, #{cpacr}]",
    "mrs x0, mpidr_el1",
    "and x0, x0, #7",
    "b tests_secondary_entry",
    kept = sym KEPT,
    record = const offset_of!(Kept, environment) + offset_of!(Frame, system) + 8 * crate::keep::TPIDR_EL1,
    timers = const offset_of!(Kept, timers),
    sgis = const offset_of!(Kept, sgis),
    pongs = const offset_of!(Kept, pongs),
    pings = const crate::keep::PING,
    got = const offset_of!(Kept, got),
    sp = const offset_of!(Frame, sp),
    cpacr = const offset_of!(Frame, system) + 8 * crate::keep::CPACR_EL1,
);
