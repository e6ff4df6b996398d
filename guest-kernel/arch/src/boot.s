// From the first instruction to Rust.
//
// The header is the arm64 boot protocol's (Linux, Documentation/arch/arm64/booting.rst). The
// loader enters at the first byte with the MMU off, x0 = the device tree's address, at EL1.

.section .head, "ax"
.global gk_image_head
gk_image_head:
    b       gk_first_lane                   // code0
    .long   0                               // code1
    .quad   0                               // text_offset
    .quad   gk_image_end - gk_image_head    // image_size, with bss and stacks
    .quad   0xa                             // flags: little-endian, 4 KiB pages, anywhere
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// Whatever this CPU was left with is set, not trusted.
.macro known_state
    msr     daifset, #0xf
    mrs     x9, CurrentEL
    cmp     x9, #0x4                        // EL1?
    b.ne    gk_wrong_level
    msr     spsel, #1
    ldr     x9, =0x30d00800                 // SCTLR_EL1: RES1 bits, MMU and caches off
    msr     sctlr_el1, x9
    msr     cpacr_el1, xzr                  // FP and SIMD trap: this kernel has none
    msr     cntv_ctl_el0, xzr
    msr     cntkctl_el1, xzr
    msr     mdscr_el1, xzr
    adrp    x9, gk_vectors
    add     x9, x9, :lo12:gk_vectors
    msr     vbar_el1, x9
    isb
.endm

// Lane x19's stacks: SP_EL1 for exceptions, SP_EL0 for everything else.
.macro take_stacks
    msr     tpidr_el1, x19
    adrp    x9, gk_stacks_start
    add     x9, x9, :lo12:gk_stacks_start
    add     x9, x9, x19, lsl #17            // 0x20000 a lane
    add     x10, x9, #0x18, lsl #12         // top of the exception stack
    mov     sp, x10
    msr     spsel, #0
    add     x10, x9, #0x10, lsl #12         // top of the thread stack
    mov     sp, x10
    mov     x29, xzr
    mov     x30, xzr
.endm

gk_first_lane:
    mov     x20, x0
    known_state

    // Relocate (ELF for the Arm 64-bit Architecture: R_AARCH64_RELATIVE is 1027).
    adrp    x9, gk_rela_start
    add     x9, x9, :lo12:gk_rela_start
    adrp    x10, gk_rela_end
    add     x10, x10, :lo12:gk_rela_end
    adrp    x11, gk_image_head
    add     x11, x11, :lo12:gk_image_head   // linked at 0, so this is the distance moved
0:  cmp     x9, x10
    b.hs    2f
    ldp     x12, x13, [x9], #16
    ldr     x14, [x9], #8
    cmp     w13, #1027
    b.ne    0b
    add     x14, x14, x11
    str     x14, [x11, x12]
    b       0b

2:  adrp    x9, gk_bss_start
    add     x9, x9, :lo12:gk_bss_start
    adrp    x10, gk_bss_end
    add     x10, x10, :lo12:gk_bss_end
3:  cmp     x9, x10
    b.hs    4f
    stp     xzr, xzr, [x9], #16
    b       3b

4:  mov     x19, xzr
    take_stacks
    mov     x0, x20
    bl      gk_start
    b       gk_stop

// PSCI CPU_ON brings a secondary lane here, x0 = its number.
.global gk_secondary_lane
gk_secondary_lane:
    mov     x19, x0
    known_state
    take_stacks
    adrp    x9, gk_translation
    add     x9, x9, :lo12:gk_translation
    ldp     x0, x1, [x9]
    bl      gk_mmu_on
    mov     x0, x19
    bl      gk_secondary
    b       gk_stop

// x0 = TTBR0_EL1, x1 = TCR_EL1. Uses no memory.
.global gk_mmu_on
gk_mmu_on:
    ldr     x9, =0x04ff                     // MAIR_EL1, see paging::entry::MAIR
    msr     mair_el1, x9
    msr     tcr_el1, x1
    msr     ttbr0_el1, x0
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x9, =0x30d8181d                 // RES1, WXN, I, SA0, SA, C, M
    msr     sctlr_el1, x9
    isb
    ret

// x0..x1: drops the range's lines from the data cache. What was written with the MMU off is in
// memory; lines that a loader left behind must not shine through once caches are on. Uses no memory.
.global gk_invalidate
gk_invalidate:
    mrs     x9, ctr_el0
    ubfx    x9, x9, #16, #4                 // DminLine, log2 of words
    mov     x10, #4
    lsl     x10, x10, x9
    sub     x9, x10, #1
    bic     x0, x0, x9
5:  cmp     x0, x1
    b.hs    6f
    dc      ivac, x0
    add     x0, x0, x10
    b       5b
6:  dsb     sy
    ret

// Not EL1: nothing here fits. Powering off by SMC works from EL2 where there is firmware.
gk_wrong_level:
    ldr     w0, =0x84000008
    smc     #0
gk_stop:
    msr     daifset, #0xf
7:  wfi
    b       7b
