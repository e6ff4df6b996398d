//! Named system registers and hints.

use core::arch::asm;

macro_rules! read {
    ($(#[$doc:meta])* $name:ident, $register:literal) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: reading this register has no effect that Rust could see.
            unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags)) };
            value
        }
    };
}

macro_rules! write {
    ($(#[$doc:meta])* $name:ident, $register:literal) => {
        $(#[$doc])*
        pub fn $name(value: u64) {
            // SAFETY: the register steers interrupts, timers or traps of this guest only; no Rust object depends on it.
            unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

read!(/** The virtual counter. */ cntvct, "cntvct_el0");
read!(/** The counter's frequency. */ cntfrq, "cntfrq_el0");
read!(/** Virtual timer control. */ cntv_ctl, "cntv_ctl_el0");
read!(/** Identification of the CPU model. */ midr, "midr_el1");
read!(/** Affinity. */ mpidr, "mpidr_el1");
read!(/** Memory model features 0, PARange in bits 3..0. */ mmfr0, "id_aa64mmfr0_el1");
write!(/** Virtual timer control. */ set_cntv_ctl, "cntv_ctl_el0");
write!(/** Virtual timer compare value. */ set_cntv_cval, "cntv_cval_el0");
write!(/** Virtual timer downcounter. */ set_cntv_tval, "cntv_tval_el0");
write!(/** Interrupt masks. */ set_daif, "daif");
write!(/** Vector base. */ set_vbar, "vbar_el1");

/// Waits for an interrupt.
pub fn wfi() {
    // SAFETY: a hint; it only waits.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Waits for an event, or for what else ends a `WFE`.
pub fn wfe() {
    // SAFETY: a hint; it only waits.
    unsafe { asm!("wfe", options(nostack, preserves_flags)) };
}

/// Lets the other lanes run: `yield`, since `core::hint::spin_loop` is an ISB and never leaves a spin under icount on QEMU 7.2.
pub fn relax() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nostack, preserves_flags)) };
}

/// Unmasks IRQs.
pub fn unmask() {
    // SAFETY: the vectors of this runtime are in place from the first instruction on and preserve every register.
    unsafe { asm!("msr daifclr, #2", "isb", options(nostack, preserves_flags)) };
}

/// Masks everything.
pub fn mask() {
    // SAFETY: masking interrupts breaks no promise of Rust.
    unsafe { asm!("msr daifset, #0xf", options(nostack, preserves_flags)) };
}

/// Full barrier.
pub fn barrier() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", "isb", options(nostack, preserves_flags)) };
}

/// One word, by one `ldr`.
#[must_use]
pub fn load(address: u64) -> u64 {
    let value: u64;
    // SAFETY: used with addresses of atomics only.
    unsafe {
        asm!("ldr {}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
    value
}

/// So many turns of a loop of two instructions; at least one.
pub fn turn(times: u64) {
    // SAFETY: counts a register down.
    unsafe {
        asm!("2: subs {0}, {0}, #1", "b.hi 2b", inout(reg) times => _, options(nomem, nostack))
    };
}
