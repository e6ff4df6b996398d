// The exception vectors.
//
// Threads run on SP_EL0 and exceptions on SP_EL1, so a thread that overruns its stack still gets a
// report. An exception inside a handler gets a third stack, and is only reported.

// A frame: x0..x30, sp, elr, spsr, esr, far. `exception::Frame` is its Rust name.
.equ FRAME, 288

.section .text, "ax"

.macro enter kind
    sub     sp, sp, #FRAME
    stp     x0, x1, [sp]
    mov     x0, #\kind
    b       gk_enter
.endm

.macro enter_nested kind
    msr     tpidr_el0, x0
    msr     tpidrro_el0, x1
    mrs     x0, tpidr_el1
    add     x0, x0, #1
    adrp    x1, gk_stacks_start
    add     x0, x1, x0, lsl #17             // this lane's last-resort stack; the base is a page
    mov     sp, x0
    mrs     x0, tpidr_el0
    mrs     x1, tpidrro_el0
    enter   \kind
.endm

.global gk_vectors
.balign 2048
gk_vectors:
    .balign 128
    enter 0                                 // thread: synchronous
    .balign 128
    enter 1                                 // thread: IRQ
    .balign 128
    enter 2                                 // thread: FIQ
    .balign 128
    enter 3                                 // thread: SError
    .balign 128
    enter_nested 4                          // handler: synchronous
    .balign 128
    enter_nested 4
    .balign 128
    enter_nested 4
    .balign 128
    enter_nested 5                          // handler: SError
.rept 8                                     // from EL0, where nothing runs
    .balign 128
    enter_nested 6
.endr

.balign 128
gk_enter:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x9, sp_el0
    stp     x30, x9, [sp, #240]
    mrs     x9, elr_el1
    mrs     x10, spsr_el1
    stp     x9, x10, [sp, #256]
    mrs     x9, esr_el1
    mrs     x10, far_el1
    stp     x9, x10, [sp, #272]
    mov     x1, sp
    bl      gk_exception
    ldp     x9, x10, [sp, #256]
    msr     elr_el1, x9
    msr     spsr_el1, x10
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp]
    add     sp, sp, #FRAME
    eret

// x0 = address. Returns x0 = value, x1 = 0, or x1 = the syndrome of the data abort it took.
.global gk_probe_read
gk_probe_read:
    mov     x1, xzr
.global gk_probe_read_access
gk_probe_read_access:
    ldr     w0, [x0]
    ret

// x0 = address, w1 = value. Returns as above.
.global gk_probe_write
gk_probe_write:
    mov     w2, w1
    mov     x1, xzr
.global gk_probe_write_access
gk_probe_write_access:
    str     w2, [x0]
    dsb     sy                              // an abort of this store arrives here at the latest
    ret

// The endings that tests ask for.
.global gk_loop_on_vector
gk_loop_on_vector:
    msr     daifset, #0xf
    adrp    x0, gk_stacks_start             // unmapped: fetching the vector faults, for ever
    msr     vbar_el1, x0
    isb
    udf     #0
.global gk_loop_masked
gk_loop_masked:
    msr     daifset, #0xf
8:  b       8b
