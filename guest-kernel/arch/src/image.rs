//! Where the kernel's own image lies. The symbols are the linker script's.

use guest_kernel_core::addr::{GuestPhys, PhysRange};

// SAFETY: `image.ld` defines these. Only their addresses are taken.
unsafe extern "C" {
    static gk_image_head: u8;
    static gk_constant_start: u8;
    static gk_data_start: u8;
    static gk_stacks_start: u8;
    static gk_image_end: u8;
}

/// The address of something that lives in the identity map.
pub(crate) fn address_of<T>(pointer: *const T) -> GuestPhys {
    GuestPhys::new(pointer.expose_provenance() as u64)
}

pub(crate) fn start() -> GuestPhys {
    address_of(&raw const gk_image_head)
}

pub(crate) fn text() -> PhysRange {
    PhysRange::between(start(), address_of(&raw const gk_constant_start))
}

pub(crate) fn constants() -> PhysRange {
    PhysRange::between(
        address_of(&raw const gk_constant_start),
        address_of(&raw const gk_data_start),
    )
}

pub(crate) fn data() -> PhysRange {
    PhysRange::between(address_of(&raw const gk_data_start), stacks_start())
}

pub(crate) fn stacks_start() -> GuestPhys {
    address_of(&raw const gk_stacks_start)
}

pub(crate) fn whole() -> PhysRange {
    PhysRange::between(start(), address_of(&raw const gk_image_end))
}
