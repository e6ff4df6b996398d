//! Writing a plan, on the host.

use alloc::string::String;
use alloc::vec::Vec;

use crate::virtio::encode as virtio;
use crate::{
    DevicePlan, DiskPlan, Faults, LanePlan, Lint, NetworkPlan, Offer, OnCrash, Plan, PlanError,
    RamPlan, Share, Strike, VirtioPlan, Why, format,
};

/// What a plan is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSpec {
    /// How many physical CPUs it needs.
    pub cpus: u32,
    /// After how many milliseconds EL2 stops everything and reports; not zero.
    pub deadline_ms: Option<u32>,
    /// The disks.
    pub disks: Vec<DiskPlan<String>>,
    /// The networks.
    pub networks: Vec<NetworkPlan<String>>,
    /// The guests.
    pub guests: Vec<GuestSpec>,
}

/// What one guest is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// Its name.
    pub name: String,
    /// Its RAM.
    pub ram: RamPlan,
    /// Where lane 0 starts.
    pub entry: u64,
    /// Where its device tree is.
    pub dtb: u64,
    /// Its lanes: the CPU of each, and how much of it.
    pub lanes: Vec<LanePlan>,
    /// What becomes of it when it fails.
    pub on_crash: OnCrash,
    /// After how many milliseconds without a sign of life it counts as hung; not zero.
    pub watchdog_ms: Option<u32>,
    /// The files to load.
    pub segments: Vec<SegmentSpec>,
    /// The devices of the machine that it is given.
    pub devices: Vec<DevicePlan>,
    /// Its virtio devices.
    pub virtio: Vec<VirtioPlan>,
    /// What is reported of its drivers' use of virtio.
    pub virtio_lint: Lint,
    /// Whether everything that its drivers and virtio devices do with queues is reported.
    pub is_virtio_traced: bool,
    /// What goes wrong on purpose in its virtio devices: some rate is not zero.
    pub faults: Option<Faults>,
    /// What goes wrong besides, and exactly when.
    pub script: Vec<Strike>,
    /// What of virtio is kept from its drivers.
    pub offer: Offer,
}

/// One file and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSpec {
    /// Its name in the bundle.
    pub file: String,
    /// Where its first byte goes.
    pub ipa: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Writes a plan.
///
/// # Errors
/// What [`Plan::decode`] says against it: nothing leaves here that EL2 would refuse.
pub fn encode(spec: &PlanSpec) -> Result<Vec<u8>, PlanError> {
    let mut out = Blob {
        bytes: Vec::new(),
        sections: 0,
    };
    out.bytes.resize(format::HEADER, 0);
    out.section(format::KIND_MACHINE, format::NOBODY, |bytes| {
        bytes.extend(spec.cpus.to_le_bytes());
        bytes.extend(spec.deadline_ms.unwrap_or(0).to_le_bytes());
    })?;
    let mut disks = Vec::new();
    for (disk, nth) in spec.disks.iter().zip(0..) {
        disks.extend(virtio::disk(nth, disk)?);
    }
    out.optional(format::KIND_DISKS, format::NOBODY, disks)?;
    let mut networks = Vec::new();
    for (network, nth) in spec.networks.iter().zip(0..) {
        networks.extend(virtio::network(nth, network)?);
    }
    out.optional(format::KIND_NETWORKS, format::NOBODY, networks)?;
    for (nth, guest) in spec.guests.iter().enumerate() {
        out.guest(u16::try_from(nth).unwrap_or(format::NOBODY), guest)?;
    }
    let mut blob = out.bytes;
    seal(&mut blob, out.sections);
    Plan::decode(&blob)?;
    Ok(blob)
}

/// Writes the header over the first bytes of `blob`, with its length and checksum. Tests use it to
/// damage a plan behind a checksum that is right.
pub fn seal(blob: &mut [u8], sections: u32) {
    let length = u32::try_from(blob.len()).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(format::HEADER);
    header.extend(format::MAGIC);
    for number in [format::VERSION, length, 0, sections] {
        header.extend(number.to_le_bytes());
    }
    if let Some(place) = blob.get_mut(..format::HEADER) {
        place.copy_from_slice(&header);
    }
    let checksum = format::checksum(blob);
    if let Some(place) = blob
        .get_mut(format::CHECKSUM_AT..)
        .and_then(|rest| rest.first_chunk_mut())
    {
        *place = checksum.to_le_bytes();
    }
}

struct Blob {
    bytes: Vec<u8>,
    sections: u32,
}

impl Blob {
    fn guest(&mut self, owner: u16, guest: &GuestSpec) -> Result<(), PlanError> {
        let name_long = PlanError::of(owner, Why::NameLong, 0);
        let name = field::<{ format::NAME_FIELD }>(&guest.name).ok_or(name_long)?;
        self.section(format::KIND_GUEST, owner, |bytes| {
            bytes.extend(guest.entry.to_le_bytes());
            bytes.extend(guest.dtb.to_le_bytes());
            bytes.extend(name);
            bytes.extend(guest.on_crash.number().to_le_bytes());
            bytes.extend(guest.watchdog_ms.unwrap_or(0).to_le_bytes());
        })?;
        self.section(format::KIND_LANES, owner, |bytes| {
            bytes.extend(guest.lanes.iter().flat_map(|lane| lane_fields(*lane)));
        })?;
        self.section(format::KIND_MEMORY, owner, |bytes| {
            bytes.extend(guest.ram.ipa.to_le_bytes());
            bytes.extend(guest.ram.size.to_le_bytes());
            bytes.extend(guest.ram.host.unwrap_or(format::HOST_ANY).to_le_bytes());
        })?;
        let mut content = Vec::new();
        for (segment, nth) in guest.segments.iter().zip(0..) {
            let no_name = PlanError::of(owner, Why::FileName, nth);
            content.extend(segment.ipa.to_le_bytes());
            content.extend(segment.len.to_le_bytes());
            content.extend(field::<{ format::FILE_FIELD }>(&segment.file).ok_or(no_name)?);
        }
        self.section(format::KIND_SEGMENTS, owner, |bytes| bytes.extend(content))?;
        let devices = guest.devices.iter().flat_map(device_fields).collect();
        self.optional(format::KIND_DEVICES, owner, devices)?;
        let devices = guest.virtio.iter().flat_map(virtio::device).collect();
        self.optional(format::KIND_VIRTIO, owner, devices)?;
        let trials = virtio::trials(guest);
        self.optional(format::KIND_TRIALS, owner, trials)
    }

    /// A section that is missing rather than empty.
    fn optional(&mut self, kind: u16, owner: u16, content: Vec<u8>) -> Result<(), PlanError> {
        if content.is_empty() {
            return Ok(());
        }
        self.section(kind, owner, |bytes| bytes.extend(content))
    }

    fn section(
        &mut self,
        kind: u16,
        owner: u16,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), PlanError> {
        let mut content = Vec::new();
        write(&mut content);
        let length = u32::try_from(content.len())
            .map_err(|_| PlanError::of(owner, Why::SectionSize, u64::from(kind)))?;
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(0u16.to_le_bytes());
        self.bytes.extend(owner.to_le_bytes());
        self.bytes.extend(0u16.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(0u32.to_le_bytes());
        self.bytes.extend(content);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(format::SECTION_ALIGN), 0);
        self.sections = self.sections.saturating_add(1);
        Ok(())
    }
}

/// A lane as the plan has it.
fn lane_fields(lane: LanePlan) -> impl Iterator<Item = u8> {
    let [budget, period, priority] = match lane.share {
        Share::Dedicated => [0; 3],
        Share::Shared {
            budget_us,
            period_us,
            priority,
        } => [budget_us, period_us, u32::from(priority)],
    };
    [lane.cpu, budget, period, priority]
        .into_iter()
        .flat_map(u32::to_le_bytes)
}

/// A device as the plan has it.
fn device_fields(device: &DevicePlan) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [device.host, device.size, device.ipa] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [device.kind.number(), device.intid.unwrap_or(0)] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

/// A text in a zero-padded field, its last byte always zero.
pub(crate) fn field<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut field = [0; N];
    if text.len() >= N {
        return None;
    }
    field
        .get_mut(..text.len())?
        .copy_from_slice(text.as_bytes());
    Some(field)
}
