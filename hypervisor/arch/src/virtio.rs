//! The machine's own virtio devices: their registers, and the memory that they reach.
//!
//! [`take`] maps the places that the device tree has for them and says what is there. The drivers are
//! `hypervisor-drivers-arch`; here is what they stand on. A device reaches only memory that was granted for it, which
//! nothing else of EL2 or of a guest is ever in. EL2's map is the identity, and only devices are taken whose accesses
//! are coherent with caches, so there is nothing to translate and nothing to clean.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use hypervisor_drivers_arch::{Disk, Net, Refusal};
use hypervisor_fdt::{Interrupt, MAX_VIRTIO, Machine, Virtio};
use spin::Mutex;
use stage2::{Access, Attrs};
use stage2_addr::{HostPhys, HostRegion, PAGE_SIZE};
use virtio_drivers::transport::mmio::{MmioTransport, MmioVersion, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::memory::Grant;
use crate::mmu;

pub use hypervisor_drivers_arch::{disk, net};

/// A disk of the machine.
pub type MachineDisk = Disk<Memory, MmioTransport<'static>>;
/// A network card of the machine.
pub type MachineNet = Net<Memory, MmioTransport<'static>>;

/// The memory of an open disk.
pub const DISK_BYTES: u64 = MachineDisk::PAGES as u64 * PAGE_SIZE;
/// The memory of an open network card.
pub const NET_BYTES: u64 = MachineNet::PAGES as u64 * PAGE_SIZE;

/// Pages of registers that are mapped at most.
const MAX_PAGES: usize = 32;

/// What is left of the memory for devices.
static LEFT: Mutex<Option<(u64, u64)>> = Mutex::new(None);
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Sets memory aside for devices: [`DISK_BYTES`] and [`NET_BYTES`] for each. The last grant counts.
pub fn set_memory_aside(grant: Grant) {
    let region = grant.region();
    *LEFT.lock() = Some((region.base().raw(), region.end().raw()));
}

/// The memory for devices, as `virtio-drivers` asks for it.
#[derive(Debug)]
pub struct Memory;

impl Memory {
    fn take(pages: usize) -> Option<u64> {
        let bytes = u64::try_from(pages).ok()?.checked_mul(PAGE_SIZE)?;
        let mut left = LEFT.lock();
        let (base, end) = left.as_mut()?;
        let next = base.checked_add(bytes).filter(|next| next <= end)?;
        Some(core::mem::replace(base, next))
    }
}

// SAFETY: what `dma_alloc` gives is granted RAM, mapped for good, given once and zeroed; nothing is ever taken back.
// Addresses are the same for EL2 and for devices.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let none = (0, NonNull::dangling());
        let Some(base) = Self::take(pages) else {
            return none;
        };
        let Ok(address) = usize::try_from(base) else {
            return none;
        };
        let Some(first) = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(address)) else {
            return none;
        };
        // SAFETY: granted RAM of so many pages, which nobody else has.
        unsafe { first.write_bytes(0, pages * virtio_drivers::PAGE_SIZE) };
        (base, first)
    }

    unsafe fn dma_dealloc(_address: PhysAddr, _first: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _size: usize) -> NonNull<u8> {
        // Only for PCI, which nobody uses.
        let address = usize::try_from(address).unwrap_or(0);
        NonNull::new(ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>().expose_provenance() as u64
    }

    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// What a device is, as far as EL2 knows what to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A disk.
    Disk,
    /// A network card.
    Net,
    /// A disk or a network card, whose registers are those from before virtio 1.
    Legacy,
}

/// A device that nobody drives yet. Dropped, it is reset: what firmware had it do ends.
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Where its registers begin.
    pub base: HostPhys,
    /// Its interrupt.
    pub interrupt: Interrupt,
    transport: MmioTransport<'static>,
}

impl Found {
    /// Makes it ready.
    ///
    /// # Errors
    /// When it cannot be driven as a disk.
    pub fn into_disk(self) -> Result<MachineDisk, Refusal> {
        Disk::open(self.transport)
    }

    /// Makes it ready, and has it receive.
    ///
    /// # Errors
    /// When it cannot be driven as a network card.
    pub fn into_net(self) -> Result<MachineNet, Refusal> {
        Net::open(self.transport)
    }
}

/// The machine's disks and network cards, in the order of their addresses; `tree` is the device tree. All other virtio devices are reset.
/// Once: later calls find nothing.
#[must_use]
pub fn take(machine: &Machine, tree: &[u8]) -> ArrayVec<Found, MAX_VIRTIO> {
    let mut pages = ArrayVec::new();
    let mut found = ArrayVec::new();
    if TAKEN.swap(true, Ordering::Relaxed) {
        return found;
    }
    for place in machine.virtio(tree) {
        if map(&place, &mut pages).is_some()
            && let Some(device) = probe(&place)
        {
            let _ = found.try_push(device);
        }
    }
    found.sort_unstable_by_key(|device: &Found| device.base);
    found
}

/// Maps the pages of a place that are not mapped yet. `None` if some of them cannot be.
fn map(place: &Virtio, pages: &mut ArrayVec<HostPhys, MAX_PAGES>) -> Option<()> {
    let registers = place.registers;
    let region = HostRegion::covering(registers.base, registers.len).ok()?;
    let mut page = region.base();
    while page < region.end() {
        if !pages.contains(&page) {
            pages.try_push(page).ok()?;
            let one = HostRegion::from_bytes(page, PAGE_SIZE).ok()?;
            if mmu::map(one, Attrs::device(Access::RW)).is_err() {
                pages.pop();
                return None;
            }
        }
        page = page.checked_add(PAGE_SIZE)?;
    }
    Some(())
}

/// What is at a place whose pages are mapped, if it is something to drive.
fn probe(place: &Virtio) -> Option<Found> {
    let address = usize::try_from(place.registers.base.raw()).ok()?;
    let header = NonNull::new(ptr::with_exposed_provenance_mut::<VirtIOHeader>(address))?;
    let len = usize::try_from(place.registers.len).ok()?;
    // SAFETY: registers as the device tree says, aligned, long enough, mapped as device memory for good by `map`. Places
    // do not overlap, and each is probed once, so this is the only driver.
    let transport = unsafe { MmioTransport::new(header, len) }.ok()?;
    let kind = match (transport.device_type(), transport.version()) {
        (DeviceType::Block | DeviceType::Network, MmioVersion::Legacy) => Kind::Legacy,
        (DeviceType::Block, MmioVersion::Modern) => Kind::Disk,
        (DeviceType::Network, MmioVersion::Modern) => Kind::Net,
        _ => return None,
    };
    Some(Found {
        kind,
        base: place.registers.base,
        interrupt: place.interrupt,
        transport,
    })
}
