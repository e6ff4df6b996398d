//! The EL2 vector table, the way into a guest and the way out.
//!
//! While a guest runs, `SP_EL2` points at its lane's [`Vcpu`]: the register frame comes first in it,
//! and the page below is a small stack for the hot path. An exit saves the caller-saved registers
//! and asks the hot path; only when that declines does the rest of the state move and `enter`
//! return. Nothing else than the frame and that page is touched on a hot exit.
//!
//! In between is the *warm* answer, which takes more stack than that page: the vector changes to the stack that `enter` was
//! called on, which nobody uses until `enter` returns.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use vcpu::context::Context;
use vcpu::exit::Exit;
use vcpu::hot::{self, Answer};
use vcpu::lane::Vcpu;

use crate::hardware::ThisCpu;

const _: () = assert!(offset_of!(Vcpu<'static>, context) == 0 && offset_of!(Context, x) == 0);

/// What `__enter` returns: which vector was taken. The numbers are the vector's index in its group.
const KIND_SYNC: u64 = 0;
const KIND_IRQ: u64 = 1;
const KIND_FIQ: u64 = 2;

global_asm!(
    r#"
    // The caller-saved registers: all that compiled code may change. x18/x19 and x29/x30 go in pairs, so the hot path has x19
    // as well, which Linux's virtio driver takes for each interrupt.
    .macro save_short
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x29, x30, [sp, #232]
    .endm

    .macro save_rest
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    str     x28, [sp, #224]
    .endm

    .macro restore_short
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp, #0]
    .endm

    // A guest's exception with a hot path in front: exactly one 128-byte slot (Arm ARM D1.3.1.2).
    // `unsaved` and `warm`, if given, are where these answers go on.
    .macro hot_vector handler, kind, unsaved, warm
    .balign 128
    save_short
    mov     x0, sp
    bl      \handler
    tbz     w0, #0, 9f
    restore_short
    eret
    // Nothing may run past an exception return, not even speculatively.
    dsb     nsh
    isb
9:
    .ifnb   \unsaved
    tbnz    w0, #{unsaved_bit}, \unsaved
    .endif
    .ifnb   \warm
    tbnz    w0, #{warm_bit}, \warm
    .endif
    mov     x0, #\kind
    b       leave_guest
    .endm

    // Calls `warm` on the stack that `enter` was called on. The guest's x19 is in the frame, and the call leaves ours alone.
    .macro call_warm
    mov     x19, sp
    ldr     x9, [sp, #{host_sp}]
    mov     sp, x9
    mov     x0, x19
    bl      {warm}
    mov     sp, x19
    .endm

    .macro cold_vector kind
    .balign 128
    save_short
    mov     x0, #\kind
    b       leave_guest
    .endm

    // EL2's own exception is always a fault of ours. SP may be what is broken, so nothing is pushed:
    // x0 and x1 wait in registers of a guest that will not run again.
    .macro own_fault index
    .balign 128
    msr     sp_el0, x0
    msr     tpidr_el0, x1
    mov     x0, #\index
    b       own_fault_common
    .endm

    .pushsection .vectors, "ax"
    .balign 2048
    .global __vectors
__vectors:
    own_fault 0
    own_fault 1
    own_fault 2
    own_fault 3
    own_fault 4
    own_fault 5
    own_fault 6
    // A system error. All are masked at EL2 but in `__take_error`, which asks for one by this register.
    .balign 128
    mov     x0, #1
    eret
    .if     {has_warm}
    hot_vector {hot_sync}, 0, save_and_ask, answer_warm
    .else
    hot_vector {hot_sync}, 0, save_and_ask
    .endif
    hot_vector {hot_irq}, 1
    cold_vector 2
    cold_vector 3
    cold_vector 0                   // AArch32 EL0 under an AArch64 EL1
    cold_vector 1
    cold_vector 2
    cold_vector 3
    .balign 128
    // Refused by the assembler if a slot has become longer than 128 bytes, which would shift the vectors after it.
    .org    __vectors + 16 * 128
    .popsection

    .pushsection .text.asm, "ax"
    // x0 = &mut Vcpu. Returns in x0 which vector ended the run.
    .global __enter
__enter:
    stp     x19, x29, [sp, #-32]!
    str     x30, [sp, #16]
    mov     x9, sp
    str     x9, [x0, #{host_sp}]
    ldp     x10, x11, [x0, #{elr}]
    msr     elr_el2, x10
    msr     spsr_el2, x11
    mov     sp, x0
    // Whatever is in the frame, the guest is to have.
resume:
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    restore_short
    eret
    dsb     nsh
    isb

    .if     {has_warm}
answer_warm:
    // X0 to X15: one bit of the syndrome tells, and a warm answer needs no other register then.
    mrs     x9, esr_el2
    tbnz    x9, #20, 2f
    call_warm
    restore_short
    eret
    dsb     nsh
    isb
2:  save_rest
    call_warm
    b       resume
    .endif

    // The hot path wants the registers that are not saved yet. It only reads them.
save_and_ask:
    save_rest
    mov     x0, sp
    bl      {hot_uart}
    tbz     w0, #0, 1f
    restore_short
    eret
    dsb     nsh
    isb
1:  mov     x0, #0

    // x0 = which vector; x0-x19, x29 and x30 are in the frame already.
leave_guest:
    save_rest
    mrs     x10, elr_el2
    mrs     x11, spsr_el2
    mov     x9, sp
    stp     x10, x11, [x9, #{elr}]
    ldr     x10, [x9, #{host_sp}]
    mov     sp, x10
    ldr     x30, [sp, #16]
    ldp     x19, x29, [sp], #32
    ret

    // Returns in x0 whether a system error was pending, which it is no more.
    .global __take_error
__take_error:
    mov     x0, #0
    // All that the guest has asked of its devices is over: its accesses are not acknowledged early.
    dsb     sy
    msr     daifclr, #4
    isb
    msr     daifset, #4
    ret

own_fault_common:
    mrs     x1, tpidr_el2
    ldr     x1, [x1]                // CpuLocal::emergency_top
    sub     x1, x1, #{frame_size}
    stp     x2, x3, [x1, #16]
    stp     x4, x5, [x1, #32]
    stp     x6, x7, [x1, #48]
    stp     x8, x9, [x1, #64]
    stp     x10, x11, [x1, #80]
    stp     x12, x13, [x1, #96]
    stp     x14, x15, [x1, #112]
    stp     x16, x17, [x1, #128]
    stp     x18, x19, [x1, #144]
    stp     x20, x21, [x1, #160]
    stp     x22, x23, [x1, #176]
    stp     x24, x25, [x1, #192]
    stp     x26, x27, [x1, #208]
    stp     x28, x29, [x1, #224]
    mov     x2, sp
    stp     x30, x2, [x1, #240]
    mrs     x2, sp_el0
    mrs     x3, tpidr_el0
    stp     x2, x3, [x1]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [x1, #256]
    mrs     x2, esr_el2
    mrs     x3, far_el2
    stp     x2, x3, [x1, #272]
    str     x0, [x1, #288]
    mov     sp, x1
    mov     x0, x1
    mov     x30, xzr
    bl      {fault}
    b       .
    .popsection
    "#,
    hot_sync = sym hot_sync,
    hot_irq = sym hot_irq,
    hot_uart = sym hot_uart,
    warm = sym warm,
    has_warm = const cfg!(feature = "virtio") as u8,
    warm_bit = const (Answer::Warm as u8).ilog2(),
    unsaved_bit = const (Answer::Unsaved as u8).ilog2(),
    fault = sym crate::fault::el2_fault,
    elr = const offset_of!(Vcpu<'static>, context) + offset_of!(Context, elr),
    host_sp = const offset_of!(Vcpu<'static>, context) + offset_of!(Context, host_sp),
    frame_size = const size_of::<crate::fault::FaultFrame>(),
);

/// Called by the vector with `SP_EL2` = the running lane.
///
/// # Safety
/// `vcpu` is the lane that [`enter`] was given: its exclusive borrow lasts until `enter` returns, and
/// the vector is the only code that runs under it.
unsafe extern "C" fn hot_sync(vcpu: *mut Vcpu<'static>) -> Answer {
    // SAFETY: see above; the pointer came from `enter`'s `&mut Vcpu`.
    let vcpu = unsafe { &mut *vcpu };
    hot::sync(vcpu, &mut ThisCpu)
}

/// As [`hot_sync`], once all registers are in the frame.
///
/// # Safety
/// As for [`hot_sync`].
unsafe extern "C" fn hot_uart(vcpu: *mut Vcpu<'static>) -> Answer {
    // SAFETY: as in `hot_sync`.
    let vcpu = unsafe { &mut *vcpu };
    hot::uart_saved(vcpu, &mut ThisCpu)
}

// Each has a bit of its own.
const _: () =
    assert!(Answer::Done as u8 == 1 && Answer::Unsaved as u8 == 2 && Answer::Warm as u8 == 4);

/// As [`hot_sync`], once all registers are in the frame, from which they are loaded afterwards, or where the access is through
/// one of X0 to X15; on the stack that [`enter`] was called on.
///
/// # Safety
/// As for [`hot_sync`].
unsafe extern "C" fn warm(vcpu: *mut Vcpu<'static>) {
    // SAFETY: as in `hot_sync`.
    let vcpu = unsafe { &mut *vcpu };
    hot::warm(vcpu, &mut ThisCpu);
}

/// As [`hot_sync`], for a physical interrupt.
///
/// # Safety
/// As for [`hot_sync`].
unsafe extern "C" fn hot_irq(vcpu: *mut Vcpu<'static>) -> bool {
    // SAFETY: as in `hot_sync`.
    let vcpu = unsafe { &mut *vcpu };
    hot::irq(vcpu, &mut ThisCpu)
}

/// Whether a system error is pending that was raised on this CPU by what ran here so far. It is taken away. Changes the
/// registers of the last exception to EL2, which have to be saved.
#[must_use]
pub fn take_error() -> bool {
    let taken: u64;
    // SAFETY: `__take_error` and the vector that it may enter change x0 and the exception registers, nothing else.
    unsafe { asm!("bl __take_error", out("x0") taken, out("x30") _) };
    taken != 0
}

/// Runs the guest on this lane until something needs the run loop, and says which vector it was.
///
/// The lane's world (EL1 registers, FP/SIMD, vGIC interface, stage 2) must be on this CPU already.
pub fn enter(vcpu: &mut Vcpu<'static>) -> Exit {
    let kind: u64;
    // SAFETY: `__enter` keeps x19, x29, x30 and SP itself; every other register is declared clobbered.
    // It touches only `*vcpu`, the hot stack below it and this stack. Guest memory is not memory of
    // ours in Rust's sense. The borrow of the whole `Vcpu` covers what the hot path changes.
    unsafe {
        asm!(
            "bl __enter",
            inout("x0") core::ptr::from_mut(vcpu) => kind,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _,
            clobber_abi("C"),
        );
    }
    // It is one of four, so that nothing has to be compared.
    match kind & 3 {
        KIND_SYNC => Exit::Sync,
        KIND_IRQ => Exit::Irq,
        KIND_FIQ => Exit::Fiq,
        _ => Exit::SError,
    }
}
