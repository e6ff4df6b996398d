//! From assembly to the kernel's own code.

use crate::exception::Report;
use core::arch::global_asm;
use core::panic::PanicInfo;
use core::slice;
use guest_kernel_core::machine::tree_length;

global_asm!(include_str!("boot.s"), options(raw));
global_asm!(include_str!("vectors.s"), options(raw));

/// What the binary is to this crate.
pub trait Kernel {
    /// The first lane starts here, on its own stack, MMU off, interrupts masked. Until the MMU is
    /// on, nothing may use a read-modify-write atomic: exclusives need cacheable memory.
    /// `tree` is empty when `x0` did not point to a device tree.
    fn first_lane(tree: &'static [u8]) -> !;

    /// Every other lane starts here, on its own stack, MMU on, interrupts masked.
    fn secondary_lane(lane: usize) -> !;

    /// An interrupt was acknowledged; it is ended when this returns. Runs with interrupts masked.
    fn interrupt(intid: u32);

    /// An exception has no answer.
    fn fatal(report: &Report<'_>) -> !;

    /// The panic handler.
    fn panic(info: &PanicInfo<'_>) -> !;
}

/// Makes a type the kernel: defines the entry symbols and the panic handler.
#[macro_export]
macro_rules! kernel {
    ($kernel:ty) => {
        #[unsafe(no_mangle)]
        extern "Rust" fn gk_kernel_first_lane(tree: &'static [u8]) -> ! {
            <$kernel as $crate::Kernel>::first_lane(tree)
        }

        #[unsafe(no_mangle)]
        extern "Rust" fn gk_kernel_secondary_lane(lane: usize) -> ! {
            <$kernel as $crate::Kernel>::secondary_lane(lane)
        }

        #[unsafe(no_mangle)]
        extern "Rust" fn gk_kernel_interrupt(intid: u32) {
            <$kernel as $crate::Kernel>::interrupt(intid)
        }

        #[unsafe(no_mangle)]
        extern "Rust" fn gk_kernel_fatal(report: &$crate::exception::Report<'_>) -> ! {
            <$kernel as $crate::Kernel>::fatal(report)
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            <$kernel as $crate::Kernel>::panic(info)
        }
    };
}

// SAFETY: `kernel!` defines these with exactly these types, and nothing else may use the names.
unsafe extern "Rust" {
    pub(crate) safe fn gk_kernel_first_lane(tree: &'static [u8]) -> !;
    pub(crate) safe fn gk_kernel_secondary_lane(lane: usize) -> !;
    pub(crate) safe fn gk_kernel_interrupt(intid: u32);
    pub(crate) safe fn gk_kernel_fatal(report: &Report<'_>) -> !;
}

#[unsafe(no_mangle)]
extern "C" fn gk_start(tree: usize) -> ! {
    gk_kernel_first_lane(find_tree(tree).unwrap_or(&[]))
}

#[unsafe(no_mangle)]
extern "C" fn gk_secondary(lane: usize) -> ! {
    gk_kernel_secondary_lane(lane)
}

fn find_tree(address: usize) -> Option<&'static [u8]> {
    // The boot protocol wants 8-byte alignment; without it x0 is something else.
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let start = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: by the boot protocol x0 is the tree's address, at least a header long; the MMU is
    // off, so every address of RAM can be read.
    let head = unsafe { start.cast::<[u8; 8]>().read() };
    let length = tree_length(head)?;
    // SAFETY: the header is a tree's and gives its length. Nothing writes to a tree: the memory is
    // kept out of the free memory (`memory::Free`).
    Some(unsafe { slice::from_raw_parts(start, length) })
}
