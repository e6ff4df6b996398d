//! Reading a plan: from bytes nobody vouches for to a [`Plan`] that keeps the crate's rules.
//!
//! A plan stays in its bytes: decoding proves that every section is there and has the size of its kind, and
//! `check` that what the fields say keeps the rules. Fields are read where they are asked for.

use crate::format::{self, number, text};
use crate::{
    DeviceKind, DevicePlan, FLASH_BASE, LanePlan, MAX_GUESTS, OnCrash, PlanError, RamPlan,
    SegmentPlan, Share, Why, check,
};

/// How many kinds of sections a guest has: the kinds from [`format::KIND_GUEST`] on.
const KINDS: usize = if cfg!(feature = "virtio") { 7 } else { 5 };

/// The contents of a guest's sections, by kind.
type Sections<'a> = [Option<&'a [u8]>; KINDS];

/// A plan that keeps all of the [crate's rules](crate#rules).
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    machine: Option<&'a [u8]>,
    #[cfg(feature = "virtio")]
    pub(crate) disks: Option<&'a [u8]>,
    #[cfg(feature = "virtio")]
    pub(crate) networks: Option<&'a [u8]>,
    guests: [Sections<'a>; MAX_GUESTS],
    count: usize,
}

/// One guest of a plan.
#[derive(Clone, Copy, Debug)]
pub struct GuestPlan<'p, 'a> {
    index: u16,
    sections: &'p Sections<'a>,
}

impl<'a> Plan<'a> {
    /// Reads and judges a plan. Total: it neither panics nor loops on any input.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(blob: &'a [u8]) -> Result<Self, PlanError> {
        let (mut body, count) = header(blob)?;
        let mut plan = Self {
            machine: None,
            #[cfg(feature = "virtio")]
            disks: None,
            #[cfg(feature = "virtio")]
            networks: None,
            guests: [[None; KINDS]; MAX_GUESTS],
            count: 0,
        };
        for _ in 0..count {
            body = plan.section(body)?;
        }
        if !body.is_empty() {
            return Err(PlanError::new(Why::SectionCount, count));
        }
        plan.complete()?;
        check::plan(&plan)?;
        Ok(plan)
    }

    /// How many physical CPUs the plan needs.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        short(self.machine.unwrap_or_default(), 0)
    }

    /// After how many milliseconds EL2 stops everything and reports, if ever.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u32> {
        some(short(self.machine.unwrap_or_default(), 4))
    }

    /// The guests, in the order of the machine file.
    pub fn guests(&self) -> impl Iterator<Item = GuestPlan<'_, 'a>> {
        let all = (0..).zip(&self.guests).take(self.count);
        all.map(|(index, sections)| GuestPlan { index, sections })
    }
}

impl<'a> GuestPlan<'_, 'a> {
    /// What a section says.
    pub(crate) fn section(&self, kind: u16) -> &'a [u8] {
        let place = self.sections.get(place(kind));
        place.copied().flatten().unwrap_or_default()
    }

    /// Its place in the machine file, from 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        u32::from(self.index)
    }

    /// The complaint about it.
    #[cold]
    #[inline(never)]
    pub(crate) fn wrong(&self, why: Why, value: u64) -> PlanError {
        PlanError::of(self.index, why, value)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        name(self.section(format::KIND_GUEST)).unwrap_or_default()
    }

    /// Its RAM.
    #[must_use]
    pub fn ram(&self) -> RamPlan {
        let ram = self.section(format::KIND_MEMORY);
        let host = long(ram, 16);
        RamPlan {
            ipa: long(ram, 0),
            size: long(ram, 8),
            host: (host != format::HOST_ANY).then_some(host),
        }
    }

    /// Where lane 0 starts.
    #[must_use]
    pub fn entry(&self) -> u64 {
        long(self.section(format::KIND_GUEST), 0)
    }

    /// Where its device tree is: what lane 0 finds in x0.
    #[must_use]
    pub fn dtb(&self) -> u64 {
        long(self.section(format::KIND_GUEST), 8)
    }

    /// The number that stands for what becomes of it when it fails, for the judge.
    pub(crate) fn on_crash_number(&self) -> u32 {
        short(self.section(format::KIND_GUEST), 48)
    }

    /// What becomes of it when it fails.
    #[must_use]
    pub fn on_crash(&self) -> OnCrash {
        // The number has been judged.
        OnCrash::from_number(self.on_crash_number()).unwrap_or_default()
    }

    /// After how many milliseconds without a sign of life it counts as hung, if ever.
    #[must_use]
    pub fn watchdog_ms(&self) -> Option<u32> {
        some(short(self.section(format::KIND_GUEST), 52))
    }

    /// Its lanes, lane 0 first.
    #[must_use]
    pub fn lanes(&self) -> Lanes<'a> {
        Lanes(self.section(format::KIND_LANES))
    }

    /// Its firmware, if it has any: the segment in its flash.
    #[must_use]
    pub fn flash(&self) -> Option<SegmentPlan<'a>> {
        self.segments().find(|segment| segment.ipa == FLASH_BASE)
    }

    /// The files to load into its RAM.
    pub fn loads(&self) -> impl Iterator<Item = SegmentPlan<'a>> + use<'a> {
        self.segments().filter(|segment| segment.ipa != FLASH_BASE)
    }

    /// How many devices its section has, for the judge.
    pub(crate) fn device_count(&self) -> usize {
        self.section(format::KIND_DEVICES).len() / format::DEVICE
    }

    /// The devices of the machine that it is given.
    #[must_use]
    pub fn devices(&self) -> Devices<'a> {
        Devices(self.section(format::KIND_DEVICES))
    }

    /// The files of its RAM and its flash.
    #[must_use]
    pub fn segments(&self) -> Segments<'a> {
        Segments(self.section(format::KIND_SEGMENTS))
    }
}

/// The lanes of a guest.
#[derive(Clone, Debug)]
pub struct Lanes<'a>(&'a [u8]);

impl Iterator for Lanes<'_> {
    type Item = LanePlan;

    #[inline(never)]
    fn next(&mut self) -> Option<LanePlan> {
        let (lane, rest) = self.0.split_at_checked(format::LANE)?;
        self.0 = rest;
        let share = match (short(lane, 4), short(lane, 8), short(lane, 12)) {
            (0, 0, 0) => Share::Dedicated,
            // `decode` refuses a priority that eight bits do not hold like any other that is too high.
            (budget_us, period_us, priority) => Share::Shared {
                budget_us,
                period_us,
                priority: u8::try_from(priority).unwrap_or(u8::MAX),
            },
        };
        let cpu = short(lane, 0);
        Some(LanePlan { cpu, share })
    }
}

/// The segments of a guest.
#[derive(Clone, Debug)]
pub struct Segments<'a>(&'a [u8]);

impl<'a> Iterator for Segments<'a> {
    type Item = SegmentPlan<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<SegmentPlan<'a>> {
        let (segment, rest) = self.0.split_at_checked(format::SEGMENT)?;
        self.0 = rest;
        // `decode` refuses a field that is no text: it reads as an empty name, which no file has.
        let file = segment.get(16..).and_then(text).unwrap_or("");
        let (ipa, len) = (long(segment, 0), long(segment, 8));
        Some(SegmentPlan { file, ipa, len })
    }
}

/// The devices of a guest.
#[derive(Clone, Debug)]
pub struct Devices<'a>(&'a [u8]);

impl Iterator for Devices<'_> {
    type Item = DevicePlan;

    #[inline(never)]
    fn next(&mut self) -> Option<DevicePlan> {
        let (device, rest) = self.0.split_at_checked(format::DEVICE)?;
        self.0 = rest;
        Some(DevicePlan {
            // `decode` refuses a section that ends here.
            kind: DeviceKind::from_number(short(device, 24))?,
            host: long(device, 0),
            size: long(device, 8),
            ipa: long(device, 16),
            intid: some(short(device, 28)),
        })
    }
}

/// A field of four bytes.
pub(crate) fn short(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(number(bytes, at, 4)).unwrap_or(0)
}

/// A field of eight bytes.
pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at, 8)
}

/// A number of which zero says that there is none.
fn some(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

/// The name in a guest's own section.
fn name(guest: &[u8]) -> Option<&str> {
    guest.get(16..16 + format::NAME_FIELD).and_then(text)
}

/// Where a guest keeps the section of this kind.
fn place(kind: u16) -> usize {
    usize::from(kind.wrapping_sub(format::KIND_GUEST))
}

/// Judges the header; gives what follows it and how many sections that should be.
fn header(blob: &[u8]) -> Result<(&[u8], u64), PlanError> {
    let (header, body) = blob.split_at_checked(format::HEADER).ok_or(CUT)?;
    if !header.starts_with(&format::MAGIC) {
        return Err(PlanError::new(Why::Magic, 0));
    }
    let word = |at| number(header, at, 4);
    let (version, length, checksum) = (word(8), word(12), word(16));
    if version != u64::from(format::VERSION) {
        return Err(PlanError::new(Why::Version, version));
    }
    if length != blob.len() as u64 {
        return Err(PlanError::new(Why::Length, length));
    }
    if checksum != u64::from(format::checksum(blob)) {
        return Err(PlanError::new(Why::Checksum, checksum));
    }
    Ok((body, word(20)))
}

/// The plan ends where it should not.
const CUT: PlanError = PlanError::new(Why::Truncated, 0);

impl<'a> Plan<'a> {
    /// Takes one section off `body`.
    fn section(&mut self, body: &'a [u8]) -> Result<&'a [u8], PlanError> {
        let (head, rest) = body.split_at_checked(format::SECTION_HEADER).ok_or(CUT)?;
        let half = |at| u16::try_from(number(head, at, 2)).unwrap_or(0);
        let (kind, flags, owner) = (half(0), half(2), half(4));
        let wrong = |why| Err(PlanError::of(owner, why, u64::from(kind)));
        let zeros = number(head, 6, 2) | number(head, 12, 4);
        if flags & !format::OPTIONAL != 0 || zeros != 0 {
            return wrong(Why::SectionFlags);
        }
        let length = short(head, 8) as usize;
        let padded = length.next_multiple_of(format::SECTION_ALIGN);
        let (payload, rest) = rest.split_at_checked(padded).ok_or(CUT)?;
        let (content, padding) = payload.split_at_checked(length).ok_or(CUT)?;
        if number(padding, 0, format::SECTION_ALIGN) != 0 {
            return wrong(Why::SectionSize);
        }
        let sound = match kind {
            format::KIND_MACHINE => length == format::MACHINE,
            format::KIND_GUEST => length == format::GUEST,
            format::KIND_MEMORY => length == format::MEMORY,
            format::KIND_LANES => length.is_multiple_of(format::LANE),
            format::KIND_SEGMENTS => length.is_multiple_of(format::SEGMENT),
            format::KIND_DEVICES => length.is_multiple_of(format::DEVICE),
            #[cfg(feature = "virtio")]
            format::KIND_VIRTIO => length.is_multiple_of(format::VIRTIO),
            #[cfg(feature = "virtio")]
            format::KIND_TRIALS => length
                .checked_sub(format::TRIALS)
                .is_some_and(|script| script.is_multiple_of(format::STRIKE)),
            #[cfg(feature = "virtio")]
            format::KIND_DISKS => length.is_multiple_of(format::DISK),
            #[cfg(feature = "virtio")]
            format::KIND_NETWORKS => length.is_multiple_of(format::NETWORK),
            _ if flags & format::OPTIONAL != 0 => return Ok(rest),
            _ => return wrong(Why::UnknownSection),
        };
        if !sound {
            return wrong(Why::SectionSize);
        }
        let guest = self.guests.get_mut(usize::from(owner));
        let slot = match kind {
            format::KIND_MACHINE if owner == format::NOBODY => Some(&mut self.machine),
            #[cfg(feature = "virtio")]
            format::KIND_DISKS if owner == format::NOBODY => Some(&mut self.disks),
            #[cfg(feature = "virtio")]
            format::KIND_NETWORKS if owner == format::NOBODY => Some(&mut self.networks),
            // A kind that is no guest's has no place there.
            _ => guest.and_then(|guest| guest.get_mut(place(kind))),
        };
        match slot.map(|slot| slot.replace(content)) {
            None => wrong(Why::SectionOwner),
            Some(Some(_)) => wrong(Why::SectionTwice),
            Some(None) => {
                if owner != format::NOBODY {
                    self.count = self.count.max(usize::from(owner) + 1);
                }
                Ok(rest)
            }
        }
    }

    /// Whether nothing is missing: guests from 0, without a gap, each with all sections that must be there.
    fn complete(&self) -> Result<(), PlanError> {
        if self.machine.is_none() {
            let kind = u64::from(format::KIND_MACHINE);
            return Err(PlanError::new(Why::SectionMissing, kind));
        }
        for guest in self.guests() {
            for kind in format::KIND_GUEST..format::KIND_DEVICES {
                if guest.sections.get(place(kind)).is_none_or(Option::is_none) {
                    return Err(guest.wrong(Why::SectionMissing, u64::from(kind)));
                }
            }
        }
        Ok(())
    }
}
