//! Turning the MMU on.

use crate::{cpu, image, memory::Free, probe::Window, stack};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_core::addr::{GuestPhys, PhysRange};
use guest_kernel_core::machine::Machine;
use guest_kernel_core::paging::{ADDRESS_BITS, AddressMap, Attributes, MapError, Table};
use guest_kernel_core::ram::{self, PAGE};

/// Enough for the image, RAM of any alignment, and the devices.
static TABLES: [Table; 32] = [const { Table::new() }; 32];

/// TTBR0 and TCR, for the secondary lanes (`boot.s`). Written with the MMU off, so it is in memory,
/// where a lane with its MMU off reads it; never written again.
#[unsafe(no_mangle)]
static gk_translation: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

// SAFETY: `boot.s` defines these with these arguments.
unsafe extern "C" {
    fn gk_mmu_on(ttbr: u64, tcr: u64);
    safe fn gk_invalidate(from: u64, to: u64);
}

/// Maps the machine onto itself and turns the MMU on: code read-execute, constants read-only, data
/// and RAM read-write, registers as device memory; guard pages and everything else not at all.
/// Call once, on the first lane, before any other lane runs.
///
/// # Errors
/// When the device tree's ranges cannot be mapped.
pub fn turn_on(machine: &Machine<'_>, tree: &'static [u8]) -> Result<(Free, Window), MapError> {
    let mut map = AddressMap::new(&TABLES, image::address_of(&raw const TABLES))?;
    map_image(&mut map)?;
    let rest = ram::free(&machine.memory, &[image::whole()]).ok_or(MapError::OutOfTables)?;
    for range in rest {
        map.map(range, Attributes::Data)?;
    }
    let devices = [machine.distributor, machine.redistributors];
    for range in devices.into_iter().chain(machine.uart) {
        let range = range.grow_to(PAGE).ok_or(MapError::TooHigh(range.end()))?;
        map.map(range, Attributes::Device)?;
    }
    // Slots are smaller than pages and lie side by side, in order.
    let mut mapped = GuestPhys::new(0);
    for slot in &machine.virtio {
        let range = slot.range;
        let range = range.grow_to(PAGE).ok_or(MapError::TooHigh(range.end()))?;
        let range = PhysRange::between(range.start().max(mapped), range.end());
        map.map(range, Attributes::Device)?;
        mapped = range.end().max(mapped);
    }
    let window = Window::new(map.window()?);
    let free = Free::new(machine, tree).ok_or(MapError::OutOfTables)?;
    enable(map.root());
    Ok((free, window))
}

fn map_image(map: &mut AddressMap<'_>) -> Result<(), MapError> {
    map.map(image::text(), Attributes::Text)?;
    map.map(image::constants(), Attributes::Constant)?;
    map.map(image::data(), Attributes::Data)?;
    stack::all().try_for_each(|stack: PhysRange| map.map(stack, Attributes::Data))
}

/// TCR_EL1: 4 KiB granule, write-back inner-shareable walks, no TTBR1.
fn translation_control() -> u64 {
    let (_, ips) = cpu::physical_bits();
    let t0sz = u64::from(64 - ADDRESS_BITS);
    t0sz | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 23) | (ips << 32)
}

fn enable(root: GuestPhys) {
    let tcr = translation_control();
    let [ttbr_slot, tcr_slot] = &gk_translation;
    ttbr_slot.store(root.get(), Ordering::Relaxed);
    tcr_slot.store(tcr, Ordering::Relaxed);
    let image = image::whole();
    gk_invalidate(image.start().get(), image.end().get());
    // SAFETY: the tables map every address in use onto itself: the code that runs, its data, the
    // stacks. They are static and only `Window` changes them, in an entry nothing else lies under.
    unsafe { gk_mmu_on(root.get(), tcr) };
}
