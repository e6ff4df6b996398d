//! Where the image is: the linker's symbols, as addresses.

use stage2_addr::HostPhys;

/// Declares a function that gives the run-time address of a linker symbol.
macro_rules! symbols {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name() -> HostPhys {
            unsafe extern "C" {
                static $symbol: u8;
            }
            HostPhys::new((&raw const $symbol).addr() as u64)
        }
    )*};
}

symbols! {
    /// First byte: text, execute and read only.
    start = __image_start;
    /// First byte that is read only.
    rodata = __rodata_start;
    /// First byte that may be written.
    data = __data_start;
    /// The page below the boot stack, never mapped.
    stack_guard = __boot_stack_guard;
    /// First byte of the boot stack.
    stack = __boot_stack_bottom;
    /// First byte after the image.
    end = __image_end;
}

/// Where CPU_ON shall enter.
pub(crate) fn secondary_entry() -> u64 {
    unsafe extern "C" {
        fn __secondary_start();
    }
    (__secondary_start as *const u8).addr() as u64
}

/// An address as an offset into the image, as the debug information of the ELF knows it.
#[must_use]
pub fn offset(address: u64) -> Option<u64> {
    let (start, end) = (start().raw(), end().raw());
    (start..end).contains(&address).then(|| address - start)
}

/// Whether an address is in the image's text.
#[must_use]
pub fn is_text(address: u64) -> bool {
    (start().raw()..rodata().raw()).contains(&address)
}
