//! The few places where a number becomes an address, a slice or a function.

use core::slice;

unsafe extern "C" {
    static __bss_start: u8;
    static _start: u8;
    static _end: u8;
}

/// First address of this image.
#[must_use]
pub fn image_start() -> u64 {
    address_of(&raw const _start)
}

/// First address behind this image, its `.bss` and its stacks.
#[must_use]
pub fn image_end() -> u64 {
    address_of(&raw const _end)
}

/// End of what the loader wrote: `.bss` starts here.
#[must_use]
pub fn bss_start() -> u64 {
    address_of(&raw const __bss_start)
}

/// The address of anything; addresses are 64 bits here.
#[must_use]
pub fn address_of<T>(pointer: *const T) -> u64 {
    let address: usize = pointer.addr();
    u64::try_from(address).unwrap_or(u64::MAX)
}

/// The address of code.
#[must_use]
pub fn address_of_code(function: *const ()) -> u64 {
    address_of(function)
}

/// A pointer to an address. Making one is safe; what is done with it is the probe's business.
pub(crate) fn pointer<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// The device tree at `fdt`, empty when there is none.
pub(crate) fn device_tree(fdt: u64) -> &'static [u8] {
    const MAX: u32 = 2 << 20;
    if fdt == 0 || !fdt.is_multiple_of(8) {
        return &[];
    }
    let header: *const [u32; 2] = pointer(fdt);
    // SAFETY: the boot protocol puts a device tree of at least 8 bytes there, aligned to 8, and nothing in this guest writes it.
    let [magic, size] = unsafe { header.read_volatile() };
    let size = u32::from_be(size);
    if u32::from_be(magic) != 0xd00d_feed || size > MAX {
        return &[];
    }
    let length = usize::try_from(size).unwrap_or(0);
    // SAFETY: the tree says it is this long, the boot protocol keeps it in RAM, and nothing in this guest writes it.
    unsafe { slice::from_raw_parts(pointer(fdt), length) }
}

/// Calls the `fn(u32)` at `hook`, if there is one.
pub(crate) fn call_hook(hook: u64, intid: u32) {
    if hook == 0 {
        return;
    }
    let raw: *const () = pointer(hook);
    // SAFETY: the only writer of a hook is `Lane::on_interrupt`, which stores a `fn(u32)`.
    let function = unsafe { core::mem::transmute::<*const (), fn(u32)>(raw) };
    function(intid);
}

/// Calls the `fn(u64)` at `work`, if there is one.
pub(crate) fn call_work(work: u64, argument: u64) {
    if work == 0 {
        return;
    }
    let raw: *const () = pointer(work);
    // SAFETY: the only writer of `Lane::work` is `smp::start`, which stores a `fn(u64)`.
    let function = unsafe { core::mem::transmute::<*const (), fn(u64)>(raw) };
    function(argument);
}

/// RAM of this guest that nobody uses: a run of words to fill and to check.
#[derive(Debug)]
pub struct SpareRam {
    start: u64,
    words: u64,
}

impl SpareRam {
    /// The RAM from behind this image (rounded up to 4 KiB) to `end`. None when nothing is left.
    #[must_use]
    pub fn behind_image(end: u64) -> Option<Self> {
        let start = image_end().next_multiple_of(4096);
        let bytes = end.checked_sub(start)? & !7;
        (bytes > 0).then_some(Self {
            start,
            words: bytes / 8,
        })
    }

    /// First address.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Words of eight bytes.
    #[must_use]
    pub const fn words(&self) -> u64 {
        self.words
    }

    /// Word `index`, zero beyond the end.
    #[must_use]
    pub fn get(&self, index: u64) -> u64 {
        if index >= self.words {
            return 0;
        }
        // SAFETY: inside the spare RAM, aligned to 8; no Rust object lives behind the image.
        unsafe { pointer::<u64>(self.start + index * 8).read_volatile() }
    }

    /// Writes word `index`; beyond the end nothing happens.
    pub fn set(&self, index: u64, value: u64) {
        if index >= self.words {
            return;
        }
        // SAFETY: inside the spare RAM, aligned to 8; no Rust object lives behind the image.
        unsafe { pointer::<u64>(self.start + index * 8).write_volatile(value) }
    }
}
