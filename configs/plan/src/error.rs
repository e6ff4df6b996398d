//! Why a plan was refused.

use core::fmt;

use crate::format::NOBODY;

macro_rules! reasons {
    ($($(#[$attribute:meta])* $variant:ident = $text:literal,)*) => {
        /// What can be wrong with a bundle, its plan, or a guest of that. The words of each are what is printed. A number
        /// is put behind those that end with a space (decimal) or with `0x`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Why {
            $($(#[$attribute])* #[doc = $text] $variant,)*
        }

        impl Why {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$($(#[$attribute])* Self::$variant,)*];
            const TEXTS: &[&str] = &[$($(#[$attribute])* $text,)*];
        }
    };
}

reasons! {
    // The archive. The number is the offset of a member.
    ArchiveCut = "the archive is cut short in or before the member at 0x",
    Member = "the archive has no member's header at 0x",
    MemberName = "the archive has no valid name for the member at 0x",
    MemberTwice = "the archive has a member with the name of an earlier one at 0x",
    NoPlan = "the boot bundle has no `plan`",
    NoFile = "the boot bundle does not have the file of the segment at 0x",
    FileLength = "the plan has another length for a file of the boot bundle, whose bytes are ",
    // The plan and its sections. Of a section the number is the kind.
    Truncated = "the plan is cut short",
    Magic = "this is not a plan (wrong magic)",
    Version = "the plan's version is not known here: ",
    Length = "the plan does not have the length that it says: ",
    Checksum = "the plan does not have the checksum that it says: 0x",
    SectionCount = "the plan does not have the number of sections that it says: ",
    UnknownSection = "a section is not optional and of the unknown kind ",
    SectionFlags = "undefined flags in the section of kind ",
    SectionSize = "a wrong size of the section of kind ",
    SectionOwner = "there can be no section of kind ",
    SectionTwice = "there are two sections of kind ",
    SectionMissing = "there is no section of kind ",
    NoGuest = "the plan has no guest",
    Cpus = "the plan is not for 1 to 64 CPUs, but for ",
    // One guest.
    NameEmpty = "its name is empty, or no text",
    NameLong = "its name has more than 31 characters",
    NameHyphen = "its name begins with a hyphen",
    NameCharacter = "its name contains the character 0x",
    NameReserved = "its name is kept for the hypervisor itself",
    NameOf = "it has the name of guest ",
    Lanes = "it does not have 1 to 8 lanes, but ",
    CpuAbsent = "there is no CPU ",
    CpuTaken = "it is not alone on its own CPU, or on that of another: ",
    CpuFull = "it is promised more than is left of CPU ",
    Share = "no lane can have the share of its lane ",
    OnCrash = "what to do when it fails is not known: ",
    Watchdog = "no watchdog waits so many ms: ",
    Ram = "its RAM has a wrong size, or cannot be at 0x",
    HostRam = "its RAM cannot be at host address 0x",
    HostRamOf = "it shares host memory with guest ",
    SegmentCount = "it does not have 1 to 8 segments, but ",
    FileName = "no file can have the name of its segment ",
    Segment = "a segment has a wrong size, or cannot be at 0x",
    SegmentOverlap = "another segment overlaps the one at 0x",
    Entry = "it is entered outside its segments at 0x",
    Dtb = "no segment starts at its device tree 0x",
    DeviceCount = "it cannot have so many devices: ",
    DeviceKind = "it cannot have the kind of its device ",
    DeviceRegisters = "it cannot have the registers of a device at host address 0x",
    DevicePlace = "it cannot find a device at 0x",
    DeviceInterrupt = "it cannot have the interrupt of a device ",
    DeviceTaken = "it shares registers, place or interrupt of the device at host address 0x",
    // Disks and networks. The number is which.
    #[cfg(feature = "virtio")]
    DiskCount = "the plan cannot have so many disks: ",
    #[cfg(feature = "virtio")]
    DiskName = "no disk can have the name, or another one has that, of disk ",
    #[cfg(feature = "virtio")]
    DiskKind = "there is no such kind of disk as that of disk ",
    #[cfg(feature = "virtio")]
    DiskSize = "the size, image or part of the machine cannot be those of disk ",
    #[cfg(feature = "virtio")]
    DiskOverlap = "another disk has sectors of disk ",
    #[cfg(feature = "virtio")]
    DiskImage = "the boot bundle does not have, with the plan's length, the image of disk ",
    #[cfg(feature = "virtio")]
    DiskPlace = "the boot bundle does not have on a page's boundary the image of disk ",
    #[cfg(feature = "virtio")]
    NetworkCount = "the plan cannot have so many networks: ",
    #[cfg(feature = "virtio")]
    NetworkName = "no network can have the name, or another one has that, of network ",
    #[cfg(feature = "virtio")]
    NetworkKind = "there is no such kind of network as that of network ",
    #[cfg(feature = "virtio")]
    NetworkUplink = "only one network can have the uplink, but so has network ",
    // One guest's virtio devices. The number is which.
    #[cfg(feature = "virtio")]
    VirtioCount = "it cannot have so many virtio devices: ",
    #[cfg(feature = "virtio")]
    VirtioKind = "there is no such kind of device as that of its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioSlot = "it cannot have a virtio device in slot ",
    #[cfg(feature = "virtio")]
    VirtioTwice = "it can have only one device such as its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioDisk = "it cannot have, or not to write to, the disk of its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioDiskOf = "another device has, or writes to, the disk of its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioNetwork = "there is no network for its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioAddress = "no card can have the MAC address or VLAN of its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioAddressOf = "another card has the MAC address of its virtio device ",
    #[cfg(feature = "virtio")]
    VirtioCid = "no guest can have, or another one has, the context id of its virtio device ",
    #[cfg(feature = "virtio")]
    Lint = "nobody can watch this of its drivers: 0x",
    #[cfg(feature = "virtio")]
    Offer = "these features cannot be kept from its drivers: 0x",
    #[cfg(feature = "virtio")]
    QueueSize = "no queue can have this size: ",
    #[cfg(feature = "virtio")]
    FaultRate = "a fault cannot have so many parts per million: ",
    #[cfg(feature = "virtio")]
    FaultCount = "its devices cannot have so many faults by script: ",
    #[cfg(feature = "virtio")]
    FaultScript = "no device can have, or not so often, its fault by script ",
}

/// Why a plan was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// What is wrong.
    pub why: Why,
    /// Which guest it is wrong with; [`NOBODY`] when it is the machine, or the plan itself.
    pub guest: u16,
    /// The number that is wrong.
    pub value: u64,
}

impl PlanError {
    /// An error that concerns no guest.
    #[must_use]
    pub const fn new(why: Why, value: u64) -> Self {
        Self::of(NOBODY, why, value)
    }

    /// An error of one guest.
    #[must_use]
    pub const fn of(guest: u16, why: Why, value: u64) -> Self {
        Self { why, guest, value }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, guest, value } = *self;
        if guest != NOBODY {
            write!(f, "guest {}: ", u64::from(guest))?;
        }
        let text = Why::TEXTS.get(why as usize).copied().unwrap_or_default();
        f.write_str(text)?;
        match text.as_bytes().last() {
            Some(b' ') => write!(f, "{value}"),
            Some(b'x') => write!(f, "{value:x}"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for PlanError {}
