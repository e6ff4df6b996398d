//! EL2's own address space: an identity map, never writable and executable at once.
//!
//! The image is mapped section by section before the MMU goes on; RAM and the devices that the device
//! tree names follow; guard pages are taken out again. Everything EL2 does not need stays unmapped.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;
use stage2::el2::{El2Geometry, El2Tables, El2Virt, MAIR};
use stage2::{Access, Attrs, TableQuota};
use stage2_addr::{HostPhys, HostRegion, PAGE_SIZE, PageCount, Region};

use crate::image;
use crate::tables::{AllTlbs, TableFrames};

/// SCTLR_EL2 with the MMU on (Arm ARM D19.2.119): RES1 bits, M, C, I, SA (stack alignment) and WXN
/// (writable means never executable, whatever a descriptor says).
pub const EL2_SCTLR: u64 = 0x30C5_0830 | 1 | (1 << 2) | (1 << 3) | (1 << 12) | (1 << 19);

/// Frames for EL2's tables: a root, the image's, those of device pages and of guard pages.
const POOL_FRAMES: usize = 64;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u8; 4096]; POOL_FRAMES]>);

// SAFETY: nothing refers to the contents as Rust memory; `TABLES` alone hands out the frames.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([[0; 4096]; POOL_FRAMES]));
static TABLES: Mutex<Option<El2Tables>> = Mutex::new(None);
static TTBR0: AtomicU64 = AtomicU64::new(0);
static TCR: AtomicU64 = AtomicU64::new(0);

/// Why EL2's address space cannot be built. The machine is not one we know how to run on.
#[derive(Clone, Copy, Debug)]
pub enum MmuError {
    /// A region's bounds make no sense.
    Region,
    /// The tables refused it.
    Map(stage2::MapError),
    /// The tables themselves.
    Tables,
    /// A guard page could not be taken out.
    Guard(HostPhys),
}

impl fmt::Display for MmuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region => f.write_str("a region's bounds make no sense"),
            Self::Map(error) => error.fmt(f),
            Self::Tables => f.write_str("no room for its tables"),
            Self::Guard(page) => write!(f, "no guard page at {page:#x}"),
        }
    }
}

/// What a secondary CPU needs to use the same tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    pub mair: u64,
    pub tcr: u64,
    pub ttbr0: u64,
}

pub(crate) fn translation() -> Translation {
    Translation {
        mair: MAIR,
        tcr: TCR.load(Ordering::Relaxed),
        ttbr0: TTBR0.load(Ordering::Relaxed),
    }
}

/// How many physical address bits the CPU has, at most 48 (ID_AA64MMFR0_EL1.PARange).
#[must_use]
pub fn physical_bits() -> u32 {
    match crate::hardware::id_register(7, 0) & 0xF {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Whether VMIDs have 16 bits (ID_AA64MMFR1_EL1.VMIDBits).
#[must_use]
pub fn wide_vmids() -> bool {
    (crate::hardware::id_register(7, 1) >> 4) & 0xF == 2
}

fn between(from: HostPhys, to: HostPhys) -> Result<HostRegion, MmuError> {
    HostRegion::between(from, to).map_err(|_| MmuError::Region)
}

fn map_into(tables: &mut El2Tables, region: HostRegion, attrs: Attrs) -> Result<(), MmuError> {
    let virt = Region::new(El2Virt::new(region.base().raw()), region.pages())
        .map_err(|_| MmuError::Region)?;
    tables
        .map(&mut TableFrames, virt, region.base(), attrs)
        .map_err(MmuError::Map)
}

/// Maps the image and the device tree and switches the MMU and the caches on. Runs once, with both off,
/// on the boot CPU.
pub(crate) fn start(device_tree: HostRegion) -> Result<(), MmuError> {
    let pool = HostPhys::new(POOL.0.get().addr() as u64);
    let frames = PageCount::new(POOL_FRAMES as u64);
    let quota = TableQuota::new(HostRegion::new(pool, frames).map_err(|_| MmuError::Region)?);
    let geometry = El2Geometry::new(48, physical_bits()).map_err(|_| MmuError::Tables)?;
    let mut tables =
        El2Tables::for_el2(geometry, quota, &mut TableFrames).map_err(|_| MmuError::Tables)?;
    map_into(
        &mut tables,
        between(image::start(), image::rodata())?,
        Attrs::normal(Access::RX),
    )?;
    map_into(
        &mut tables,
        between(image::rodata(), image::data())?,
        Attrs::normal(Access::RO),
    )?;
    map_into(
        &mut tables,
        between(image::data(), image::stack_guard())?,
        Attrs::normal(Access::RW),
    )?;
    map_into(
        &mut tables,
        between(image::stack(), image::end())?,
        Attrs::normal(Access::RW),
    )?;
    map_into(&mut tables, device_tree, Attrs::normal(Access::RO))?;
    let (root, tcr) = (tables.root().raw(), geometry.tcr());
    // SAFETY: the tables map what runs now (text, data, stack) to where it is, with the attributes it
    // is used with; E2H is 0 and no other EL2 translation is in use. RW is needed before any guest.
    unsafe {
        asm!(
            "dsb sy",
            "msr hcr_el2, {hcr}",
            "msr mair_el2, {mair}",
            "msr tcr_el2, {tcr}",
            "msr ttbr0_el2, {root}",
            "isb",
            "tlbi alle1",
            "tlbi alle2",
            "ic iallu",
            "dsb nsh",
            "isb",
            "msr sctlr_el2, {sctlr}",
            "isb",
            hcr = in(reg) 1u64 << 31,
            mair = in(reg) MAIR,
            tcr = in(reg) tcr,
            root = in(reg) root,
            sctlr = in(reg) EL2_SCTLR,
            options(nostack),
        );
    }
    TTBR0.store(root, Ordering::Relaxed);
    TCR.store(tcr, Ordering::Relaxed);
    *TABLES.lock() = Some(tables);
    Ok(())
}

/// Maps a region of the machine to itself. Nothing of it may be mapped yet.
pub(crate) fn map(region: HostRegion, attrs: Attrs) -> Result<(), MmuError> {
    let mut guard = TABLES.lock();
    let tables = guard.as_mut().ok_or(MmuError::Tables)?;
    map_into(tables, region, attrs)?;
    crate::registers::isb();
    Ok(())
}

/// Takes one page out for good: the guard below a stack.
pub(crate) fn unmap_guard(page: HostPhys) -> Result<(), MmuError> {
    let failed = MmuError::Guard(page);
    let mut guard = TABLES.lock();
    let tables = guard.as_mut().ok_or(MmuError::Tables)?;
    let region = Region::from_bytes(El2Virt::new(page.raw()), PAGE_SIZE).map_err(|_| failed)?;
    let debt = tables.unmap(&mut TableFrames, region).map_err(|_| failed)?;
    let receipt = debt.pay(&AllTlbs);
    tables
        .settle(&mut TableFrames, receipt)
        .map_err(|_| failed)?;
    Ok(())
}

/// Whether EL2 may read an address. Asks the CPU's own walker, so that it takes no lock and believes no copy.
pub(crate) fn is_mapped(address: u64) -> bool {
    let result: u64;
    // SAFETY: AT translates and reports; PAR_EL1 is put back, as it may be a guest's.
    unsafe {
        asm!(
            "mrs {saved}, par_el1",
            "at s1e2r, {address}",
            "isb",
            "mrs {result}, par_el1",
            "msr par_el1, {saved}",
            saved = out(reg) _,
            address = in(reg) address,
            result = out(reg) result,
            options(nostack, preserves_flags),
        );
    }
    // PAR_EL1.F: the translation failed.
    result & 1 == 0
}
