//! The interrupt controller: GICv3 by the `arm-gic` crate.

use aarch64_cpu::asm::barrier;
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicError, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, Trigger, UniqueMmioPointer};
use core::fmt;
use core::ptr::{self, NonNull};
use guest_kernel_core::addr::PhysRange;
use guest_kernel_core::machine::{Affinity, Machine};
use spin::{Mutex, Once};

/// Used while lanes come up, with interrupts masked. Handlers never take it.
static GIC: Once<Mutex<GicV3<'static>>> = Once::new();

/// A redistributor's two 64 KiB frames.
const REDISTRIBUTOR: u64 = 0x2_0000;
/// In the middle; every interrupt has the same.
const PRIORITY: u8 = 0x80;

/// Why the controller cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Error {
    /// The device tree gives no room for its registers.
    NoRoom,
    /// No redistributor is this CPU's.
    NoRedistributor,
    /// The driver's.
    Driver(GicError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => f.write_str("the device tree gives the GIC too little room"),
            Self::NoRedistributor => f.write_str("no GIC redistributor is this lane's"),
            Self::Driver(error) => error.fmt(f),
        }
    }
}

impl From<GicError> for Error {
    fn from(error: GicError) -> Self {
        Self::Driver(error)
    }
}

fn registers<T>(range: PhysRange, least: u64) -> Result<NonNull<T>, Error> {
    let address = usize::try_from(range.start().get()).map_err(|_| Error::NoRoom)?;
    if range.len() < least {
        return Err(Error::NoRoom);
    }
    NonNull::new(ptr::with_exposed_provenance_mut(address)).ok_or(Error::NoRoom)
}

/// Sets the controller up. Call once, on the first lane, with the MMU on.
///
/// # Errors
/// When the controller is not where, or what, the device tree says.
pub fn init(machine: &Machine<'_>) -> Result<(), Error> {
    let count = usize::try_from(machine.redistributors.len() / REDISTRIBUTOR).unwrap_or(0);
    let cpus = machine.cpus.len() + machine.cpus_left_out;
    let distributor = registers::<Gicd>(machine.distributor, 0x1_0000)?;
    let redistributors = registers::<GicrSgi>(machine.redistributors, REDISTRIBUTOR)?;
    // SAFETY: the device tree says that the distributor is here; `mmu::turn_on` mapped it as device
    // memory, and this is the only pointer to it (`GIC` is set once).
    let distributor = unsafe { UniqueMmioPointer::new(distributor) };
    // SAFETY: likewise for the redistributors, of which `count` fit.
    let gic = unsafe { GicV3::new(distributor, redistributors, count.min(cpus)) }?;
    let mut gic = GIC.call_once(|| Mutex::new(gic)).lock();
    let own = index_of(&mut gic, crate::cpu::affinity())?;
    gic.setup(own);
    Ok(())
}

/// Lets this lane take its SGIs and its virtual timer's interrupt.
///
/// # Errors
/// When the controller has no redistributor for this CPU.
pub fn init_lane(timer_intid: u32) -> Result<(), Error> {
    let mut gic = GIC.get().ok_or(Error::NoRedistributor)?.lock();
    let index = index_of(&mut gic, crate::cpu::affinity())?;
    gic.init_cpu(index);
    let timer = IntId::try_from(timer_intid).map_err(|_| Error::NoRoom)?;
    let sgis = (0..IntId::SGI_COUNT).map(IntId::sgi);
    for intid in sgis.chain(timer.is_ppi().then_some(timer)) {
        gic.set_interrupt_priority(intid, Some(index), PRIORITY)?;
        gic.enable_interrupt(intid, Some(index), true)?;
    }
    drop(gic);
    GicCpuInterface::set_priority_mask(0xFF);
    GicCpuInterface::enable_group1(true);
    barrier::isb(barrier::SY);
    Ok(())
}

/// Lets the first lane take a device's interrupts, which are edges.
///
/// # Errors
/// When the controller has no such interrupt.
pub fn init_device(intid: u32) -> Result<(), Error> {
    let mut gic = GIC.get().ok_or(Error::NoRedistributor)?.lock();
    let intid = IntId::try_from(intid).map_err(|_| Error::NoRoom)?;
    gic.set_trigger(intid, None, Trigger::Edge)?;
    gic.set_interrupt_priority(intid, None, PRIORITY)?;
    gic.enable_interrupt(intid, None, true)?;
    Ok(())
}

fn index_of(gic: &mut GicV3<'_>, affinity: Affinity) -> Result<usize, Error> {
    let mut index = 0;
    // `gicr_typer` refuses an index beyond the last.
    while let Ok(typer) = gic.gicr_typer(index) {
        if typer.core_mpidr() == affinity.get() {
            return Ok(index);
        }
        index += 1;
    }
    Err(Error::NoRedistributor)
}

/// Sends SGI `sgi` (0 to 15) to one CPU. All stores before this are visible to it.
pub fn send_sgi(sgi: u32, target: Affinity) {
    let [aff0, affinity1, affinity2, affinity3] = target.levels();
    let target = SgiTarget::List {
        affinity3,
        affinity2,
        affinity1,
        target_list: 1u16.checked_shl(u32::from(aff0)).unwrap_or(0),
    };
    // The register write is no memory access: without this it may overtake the stores before it.
    barrier::dsb(barrier::ISHST);
    // Refused only for a number that is no SGI's, and `% 16` is one's.
    let _ = GicCpuInterface::send_sgi(
        IntId::sgi(sgi % IntId::SGI_COUNT),
        target,
        SgiTargetGroup::CurrentGroup1,
    );
    barrier::isb(barrier::SY);
}
