//! The runtime of the test guests: everything unsafe, and every line of assembly, that a guest needs which attacks its hypervisor or measures it.
//!
//! A hostile guest must *survive* what it does, or one run could try one thing only. So the vector table here
//! writes down what the exception said and resumes behind the instruction, but only while a probe is
//! armed: a fault that nobody asked for ends the guest with a report and a non-zero code.
//!
//! The guests run with the MMU off unless they switch on the flat map of [`mmu`]; the bench guest leaves it off.
#![no_std]

pub mod bench;
pub mod call;
pub mod console;
pub mod debug;
pub mod gic;
pub mod keep;
pub mod keep_points;
pub mod lane;
pub mod memory;
pub mod mmu;
pub mod probe;
pub mod smp;
pub mod sys;
pub mod timer;
pub mod vector;

mod bench_irq;
mod keep_asm;
mod start;
mod vectors;

/// Names the function a guest starts in: `fn(fdt: &'static [u8]) -> u32`. What it returns is the guest's exit code.
///
/// A macro, because the symbol needs an `unsafe` attribute and the guests themselves forbid `unsafe`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            #[unsafe(no_mangle)]
            fn tests_guest_main(fdt: &'static [u8]) -> u32 {
                let main: fn(&'static [u8]) -> u32 = $main;
                main(fdt)
            }
        };
    };
}
