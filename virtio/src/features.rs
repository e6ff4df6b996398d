//! Feature bits that belong to no device: virtio 1.3, 6.

use bitflags::bitflags;

bitflags! {
    /// Feature bits, those of devices (0 to 23, 50 to 127) among them as they are.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Features: u64 {
        /// `VIRTIO_F_INDIRECT_DESC`.
        const INDIRECT_DESC = 1 << 28;
        /// `VIRTIO_F_EVENT_IDX`.
        const EVENT_IDX = 1 << 29;
        /// `VIRTIO_F_VERSION_1`.
        const VERSION_1 = 1 << 32;
        /// `VIRTIO_F_ACCESS_PLATFORM`: never offered. Devices reach memory by IPA, and there is no IOMMU between.
        const ACCESS_PLATFORM = 1 << 33;
        /// `VIRTIO_F_RING_PACKED`.
        const RING_PACKED = 1 << 34;
        /// `VIRTIO_F_IN_ORDER`.
        const IN_ORDER = 1 << 35;
        /// `VIRTIO_F_NOTIFICATION_DATA`.
        const NOTIFICATION_DATA = 1 << 38;
        /// `VIRTIO_F_RING_RESET`.
        const RING_RESET = 1 << 40;

        const _ = !0;
    }
}

impl Features {
    /// What transport and queues offer beside a device's own.
    pub const RING: Self = Self::INDIRECT_DESC
        .union(Self::EVENT_IDX)
        .union(Self::VERSION_1)
        .union(Self::RING_PACKED)
        .union(Self::IN_ORDER)
        .union(Self::NOTIFICATION_DATA)
        .union(Self::RING_RESET);
}
