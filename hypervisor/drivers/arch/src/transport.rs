//! A transport that waits for nothing without an end.

use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};

use crate::{Refusal, feature};

/// How often a register is read until it says what it should.
const PATIENCE: u32 = 100_000;
/// How often a configuration that changes meanwhile is read.
const TRIES: u32 = 16;
/// How often one interrupt is acknowledged, should its reasons keep changing meanwhile.
const ACKS: u32 = 4;

/// Another transport, with what might never end bounded.
#[derive(Debug)]
pub struct Bounded<T: Transport> {
    inner: T,
}

impl<T: Transport> Bounded<T> {
    /// The same transport, bounded.
    pub const fn new(inner: T) -> Self {
        Self { inner }
    }

    /// Resets the device. When this says `Ok`, it touches no memory any more (virtio 1.3, 2.4.1).
    pub(crate) fn reset(&mut self) -> core::result::Result<(), Refusal> {
        self.inner.set_status(DeviceStatus::empty());
        let mut polls = 0..PATIENCE;
        match polls.any(|_| self.inner.get_status() == DeviceStatus::empty()) {
            true => Ok(()),
            false => Err(Refusal::NoReset),
        }
    }

    /// Resets the device and agrees with it on those of the features that it offers; which these are. `VERSION_1` is one.
    pub(crate) fn negotiate(&mut self, wanted: u64) -> core::result::Result<u64, Refusal> {
        self.reset()?;
        let driver = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        self.inner.set_status(driver);
        let agreed = self.inner.read_device_features() & (wanted | feature::VERSION_1);
        self.inner.write_driver_features(agreed);
        self.inner.set_status(driver | DeviceStatus::FEATURES_OK);
        let kept = self.inner.get_status().contains(DeviceStatus::FEATURES_OK);
        match agreed & feature::VERSION_1 != 0 && kept {
            true => Ok(agreed),
            false => Err(Refusal::Features),
        }
    }

    /// Takes note of the device's interrupt; before its queues are looked at, so that what comes later interrupts again.
    ///
    /// All reasons are taken off, those also that appear meanwhile: an interrupt that is an edge would never come again
    /// while one is left.
    pub(crate) fn quiet(&mut self) {
        let mut acks = 0..ACKS;
        acks.any(|_| self.inner.ack_interrupt().is_empty());
        barrier();
    }
}

impl<T: Transport> Drop for Bounded<T> {
    fn drop(&mut self) {
        self.inner.set_status(DeviceStatus::empty());
    }
}

/// Orders accesses to memory and to registers, for devices as well (Arm ARM B2.3.12; DMB OSH): the queue is written before
/// the device is told, and looked at after it has said that it has written.
pub(crate) fn barrier() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "aarch64"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

impl<T: Transport> Transport for Bounded<T> {
    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }

    fn read_device_features(&mut self) -> u64 {
        self.inner.read_device_features()
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.inner.write_driver_features(driver_features);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.inner.max_queue_size(queue)
    }

    fn notify(&mut self, queue: u16) {
        barrier();
        self.inner.notify(queue);
    }

    fn get_status(&self) -> DeviceStatus {
        self.inner.get_status()
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.inner.set_status(status);
    }

    fn set_guest_page_size(&mut self, guest_page_size: u32) {
        self.inner.set_guest_page_size(guest_page_size);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.inner.requires_legacy_layout()
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.inner
            .queue_set(queue, size, descriptors, driver_area, device_area);
    }

    /// Resets the whole device instead: a driver drops its queues all at once.
    fn queue_unset(&mut self, _queue: u16) {
        self.inner.set_status(DeviceStatus::empty());
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.inner.queue_used(queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.inner.ack_interrupt()
    }

    fn read_config_generation(&self) -> u32 {
        self.inner.read_config_generation()
    }

    fn read_config_space<C>(&self, offset: usize) -> Result<C>
    where
        C: zerocopy::FromBytes + zerocopy::IntoBytes,
    {
        self.inner.read_config_space(offset)
    }

    fn write_config_space<C>(&mut self, offset: usize, value: C) -> Result<()>
    where
        C: zerocopy::IntoBytes + zerocopy::Immutable,
    {
        self.inner.write_config_space(offset, value)
    }

    fn read_consistent<C>(&self, read: impl Fn() -> Result<C>) -> Result<C> {
        for _ in 0..TRIES {
            let before = self.read_config_generation();
            let value = read();
            if before == self.read_config_generation() {
                return value;
            }
        }
        Err(Error::NotReady)
    }
}
