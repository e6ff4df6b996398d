//! Ends: clean, refused, panicked, faulted. Each says why, once, and stops the whole machine.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};
use dustlib_k_abi::ExitCode;
use guest_kernel_arch::exception::Report;
use guest_kernel_arch::{cpu, power, say};

/// The exit code when the machine is not one this kernel can start on.
const REFUSED: ExitCode = ExitCode(100);

/// The lane that is ending the machine; [`NOBODY`] while it runs.
static ENDING: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// Lets one lane speak. A second lane that wants to end waits for the first to do it; a lane that
/// fails while it speaks ends at once.
fn take_the_floor(code: ExitCode) {
    let me = cpu::lane();
    cpu::mask();
    let before = if cpu::mmu_is_on() {
        ENDING
            .compare_exchange(NOBODY, me, Ordering::AcqRel, Ordering::Acquire)
            .unwrap_or_else(|lane| lane)
    } else {
        // One lane runs, and exclusives do not work yet.
        let before = ENDING.load(Ordering::Relaxed);
        ENDING.store(me, Ordering::Relaxed);
        before
    };
    match before {
        NOBODY => {}
        lane if lane == me => power::exit(code),
        _ => cpu::park(),
    }
}

/// Ends the machine as planned.
pub fn leave(code: ExitCode) -> ! {
    take_the_floor(code);
    say!("exit {}", code.0);
    power::exit(code)
}

/// Ends the machine before it began.
pub fn refuse(why: fmt::Arguments<'_>) -> ! {
    take_the_floor(REFUSED);
    say!("cannot start: {why}");
    power::exit(REFUSED)
}

/// Reports a panic.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    take_the_floor(ExitCode::PANIC);
    let lane = cpu::lane();
    match info.location() {
        Some(at) => say!(
            "panic on lane {lane} at {}:{}: {}",
            at.file(),
            at.line(),
            info.message()
        ),
        None => say!("panic on lane {lane}: {}", info.message()),
    }
    power::exit(ExitCode::PANIC)
}

/// Reports an exception.
pub fn exception(report: &Report<'_>) -> ! {
    take_the_floor(ExitCode::EXCEPTION);
    let (pc, offset) = report.pc();
    say!("exception on lane {}: {report}", cpu::lane());
    say!("  pc {pc:#x} (image + {offset:#x})");
    let [(a, av), (b, bv), (c, cv), (d, dv)] = report.details();
    say!("  {a} {av:#x}, {b} {bv:#x}, {c} {cv:#x}, {d} {dv:#x}");
    for (row, registers) in report.registers().chunks(4).enumerate() {
        say!(
            "{}",
            Row {
                first: 4 * row,
                registers
            }
        );
    }
    power::exit(ExitCode::EXCEPTION)
}

/// Some registers on one line.
struct Row<'r> {
    first: usize,
    registers: &'r [u64],
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in (self.first..).zip(self.registers) {
            let name = if index < 10 { "  x" } else { " x" };
            write!(f, " {name}{index} {value:016x}")?;
        }
        Ok(())
    }
}
