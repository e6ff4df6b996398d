//! Faults on request: each must be stopped by the protection it offends.

use crate::image;
use core::arch::asm;
use core::hint::black_box;
use guest_kernel_core::options::Fault;

// SAFETY: `vectors.s` defines these. Neither returns, and neither touches memory.
unsafe extern "C" {
    safe fn gk_loop_on_vector() -> !;
    safe fn gk_loop_masked() -> !;
}

/// Loops for ever in exceptions whose vector faults.
pub fn loop_on_vector() -> ! {
    gk_loop_on_vector()
}

/// Loops for ever with every interrupt masked.
pub fn loop_masked() -> ! {
    gk_loop_masked()
}

/// Commits a fault. Returns if nothing stopped it, which is a failure.
pub fn commit(fault: Fault) {
    match fault {
        Fault::Undefined => {
            // SAFETY: an exception from which the kernel does not return.
            unsafe { asm!("udf #0", options(nomem, nostack)) };
        }
        Fault::TextWrite => store(image::text().start().get()),
        Fault::Unmapped => load(0),
        Fault::DataExecute => {
            // SAFETY: data is mapped never-execute, so the branch itself faults.
            unsafe {
                asm!("blr {}", in(reg) image::data().start().get(), out("x30") _, options(nostack))
            };
        }
        Fault::StackOverflow => {
            black_box(overflow(0));
        }
    }
}

fn store(address: u64) {
    // SAFETY: text is mapped read-only, so the store faults instead of changing code.
    unsafe { asm!("str wzr, [{}]", in(reg) address, options(nostack)) };
}

fn load(address: u64) {
    // SAFETY: the address is not mapped, so the load faults.
    unsafe { asm!("ldr {}, [{}]", out(reg) _, in(reg) address, options(nostack, readonly)) };
}

#[expect(unconditional_recursion, reason = "running out of stack is the point")]
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    frame.iter().sum::<u64>() + overflow(depth + 1) + black_box(depth)
}
