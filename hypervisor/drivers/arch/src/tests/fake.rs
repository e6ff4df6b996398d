//! A device whose other side is the test: it sees the rings as any device does, at their addresses.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

thread_local! {
    /// Pages that the memory for devices has left, in this test.
    pub static PAGES: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Memory of the host, never given back.
pub struct Memory;

// SAFETY: fresh, zeroed, aligned to pages, and never freed.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let left = PAGES.get();
        if pages > left {
            return (0, NonNull::dangling());
        }
        PAGES.set(left - pages);
        let layout = Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).unwrap();
        // SAFETY: not of size zero.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        (memory.as_ptr().expose_provenance() as u64, memory)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("there is no PCI")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>().expose_provenance() as u64
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// One queue as the driver has set it up, and how far the device has come in it.
#[derive(Clone, Copy, Default)]
pub struct Ring {
    pub size: u16,
    descriptors: u64,
    driver: u64,
    device: u64,
    pub seen: u16,
    pub used: u16,
}

/// A part of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    at: u64,
    pub len: u32,
    pub written: bool,
}

impl Part {
    pub fn read(&self) -> Vec<u8> {
        (0..u64::from(self.len))
            .map(|n| get::<u8>(self.at + n))
            .collect()
    }

    pub fn write(&self, bytes: &[u8]) {
        assert!(self.written && bytes.len() <= self.len as usize);
        for (n, byte) in bytes.iter().enumerate() {
            put(self.at + n as u64, *byte);
        }
    }
}

fn get<V: Copy>(at: u64) -> V {
    let at = std::ptr::with_exposed_provenance::<V>(usize::try_from(at).unwrap());
    // SAFETY: memory that the driver has lent and that is never freed.
    unsafe { at.read_volatile() }
}

fn put<V>(at: u64, value: V) {
    let at = std::ptr::with_exposed_provenance_mut::<V>(usize::try_from(at).unwrap());
    // SAFETY: as above.
    unsafe { at.write_volatile(value) };
}

/// The device, as its registers show it and as the test changes it.
pub struct State {
    pub kind: DeviceType,
    pub features: u64,
    pub agreed: u64,
    pub status: DeviceStatus,
    /// Bits of the status that the device keeps or drops on its own.
    pub never: DeviceStatus,
    pub always: DeviceStatus,
    pub most: u32,
    pub config: Vec<u8>,
    /// How the generation changes with each look.
    pub step: u32,
    pub generation: u32,
    pub reasons: u32,
    pub rings: [Ring; 2],
    pub notified: [u32; 2],
    pub resets: u32,
}

/// The registers.
#[derive(Clone)]
pub struct Fake(pub Rc<RefCell<State>>);

impl Fake {
    pub fn new(kind: DeviceType, features: u64, config: &[u8]) -> Self {
        Self(Rc::new(RefCell::new(State {
            kind,
            features: features | 1 << 32,
            agreed: 0,
            status: DeviceStatus::empty(),
            never: DeviceStatus::empty(),
            always: DeviceStatus::empty(),
            most: 1024,
            config: config.to_vec(),
            step: 0,
            generation: 0,
            reasons: 0,
            rings: [Ring::default(); 2],
            notified: [0; 2],
            resets: 0,
        })))
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) -> &Self {
        change(&mut self.0.borrow_mut());
        self
    }

    fn ring(&self, queue: usize) -> Ring {
        self.0.borrow().rings[queue]
    }

    /// The next chain that the driver has made available.
    pub fn pop(&self, queue: usize) -> Option<(u16, Vec<Part>)> {
        let ring = self.ring(queue);
        if ring.size == 0 || get::<u16>(ring.driver + 2) == ring.seen {
            return None;
        }
        let slot = u64::from(ring.seen % ring.size);
        let head = get::<u16>(ring.driver + 4 + 2 * slot);
        self.0.borrow_mut().rings[queue].seen = ring.seen.wrapping_add(1);
        let (mut parts, mut at) = (Vec::new(), head);
        loop {
            let descriptor = ring.descriptors + 16 * u64::from(at);
            let flags = get::<u16>(descriptor + 12);
            parts.push(Part {
                at: get(descriptor),
                len: get(descriptor + 8),
                written: flags & 2 != 0,
            });
            assert!(parts.len() <= 3);
            if flags & 1 == 0 {
                return Some((head, parts));
            }
            at = get(descriptor + 14);
        }
    }

    /// Gives a chain back, or says so.
    pub fn push(&self, queue: usize, id: u32, len: u32) {
        let ring = self.ring(queue);
        let slot = u64::from(ring.used % ring.size);
        put(ring.device + 4 + 8 * slot, id);
        put(ring.device + 8 + 8 * slot, len);
        self.set_used(queue, ring.used.wrapping_add(1));
    }

    /// Says that so many chains have been given back.
    pub fn set_used(&self, queue: usize, used: u16) {
        let mut state = self.0.borrow_mut();
        state.rings[queue].used = used;
        state.reasons |= 1;
        put(state.rings[queue].device + 2, used);
    }

    /// Asks for no notifications, or for them again.
    pub fn suppress(&self, queue: usize, quiet: bool) {
        put(self.ring(queue).device, u16::from(quiet));
    }

    /// Whether the driver asks for no interrupts.
    pub fn is_muted(&self, queue: usize) -> bool {
        get::<u16>(self.ring(queue).driver) & 1 != 0
    }
}

impl Transport for Fake {
    fn device_type(&self) -> DeviceType {
        self.0.borrow().kind
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().features
    }

    fn write_driver_features(&mut self, features: u64) {
        self.0.borrow_mut().agreed = features;
    }

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        self.0.borrow().most
    }

    fn notify(&mut self, queue: u16) {
        self.0.borrow_mut().notified[usize::from(queue)] += 1;
    }

    fn get_status(&self) -> DeviceStatus {
        let state = self.0.borrow();
        (state.status - state.never) | state.always
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let mut state = self.0.borrow_mut();
        state.status = status;
        if status.is_empty() {
            state.resets += 1;
            state.rings = [Ring::default(); 2];
        }
    }

    fn set_guest_page_size(&mut self, _size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, queue: u16, size: u32, descriptors: u64, driver: u64, device: u64) {
        self.0.borrow_mut().rings[usize::from(queue)] = Ring {
            size: size.try_into().unwrap(),
            descriptors,
            driver,
            device,
            seen: 0,
            used: 0,
        };
    }

    fn queue_unset(&mut self, _queue: u16) {
        unreachable!("it waits")
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.borrow().rings[usize::from(queue)].size != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let reasons = std::mem::take(&mut self.0.borrow_mut().reasons);
        InterruptStatus::from_bits_truncate(reasons)
    }

    fn read_config_generation(&self) -> u32 {
        let mut state = self.0.borrow_mut();
        state.generation = state.generation.wrapping_add(state.step);
        state.generation
    }

    fn read_config_space<C: FromBytes + IntoBytes>(&self, offset: usize) -> Result<C> {
        let state = self.0.borrow();
        let bytes = state.config.get(offset..).unwrap_or_default();
        let (value, _) = C::read_from_prefix(bytes).map_err(|_| Error::ConfigSpaceTooSmall)?;
        Ok(value)
    }

    fn write_config_space<C: IntoBytes + Immutable>(&mut self, _: usize, _: C) -> Result<()> {
        Ok(())
    }
}
