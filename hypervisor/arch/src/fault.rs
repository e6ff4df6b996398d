//! When EL2 itself fails: one readable report, then the machine is switched off. It never hangs.

use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use spin::Once;

use crate::console::fault_line;
use crate::{cpu, image, power, registers};

/// What the vectors store before anything else; the assembly knows these offsets.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct FaultFrame {
    /// x0 to x30.
    x: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
    /// Which vector, 0 to 7.
    vector: u64,
    reserved: u64,
}

const _: () = {
    assert!(core::mem::offset_of!(FaultFrame, sp) == 248);
    assert!(core::mem::offset_of!(FaultFrame, elr) == 256);
    assert!(core::mem::offset_of!(FaultFrame, esr) == 272);
    assert!(core::mem::offset_of!(FaultFrame, vector) == 288);
    assert!(size_of::<FaultFrame>() == 304);
};

/// Frames of a backtrace at most.
const DEPTH: usize = 24;
/// A frame chain further than this from where it began has left our stacks.
const STACK_REACH: u64 = 1 << 16;

static VM_NAMES: Once<&'static [&'static str]> = Once::new();

/// Gives the machines' names for reports, by their number.
pub fn name_vms(names: &'static [&'static str]) {
    VM_NAMES.call_once(|| names);
}

/// What a second fault of this CPU finds: the report is not repeated.
fn begin() {
    if cpu::local().faulting.swap(true, Ordering::Relaxed) {
        power::off();
    }
}

fn headline(what: Arguments) {
    fault_line(format_args!("panic: {what}"));
    let number = cpu::local().vm.load(Ordering::Relaxed);
    let names = VM_NAMES.get().copied().unwrap_or(&[]);
    let vm = (number as usize)
        .checked_sub(1)
        .map_or("none", |vm| names.get(vm).copied().unwrap_or("?"));
    fault_line(format_args!("  cpu {}, vm {vm}", cpu::index()));
}

/// The machine, or what the loader gave us, cannot be used: says why and switches off.
pub fn refuse(why: Arguments) -> ! {
    fault_line(format_args!("refused: {why}"));
    power::off()
}

/// Follows the frame pointers (AAPCS64: `[x29]` = caller's x29, `[x29 + 8]` = return address).
fn backtrace(first: u64, frame: u64) {
    let mut calls = ArrayVec::<u64, DEPTH>::new();
    if let Some(offset) = image::offset(first) {
        calls.push(offset);
    }
    let start = frame;
    let mut frame = frame;
    while !calls.is_full() && frame.is_multiple_of(16) && frame >= start && frame - start < STACK_REACH && frame != 0 {
        let pair = core::ptr::with_exposed_provenance::<[u64; 2]>(usize::try_from(frame).unwrap_or(0));
        // SAFETY: aligned, and within a stack's reach of a live frame; should it not be mapped after
        // all, the nested fault ends the report instead of looping (`begin`).
        let [next, back] = unsafe { pair.read_volatile() };
        let Some(offset) = image::offset(back) else {
            break;
        };
        calls.push(offset.saturating_sub(4));
        if next <= frame {
            break;
        }
        frame = next;
    }
    fault_line(format_args!("  backtrace {:#x?}", Offsets(&calls)));
}

/// Prints the offsets in one line whatever the formatter's flags.
struct Offsets<'a>(&'a [u64]);

impl core::fmt::Debug for Offsets<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        for (place, offset) in self.0.iter().enumerate() {
            write!(f, "{}{offset:#x}", if place == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// EL2's own exception, on the emergency stack.
pub(crate) extern "C" fn el2_fault(frame: &FaultFrame) -> ! {
    begin();
    let class = (frame.esr >> 26) & 0x3F;
    let what = match (frame.vector & 3, class) {
        (0, 0x25) => "data abort in EL2",
        (0, 0x21) => "instruction abort in EL2",
        (0, 0x26) => "stack pointer alignment fault in EL2",
        (0, 0x22) => "PC alignment fault in EL2",
        (0, 0x00) => "undefined instruction in EL2",
        (0, 0x3C) => "breakpoint instruction in EL2",
        (0, _) => "unexpected synchronous exception in EL2",
        (1, _) => "unexpected interrupt in EL2",
        (2, _) => "unexpected fast interrupt in EL2",
        _ => "SError in EL2",
    };
    headline(format_args!("{what}"));
    fault_line(format_args!(
        "  esr {:#010x}, far {:#x}, elr {:#x}, spsr {:#x}, sp {:#x}",
        frame.esr, frame.far, frame.elr, frame.spsr, frame.sp
    ));
    for (row, values) in frame.x.chunks(4).enumerate() {
        let mut line = arrayvec::ArrayString::<96>::new();
        for (place, value) in values.iter().enumerate() {
            let _ = core::fmt::write(&mut line, format_args!(" x{:<2} {value:016x}", row * 4 + place));
        }
        fault_line(format_args!(" {line}"));
    }
    let [.., frame_pointer, _] = frame.x;
    backtrace(frame.elr, frame_pointer);
    power::off()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    begin();
    match info.location() {
        Some(at) => headline(format_args!("{} at {}:{}", info.message(), at.file(), at.line())),
        None => headline(format_args!("{}", info.message())),
    }
    let frame: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    fault_line(format_args!("  esr {:#010x}, far {:#x}", registers::read_esr_el2(), registers::read_far_el2()));
    backtrace(0, frame);
    power::off()
}
