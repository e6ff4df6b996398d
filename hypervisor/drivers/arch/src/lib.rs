//! EL2's drivers of the machine's own virtio devices: a disk and a network card, by `virtio-drivers`.
//!
//! Nothing here waits for a device once it is open: requests are handed over, and what has come of them is asked for
//! later, when the device has interrupted or somebody looks. A device reaches nothing but buffers that are EL2's own,
//! here and for good; what guests read or write is copied by whoever uses a driver.
//!
//! A device's answers are foreign. What `virtio-drivers` would do on nonsense, and what is done about it here:
//!
//! - `pop_used` panics if the chain that it is to take back is not the one that was handed over (its own record says how
//!   long that is). It is only called with a head that is in flight, and with that head's buffers: [`disk`], [`net`].
//! - `read_consistent` and `queue_unset` wait for registers without an end: [`Bounded`] does not.
//! - The length of what was received is not compared with the buffer: it is here.
//! - `VERSION_1` is not insisted on, and whether the device kept `FEATURES_OK` is not looked at: both are here.
//!
//! A device that was caught lying is reset and never asked again, and the buffers that it had are never used again.
//! That it might write elsewhere in memory nobody can prevent without an SMMU: in this the machine's devices are trusted
//! like its RAM.
#![cfg_attr(not(test), no_std)]

pub mod disk;
mod memory;
pub mod net;
mod transport;

#[cfg(test)]
mod tests;

pub use disk::Disk;
pub use net::Net;
pub use transport::Bounded;

use virtio_drivers::Error;

/// Why a device cannot be driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is another kind of device.
    OtherDevice,
    /// It does not come back from its reset.
    NoReset,
    /// It does not offer the feature VERSION_1, or refuses the features that it was asked for out of its own.
    Features,
    /// It has no queue that is large enough.
    Queue,
    /// EL2 has too little memory set aside for it.
    Memory,
    /// Its configuration cannot be read, or makes no sense.
    Config,
}

impl Refusal {
    /// In words, after the device's name.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::OtherDevice => "is another kind of device",
            Self::NoReset => "does not come back from its reset",
            Self::Features => "does not agree to features of virtio 1",
            Self::Queue => "has no queue of the size that is needed",
            Self::Memory => "has too little memory of EL2's for its buffers",
            Self::Config => "has a configuration that makes no sense",
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::DmaError => Self::Memory,
            Error::QueueFull | Error::InvalidParam | Error::AlreadyUsed => Self::Queue,
            Error::NotReady
            | Error::WrongToken
            | Error::IoError
            | Error::Unsupported
            | Error::ConfigSpaceTooSmall
            | Error::ConfigSpaceMissing
            | Error::SocketDeviceError(_) => Self::Config,
        }
    }
}

/// Feature bits that every device has (virtio 1.3, 6).
mod feature {
    /// `VIRTIO_F_EVENT_IDX`.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// `VIRTIO_F_VERSION_1`.
    pub const VERSION_1: u64 = 1 << 32;
}

/// The pages that a queue of so many descriptors takes: one part that the driver writes, and one that the device does
/// (virtio 1.3, 2.7).
const fn queue_pages(size: usize) -> usize {
    use virtio_drivers::PAGE_SIZE;
    (16 * size + 6 + 2 * size).div_ceil(PAGE_SIZE) + (6 + 8 * size).div_ceil(PAGE_SIZE)
}
