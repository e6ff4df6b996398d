//! The first instructions of EL2: the arm64 `Image` header, self-relocation, and the secondary
//! CPUs' way in.
//!
//! The image may run at any 2 MiB aligned address with the MMU and data cache off and `x0` = FDT
//! (Linux' *Booting AArch64 Linux*); nothing here knows where it was linked.

use core::arch::global_asm;

use crate::cpu::CpuStart;
use crate::mmu::EL2_SCTLR;

global_asm!(
    r#"
    .pushsection .head, "ax"
    .global _start
_start:
    b       primary
    .long   0
    .quad   0                       // text_offset: none, any 2 MiB boundary will do
    .quad   __image_size            // must not be 0, or loaders place the image at a guessed offset
    .quad   0xA                     // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
    .popsection

    .pushsection .text.asm, "ax"
primary:
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    wrong_level
    mov     x19, x0
    adrp    x1, __boot_stack_top
    add     sp, x1, :lo12:__boot_stack_top

    adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
0:  stp     xzr, xzr, [x1]          // it begins at a page and has whole ones
    stp     xzr, xzr, [x1, #16]
    stp     xzr, xzr, [x1, #32]
    stp     xzr, xzr, [x1, #48]
    stp     xzr, xzr, [x1, #64]
    stp     xzr, xzr, [x1, #80]
    stp     xzr, xzr, [x1, #96]
    stp     xzr, xzr, [x1, #112]
    add     x1, x1, #128
    cmp     x1, x2
    b.lo    0b

    // R_AARCH64_RELATIVE: *(base + offset) = base + addend. The image is linked at 0.
    adr     x0, _start
    adrp    x1, __rela_start
    add     x1, x1, :lo12:__rela_start
    adrp    x2, __rela_end
    add     x2, x2, :lo12:__rela_end
1:  cmp     x1, x2
    b.hs    2f
    ldp     x3, x4, [x1], #16
    ldr     x5, [x1], #8
    cmp     w4, #1027
    b.ne    1b
    add     x5, x5, x0
    str     x5, [x0, x3]
    b       1b
2:
    // RELR: an even word is the address of one relocation, an odd one a bitmap of the 63 words behind the last.
    adrp    x1, __relr_start
    add     x1, x1, :lo12:__relr_start
    adrp    x2, __relr_end
    add     x2, x2, :lo12:__relr_end
5:  cmp     x1, x2
    b.hs    8f
    ldr     x3, [x1], #8
    tbnz    x3, #0, 6f
    add     x4, x0, x3
    ldr     x5, [x4]
    add     x5, x5, x0
    str     x5, [x4], #8
    b       5b
6:  mov     x6, x4
    add     x4, x4, #(63 * 8)
7:  lsr     x3, x3, #1
    cbz     x3, 5b
    tbz     x3, #0, 9f
    ldr     x5, [x6]
    add     x5, x5, x0
    str     x5, [x6]
9:  add     x6, x6, #8
    b       7b
8:
    // What was written with the caches off must not be hidden by stale lines once they are on
    // (Arm ARM B2.8, mismatched attributes): drop every line of the written range.
    adrp    x1, __rodata_start
    adrp    x2, __image_end
    mrs     x3, ctr_el0
    ubfx    x3, x3, #16, #4
    mov     x4, #4
    lsl     x3, x4, x3
3:  dc      ivac, x1                // whole pages, which have an even number of lines of 2 KiB at most
    add     x1, x1, x3
    dc      ivac, x1
    add     x1, x1, x3
    cmp     x1, x2
    b.lo    3b
    dsb     sy

    adrp    x1, __vectors
    add     x1, x1, :lo12:__vectors
    msr     vbar_el2, x1
    adrp    x1, {boot_local}
    add     x1, x1, :lo12:{boot_local}
    msr     tpidr_el2, x1
    adrp    x2, __boot_stack_bottom
    add     x2, x2, #0x2000
    str     x2, [x1]                // the emergency stack: the lowest 8 KiB of the boot stack
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    bl      {primary_main}

    // Not at EL2: nothing of ours can run. PSCI SYSTEM_OFF over SMC and HVC is all that is left.
wrong_level:
    mov     x0, #0x0008
    movk    x0, #0x8400, lsl #16
    smc     #0
    mov     x0, #0x0008
    movk    x0, #0x8400, lsl #16
    hvc     #0
4:  wfi
    b       4b

    // PSCI CPU_ON enters here at EL2, MMU off, x0 = &CpuStart (identity mapped).
    .global __secondary_start
__secondary_start:
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    wrong_level
    ldp     x1, x2, [x0, #{mair}]
    ldr     x3, [x0, #{ttbr0}]
    msr     mair_el2, x1
    msr     tcr_el2, x2
    msr     ttbr0_el2, x3
    mov     x4, #{hcr_boot}
    lsl     x4, x4, #31
    msr     hcr_el2, x4
    isb
    // Whoever was at EL2 before may have left translations of guests under VMIDs that are ours now.
    tlbi    alle1
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={sctlr}
    msr     sctlr_el2, x1
    isb
    adrp    x1, __vectors
    add     x1, x1, :lo12:__vectors
    msr     vbar_el2, x1
    ldr     x1, [x0, #{stack_top}]
    mov     sp, x1
    ldr     x1, [x0, #{local}]
    msr     tpidr_el2, x1
    isb
    mov     x29, xzr
    mov     x30, xzr
    bl      {secondary_main}
    b       wrong_level
    .popsection
    "#,
    boot_local = sym crate::cpu::BOOT_LOCAL,
    primary_main = sym crate::boot::primary_main,
    secondary_main = sym crate::boot::secondary_main,
    mair = const core::mem::offset_of!(CpuStart, mair),
    ttbr0 = const core::mem::offset_of!(CpuStart, ttbr0),
    stack_top = const core::mem::offset_of!(CpuStart, stack_top),
    local = const core::mem::offset_of!(CpuStart, local),
    sctlr = const EL2_SCTLR,
    hcr_boot = const 1,
);
