//! Devices of the machine that are given to guests.

use crate::{HOST_LIMIT, PAGE, Why};

/// The most devices one guest is given.
pub const MAX_DEVICES: usize = 8;
/// The largest device that is given: registers, not memory.
pub const MAX_DEVICE: u64 = 2 << 20;
/// Where a guest finds the devices it is given: the platform bus of QEMU's `virt`, which is there for just that.
pub const DEVICES_BASE: u64 = 0x0C00_0000;
/// Bytes of the platform bus.
pub const DEVICES_SIZE: u64 = 32 << 20;
/// Where a guest's real-time clock is: one that is given stands in the place of the emulated one.
pub const RTC_BASE: u64 = 0x0901_0000;
/// Its interrupt.
pub const RTC_INTID: u32 = 34;
/// The interrupts of the other devices that are given, one each: those behind the virtio-mmio slots'.
pub const DEVICES_INTIDS: core::ops::Range<u32> = 80..88;

/// A kind of device of which it is known that it never reaches for memory by itself. No others are given: without an
/// SMMU, a device that does would do so in everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A serial port (Arm PL011, DDI 0183). It has signals for a DMA controller, which it does not drive by itself.
    Pl011,
    /// A real-time clock (Arm PL031, DDI 0224).
    Pl031,
    /// General purpose input and output (Arm PL061, DDI 0190).
    Pl061,
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pl011, Self::Pl031, Self::Pl061];

    /// What a device tree calls it in `compatible`.
    #[must_use]
    pub const fn compatible(self) -> &'static str {
        match self {
            Self::Pl011 => "arm,pl011",
            Self::Pl031 => "arm,pl031",
            Self::Pl061 => "arm,pl061",
        }
    }

    /// Its number in the plan: Arm's part number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Pl011 => 0x011,
            Self::Pl031 => 0x031,
            Self::Pl061 => 0x061,
        }
    }

    /// The kind of a number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// One device of the machine, and where its guest finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// What it is.
    pub kind: DeviceKind,
    /// Where its registers are in the machine: whole pages, and nothing else is in them. This names the device: EL2 finds
    /// the rest, its interrupt too, in the machine's device tree.
    pub host: u64,
    /// Bytes of them.
    pub size: u64,
    /// Where the guest finds them.
    pub ipa: u64,
    /// The INTID of its interrupt as the guest knows it, if it has one.
    pub intid: Option<u32>,
}

impl DevicePlan {
    /// Judges it by itself. The error is what is wrong, and the number that is.
    pub(crate) fn check(&self) -> Result<(), (Why, u64)> {
        let Self {
            kind,
            host,
            size,
            ipa,
            intid,
        } = *self;
        let end = host.saturating_add(size);
        let whole = (host | size | ipa) % PAGE == 0;
        if !whole || size == 0 || size > MAX_DEVICE || end > HOST_LIMIT {
            return Err((Why::DeviceRegisters, host));
        }
        let in_place_of_rtc = ipa == RTC_BASE && size == PAGE && kind == DeviceKind::Pl031;
        let offset = ipa.wrapping_sub(DEVICES_BASE);
        let on_bus = offset < DEVICES_SIZE && size <= DEVICES_SIZE - offset;
        if !in_place_of_rtc && !on_bus {
            return Err((Why::DevicePlace, ipa));
        }
        match intid {
            Some(RTC_INTID) if in_place_of_rtc => Ok(()),
            Some(intid) if !in_place_of_rtc && DEVICES_INTIDS.contains(&intid) => Ok(()),
            Some(intid) => Err((Why::DeviceInterrupt, u64::from(intid))),
            None => Ok(()),
        }
    }

    /// Whether the same registers would be given twice.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        // Both have been checked and do not wrap.
        self.host < other.host + other.size && other.host < self.host + self.size
    }

    /// Whether one guest would find both at one place, or by one interrupt.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let place = self.ipa < other.ipa + other.size && other.ipa < self.ipa + self.size;
        place || self.intid.is_some() && self.intid == other.intid
    }
}
