//! A transport that looks whether the device has accepted the features (virtio 1.3, 3.1.1, step 6).
//!
//! The drivers of `virtio-drivers` 0.13 go on without a look: `Transport::begin_init` has no way to say that it failed.

use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Another transport, by which no driver reaches a device that has refused its features.
///
/// There is nothing then but a reset: no queue, no configuration, and the device is told that its driver has given up. So a
/// driver's constructor fails.
#[derive(Debug)]
pub struct Checked<T: Transport> {
    inner: T,
    looks: bool,
    is_refused: bool,
}

impl<T: Transport> Checked<T> {
    /// The same transport; that it `looks` is what it is for.
    pub const fn new(inner: T, looks: bool) -> Self {
        Self {
            inner,
            looks,
            is_refused: false,
        }
    }
}

impl<T: Transport> Transport for Checked<T> {
    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }

    fn read_device_features(&mut self) -> u64 {
        self.inner.read_device_features()
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.inner.write_driver_features(driver_features);
    }

    /// None once the features are refused: without a queue, no driver goes on.
    fn max_queue_size(&mut self, queue: u16) -> u32 {
        match self.is_refused {
            true => 0,
            false => self.inner.max_queue_size(queue),
        }
    }

    fn notify(&mut self, queue: u16) {
        if !self.is_refused {
            self.inner.notify(queue);
        }
    }

    fn get_status(&self) -> DeviceStatus {
        self.inner.get_status()
    }

    fn set_status(&mut self, status: DeviceStatus) {
        if status.is_empty() {
            self.is_refused = false;
        }
        if self.is_refused {
            return;
        }
        self.inner.set_status(status);
        let done = status.contains(DeviceStatus::DRIVER_OK);
        if !self.looks || done || !status.contains(DeviceStatus::FEATURES_OK) {
            return;
        }
        let now = self.inner.get_status();
        if !now.contains(DeviceStatus::FEATURES_OK) {
            self.inner.set_status(now | DeviceStatus::FAILED);
            self.is_refused = true;
        }
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
        if !self.is_refused {
            let inner = &mut self.inner;
            inner.queue_set(queue, size, descriptors, driver_area, device_area);
        }
    }

    fn queue_unset(&mut self, queue: u16) {
        self.inner.queue_unset(queue);
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

    fn read_config_space<C: FromBytes + IntoBytes>(&self, offset: usize) -> Result<C> {
        match self.is_refused {
            true => Err(Error::NotReady),
            false => self.inner.read_config_space(offset),
        }
    }

    fn write_config_space<C: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: C,
    ) -> Result<()> {
        match self.is_refused {
            true => Err(Error::NotReady),
            false => self.inner.write_config_space(offset, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// What reaches the device: bits of status, or a queue.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Seen {
        Status(u32),
        Looked,
        Queue(u16),
        Notified(u16),
    }

    struct Device {
        accepts: bool,
        status: DeviceStatus,
        seen: Rc<RefCell<Vec<Seen>>>,
    }

    impl Device {
        fn see(&self, seen: Seen) {
            self.seen.borrow_mut().push(seen);
        }
    }

    impl Transport for Device {
        fn device_type(&self) -> DeviceType {
            DeviceType::Block
        }
        fn read_device_features(&mut self) -> u64 {
            1 << 32
        }
        fn write_driver_features(&mut self, _driver_features: u64) {}
        fn max_queue_size(&mut self, _queue: u16) -> u32 {
            256
        }
        fn notify(&mut self, queue: u16) {
            self.see(Seen::Notified(queue));
        }
        fn get_status(&self) -> DeviceStatus {
            self.see(Seen::Looked);
            self.status
        }
        fn set_status(&mut self, status: DeviceStatus) {
            self.see(Seen::Status(status.bits()));
            self.status = status;
            if !self.accepts {
                self.status.remove(DeviceStatus::FEATURES_OK);
            }
        }
        fn set_guest_page_size(&mut self, _guest_page_size: u32) {}
        fn requires_legacy_layout(&self) -> bool {
            false
        }
        fn queue_set(&mut self, queue: u16, _: u32, _: PhysAddr, _: PhysAddr, _: PhysAddr) {
            self.see(Seen::Queue(queue));
        }
        fn queue_unset(&mut self, _queue: u16) {}
        fn queue_used(&mut self, _queue: u16) -> bool {
            false
        }
        fn ack_interrupt(&mut self) -> InterruptStatus {
            InterruptStatus::empty()
        }
        fn read_config_generation(&self) -> u32 {
            0
        }
        fn read_config_space<C: FromBytes + IntoBytes>(&self, _offset: usize) -> Result<C> {
            Ok(C::new_zeroed())
        }
        fn write_config_space<C: IntoBytes + Immutable>(
            &mut self,
            _offset: usize,
            _value: C,
        ) -> Result<()> {
            Ok(())
        }
    }

    /// What the crate's drivers do, as far as they come, and whether that is to the end.
    fn begun(accepts: bool, looks: bool) -> (Vec<Seen>, bool) {
        let seen = Rc::default();
        let device = Device {
            accepts,
            status: DeviceStatus::empty(),
            seen: Rc::clone(&seen),
        };
        let mut way = Checked::new(device, looks);
        for bits in [0, 3, 11] {
            way.set_status(DeviceStatus::from_bits_retain(bits));
        }
        let sound = way.max_queue_size(0) > 0 && way.read_config_space::<u32>(0).is_ok();
        way.queue_set(0, 16, 0, 0, 0);
        way.finish_init();
        way.notify(0);
        let list = seen.borrow().clone();
        (list, sound && way.write_config_space(0, 0u32).is_ok())
    }

    #[test]
    fn the_status_is_read_again_after_features_ok() {
        use Seen::{Looked, Notified, Queue, Status};
        let (seen, is_driven) = begun(true, true);
        assert!(is_driven);
        let rest = [Queue(0), Status(15), Notified(0)];
        let first = [Status(0), Status(3), Status(11)];
        assert_eq!(seen, [&first[..], &[Looked], &rest].concat());
        // As the crate does it.
        assert_eq!(begun(true, false), ([first, rest].concat(), true));
    }

    #[test]
    fn a_device_that_refuses_is_left_alone_until_it_is_reset() {
        use Seen::{Looked, Status};
        let (seen, is_driven) = begun(false, true);
        assert!(!is_driven);
        assert_eq!(
            seen,
            [Status(0), Status(3), Status(11), Looked, Status(3 | 128)]
        );
        let device = Device {
            accepts: false,
            status: DeviceStatus::empty(),
            seen: Rc::default(),
        };
        let mut way = Checked::new(device, true);
        way.set_status(DeviceStatus::FEATURES_OK);
        assert_eq!(way.max_queue_size(0), 0);
        way.set_status(DeviceStatus::empty());
        assert_eq!(way.max_queue_size(0), 256);
    }
}
