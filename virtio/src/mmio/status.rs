//! The device status field: virtio 1.3, 2.1 and 3.1.

use bitflags::bitflags;

bitflags! {
    /// How far the driver has come, and whether one of both has given up.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Status: u32 {
        /// The driver has seen the device.
        const ACKNOWLEDGE = 1;
        /// It knows how to drive it.
        const DRIVER = 2;
        /// It drives.
        const DRIVER_OK = 4;
        /// Both agree on features.
        const FEATURES_OK = 8;
        /// The device does nothing more before a reset.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

/// The steps of initialisation in their order (3.1.1), and what each of them stands on. Nothing stands on the first one:
/// U-Boot acknowledges a device, resets it, and goes on with `DRIVER`.
const STEPS: [(Status, Status); 4] = [
    (Status::ACKNOWLEDGE, Status::empty()),
    (Status::DRIVER, Status::empty()),
    (Status::FEATURES_OK, Status::DRIVER),
    (Status::DRIVER_OK, Status::DRIVER.union(Status::FEATURES_OK)),
];

impl Status {
    /// Nothing goes on until the driver resets the device.
    const END: Self = Self::NEEDS_RESET.union(Self::FAILED);

    /// Whether the device works: the driver is ready, and nobody has given up.
    pub const fn is_live(self) -> bool {
        self.contains(Self::DRIVER_OK) && !self.intersects(Self::END)
    }

    /// Whether queues may be set up: features are agreed on, and nobody has given up.
    pub(super) const fn takes_queues(self) -> bool {
        self.contains(Self::FEATURES_OK) && !self.intersects(Self::END)
    }

    /// What becomes of it when the driver writes something other than zero. `fit` is whether the features that the driver
    /// has written are such that the device can work with them.
    ///
    /// Bits are only added: a driver must not clear one (2.1.1), `NEEDS_RESET` is the device's, and what has no meaning
    /// stays zero. Several steps in one write are taken in their order; a step whose predecessor is missing is not taken,
    /// which the driver sees when it reads the field.
    pub(super) fn advance(self, written: Self, fit: bool) -> Self {
        let mut now = self | (written & Self::FAILED);
        if now.intersects(Self::END) {
            return now;
        }
        for (step, before) in STEPS {
            let refused = step == Self::FEATURES_OK && !fit;
            if written.contains(step) && now.contains(before) && !refused {
                now |= step;
            }
        }
        now
    }
}
