//! The measured sequences. Each reads CNTVCT around the thing itself, in one asm block, so that no compiler stands in between.
//!
//! Under `-icount shift=0` with a 1 GHz counter one tick is one instruction; with a slower counter the caller scales.
//!
//! Hints that no CPU knows, and that hence do nothing, mark these spans for who traces the machine from outside: 112 before one, 113
//! behind it, 114 before the row that says what it was. They lie outside the spans and cost them nothing.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bench_irq;
use crate::call::id;
use crate::{lane, memory, smp, sys};

/// Where the other side leaves the counter it read.
static STAMP: AtomicU64 = AtomicU64::new(0);
/// Non-zero tells the receiver to stop.
static STOP: AtomicU64 = AtomicU64::new(0);
/// Non-zero once the receiver is in its loop.
static READY: AtomicU64 = AtomicU64::new(0);

fn stamp_address() -> u64 {
    memory::address_of(STAMP.as_ptr())
}

/// A loop of `n` times `op`: three instructions of loop, and the ticks it all took.
macro_rules! looped {
    ($(#[$doc:meta])* $name:ident, [$($op:literal),+ $(,)?] $(, $($operand:tt)+)?) => {
        $(#[$doc])*
        #[must_use]
        pub fn $name(n: u64) -> u64 {
            let (before, after): (u64, u64);
            // SAFETY: the operation touches a device, a timer or a hypercall of this guest, and every register it uses is declared.
            unsafe {
                asm!(
                    "isb",
                    "hint #112",
                    "mrs {before}, cntvct_el0",
                    "2:",
                    $($op,)+
                    "add x21, x21, #1",
                    "cmp x21, x22",
                    "b.ne 2b",
                    "mrs {after}, cntvct_el0",
                    "hint #113",
                    before = out(reg) before,
                    after = lateout(reg) after,
                    inout("x21") 0u64 => _,
                    in("x22") n,
                    $($($operand)+,)?
                    out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _,
                    out("x7") _, out("x8") _, out("x9") _, out("x10") _,
                    options(nostack)
                );
            }
            after.wrapping_sub(before)
        }
    };
}

looped!(/** PSCI_VERSION by HVC: five instructions. */ hvc_psci_version,
    ["movz w0, #0x8400, lsl #16", "mov x1, xzr", "mov x2, xzr", "mov x3, xzr", "hvc #0"]);
looped!(/** PSCI_VERSION by SMC: five instructions. */ smc_psci_version,
    ["movz w0, #0x8400, lsl #16", "mov x1, xzr", "mov x2, xzr", "mov x3, xzr", "smc #0"]);
looped!(/** A function nobody has, by HVC: five instructions. */ hvc_unknown,
    ["movz w0, #0x8600, lsl #16", "movk w0, #0x7777", "mov x1, xzr", "mov x2, xzr", "hvc #0"]);
looped!(/** A trapped ID register. */ sysreg_trapped, ["mrs x0, id_aa64pfr0_el1"]);
looped!(/** GICD_TYPER. */ gicd_typer_read, ["ldr w0, [x23]"], in("x23") 0x0800_0004u64);
looped!(/** GICD_TYPER into a register the short frame does not hold. */ gicd_typer_read_x20,
    ["ldr w20, [x23]"], in("x23") 0x0800_0004u64, out("x20") _);
looped!(/** GICD_IIDR, which no hot path serves. */ declined_read, ["ldr w0, [x23]"], in("x23") 0x0800_0008u64);
looped!(/** GICR_TYPER of lane 0, 64 bits wide. */ gicr_typer_read, ["ldr x0, [x23]"], in("x23") 0x080A_0008u64);
looped!(/** GICD_ISENABLER1: INTID 40, which has no source. */ gicd_isenabler_write,
    ["str w11, [x23]"], in("x23") 0x0800_0104u64, in("x11") 0x100u64);
looped!(/** UARTFR. */ uart_emulated_read, ["ldr w0, [x23]"], in("x23") 0x0900_0018u64);
looped!(/** QueueNotify of the last virtio slot, which is empty, from a register such as Linux takes: the way there and back. */
    virtio_notify, ["str w11, [x23]"], in("x23") 0x0a00_3e50u64, in("x11") 0u64);
looped!(/** QueueNotify of the first slot's device, which has no driver. */ virtio_notify_device,
    ["str w11, [x23]"], in("x23") 0x0a00_0050u64, in("x11") 0u64);
looped!(/** InterruptStatus of the last slot. */ virtio_isr_read, ["ldr w0, [x23]"], in("x23") 0x0a00_3e60u64);
looped!(/** The same into a register that the short frame does not hold. */ virtio_isr_read_x20,
    ["ldr w20, [x23]"], in("x23") 0x0a00_3e60u64, out("x20") _);
looped!(/** InterruptACK of what is set, which is nothing. */ virtio_ack, ["str w11, [x23]"], in("x23") 0x0a00_3e64u64, in("x11") 0u64);
looped!(/** SGI 1 to lane 0 itself, interrupts masked. */ sgi_write,
    ["msr S3_0_C12_C11_5, x11"], in("x11") 0x0100_0001u64);
looped!(/** EOI of the spurious INTID. */ eoi, ["msr S3_0_C12_C12_1, x23"], in("x23") 1023u64);
looped!(/** The counter. */ cntvct_read, ["mrs x0, cntvct_el0"]);
looped!(/** The timer's compare value. */ cntv_cval_write, ["msr cntv_cval_el0, x23"], in("x23") u64::MAX);

/// A byte to the PL011 as the driver of Debian's Linux 6.1 sends it: a halfword of flags into W0, is there room, a halfword of
/// data out of W20 (or W22), which are the registers that its compiler chose. What else that driver does for a byte is stood for by a loop, so that all of it takes the
/// 128 instructions that were counted of Linux without a hypervisor: 3 + 2 * 60 + 2, and 3 of the loop around.
macro_rules! console_loop {
    ($(#[$doc:meta])* $name:ident, $byte:expr) => {
        looped!($(#[$doc])* $name,
            ["4: ldrh w0, [x23, #0x18]", "tbnz w0, #5, 4b", "strh w20, [x23]",
             "mov x9, #60", "5: subs x9, x9, #1", "b.ne 5b", "nop"],
            in("x23") 0x0900_0000u64, in("x20") u64::from($byte));
    };
}

console_loop!(/** Text. */ console_byte, b'-');
console_loop!(/** The first half of a line's end. */ console_return, b'\r');
console_loop!(/** The second. */ console_line_feed, b'\n');

/// How long the lines of [`console_char`] are, with their end.
pub const CONSOLE_LINE: u64 = 80;

/// `lines` lines to the PL011, which is switched on first.
#[must_use]
pub fn console_char(lines: u64) -> u64 {
    // SAFETY: UARTLCR_H: 8 bits, FIFO; UARTCR: the UART and both its directions.
    unsafe {
        asm!("str {lcr:w}, [{uart}, #0x2c]", "str {cr:w}, [{uart}, #0x30]",
            lcr = in(reg) 0x70u64, cr = in(reg) 0x301u64, uart = in(reg) 0x0900_0000u64, options(nostack));
    }
    (0..lines).fold(0u64, |sum, _| {
        sum.wrapping_add(console_byte(CONSOLE_LINE - 2))
            .wrapping_add(console_return(1))
            .wrapping_add(console_line_feed(1))
    })
}

/// SGI 1 to lane 0 itself, taken, acknowledged and ended: ticks for `n` of them. Needs [`Vectors`].
#[must_use]
pub fn sgi_self_roundtrip(n: u64) -> u64 {
    let (before, after): (u64, u64);
    // SAFETY: the bench vectors keep to x9, x10 and write through x11 only, which is STAMP.
    unsafe {
        asm!(
            "msr daifclr, #2",
            "isb",
            "mrs {before}, cntvct_el0",
            "2:",
            "str xzr, [x11]",
            "hint #112",
            "msr S3_0_C12_C11_5, x13",
            "3: ldr x0, [x11]",
            "cbz x0, 3b",
            "add x21, x21, #1",
            "cmp x21, x22",
            "b.ne 2b",
            "mrs {after}, cntvct_el0",
            "msr daifset, #2",
            before = out(reg) before,
            after = lateout(reg) after,
            inout("x21") 0u64 => _,
            in("x22") n,
            in("x13") 0x0100_0001u64,
            in("x11") stamp_address(),
            in("x12") 0u64,
            out("x0") _, out("x9") _, out("x10") _,
            options(nostack)
        );
    }
    after.wrapping_sub(before)
}

/// One timer interrupt `ahead` ticks from now: how late its handler's first instruction was. Needs [`Vectors`].
#[must_use]
pub fn timer_lateness(ahead: u64, sleep: bool) -> u64 {
    let (deadline, stamp): (u64, u64);
    // SAFETY: as for `sgi_self_roundtrip`.
    unsafe {
        asm!(
            "str xzr, [x11]",
            "hint #112",
            "mrs {deadline}, cntvct_el0",
            "add {deadline}, {deadline}, {ahead}",
            "msr cntv_cval_el0, {deadline}",
            "mov {stamp}, #1",
            "msr cntv_ctl_el0, {stamp}",
            "isb",
            "cbnz {sleep}, 4f",
            "msr daifclr, #2",
            "3: ldr {stamp}, [x11]",
            "cbz {stamp}, 3b",
            "b 5f",
            // Masked, or an interrupt just before the WFI would leave it asleep: as every kernel's idle loop does.
            "4: wfi",
            "msr daifclr, #2",
            "isb",
            "msr daifset, #2",
            "ldr {stamp}, [x11]",
            "cbz {stamp}, 4b",
            "5: msr daifset, #2",
            deadline = out(reg) deadline,
            stamp = out(reg) stamp,
            ahead = in(reg) ahead,
            sleep = in(reg) u64::from(sleep),
            in("x11") stamp_address(),
            in("x12") 0u64,
            out("x9") _, out("x10") _,
            options(nostack)
        );
    }
    // Reading the counter is itself one instruction, and not lateness; nor is the unmasking after a WFI.
    stamp
        .wrapping_sub(deadline)
        .saturating_sub(1 + u64::from(sleep))
}

/// The receiver of the IPI rows: spins or sleeps with interrupts open until told to stop. For `smp::start`.
pub fn receive(sleep: u64) {
    crate::gic::init_lane();
    sys::set_vbar(bench_irq::vectors());
    // SAFETY: as for `sgi_self_roundtrip`; x13 and x14 are the addresses of READY and STOP.
    unsafe {
        asm!(
            "str x12, [x11]",
            "mov x15, #1",
            "str x15, [x13]",
            "cbnz {sleep}, 4f",
            "msr daifclr, #2",
            "3: yield",
            "ldr x15, [x14]",
            "cbz x15, 3b",
            "b 5f",
            "4: wfi",
            "msr daifclr, #2",
            "isb",
            "msr daifset, #2",
            "ldr x15, [x14]",
            "cbz x15, 4b",
            "5: msr daifset, #2",
            sleep = in(reg) sleep,
            in("x11") stamp_address(),
            in("x12") 0u64,
            in("x13") memory::address_of(READY.as_ptr()),
            in("x14") memory::address_of(STOP.as_ptr()),
            out("x9") _, out("x10") _, out("x15") _,
            options(nostack)
        );
    }
}

/// Starts the receiver on lane 1 and waits until it listens.
pub fn start_receiver(sleep: bool) -> bool {
    STOP.store(0, Relaxed);
    READY.store(0, Relaxed);
    if smp::start(1, receive, u64::from(sleep)) != 0 {
        return false;
    }
    while READY.load(Relaxed) == 0 {
        sys::relax();
    }
    true
}

/// Stops the receiver.
pub fn stop_receiver() {
    STOP.store(1, Relaxed);
    crate::gic::send(1, 2);
    smp::wait_off(1);
}

/// One SGI 2 to lane 1, which spins or sleeps: ticks from before the write to the first instruction of its handler.
/// Before it, the receiver has `pause` turns of a loop and some that yield to go back to where it waits.
#[must_use]
pub fn ipi_oneway(sleep: bool, pause: u64) -> u64 {
    let (before, stamp): (u64, u64);
    // SAFETY: writes STAMP and sends an SGI to lane 1 of this guest.
    unsafe {
        asm!(
            "str xzr, [x11]",
            // Let the receiver go back to its loop.
            "6: subs {pause}, {pause}, #1",
            "b.hi 6b",
            "mov {stamp}, #64",
            "2: yield",
            "subs {stamp}, {stamp}, #1",
            "b.ne 2b",
            "dsb sy",
            "hint #112",
            "mrs {before}, cntvct_el0",
            ".rept {padding}",
            "nop",
            ".endr",
            "msr S3_0_C12_C11_5, {sgi}",
            "3: yield",
            "ldr {stamp}, [x11]",
            "cbz {stamp}, 3b",
            before = out(reg) before,
            stamp = out(reg) stamp,
            pause = inout(reg) pause => _,
            sgi = in(reg) 0x0200_0002u64,
            in("x11") stamp_address(),
            padding = const IPI_PADDING,
            options(nostack)
        );
    }
    // A sleeper unmasks first, which is not the interrupt's cost.
    stamp.wrapping_sub(before).saturating_sub(u64::from(sleep))
}

/// Makes the bare one-way trip 16 instructions, as the yardstick's was.
const IPI_PADDING: usize = 13;
/// The same for CPU_ON.
const CPU_ON_PADDING: usize = 14;

/// Turns lane 1 on: ticks from before the call to its first instruction. It is off again afterwards.
#[must_use]
pub fn cpu_on_first_instruction() -> u64 {
    STAMP.store(0, Relaxed);
    let (before, stamp): (u64, u64);
    // SAFETY: the lane starts in `tests_bench_cpu_on_entry`, which writes STAMP and turns itself off.
    unsafe {
        asm!(
            "dsb sy",
            "hint #112",
            "mrs {before}, cntvct_el0",
            ".rept {padding}",
            "nop",
            ".endr",
            "hvc #0",
            "3: yield",
            "ldr {stamp}, [x11]",
            "cbz {stamp}, 3b",
            before = out(reg) before,
            stamp = out(reg) stamp,
            inout("x0") id::CPU_ON => _,
            inout("x1") 1u64 => _,
            inout("x2") bench_irq::cpu_on_entry() => _,
            inout("x3") stamp_address() => _,
            in("x11") stamp_address(),
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            padding = const CPU_ON_PADDING,
            options(nostack)
        );
    }
    smp::wait_off(1);
    stamp.wrapping_sub(before)
}

/// Marks that a row is said next.
pub fn row() {
    // SAFETY: a hint that does nothing.
    unsafe { asm!("hint #114", options(nomem, nostack, preserves_flags)) }
}

/// The bench vectors, in place while this lives.
#[derive(Debug)]
pub struct Vectors(());

impl Vectors {
    /// Puts them in place on this lane.
    #[must_use]
    pub fn install() -> Self {
        sys::set_vbar(bench_irq::vectors());
        Self(())
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        sys::set_vbar(crate::vectors::address());
    }
}

/// Stores to a device: ticks until the instruction behind the store.
#[must_use]
pub fn store(register: u64, value: u32) -> u64 {
    let (before, after): (u64, u64);
    if (memory::image_start()..memory::image_end()).contains(&register) {
        return 0;
    }
    // SAFETY: not in this image, so no Rust object is there. What a device writes meanwhile is spare memory, which no Rust
    // object is in either.
    unsafe {
        asm!(
            "dsb sy",
            "hint #112",
            "mrs {before}, cntvct_el0",
            "str {value:w}, [{register}]",
            "mrs {after}, cntvct_el0",
            "hint #113",
            before = out(reg) before,
            after = lateout(reg) after,
            register = in(reg) register,
            value = in(reg) value,
            options(nostack)
        );
    }
    after.wrapping_sub(before)
}

/// Lane 0's pending SGI 1, which `sgi_write` leaves behind, is taken and ended.
pub fn drain() {
    let _ = lane::current();
    loop {
        let intid = crate::gic::acknowledge();
        if intid >= crate::gic::SPURIOUS_FIRST {
            return;
        }
        crate::gic::end(intid);
    }
}
