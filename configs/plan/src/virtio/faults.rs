//! What goes wrong on purpose in a guest's virtio devices.

use super::VirtioDevice;

/// The highest rate: always.
pub const MAX_RATE: u32 = 1_000_000;

/// How often things go wrong, each in parts per million, drawn from a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Where the draws begin: the same seed and the same requests have the same faults.
    pub seed: u64,
    /// A request is finished late.
    pub delay: u32,
    /// Less is read or written than was asked for.
    pub short: u32,
    /// A request fails.
    pub error: u32,
    /// A frame is lost, or a request never finished.
    pub drop: u32,
    /// A request is finished after a later one.
    pub reorder: u32,
    /// An interrupt is not raised.
    pub interrupt: u32,
    /// The link goes down, and up again.
    pub link: u32,
    /// The device needs to be reset.
    pub reset: u32,
}

impl Faults {
    /// The rates, in the order of the plan.
    #[must_use]
    pub const fn rates(&self) -> [u32; 8] {
        let Self {
            seed: _,
            delay,
            short,
            error,
            drop,
            reorder,
            interrupt,
            link,
            reset,
        } = *self;
        [delay, short, error, drop, reorder, interrupt, link, reset]
    }

    /// Faults of these rates.
    #[must_use]
    pub const fn new(seed: u64, rates: [u32; 8]) -> Self {
        let [delay, short, error, drop, reorder, interrupt, link, reset] = rates;
        Self {
            seed,
            delay,
            short,
            error,
            drop,
            reorder,
            interrupt,
            link,
            reset,
        }
    }
}

/// The most faults by script of one device.
pub const MAX_STRIKES: usize = 16;

/// A fault by script: exactly when something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The slot of the device.
    pub slot: u32,
    /// What goes wrong.
    pub kind: FaultKind,
    /// The first time, counted from 0.
    pub first: u64,
    /// How many times: not none, and the last one is a number.
    pub count: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Something is late.
    Delay,
    /// Less is read or written than was asked for.
    Short,
    /// A request fails.
    Error,
    /// Something is lost.
    Drop,
    /// A request is finished after a later one.
    Reorder,
    /// An interrupt is not raised.
    Interrupt,
    /// The link goes down.
    Link,
    /// The device needs to be reset.
    Reset,
}

/// What of a device is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The requests of a disk.
    Requests,
    /// The times that the driver tells of something.
    Notifications,
    /// The times that the driver is to be told.
    Interrupts,
}

impl FaultKind {
    /// All of them, in the order of the plan.
    pub const ALL: [Self; 8] = [
        Self::Delay,
        Self::Short,
        Self::Error,
        Self::Drop,
        Self::Reorder,
        Self::Interrupt,
        Self::Link,
        Self::Reset,
    ];

    /// What is counted for it of a device; `None` if it does not happen to such a device.
    #[must_use]
    pub const fn counted(self, device: &VirtioDevice) -> Option<Counted> {
        let is_disk = matches!(device, VirtioDevice::Block { .. });
        let is_card = matches!(device, VirtioDevice::Net { .. });
        match self {
            Self::Delay | Self::Short | Self::Error | Self::Drop | Self::Reorder if is_disk => {
                Some(Counted::Requests)
            }
            Self::Delay | Self::Reset => Some(Counted::Notifications),
            Self::Drop | Self::Link if is_card => Some(Counted::Notifications),
            Self::Interrupt => Some(Counted::Interrupts),
            Self::Short | Self::Error | Self::Drop | Self::Reorder | Self::Link => None,
        }
    }
}
