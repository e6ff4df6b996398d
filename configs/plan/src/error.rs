//! Why a plan was refused.

use core::fmt;

use crate::{DeviceError, NameError, Share};

/// Why a plan was refused. Each variant carries the value that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The blob ends before the header or a section does.
    Truncated,
    /// The blob does not begin with the plan's magic.
    Magic,
    /// The blob is of a version this code does not read.
    Version(u32),
    /// The header's length is not the blob's.
    Length {
        /// What the header says.
        said: u32,
        /// What there is.
        found: usize,
    },
    /// The contents do not have the header's checksum.
    Checksum {
        /// What the header says.
        said: u32,
        /// What was computed.
        found: u32,
    },
    /// The header counts more or fewer sections than there are.
    SectionCount(u32),
    /// A section of a kind this code does not know, and which is not optional.
    UnknownSection(u16),
    /// A section, of this kind, with undefined flags or reserved fields that are not zero.
    SectionFlags(u16),
    /// A section, of this kind, whose length or padding does not fit its kind.
    SectionSize(u16),
    /// A section, of this kind, owned by nobody who can own it.
    SectionOwner {
        /// The section's kind.
        kind: u16,
        /// Its owner.
        owner: u16,
    },
    /// A second section where there is but one.
    SectionTwice {
        /// The section's kind.
        kind: u16,
        /// Its owner.
        owner: u16,
    },
    /// A section that must be there is missing.
    SectionMissing {
        /// The section's kind.
        kind: u16,
        /// Its owner.
        owner: u16,
    },
    /// The plan has no guest.
    NoGuest,
    /// The machine is said to have this many CPUs: none, or more than EL2 runs on.
    Cpus(u32),
    /// A guest of the plan is not valid.
    Guest {
        /// The guest.
        guest: u32,
        /// What is wrong with it.
        error: GuestError,
    },
}

/// What is wrong with one guest of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestError {
    /// Its name is not valid.
    Name(NameError),
    /// It has the name of this earlier guest.
    NameOf(u32),
    /// It has this many lanes: none, or too many.
    Lanes(u32),
    /// A lane is on this CPU, which the machine does not have.
    CpuAbsent(u32),
    /// A lane is on this CPU, which already carries one, and one of the two is dedicated.
    CpuTaken(u32),
    /// A lane is on this CPU, which is promised more than once with it.
    CpuFull(u32),
    /// A lane's share has a number that is out of range.
    Share(Share),
    /// No known thing is done when it fails.
    OnCrash(u32),
    /// Its watchdog waits for this many milliseconds: too few, or too many.
    Watchdog(u32),
    /// Its RAM is empty, misaligned, or outside what a guest may have.
    Ram {
        /// First address.
        ipa: u64,
        /// Size.
        size: u64,
    },
    /// The host address of its RAM is misaligned or does not leave room for it.
    HostRam(u64),
    /// It shares host memory with this earlier guest.
    HostRamOf(u32),
    /// It has this many segments: none, or too many.
    SegmentCount(u32),
    /// This segment's file name is empty or has a character that file names in a bundle do not have.
    FileName(u32),
    /// A segment is empty, misaligned, or not inside its guest's RAM.
    Segment {
        /// Where it begins.
        ipa: u64,
        /// Its length.
        len: u64,
    },
    /// The segment at this address overlaps an earlier one.
    SegmentOverlap(u64),
    /// The entry is misaligned or not inside a segment.
    Entry(u64),
    /// No segment starts where the device tree was said to be.
    Dtb(u64),
    /// The device with this number cannot be given.
    Device(u32, DeviceError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated => write!(f, "the plan is cut short"),
            Self::Magic => write!(f, "this is not a plan (wrong magic)"),
            Self::Version(v) => write!(
                f,
                "plan version {v} is not known here (this reads version {})",
                crate::format::VERSION
            ),
            Self::Length { said, found } => write!(
                f,
                "the plan says it has {said} bytes, but {found} are there"
            ),
            Self::Checksum { said, found } => {
                write!(f, "the plan's checksum is {found:#010x}, not {said:#010x}")
            }
            Self::SectionCount(n) => {
                write!(f, "the plan says it has {n} sections, which it has not")
            }
            Self::UnknownSection(kind) => {
                write!(f, "section kind {kind} is not known here and not optional")
            }
            Self::SectionFlags(kind) => write!(f, "a section of kind {kind} has undefined flags"),
            Self::SectionSize(kind) => write!(f, "a section of kind {kind} has the wrong size"),
            Self::SectionOwner { kind, owner } => {
                write!(f, "a section of kind {kind} cannot belong to owner {owner}")
            }
            Self::SectionTwice { kind, owner } => {
                write!(f, "owner {owner} has two sections of kind {kind}")
            }
            Self::SectionMissing { kind, owner } => {
                write!(f, "owner {owner} has no section of kind {kind}")
            }
            Self::NoGuest => write!(f, "the plan has no guest"),
            Self::Cpus(n) => write!(f, "{n} CPUs are not between 1 and {}", crate::MAX_CPUS),
            Self::Guest { guest, error } => write!(f, "guest {guest}: {error}"),
        }
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Name(error) => write!(f, "its name {error}"),
            Self::NameOf(other) => write!(f, "it has the name of guest {other}"),
            Self::Lanes(n) => write!(f, "{n} lanes are not between 1 and {}", crate::MAX_LANES),
            Self::CpuAbsent(cpu) => write!(f, "there is no CPU {cpu}"),
            Self::CpuTaken(cpu) => write!(f, "CPU {cpu} already carries a lane"),
            Self::CpuFull(cpu) => write!(f, "CPU {cpu} is promised for more than all its time"),
            Self::Share(share) => write!(f, "no lane can have {share}"),
            Self::OnCrash(n) => write!(f, "what to do when it fails is not known: {n}"),
            Self::Watchdog(ms) => write!(f, "no watchdog waits {ms} ms"),
            Self::Ram { ipa, size } => write!(f, "{size:#x} bytes at {ipa:#x} cannot be its RAM"),
            Self::HostRam(host) => write!(f, "its RAM cannot be at host address {host:#x}"),
            Self::HostRamOf(other) => write!(f, "it shares host memory with guest {other}"),
            Self::SegmentCount(n) => write!(
                f,
                "{n} segments are not between 1 and {}",
                crate::MAX_SEGMENTS
            ),
            Self::FileName(nth) => write!(f, "segment {nth} has no valid file name"),
            Self::Segment { ipa, len } => {
                write!(f, "a segment of {len:#x} bytes cannot be at {ipa:#x}")
            }
            Self::SegmentOverlap(ipa) => write!(f, "the segment at {ipa:#x} overlaps another"),
            Self::Entry(entry) => write!(f, "the entry {entry:#x} is not inside a segment"),
            Self::Device(nth, error) => write!(f, "device {nth}: {error}"),
            Self::Dtb(dtb) => write!(f, "no segment starts at its device tree {dtb:#x}"),
        }
    }
}

impl core::error::Error for PlanError {}
impl core::error::Error for GuestError {}
