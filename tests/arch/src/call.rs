//! HVC and SMC: the plain call, the call with every register in view, and the endings.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use crate::lane::{self, Fault};

/// PSCI_VERSION and its kin (DEN0022 chapter 5).
pub mod id {
    /// PSCI_VERSION.
    pub const PSCI_VERSION: u64 = 0x8400_0000;
    /// CPU_SUSPEND, 64-bit.
    pub const CPU_SUSPEND: u64 = 0xC400_0001;
    /// CPU_OFF.
    pub const CPU_OFF: u64 = 0x8400_0002;
    /// CPU_ON, 64-bit.
    pub const CPU_ON: u64 = 0xC400_0003;
    /// AFFINITY_INFO, 64-bit.
    pub const AFFINITY_INFO: u64 = 0xC400_0004;
    /// SYSTEM_OFF.
    pub const SYSTEM_OFF: u64 = 0x8400_0008;
    /// XDV_VERSION.
    pub const XDV_VERSION: u64 = 0xC600_0100;
    /// CONSOLE_WRITE: address, length.
    pub const CONSOLE_WRITE: u64 = 0xC600_0140;
    /// EXIT: code.
    pub const EXIT: u64 = 0xC600_0141;
}

/// The sixteen-bit-immediate-zero call, by HVC: x0..x3 in, x0..x3 out.
#[must_use]
pub fn hvc(args: [u64; 4]) -> [u64; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = args;
    // SAFETY: SMCCC 1.1 (DEN0028 2.6) lets a call change x0..x3 only, and older peers x0..x17: all are declared.
    // What the call itself does to this guest is the test's own affair.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack)
        );
    }
    [x0, x1, x2, x3]
}

/// The same by SMC.
#[must_use]
pub fn smc(args: [u64; 4]) -> [u64; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = args;
    // SAFETY: as for `hvc`.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack)
        );
    }
    [x0, x1, x2, x3]
}

/// Runs `body` with faults expected; the fault it took, if it took one.
pub fn caught<R>(body: impl FnOnce() -> R) -> Result<R, Fault> {
    let lane = lane::current();
    let before = lane.faults();
    lane.armed.store(1, Relaxed);
    let result = body();
    lane.armed.store(0, Relaxed);
    if lane.faults() == before {
        Ok(result)
    } else {
        Err(lane.last_fault())
    }
}

/// Ends the guest with a code: by EXIT, else (no hypervisor of ours) by SYSTEM_OFF, else it stops here.
pub fn exit(code: u32) -> ! {
    crate::lane::current().armed.store(1, Relaxed);
    if crate::console::by_hypercall() {
        let _ = hvc([id::EXIT, u64::from(code), 0, 0]);
    } else {
        crate::println!("exit {code}");
    }
    let _ = hvc([id::SYSTEM_OFF, 0, 0, 0]);
    let _ = smc([id::SYSTEM_OFF, 0, 0, 0]);
    loop {
        crate::sys::wfi();
    }
}

/// Turns this lane off.
pub fn cpu_off() -> ! {
    loop {
        let _ = hvc([id::CPU_OFF, 0, 0, 0]);
    }
}
