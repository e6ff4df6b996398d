//! The machine's own GICv3: what EL2 needs of it, by `arm-gic`.
//!
//! EL2 takes every physical interrupt (HCR_EL2.IMO). With EOImode 1 an acknowledged interrupt is
//! dropped and deactivated in two steps, so that a timer interrupt can be dropped here and deactivated
//! by the guest's own EOI through a hardware-linked list register (IHI 0069, 4.7).

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use arm_gic::Trigger;
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor};
use arm_gic::{IntId, UniqueMmioPointer};
use arrayvec::ArrayVec;
use hypervisor_fdt::Interrupt;
use spin::{Mutex, Once};
use stage2_addr::HostRegion;

use crate::{cpu, hardware, registers};

/// The SGI by which one CPU makes another look at its mail.
pub const KICK_SGI: u32 = 7;
/// The SGI by which one CPU tells another's run loop of mail for a lane that waits there, away from the CPU.
pub const CALL_SGI: u32 = 5;
/// The SGI by which one CPU makes another's run loop look around.
pub const WAKE_SGI: u32 = 6;
/// The virtual timer's PPI as every guest and the machine know it.
pub const VIRTUAL_TIMER: u32 = 27;
/// The EL1 physical timer's PPI.
pub const PHYSICAL_TIMER: u32 = 30;
/// The EL2 physical timer's PPI: EL2's own deadline.
pub const EL2_TIMER: u32 = 26;
/// The GIC maintenance interrupt's PPI on every machine that follows BSA (and QEMU's `virt`).
pub const MAINTENANCE: u32 = 25;

/// CPUs at most.
const MAX_CPUS: usize = 64;
/// The priority of all our interrupts: they never nest.
const PRIORITY: u8 = 0x80;
/// But for the maintenance interrupt's: a lane that raises it without end must not keep EL2 from its own timer.
const LAST: u8 = 0xA0;
/// ICC_CTLR_EL1.EOImode.
const EOI_MODE: u64 = 1 << 1;

/// A redistributor and the affinity of its CPU.
struct Redistributor {
    affinity: u64,
    /// Where it is.
    frame: u64,
    driver: Mutex<GicRedistributor<'static>>,
}

// Offsets in the distributor (IHI 0069, 12.8).
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ICPENDR: u64 = 0x280;
const ICACTIVER: u64 = 0x380;
/// The first shared interrupt (IHI 0069, 2.2).
const FIRST_SHARED: u32 = 32;

/// Where the distributor is, once it is open.
static GICD: AtomicU64 = AtomicU64::new(0);
/// The shared interrupts that are given away: a bit for each.
static GIVEN: [AtomicU32; 31] = [const { AtomicU32::new(0) }; 31];
static DISTRIBUTOR: Once<Mutex<GicDistributor<'static>>> = Once::new();
static REDISTRIBUTORS: Once<ArrayVec<Redistributor, MAX_CPUS>> = Once::new();

/// Why the GIC cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum GicError {
    /// The distributor or a redistributor lies at address 0.
    NoAddress,
    /// No redistributor has this CPU's affinity.
    NoRedistributor(u64),
    /// More redistributors than CPUs we know to handle.
    TooMany,
    /// The CPU has a single list register.
    OneListRegister,
}

impl fmt::Display for GicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("it is at address 0"),
            Self::NoRedistributor(affinity) => {
                write!(f, "the CPU {affinity:#x} has no redistributor")
            }
            Self::TooMany => f.write_str("it has more redistributors than this hypervisor can use"),
            Self::OneListRegister => f.write_str("the CPU has a single list register"),
        }
    }
}

/// Takes the distributor and finds every redistributor. Once, on the boot CPU.
pub(crate) fn open(gicd: HostRegion, gicr: &[HostRegion]) -> Result<(), GicError> {
    let distributor = pointer::<Gicd>(gicd.base().raw()).ok_or(GicError::NoAddress)?;
    // SAFETY: the device tree's distributor, mapped as device memory; this is its only driver.
    let distributor = unsafe { UniqueMmioPointer::new(distributor) };
    let mut distributor = GicDistributor::new(distributor);
    // What firmware left enabled would come to EL2, which has no use for it, again and again.
    distributor.enable_all_interrupts(false);
    distributor.configure_default_settings();
    DISTRIBUTOR.call_once(|| Mutex::new(distributor));
    GICD.store(gicd.base().raw(), Ordering::Relaxed);

    let mut found = ArrayVec::new();
    for region in gicr {
        let mut at = region.base().raw();
        while at < region.end().raw() {
            let frame = pointer::<GicrSgi>(at).ok_or(GicError::NoAddress)?;
            forget_private(at);
            // SAFETY: one of the device tree's redistributor frames, mapped as device memory, and each
            // frame gets exactly one driver.
            let frame = unsafe { UniqueMmioPointer::new(frame) };
            let driver = GicRedistributor::new(frame);
            let typer = driver.typer();
            let (affinity, last) = (typer.core_mpidr(), typer.last_redistributor());
            let stride = if typer.virtual_lpis_supported() { 4 } else { 2 };
            found
                .try_push(Redistributor {
                    affinity,
                    frame: at,
                    driver: Mutex::new(driver),
                })
                .map_err(|_| GicError::TooMany)?;
            if last {
                break;
            }
            at += stride * 0x1_0000;
        }
    }
    REDISTRIBUTORS.call_once(|| found);
    Ok(())
}

/// Ends what firmware left pending or active among the private interrupts of the redistributor at this address: an
/// active one never comes again (GICR_ICENABLER0, GICR_ICPENDR0, GICR_ICACTIVER0; IHI 0069, 12.11).
fn forget_private(frame: u64) {
    for register in [CLEAR_ENABLE, 0x1_0280, 0x1_0380] {
        write(frame + register, u32::MAX);
    }
}

fn pointer<T>(address: u64) -> Option<NonNull<T>> {
    NonNull::new(core::ptr::with_exposed_provenance_mut(
        usize::try_from(address).ok()?,
    ))
}

fn redistributor(affinity: u64) -> Option<&'static Redistributor> {
    REDISTRIBUTORS
        .get()?
        .iter()
        .find(|one| one.affinity == affinity)
}

/// Readies this CPU's redistributor and CPU interface: our SGI, the EL2 timer and the maintenance
/// interrupt on, everything else off, EOImode 1.
pub fn init_this_cpu() -> Result<(), GicError> {
    let affinity = crate::cpu::affinity();
    let mine = redistributor(affinity).ok_or(GicError::NoRedistributor(affinity))?;
    // Not `Enable`: a guest's write of ICC_SRE_EL1, which might switch its system registers off, traps.
    GicCpuInterface::enable_system_register_el2(false);
    registers::isb();
    // Bypass off and system registers on at EL1 too, where that can be chosen: the guest cannot.
    registers::write_icc_sre_el1(0b111);
    // The first list register is the timer's own, so one would leave none for anything else.
    if registers::read_ich_vtr_el2() & 0x1F == 0 {
        return Err(GicError::OneListRegister);
    }
    {
        let mut driver = mine.driver.lock();
        // An error says that the core is awake already, as firmware should have left it.
        let _ = driver.mark_core_awake();
        driver.configure_default_settings();
        for intid in [
            IntId::sgi(CALL_SGI),
            IntId::sgi(KICK_SGI),
            IntId::sgi(WAKE_SGI),
            private(EL2_TIMER),
            private(VIRTUAL_TIMER),
            private(PHYSICAL_TIMER),
        ] {
            let _ = driver.set_interrupt_priority(intid, PRIORITY);
        }
        let _ = driver.set_interrupt_priority(private(MAINTENANCE), LAST);
        for intid in [
            IntId::sgi(CALL_SGI),
            IntId::sgi(KICK_SGI),
            IntId::sgi(WAKE_SGI),
            private(EL2_TIMER),
            private(MAINTENANCE),
        ] {
            let _ = driver.enable_interrupt(intid, true);
        }
        driver.wait_for_pending_write();
    }
    let local = cpu::local();
    local.redistributor.store(mine.frame, Ordering::Relaxed);
    local
        .is_common
        .store(hardware::is_common(), Ordering::Relaxed);
    GicCpuInterface::set_priority_mask(0xFF);
    registers::write_icc_bpr1_el1(0);
    registers::write_icc_ctlr_el1(EOI_MODE);
    GicCpuInterface::enable_group1(true);
    registers::isb();
    Ok(())
}

/// The PPI with this INTID (16 to 31).
fn private(intid: u32) -> IntId {
    IntId::ppi(intid.saturating_sub(16))
}

/// Has exactly these private interrupts of this CPU enabled, of those that are a guest's own: they are on in the
/// machine while they are on in the virtual redistributor of the lane that is here.
#[inline(always)]
pub(crate) fn set_ppis(wanted: u32) {
    let cpu = cpu::local();
    let on = cpu.ppis.load(Ordering::Relaxed);
    if on == wanted {
        return;
    }
    cpu.ppis.store(wanted, Ordering::Relaxed);
    let frame = cpu.redistributor.load(Ordering::Relaxed);
    if frame != 0 {
        write(frame + CLEAR_ENABLE, on & !wanted);
        write(frame + SET_ENABLE, wanted & !on);
    }
}

/// GICR_ISENABLER0 and GICR_ICENABLER0, from the start of a redistributor (IHI 0069, 12.11).
const SET_ENABLE: u64 = 0x1_0100;
const CLEAR_ENABLE: u64 = 0x1_0180;

/// Writes a register of a redistributor in which every bit that is 0 is left alone.
#[inline(always)]
fn write(register: u64, bits: u32) {
    if let Some(register) = pointer::<u32>(register) {
        // SAFETY: a register of a redistributor, mapped as device memory. Its driver, which others may be using, only
        // ever stores to it as well, and a store changes no bit but those it names.
        unsafe { register.write_volatile(bits) };
    }
}

/// Has a shared interrupt that is a level come to this CPU, from now on.
pub fn route_here(intid: u32) {
    route(intid, Trigger::Level, crate::cpu::affinity());
    enable_shared(intid, true);
}

/// Has a shared interrupt come to the CPU with this affinity, once it is on. False if it was given away before, or is
/// none.
#[must_use]
pub fn give(interrupt: &Interrupt, affinity: u64) -> bool {
    let intid = interrupt.intid;
    let Some(word) = (intid as usize / 32)
        .checked_sub(1)
        .and_then(|n| GIVEN.get(n))
    else {
        return false;
    };
    let bit = 1 << (intid % 32);
    if word.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return false;
    }
    let trigger = if interrupt.edge {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    route(intid, trigger, affinity);
    retire(intid);
    true
}

fn route(intid: u32, trigger: Trigger, affinity: u64) {
    let (Some(number), Some(distributor)) = (intid.checked_sub(FIRST_SHARED), DISTRIBUTOR.get())
    else {
        return;
    };
    let intid = IntId::spi(number);
    let mut distributor = distributor.lock();
    // Each can fail only for an interrupt that is not shared.
    let _ = distributor.set_trigger(intid, trigger);
    let _ = distributor.set_interrupt_priority(intid, PRIORITY);
    let _ = distributor.set_routing(intid, Some(affinity));
}

/// Whether an interrupt is one that all CPUs share.
#[must_use]
pub const fn is_shared(intid: u32) -> bool {
    intid >= FIRST_SHARED
}

/// Enables or disables a shared interrupt.
pub fn enable_shared(intid: u32, enable: bool) {
    mark(if enable { ISENABLER } else { ICENABLER }, intid);
}

/// Disables a shared interrupt and forgets that it is pending or active: nobody waits for it any more.
pub fn retire(intid: u32) {
    for register in [ICENABLER, ICPENDR, ICACTIVER] {
        mark(register, intid);
    }
}

/// Writes the bit of a shared interrupt in a register of the distributor whose other bits that leaves alone.
fn mark(register: u64, intid: u32) {
    let word = u64::from(intid % 1024 / 32);
    let base = GICD.load(Ordering::Relaxed);
    if let Some(register) = pointer::<u32>(base + register + 4 * word) {
        // SAFETY: mapped as device memory by `open`; the registers that set and clear bits need no driver's lock.
        unsafe { register.write_volatile(1 << (intid % 32)) };
    }
}

/// The ICC_SGI1R_EL1 value that sends an SGI to the CPU with this affinity (IHI 0069, 12.2.12).
#[must_use]
pub fn sgi_value(affinity: u64, sgi: u32) -> u64 {
    let level = |n: u64| (affinity >> (8 * n)) & 0xFF;
    let aff3 = (affinity >> 32) & 0xFF;
    let aff0 = level(0);
    (aff3 << 48)
        | ((aff0 >> 4) << 44)
        | (level(2) << 32)
        | (u64::from(sgi & 15) << 24)
        | (level(1) << 16)
        | (1 << (aff0 & 0xF))
}

/// Acknowledges the highest pending interrupt; `None` when there is none (INTIDs 1020 to 1023 stand for that).
#[must_use]
pub fn acknowledge() -> Option<u32> {
    let intid = u32::try_from(registers::read_icc_iar1_el1() & 0xFF_FFFF).unwrap_or(1023);
    (!(1020..1024).contains(&intid)).then_some(intid)
}

/// Drops the running priority; the interrupt stays active.
pub fn drop_priority(intid: u32) {
    registers::write_icc_eoir1_el1(u64::from(intid));
}

/// Ends an interrupt that EL2 keeps for itself.
pub fn end(intid: u32) {
    registers::write_icc_eoir1_el1(u64::from(intid));
    registers::write_icc_dir_el1(u64::from(intid));
}

/// Ends an interrupt of group 0, which is the secure world's: one that reaches EL2 all the same is nobody's here, and
/// would come again for ever if it were left.
pub fn discard_group0() {
    let intid = registers::read_icc_iar0_el1();
    if intid & 0xFF_FFFF < 1020 {
        registers::write_icc_eoir0_el1(intid);
        registers::write_icc_dir_el1(intid);
    }
}
