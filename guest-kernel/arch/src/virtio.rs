//! Virtio devices in the slots that the device tree names.

use crate::heap;
use crate::memory::Free;
use alloc::alloc::{alloc_zeroed, dealloc};
use arrayvec::ArrayVec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};
use guest_kernel_core::machine::{MAX_VIRTIO, Machine, VirtioSlot};
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::{BufferDirection, PAGE_SIZE, PhysAddr};

/// Enough for the queues and buffers of one device of each kind.
const HEAP_BYTES: u64 = 1 << 20;

/// What `virtio-drivers` asks of this machine: memory from the heap. Devices see addresses as we do, and caches agree.
pub struct Hal;

fn layout(pages: usize) -> Option<Layout> {
    let bytes = pages.checked_mul(PAGE_SIZE).filter(|bytes| *bytes > 0)?;
    Layout::from_size_align(bytes, PAGE_SIZE).ok()
}

fn address(buffer: NonNull<u8>) -> PhysAddr {
    buffer.as_ptr().expose_provenance() as PhysAddr
}

// SAFETY: pages come zeroed and aligned from the global allocator and are nobody else's until they go back; nothing here
// is on a PCI bus; buffers are shared as they are.
unsafe impl virtio_drivers::Hal for Hal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let memory = layout(pages).and_then(|layout| {
            // SAFETY: the layout is of more than no bytes.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        });
        // An address of 0 says that there is none.
        memory.map_or((0, NonNull::dangling()), |memory| (address(memory), memory))
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        if let Some(layout) = layout(pages) {
            // SAFETY: by the trait's contract `dma_alloc` made it, of so many pages.
            unsafe { dealloc(vaddr.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        // Only the PCI transport asks, and there is no PCI.
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        address(buffer.cast())
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// A slot, for its only user.
pub struct Slot(VirtioSlot);

impl Slot {
    /// The interrupt of what is in it.
    #[must_use]
    pub const fn intid(&self) -> u32 {
        self.0.intid
    }

    /// The way to the device in it, if there is one. It is reset when the transport is dropped.
    pub fn open(&mut self) -> Option<MmioTransport<'_>> {
        let address = usize::try_from(self.0.range.start().get()).ok()?;
        let len = usize::try_from(self.0.range.len()).ok()?;
        let header = NonNull::new(ptr::with_exposed_provenance_mut::<VirtIOHeader>(address))?;
        // SAFETY: the device tree says that a virtio-mmio slot of this size is here; `mmu::turn_on` mapped it as device
        // memory. This is the only pointer to it: there is one `Slot` of each, borrowed while the transport lives.
        unsafe { MmioTransport::new(header, len) }.ok()
    }
}

/// The machine's slots, and memory for the drivers of what is in them. There are none the second time.
pub fn slots(machine: &Machine<'_>, free: &mut Free) -> ArrayVec<Slot, MAX_VIRTIO> {
    static GIVEN: AtomicBool = AtomicBool::new(false);
    if GIVEN.swap(true, Ordering::AcqRel) {
        return ArrayVec::new();
    }
    if let Some(range) = free.take(HEAP_BYTES) {
        heap::init(range);
    }
    machine.virtio.iter().copied().map(Slot).collect()
}
