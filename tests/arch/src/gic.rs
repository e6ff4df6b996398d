//! The GICv3 as a test guest uses it (IHI 0069): bring-up, SGIs, acknowledge and end.

use core::arch::asm;

use crate::{lane, memory, sys};

/// Distributor.
pub const GICD: u64 = 0x0800_0000;
/// First redistributor: RD frame, then SGI frame.
pub const GICR: u64 = 0x080A_0000;
/// From one lane's redistributor to the next one's.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// INTIDs from here on are no interrupts.
pub const SPURIOUS_FIRST: u32 = 1020;

/// The redistributor of a lane.
#[must_use]
pub fn redistributor(lane: usize) -> u64 {
    GICR + GICR_STRIDE * u64::try_from(lane).unwrap_or(0)
}

/// A device register, 32 bits, by plain `ldr`.
#[must_use]
pub fn read32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: used with device addresses only, whose reads change no Rust object.
    unsafe {
        asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
    value
}

/// A device register, 32 bits, by plain `str`.
pub fn write32(address: u64, value: u32) {
    if (memory::image_start()..memory::image_end()).contains(&address) {
        return;
    }
    // SAFETY: not in this image, so no Rust object is there.
    unsafe {
        asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
}

/// Distributor on: affinity routing, group 1.
pub fn init_distributor() {
    write32(GICD, 0x10);
    write32(GICD, 0x12);
}

/// This lane's redistributor and CPU interface on: all SGIs and the virtual timer enabled at priority 0xa0.
pub fn init_lane() {
    let rd = redistributor(lane::number());
    let sgi = rd + 0x1_0000;
    write32(rd + 0x14, read32(rd + 0x14) & !2);
    while read32(rd + 0x14) & 4 != 0 {
        sys::relax();
    }
    write32(sgi + 0x80, u32::MAX);
    for word in 0..8 {
        write32(sgi + 0x400 + word * 4, 0xa0a0_a0a0);
    }
    write32(sgi + 0x100, 0xffff | 1 << crate::timer::INTID);
    // SAFETY: ICC_SRE_EL1.SRE selects the system-register interface, which is all this runtime uses.
    unsafe {
        asm!("msr S3_0_C12_C12_5, {}", "isb", in(reg) 7u64, options(nostack, preserves_flags))
    };
    set_pmr(0xf0);
    set_bpr1(0);
    set_ctlr(0);
    set_igrpen1(1);
}

macro_rules! icc {
    ($(#[$doc:meta])* $get:ident, $set:ident, $register:literal) => {
        $(#[$doc])*
        #[must_use]
        pub fn $get() -> u64 {
            let value: u64;
            // SAFETY: a CPU-interface register of this guest.
            unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags)) };
            value
        }
        $(#[$doc])*
        pub fn $set(value: u64) {
            // SAFETY: a CPU-interface register of this guest.
            unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

icc!(/** ICC_PMR_EL1. */ pmr, set_pmr, "S3_0_C4_C6_0");
icc!(/** ICC_BPR1_EL1. */ bpr1, set_bpr1, "S3_0_C12_C12_3");
icc!(/** ICC_CTLR_EL1. */ ctlr, set_ctlr, "S3_0_C12_C12_4");
icc!(/** ICC_IGRPEN0_EL1. */ igrpen0, set_igrpen0, "S3_0_C12_C12_6");
icc!(/** ICC_IGRPEN1_EL1. */ igrpen1, set_igrpen1, "S3_0_C12_C12_7");
icc!(/** ICC_SRE_EL1. */ sre, set_sre, "S3_0_C12_C12_5");

/// Takes the highest pending interrupt (ICC_IAR1_EL1).
#[must_use]
pub fn acknowledge() -> u32 {
    let value: u64;
    // SAFETY: acknowledging is this guest's own affair.
    unsafe {
        asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) value, options(nostack, preserves_flags))
    };
    u32::try_from(value & 0xff_ffff).unwrap_or(u32::MAX)
}

/// Ends an interrupt (ICC_EOIR1_EL1).
pub fn end(intid: u32) {
    // SAFETY: ending is this guest's own affair.
    unsafe {
        asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) u64::from(intid), options(nostack, preserves_flags))
    };
}

/// Deactivates an interrupt (ICC_DIR_EL1).
pub fn deactivate(intid: u32) {
    // SAFETY: deactivating is this guest's own affair.
    unsafe {
        asm!("msr S3_0_C12_C11_1, {}", "isb", in(reg) u64::from(intid), options(nostack, preserves_flags))
    };
}

/// Running priority (ICC_RPR_EL1).
#[must_use]
pub fn running_priority() -> u64 {
    let value: u64;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mrs {}, S3_0_C12_C11_3", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Highest pending interrupt (ICC_HPPIR1_EL1).
#[must_use]
pub fn highest_pending() -> u64 {
    let value: u64;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mrs {}, S3_0_C12_C12_2", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Writes ICC_SGI1R_EL1 as it is.
pub fn send_raw(value: u64) {
    // SAFETY: sends software interrupts inside this guest.
    unsafe {
        asm!("dsb ishst", "msr S3_0_C12_C11_5, {}", "isb", in(reg) value, options(nostack, preserves_flags))
    };
}

/// Sends SGI `intid` (0..15) to one lane.
pub fn send(lane: usize, intid: u32) {
    send_raw(u64::from(intid & 0xf) << 24 | 1 << (lane & 0xf));
}
