//! When EL2 itself fails: one readable report, then the machine is switched off. It never hangs.

use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use spin::Once;

use crate::console::fault_line;
use crate::{cpu, image, mmu, power, registers};

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
/// How far up a stack is searched, in bytes.
const STACK_REACH: u64 = 1 << 13;

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

/// The return addresses on the stack, innermost first.
///
/// EL2 keeps no frame pointers: the hot path would pay for them. Any word on the stack that points into
/// the text right behind a call is taken for a return address; one that a finished call has left behind
/// can be among them, which the reader of a report will know how to take.
fn backtrace(first: u64, stack: u64) {
    let mut calls = ArrayVec::<u64, DEPTH>::new();
    if let Some(offset) = image::offset(first) {
        calls.push(offset);
    }
    // A stack that has overflowed points into its guard page: what it holds begins above.
    let bottom = if mmu::is_mapped(stack) {
        stack & !7
    } else {
        (stack | 0xFFF) + 1
    };
    for place in (bottom..bottom.saturating_add(STACK_REACH)).step_by(8) {
        // The page above a stack's top is not ours to read: stacks are whole pages, so stop at the first boundary
        // that is not mapped any more.
        if !mmu::is_mapped(place) || calls.is_full() {
            break;
        }
        if let Some(call) = call_before(read(place)) {
            calls.push(call);
        }
    }
    fault_line(format_args!("  backtrace {}", Offsets(&calls)));
}

fn read(address: u64) -> u64 {
    let word = core::ptr::with_exposed_provenance::<u64>(usize::try_from(address).unwrap_or(0));
    // SAFETY: aligned and mapped (both checked by the caller); any bytes are a number. Should the tables
    // be what is broken, the nested fault ends the report (`begin`).
    unsafe { word.read_volatile() }
}

/// The image offset of the call that returns to `address`, if it does look like that.
fn call_before(address: u64) -> Option<u64> {
    let call = address.checked_sub(4)?;
    if !address.is_multiple_of(4) || !image::is_text(call) {
        return None;
    }
    let pair = read(call & !7);
    let word = if call.is_multiple_of(8) {
        pair & 0xFFFF_FFFF
    } else {
        pair >> 32
    };
    // BL, or BLR (Arm ARM C6.2).
    let is_call = word & 0xFC00_0000 == 0x9400_0000 || word & 0xFFFF_FC1F == 0xD63F_0000;
    if is_call { image::offset(call) } else { None }
}

/// Prints the offsets in one line whatever the formatter's flags.
struct Offsets<'a>(&'a [u64]);

impl core::fmt::Display for Offsets<'_> {
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
            let _ = core::fmt::write(
                &mut line,
                format_args!(" x{:<2} {value:016x}", row * 4 + place),
            );
        }
        fault_line(format_args!(" {line}"));
    }
    backtrace(frame.elr, frame.sp);
    power::off()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    begin();
    match info.location() {
        Some(at) => headline(format_args!(
            "{} at {}:{}",
            info.message(),
            at.file(),
            u64::from(at.line())
        )),
        None => headline(format_args!("{}", info.message())),
    }
    let stack: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, sp", out(reg) stack, options(nomem, nostack, preserves_flags))
    };
    fault_line(format_args!(
        "  esr {:#010x}, far {:#x}",
        registers::read_esr_el2(),
        registers::read_far_el2()
    ));
    backtrace(0, stack);
    power::off()
}
