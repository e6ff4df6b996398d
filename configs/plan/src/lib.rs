//! The plan: what the config compiler on the host tells EL2.
//!
//! EL2 reads no TOML. The host judges a machine file and writes down the result as a *plan*: a short
//! binary blob that says which guests there are, how much memory each owns, which physical CPU carries
//! each of its lanes and how much of it, and which files of the boot bundle go where. EL2 does not believe a word of it:
//! [`Plan::decode`] checks every field and every relation between fields again, and whoever holds a
//! [`Plan`] may rely on the [rules](#rules).
//!
//! The plan travels with the files it names in one `newc` cpio archive ([`cpio`]), so that `cpio -t`
//! lists what a machine boots. [`Bundle::open`] reads the two together.
//!
//! # Shape
//!
//! A plan is a [header](format) and a list of typed resource sections, each with the guest that owns it.
//! K lanes, memory and devices are the first kinds; others (Q allocations, Φ envelopes, channels) come
//! as further kinds. A kind this crate does not know is refused, unless its section is marked optional.
//!
//! # Rules
//!
//! Of a plan that decodes, all this is true:
//! - There are 1 to [`MAX_GUESTS`] guests, with different, [valid](check_name) names.
//! - Every guest has 1 to [`MAX_LANES`] lanes, and every lane a CPU below [`Plan::cpus`].
//! - A [dedicated](Share::Dedicated) lane has its CPU to itself. The budgets of shared lanes are not zero, not more
//!   than their periods, and on no CPU more than all of it: added [exactly](fit), without rounding.
//! - A watchdog waits for [`MIN_WATCHDOG_MS`] to [`MAX_WATCHDOG_MS`].
//! - RAM starts at or above [`RAM_BASE`], in whole [`RAM_GRANULE`]s, and ends at or below [`RAM_LIMIT`].
//! - RAM pinned to host memory is aligned there too, does not wrap, and overlaps no other guest's.
//! - Segments are page aligned, not empty, inside their guest's RAM, and do not overlap. One may begin at [`FLASH_BASE`]
//!   instead, and then ends inside the flash bank.
//! - Devices are of a kind that does no DMA, are whole pages, and are given once. Each has a place of its own: on the
//!   platform bus, or instead of the emulated real-time clock.
//! - Disks and networks have different, valid names; one network at most has the uplink. An image is whole sectors, and
//!   a disk with one is at least as large. No sector of the machine's is in two disks, as far as their numbers tell:
//!   where partitions lie, only the machine knows.
//! - A guest's virtio devices are in different slots, and their disks and networks exist. Who may write to a disk that
//!   others would read that from is its only user. Cards of one network have different, unicast addresses; context ids
//!   are different and those of guests.
//! - The entry lies inside a segment; the device tree starts a segment.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "encode")]
extern crate alloc;

mod bundle;
mod check;
pub mod cpio;
mod decode;
mod device;
#[cfg(feature = "encode")]
pub mod encode;
mod error;
pub mod format;
mod lifecycle;
mod share;
#[cfg(feature = "virtio")]
mod virtio;

pub use bundle::{Bundle, BundleError, PLAN_FILE};
pub use check::{NameError, check_name};
pub use decode::{Devices, GuestPlan, Lanes, Plan, Segments};
pub use device::{
    DEVICES_BASE, DEVICES_INTIDS, DEVICES_SIZE, DeviceKind, DevicePlan, MAX_DEVICE, MAX_DEVICES,
    RTC_BASE, RTC_INTID,
};
pub use error::{PlanError, Why};
pub use lifecycle::{MAX_WATCHDOG_MS, MIN_WATCHDOG_MS, OnCrash};
pub use share::{MAX_PERIOD_US, MAX_PRIORITY, MIN_PERIOD_US, Share, fit};
#[cfg(feature = "virtio")]
pub use virtio::{
    Counted, DiskKind, DiskPlan, Disks, FaultKind, Faults, IMAGE_ALIGN, Image, Lint, MAX_CID,
    MAX_DISKS, MAX_NETWORKS, MAX_PARTITION_NAME, MAX_RATE, MAX_SECTORS, MAX_STRIKES, MAX_VIRTIO,
    MAX_VLAN, MIN_CID, NetworkPlan, Networks, Offer, Part, SECTOR, Script, Strike, VIRTIO_SLOTS,
    Virtio, VirtioDevice, VirtioPlan,
};

/// The most guests one machine carries.
pub const MAX_GUESTS: usize = 8;
/// The most lanes (virtual CPUs) one guest has.
pub const MAX_LANES: usize = 8;
/// The most physical CPUs EL2 runs on.
pub const MAX_CPUS: u32 = 64;
/// The most segments one guest is loaded from.
pub const MAX_SEGMENTS: usize = 8;
/// The longest name of a guest, in bytes.
pub const MAX_NAME: usize = 31;
/// The longest name of a file in the bundle, in bytes.
pub const MAX_FILE_NAME: usize = 47;
/// Where a guest's RAM may begin: below lie the devices of QEMU's `virt`, whose layout guests see.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Where a guest's RAM ends at the latest: `virt` keeps its lower RAM window below 256 GiB as well.
pub const RAM_LIMIT: u64 = 1 << 38;
/// RAM comes in granules of this size, so that stage 2 can map it in 2 MiB blocks.
pub const RAM_GRANULE: u64 = 2 << 20;
/// Where firmware lies: the first flash bank of QEMU's `virt`. A guest with a segment here starts in it and has flash.
pub const FLASH_BASE: u64 = 0;
/// Bytes of that bank.
pub const FLASH_SIZE: u64 = 64 << 20;
/// Segments start on this boundary.
pub const PAGE: u64 = 4096;
/// No host physical address reaches this: 48 bits are the most without FEAT_LPA (Arm ARM D8.1.1).
pub const HOST_LIMIT: u64 = 1 << 48;

/// One guest's RAM: one range of its own address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamPlan {
    /// First address, in the guest's (intermediate physical) address space.
    pub ipa: u64,
    /// Bytes.
    pub size: u64,
    /// The host physical address behind `ipa`, where the config pins it; else EL2 chooses.
    pub host: Option<u64>,
}

/// One lane: a virtual CPU, the physical CPU that carries it, and how much of that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanePlan {
    /// Logical index of the physical CPU, in the order of `/cpus` in the machine's device tree.
    pub cpu: u32,
    /// How much of it.
    pub share: Share,
}

/// One file of the bundle and where it goes in the guest's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPlan<'a> {
    /// Name of the file in the bundle.
    pub file: &'a str,
    /// Where its first byte goes.
    pub ipa: u64,
    /// Its length in bytes.
    pub len: u64,
}
