//! What of virtio a guest's drivers are offered, for who tests drivers.

/// What is kept from drivers, whatever the device could do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Feature bits (virtio 1.3, 6) that no device of the guest offers; of those in [`FEATURES`](Self::FEATURES).
    pub withheld: u64,
    /// The largest size of a queue: a power of two. Zero: as large as the device makes it.
    pub queue_size: u16,
}

impl Offer {
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub const INDIRECT: u64 = 1 << 28;
    /// `VIRTIO_F_EVENT_IDX`.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// `VIRTIO_F_RING_PACKED`.
    pub const PACKED: u64 = 1 << 34;
    /// `VIRTIO_F_IN_ORDER`.
    pub const IN_ORDER: u64 = 1 << 35;
    /// `VIRTIO_F_NOTIFICATION_DATA`.
    pub const NOTIFICATION_DATA: u64 = 1 << 38;
    /// `VIRTIO_F_RING_RESET`.
    pub const RING_RESET: u64 = 1 << 40;
    /// All that can be withheld.
    pub const FEATURES: u64 = Self::INDIRECT
        | Self::EVENT_IDX
        | Self::PACKED
        | Self::IN_ORDER
        | Self::NOTIFICATION_DATA
        | Self::RING_RESET;

    /// Whether a size of queues is one.
    #[must_use]
    pub const fn is_size(queue_size: u32) -> bool {
        queue_size <= 1 << 15 && (queue_size == 0 || queue_size.is_power_of_two())
    }
}
