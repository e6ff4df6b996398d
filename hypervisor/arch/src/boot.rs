//! From the first Rust instruction to the hypervisor's `main`: MMU, device tree, console, RAM, GIC.

use hypervisor_fdt::{self as fdt, Machine, PsciConduit};
use stage2::{Access, Attrs};
use stage2_addr::{HostPhys, HostRegion};

use crate::{console, fault, gic, image, memory, mmu, power, registers, timer};

/// What the loader and the firmware gave us, judged.
#[derive(Debug)]
pub struct Boot {
    /// What the device tree says.
    pub machine: Machine,
    /// Where the device tree lies.
    pub device_tree: HostRegion,
    /// The device tree.
    pub tree: &'static [u8],
    /// Where EL2's image lies.
    pub image: HostRegion,
    /// The physical counter at the first instruction we could read it.
    pub entered_at: u64,
    /// When the physical counter was zero, by the machine's clock: seconds since 1970; 0 without a clock.
    pub epoch: u64,
}

unsafe extern "Rust" {
    /// The binary's `main`, defined by [`entry!`](crate::entry).
    safe fn __xdv_main(boot: Boot) -> !;
}

/// Names the function that the boot CPU runs once memory, console and GIC are up.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "Rust" fn __xdv_main(boot: $crate::boot::Boot) -> ! {
            let main: fn($crate::boot::Boot) -> ! = $main;
            main(boot)
        }
    };
}

/// Called by the entry code: MMU and caches off, one CPU, `x0` of the loader.
pub(crate) extern "C" fn primary_main(device_tree: u64) -> ! {
    let entered_at = registers::read_cntpct_el0();
    let Some(tree) = device_tree_region(device_tree) else {
        // There is no console yet, and no way to know one.
        power::off();
    };
    if mmu::start(tree).is_err() {
        power::off();
    }
    let bytes = device_tree_bytes(device_tree, tree);
    let machine = match fdt::read(bytes) {
        Ok(machine) => machine,
        Err(error) => fault::refuse(format_args!("{error}")),
    };
    power::use_hvc(machine.psci == PsciConduit::Hvc);
    if let Err(error) = map_machine(&machine, tree) {
        fault::refuse(format_args!("EL2's address space: {error}"));
    }
    let Ok(image) = HostRegion::between(image::start(), image::end()) else {
        power::off();
    };
    let epoch = machine.rtc.map_or(0, epoch);
    __xdv_main(Boot {
        machine,
        device_tree: tree,
        tree: bytes,
        image,
        entered_at,
        epoch,
    })
}

/// Called by the entry code on every other CPU: MMU on, its own stack.
pub(crate) extern "C" fn secondary_main(start: &'static crate::cpu::CpuStart) -> ! {
    (start.run)(start.index)
}

/// The pages of the device tree, by its own header.
fn device_tree_region(address: u64) -> Option<HostRegion> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let pointer = core::ptr::with_exposed_provenance::<[u8; 40]>(usize::try_from(address).ok()?);
    // SAFETY: the boot protocol promises a device tree at x0; the MMU is off, so any RAM is readable, and
    // the byte array needs no alignment beyond the 8 bytes just checked.
    let header = unsafe { pointer.read_volatile() };
    let size = fdt::total_size(&header).ok()?;
    HostRegion::covering(HostPhys::new(address), u64::try_from(size).ok()?).ok()
}

fn device_tree_bytes(address: u64, region: HostRegion) -> &'static [u8] {
    let base = core::ptr::with_exposed_provenance::<u8>(usize::try_from(address).unwrap_or(0));
    let len = usize::try_from(region.end().raw() - address).unwrap_or(0);
    // SAFETY: mapped read-only for good by `mmu::start`; nobody writes it from now on.
    unsafe { core::slice::from_raw_parts(base, len) }
}

/// When the physical counter was zero, by the PL031 there: its data register counts seconds (DDI 0224, 3.3.1).
fn epoch(rtc: HostRegion) -> u64 {
    if mmu::map(rtc, Attrs::device(Access::RO)).is_err() {
        return 0;
    }
    let register =
        core::ptr::with_exposed_provenance::<u32>(usize::try_from(rtc.base().raw()).unwrap_or(0));
    // SAFETY: the device tree's clock, which is apart from everything else, mapped as device memory that is only read.
    let seconds = unsafe { register.read_volatile() };
    u64::from(seconds).saturating_sub(timer::now() / timer::frequency().max(1))
}

/// Maps console, GIC and RAM, and opens the first two.
fn map_machine(machine: &Machine, tree: HostRegion) -> Result<(), mmu::MmuError> {
    let device = Attrs::device(Access::RW);
    mmu::map(machine.uart, device)?;
    console::open(machine.uart);
    mmu::map(machine.gicd, device)?;
    for region in &machine.gicr {
        mmu::map(*region, device)?;
    }
    if let Err(error) = gic::open(machine.gicd, &machine.gicr) {
        fault::refuse(format_args!(
            "the interrupt controller cannot be used: {error}"
        ));
    }
    let image =
        HostRegion::between(image::start(), image::end()).map_err(|_| mmu::MmuError::Region)?;
    for ram in &machine.ram {
        map_ram(*ram, &[image, tree])?;
    }
    Ok(())
}

/// Maps what of a RAM region is not in `holes`, and notes it as RAM that may be granted.
fn map_ram(ram: HostRegion, holes: &[HostRegion]) -> Result<(), mmu::MmuError> {
    let Some(hole) = holes.iter().find_map(|hole| ram.intersection(hole)) else {
        mmu::map(ram, Attrs::normal(Access::RW))?;
        return if memory::add_ram(ram) {
            Ok(())
        } else {
            Err(mmu::MmuError::Region)
        };
    };
    // At most one piece on each side; each has fewer holes left, so the depth is bounded by their number.
    for (from, to) in [(ram.base(), hole.base()), (hole.end(), ram.end())] {
        if let Ok(piece) = HostRegion::between(from, to) {
            map_ram(piece, holes)?;
        }
    }
    Ok(())
}
