//! Virtio devices of guests, and the disks and networks behind them.
//!
//! Only who has the feature `virtio` reads these: an EL2 without virtio refuses their sections like any that it does not
//! know.

use crate::HOST_LIMIT;

mod check;
#[cfg(feature = "encode")]
pub(crate) mod encode;
mod faults;
mod lint;
mod offer;
mod read;

pub(crate) use check::plan;
pub use faults::{Counted, FaultKind, Faults, MAX_RATE, MAX_STRIKES, Strike};
pub use lint::Lint;
pub use offer::Offer;
pub use read::{Disks, Networks, Script, Virtio};

/// The most disks of one machine.
pub const MAX_DISKS: usize = 16;
/// The most networks of one machine.
pub const MAX_NETWORKS: usize = 8;
/// The most virtio devices of one guest.
pub const MAX_VIRTIO: usize = 16;
/// How many virtio-mmio slots a guest has: those of QEMU's `virt`.
pub const VIRTIO_SLOTS: u32 = 32;
/// Bytes of a sector, whatever the device behind it has (virtio 1.3, 5.2.2).
pub const SECTOR: u64 = 512;
/// A disk has fewer sectors than this: their bytes are a number that never wraps.
pub const MAX_SECTORS: u64 = HOST_LIMIT / SECTOR;
/// The longest name of a GPT partition, in bytes: it has 36 characters there (UEFI 2.10, table 5.6).
pub const MAX_PARTITION_NAME: usize = 36;
/// Images begin on a multiple of this in the bundle, so that they can be read in place.
pub const IMAGE_ALIGN: usize = 4096;
/// The highest VLAN (IEEE 802.1Q, 9.6: 4095 is reserved).
pub const MAX_VLAN: u16 = 4094;
/// The lowest context id of a guest on vsock (virtio 1.3, 5.10.4).
pub const MIN_CID: u32 = 3;
/// The highest: all ones is "any" for who listens.
pub const MAX_CID: u32 = u32::MAX - 1;

/// A disk, as guests may be given it. Texts are borrowed of the plan when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPlan<S> {
    /// Its name: as [valid](crate::check_name) as a guest's, and no other disk's.
    pub name: S,
    /// Its sectors. Zero, if that is for the machine's own disk to say: a whole one, or a partition.
    pub sectors: u64,
    /// Where its sectors are.
    pub kind: DiskKind<S>,
}

/// Where the sectors of a disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind<S> {
    /// In memory of its own, which is kept while guests begin anew. Has the image's bytes at boot, and zeros after them.
    Memory {
        /// What is in it at first, if anything.
        image: Option<Image<S>>,
    },
    /// In the bundle: nobody writes there. As large as the image.
    Readonly {
        /// What is in it.
        image: Image<S>,
    },
    /// In the bundle, with zeros after it; and what a guest writes in memory of that guest's own, for one life of it.
    Snapshot {
        /// What is in it at first.
        image: Image<S>,
        /// Bytes of that memory, for each of its users: whole pages.
        memory: u64,
    },
    /// On a virtio-blk device of the machine itself.
    Machine {
        /// Which: the n-th in the order of their addresses, from 0.
        unit: u32,
        /// Which part of it.
        part: Part<S>,
        /// Nobody may write there.
        is_readonly: bool,
    },
}

/// The image of a disk: a file of the bundle, whole sectors and not none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<S> {
    /// Name of the file in the bundle.
    pub file: S,
    /// Its length in bytes.
    pub len: u64,
}

/// Which part of a machine's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<S> {
    /// All of it.
    Whole,
    /// As many sectors as the disk says, from this one on.
    From(u64),
    /// The partition of this number, from 1, of its GPT.
    Number(u32),
    /// The partition of this name of its GPT.
    Name(S),
}

impl<S> DiskKind<S> {
    /// The file that is in it at first.
    #[must_use]
    pub const fn image(&self) -> Option<&Image<S>> {
        match self {
            Self::Memory { image } => image.as_ref(),
            Self::Readonly { image } | Self::Snapshot { image, .. } => Some(image),
            Self::Machine { .. } => None,
        }
    }

    /// Whether nobody writes there.
    #[must_use]
    pub const fn is_readonly(&self) -> bool {
        match self {
            Self::Readonly { .. } => true,
            Self::Machine { is_readonly, .. } => *is_readonly,
            Self::Memory { .. } | Self::Snapshot { .. } => false,
        }
    }

    /// Whether what one guest writes is what another would read.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match self {
            Self::Memory { .. } | Self::Machine { .. } => true,
            Self::Readonly { .. } | Self::Snapshot { .. } => false,
        }
    }
}

/// A network: guests that are on it hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkPlan<S> {
    /// Its name: as valid as a guest's, and no other network's.
    pub name: S,
    /// Whether the machine's own virtio-net device is on it too.
    pub has_uplink: bool,
    /// The IPv4 address at which the hypervisor itself answers there, if it does.
    pub echo: Option<[u8; 4]>,
}

/// One virtio device of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioPlan {
    /// The virtio-mmio slot it is in, below [`VIRTIO_SLOTS`].
    pub slot: u32,
    /// What it is.
    pub device: VirtioDevice,
}

/// What a virtio device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioDevice {
    /// A network card.
    Net {
        /// The network it is on: the n-th of the plan.
        network: u32,
        /// Its address: unicast, and no other card's of that network.
        mac: [u8; 6],
        /// The VLAN it is in; 0: what it sends bears no tag of the switch.
        vlan: u16,
        /// The bytes it may send in a second; 0: any number.
        rate: u64,
    },
    /// A disk.
    Block {
        /// The n-th of the plan.
        disk: u32,
        /// Whether this guest may not write there.
        is_readonly: bool,
    },
    /// A console.
    Console,
    /// A source of random numbers.
    Entropy,
    /// A balloon.
    Balloon,
    /// A socket device.
    Vsock {
        /// Its context id, which is no other guest's: [`MIN_CID`] to [`MAX_CID`].
        cid: u32,
        /// The guests that it may talk to, if they may talk to it: bit n is the n-th of the plan. Nobody needs leave to talk
        /// to the host.
        peers: u32,
    },
}

impl VirtioDevice {
    /// The number of its kind in a virtio device's DeviceID (virtio 1.3, section 5).
    #[must_use]
    pub const fn number(&self) -> u32 {
        match self {
            Self::Net { .. } => 1,
            Self::Block { .. } => 2,
            Self::Console => 3,
            Self::Entropy => 4,
            Self::Balloon => 5,
            Self::Vsock { .. } => 19,
        }
    }

    /// Whether a guest has one of its kind at most.
    pub(crate) const fn is_single(&self) -> bool {
        !matches!(self, Self::Net { .. } | Self::Block { .. })
    }
}
