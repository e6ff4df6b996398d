//! Reading a plan: from bytes nobody vouches for to a [`Plan`] that keeps the crate's rules.

use crate::format::{self, Fields};
use crate::{
    DeviceKind, DevicePlan, FLASH_BASE, GuestError, LanePlan, MAX_GUESTS, OnCrash, PlanError,
    RamPlan, SegmentPlan, Share, check,
};

/// A plan that keeps all of the [crate's rules](crate#rules).
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    cpus: u32,
    deadline_ms: u32,
    guests: [Option<GuestPlan<'a>>; MAX_GUESTS],
}

/// One guest of a plan.
#[derive(Clone, Copy, Debug)]
pub struct GuestPlan<'a> {
    index: u32,
    identity: Identity<'a>,
    ram: RamPlan,
    lanes: Fields<'a>,
    segments: Fields<'a>,
    devices: Fields<'a>,
}

/// What a guest's own section says.
#[derive(Clone, Copy, Debug)]
struct Identity<'a> {
    entry: u64,
    dtb: u64,
    name: &'a str,
    on_crash: OnCrash,
    watchdog_ms: u32,
}

impl<'a> Plan<'a> {
    /// Reads and judges a plan. Total: it neither panics nor loops on any input.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(blob: &'a [u8]) -> Result<Self, PlanError> {
        let (mut body, count) = header(blob)?;
        let mut draft = Draft::default();
        for _ in 0..count {
            draft.section(&mut body)?;
        }
        if !body.0.is_empty() {
            return Err(PlanError::SectionCount(count));
        }
        let plan = draft.finish()?;
        check::plan(&plan)?;
        Ok(plan)
    }

    /// How many physical CPUs the plan needs.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// After how many milliseconds EL2 stops everything and reports, if ever.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u32> {
        (self.deadline_ms != 0).then_some(self.deadline_ms)
    }

    /// The guests, in the order of the machine file.
    pub fn guests(&self) -> impl Iterator<Item = GuestPlan<'a>> + '_ {
        self.guests.iter().flatten().copied()
    }
}

impl<'a> GuestPlan<'a> {
    /// Its place in the machine file, from 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.identity.name
    }

    /// Its RAM.
    #[must_use]
    pub fn ram(&self) -> RamPlan {
        self.ram
    }

    /// Where lane 0 starts.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.identity.entry
    }

    /// Where its device tree is: what lane 0 finds in x0.
    #[must_use]
    pub fn dtb(&self) -> u64 {
        self.identity.dtb
    }

    /// What becomes of it when it fails.
    #[must_use]
    pub fn on_crash(&self) -> OnCrash {
        self.identity.on_crash
    }

    /// After how many milliseconds without a sign of life it counts as hung, if ever.
    #[must_use]
    pub fn watchdog_ms(&self) -> Option<u32> {
        (self.identity.watchdog_ms != 0).then_some(self.identity.watchdog_ms)
    }

    /// Its lanes, lane 0 first.
    #[must_use]
    pub fn lanes(&self) -> Lanes<'a> {
        Lanes(self.lanes)
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
        self.devices.0.len() / format::DEVICE
    }

    /// The devices of the machine that it is given.
    #[must_use]
    pub fn devices(&self) -> Devices<'a> {
        Devices(self.devices)
    }

    /// The files of its RAM and its flash.
    #[must_use]
    pub fn segments(&self) -> Segments<'a> {
        Segments(self.segments)
    }
}

/// The lanes of a guest.
#[derive(Clone, Debug)]
pub struct Lanes<'a>(Fields<'a>);

impl Iterator for Lanes<'_> {
    type Item = LanePlan;

    fn next(&mut self) -> Option<LanePlan> {
        let mut fields = Fields(self.0.bytes(format::LANE)?);
        let cpu = fields.u32()?;
        let share = match (fields.u32()?, fields.u32()?, fields.u32()?) {
            (0, 0, 0) => Share::Dedicated,
            // `decode` refuses a priority that eight bits do not hold like any other that is too high.
            (budget_us, period_us, priority) => Share::Shared {
                budget_us,
                period_us,
                priority: u8::try_from(priority).unwrap_or(u8::MAX),
            },
        };
        Some(LanePlan { cpu, share })
    }
}

/// The segments of a guest.
#[derive(Clone, Debug)]
pub struct Segments<'a>(Fields<'a>);

impl<'a> Iterator for Segments<'a> {
    type Item = SegmentPlan<'a>;

    fn next(&mut self) -> Option<SegmentPlan<'a>> {
        let (ipa, len) = (self.0.u64()?, self.0.u64()?);
        // `decode` refuses a field that is no text: it reads as an empty name, which no file has.
        let mut rest = self.0;
        let file = rest.text(format::FILE_FIELD).unwrap_or("");
        self.0.bytes(format::FILE_FIELD)?;
        Some(SegmentPlan { file, ipa, len })
    }
}

/// The devices of a guest.
#[derive(Clone, Debug)]
pub struct Devices<'a>(Fields<'a>);

impl Iterator for Devices<'_> {
    type Item = DevicePlan;

    fn next(&mut self) -> Option<DevicePlan> {
        let Self(fields) = self;
        let (host, size, ipa) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (kind, intid) = (fields.u32()?, fields.u32()?);
        Some(DevicePlan {
            // `decode` refuses a section that ends here.
            kind: DeviceKind::from_number(kind)?,
            host,
            size,
            ipa,
            intid: (intid != 0).then_some(intid),
        })
    }
}

/// Judges the header; gives what follows it and how many sections that should be.
fn header(blob: &[u8]) -> Result<(Fields<'_>, u32), PlanError> {
    let mut fields = Fields(blob);
    let magic = fields
        .bytes(format::MAGIC.len())
        .ok_or(PlanError::Truncated)?;
    if magic != format::MAGIC {
        return Err(PlanError::Magic);
    }
    let version = fields.u32().ok_or(PlanError::Truncated)?;
    if version != format::VERSION {
        return Err(PlanError::Version(version));
    }
    let length = fields.u32().ok_or(PlanError::Truncated)?;
    let said = fields.u32().ok_or(PlanError::Truncated)?;
    let count = fields.u32().ok_or(PlanError::Truncated)?;
    if usize::try_from(length).ok() != Some(blob.len()) {
        return Err(PlanError::Length {
            said: length,
            found: blob.len(),
        });
    }
    let found = format::checksum(blob).ok_or(PlanError::Truncated)?;
    if said != found {
        return Err(PlanError::Checksum { said, found });
    }
    Ok((fields, count))
}

/// What the sections have said so far.
#[derive(Default)]
struct Draft<'a> {
    machine: Option<(u32, u32)>,
    guests: [GuestDraft<'a>; MAX_GUESTS],
}

#[derive(Clone, Copy, Default)]
struct GuestDraft<'a> {
    guest: Option<Identity<'a>>,
    ram: Option<RamPlan>,
    lanes: Option<Fields<'a>>,
    segments: Option<Fields<'a>>,
    devices: Option<Fields<'a>>,
}

impl<'a> Draft<'a> {
    /// Takes one section off `body`.
    fn section(&mut self, body: &mut Fields<'a>) -> Result<(), PlanError> {
        let mut head = Fields(
            body.bytes(format::SECTION_HEADER)
                .ok_or(PlanError::Truncated)?,
        );
        let kind = head.u16().ok_or(PlanError::Truncated)?;
        let flags = head.u16().ok_or(PlanError::Truncated)?;
        let owner = head.u16().ok_or(PlanError::Truncated)?;
        let zero = head.u16().ok_or(PlanError::Truncated)?;
        let length = head.u32().ok_or(PlanError::Truncated)?;
        let zeros = head.u32().ok_or(PlanError::Truncated)?;
        if flags & !format::OPTIONAL != 0 || zero != 0 || zeros != 0 {
            return Err(PlanError::SectionFlags(kind));
        }
        let length = usize::try_from(length).map_err(|_| PlanError::Truncated)?;
        let padded = length
            .checked_next_multiple_of(format::SECTION_ALIGN)
            .ok_or(PlanError::Truncated)?;
        let mut payload = Fields(body.bytes(padded).ok_or(PlanError::Truncated)?);
        let content = Fields(payload.bytes(length).ok_or(PlanError::Truncated)?);
        if payload.0.iter().any(|byte| *byte != 0) {
            return Err(PlanError::SectionSize(kind));
        }
        match kind {
            format::KIND_MACHINE => self.machine(owner, content),
            format::KIND_GUEST
            | format::KIND_LANES
            | format::KIND_MEMORY
            | format::KIND_SEGMENTS
            | format::KIND_DEVICES => {
                let guest = self
                    .guests
                    .get_mut(usize::from(owner))
                    .ok_or(PlanError::SectionOwner { kind, owner })?;
                guest.section(kind, owner, content)
            }
            _ if flags & format::OPTIONAL != 0 => Ok(()),
            _ => Err(PlanError::UnknownSection(kind)),
        }
    }

    fn machine(&mut self, owner: u16, mut content: Fields<'a>) -> Result<(), PlanError> {
        let kind = format::KIND_MACHINE;
        if owner != format::NOBODY {
            return Err(PlanError::SectionOwner { kind, owner });
        }
        let read = content
            .u32()
            .zip(content.u32())
            .filter(|_| content.0.is_empty());
        let read = read.ok_or(PlanError::SectionSize(kind))?;
        once(&mut self.machine, read, kind, owner)
    }

    /// Puts the guests together: from 0, without a gap, each with all its sections.
    fn finish(self) -> Result<Plan<'a>, PlanError> {
        let missing = |kind, owner| PlanError::SectionMissing { kind, owner };
        let (cpus, deadline_ms) = self
            .machine
            .ok_or(missing(format::KIND_MACHINE, format::NOBODY))?;
        let mut guests = [None; MAX_GUESTS];
        let used = self
            .guests
            .iter()
            .rposition(GuestDraft::is_begun)
            .map_or(0, |last| last.saturating_add(1));
        for ((owner, place), draft) in (0u16..).zip(&mut guests).zip(&self.guests).take(used) {
            *place = Some(GuestPlan {
                index: u32::from(owner),
                identity: draft.guest.ok_or(missing(format::KIND_GUEST, owner))?,
                ram: draft.ram.ok_or(missing(format::KIND_MEMORY, owner))?,
                lanes: draft.lanes.ok_or(missing(format::KIND_LANES, owner))?,
                segments: draft
                    .segments
                    .ok_or(missing(format::KIND_SEGMENTS, owner))?,
                devices: draft.devices.unwrap_or(Fields(&[])),
            });
        }
        Ok(Plan {
            cpus,
            deadline_ms,
            guests,
        })
    }
}

impl<'a> GuestDraft<'a> {
    fn is_begun(&self) -> bool {
        self.guest.is_some()
            || self.ram.is_some()
            || self.lanes.is_some()
            || self.segments.is_some()
            || self.devices.is_some()
    }

    fn section(&mut self, kind: u16, owner: u16, mut content: Fields<'a>) -> Result<(), PlanError> {
        let wrong = PlanError::SectionSize(kind);
        match kind {
            format::KIND_GUEST => once(&mut self.guest, identity(owner, content)?, kind, owner),
            format::KIND_MEMORY => {
                let (ipa, size) = content.u64().zip(content.u64()).ok_or(wrong)?;
                let host = content
                    .u64()
                    .filter(|_| content.0.is_empty())
                    .ok_or(wrong)?;
                let host = (host != format::HOST_ANY).then_some(host);
                once(&mut self.ram, RamPlan { ipa, size, host }, kind, owner)
            }
            format::KIND_LANES if content.0.len().is_multiple_of(format::LANE) => {
                once(&mut self.lanes, content, kind, owner)
            }
            format::KIND_SEGMENTS if content.0.len().is_multiple_of(format::SEGMENT) => {
                once(&mut self.segments, content, kind, owner)
            }
            format::KIND_DEVICES if content.0.len().is_multiple_of(format::DEVICE) => {
                once(&mut self.devices, content, kind, owner)
            }
            _ => Err(wrong),
        }
    }
}

/// A guest's own section.
fn identity(owner: u16, mut content: Fields<'_>) -> Result<Identity<'_>, PlanError> {
    let wrong = PlanError::SectionSize(format::KIND_GUEST);
    let (entry, dtb) = content.u64().zip(content.u64()).ok_or(wrong)?;
    let name = content.text(format::NAME_FIELD).ok_or(wrong)?;
    let on_crash = content.u32().ok_or(wrong)?;
    let watchdog_ms = content
        .u32()
        .filter(|_| content.0.is_empty())
        .ok_or(wrong)?;
    let unknown = PlanError::Guest {
        guest: u32::from(owner),
        error: GuestError::OnCrash(on_crash),
    };
    Ok(Identity {
        entry,
        dtb,
        name,
        on_crash: OnCrash::from_number(on_crash).ok_or(unknown)?,
        watchdog_ms,
    })
}

/// Fills a place that must be empty.
fn once<T>(place: &mut Option<T>, value: T, kind: u16, owner: u16) -> Result<(), PlanError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(PlanError::SectionTwice { kind, owner }),
    }
}
