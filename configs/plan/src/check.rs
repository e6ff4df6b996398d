//! The rules a plan must keep as a whole: what no single field can break alone.

use core::fmt;

use crate::{
    DeviceError, FLASH_BASE, FLASH_SIZE, GuestError, GuestPlan, HOST_LIMIT, MAX_CPUS, MAX_DEVICES,
    MAX_LANES, MAX_NAME, MAX_SEGMENTS, MAX_WATCHDOG_MS, MIN_WATCHDOG_MS, PAGE, Plan, PlanError,
    RAM_BASE, RAM_GRANULE, RAM_LIMIT, RamPlan, Share, fit,
};

/// What is wrong with a guest's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It has more than [`MAX_NAME`] bytes.
    TooLong,
    /// It begins with a hyphen.
    LeadingHyphen,
    /// It has a character other than `a`–`z`, `0`–`9` and `-`.
    Character(char),
    /// It is kept for the hypervisor itself.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::TooLong => write!(f, "has more than {MAX_NAME} characters"),
            Self::LeadingHyphen => write!(f, "begins with a hyphen"),
            // What a terminal would obey is not shown to it.
            Self::Character(c) if c.is_control() => write!(f, "contains a control character"),
            Self::Character(c) => write!(f, "contains '{c}'"),
            Self::Reserved => write!(f, "is kept for the hypervisor itself"),
        }
    }
}

/// Whether a guest may have this name. Names stand at the head of console lines and in the bundle's file names.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let bad = |c: &char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-');
    match name.chars().find(bad) {
        Some(c) => Err(NameError::Character(c)),
        None if name.is_empty() => Err(NameError::Empty),
        None if name.len() > MAX_NAME => Err(NameError::TooLong),
        None if name.starts_with('-') => Err(NameError::LeadingHyphen),
        None if name == "xdv" => Err(NameError::Reserved),
        None => Ok(()),
    }
}

/// Judges a whole plan.
pub(crate) fn plan(plan: &Plan<'_>) -> Result<(), PlanError> {
    if plan.cpus() == 0 || plan.cpus() > MAX_CPUS {
        return Err(PlanError::Cpus(plan.cpus()));
    }
    if plan.guests().next().is_none() {
        return Err(PlanError::NoGuest);
    }
    for guest in plan.guests() {
        self::guest(plan, &guest).map_err(|error| PlanError::Guest {
            guest: guest.index(),
            error,
        })?;
    }
    Ok(())
}

fn guest(plan: &Plan<'_>, guest: &GuestPlan<'_>) -> Result<(), GuestError> {
    check_name(guest.name()).map_err(GuestError::Name)?;
    lanes(plan, guest)?;
    if let Some(ms) = guest.watchdog_ms()
        && !(MIN_WATCHDOG_MS..=MAX_WATCHDOG_MS).contains(&ms)
    {
        return Err(GuestError::Watchdog(ms));
    }
    ram(guest.ram())?;
    segments(guest)?;
    start(guest)?;
    devices(plan, guest)?;
    plan.guests()
        .take_while(|earlier| earlier.index() < guest.index())
        .try_for_each(|earlier| pair(&earlier, guest))
}

fn lanes(plan: &Plan<'_>, guest: &GuestPlan<'_>) -> Result<(), GuestError> {
    let lanes = guest.lanes().count();
    if lanes == 0 || lanes > MAX_LANES {
        return Err(GuestError::Lanes(u32::try_from(lanes).unwrap_or(u32::MAX)));
    }
    for (nth, lane) in guest.lanes().enumerate() {
        if lane.cpu >= plan.cpus() {
            return Err(GuestError::CpuAbsent(lane.cpu));
        }
        if !lane.share.is_valid() {
            return Err(GuestError::Share(lane.share));
        }
        let before = || {
            plan.guests()
                .take_while(|earlier| earlier.index() < guest.index())
                .flat_map(|earlier| earlier.lanes())
                .chain(guest.lanes().take(nth))
                .filter(|earlier| earlier.cpu == lane.cpu)
                .map(|earlier| earlier.share)
        };
        if before().any(|share| [share, lane.share].contains(&Share::Dedicated)) {
            return Err(GuestError::CpuTaken(lane.cpu));
        }
        if !fit(before().chain([lane.share])) {
            return Err(GuestError::CpuFull(lane.cpu));
        }
    }
    Ok(())
}

fn ram(ram: RamPlan) -> Result<(), GuestError> {
    let end = ram.ipa.checked_add(ram.size);
    let aligned = ram.ipa.is_multiple_of(RAM_GRANULE) && ram.size.is_multiple_of(RAM_GRANULE);
    if ram.size == 0 || !aligned || ram.ipa < RAM_BASE || end.is_none_or(|end| end > RAM_LIMIT) {
        return Err(GuestError::Ram {
            ipa: ram.ipa,
            size: ram.size,
        });
    }
    if let Some(host) = ram.host {
        let end = host.checked_add(ram.size);
        if !host.is_multiple_of(RAM_GRANULE) || end.is_none_or(|end| end > HOST_LIMIT) {
            return Err(GuestError::HostRam(host));
        }
    }
    Ok(())
}

fn segments(guest: &GuestPlan<'_>) -> Result<(), GuestError> {
    let count = guest.segments().count();
    if count == 0 || count > MAX_SEGMENTS {
        return Err(GuestError::SegmentCount(
            u32::try_from(count).unwrap_or(u32::MAX),
        ));
    }
    let ram = guest.ram();
    for (nth, segment) in guest.segments().enumerate() {
        if !file_name_is_valid(segment.file) {
            return Err(GuestError::FileName(u32::try_from(nth).unwrap_or(u32::MAX)));
        }
        let wrong = GuestError::Segment {
            ipa: segment.ipa,
            len: segment.len,
        };
        let (base, size) = if segment.ipa == FLASH_BASE {
            (FLASH_BASE, FLASH_SIZE)
        } else {
            (ram.ipa, ram.size)
        };
        let offset = segment.ipa.checked_sub(base).ok_or(wrong)?;
        let end = offset.checked_add(segment.len).ok_or(wrong)?;
        if segment.len == 0 || !segment.ipa.is_multiple_of(PAGE) || end > size {
            return Err(wrong);
        }
        if guest
            .segments()
            .take(nth)
            .any(|earlier| overlap(earlier.ipa, earlier.len, segment.ipa, segment.len))
        {
            return Err(GuestError::SegmentOverlap(segment.ipa));
        }
    }
    Ok(())
}

fn start(guest: &GuestPlan<'_>) -> Result<(), GuestError> {
    let entry = guest.entry();
    // An aligned instruction that shares a byte with a segment begins inside it: segments are page aligned.
    let inside = guest.segments().any(|s| overlap(s.ipa, s.len, entry, 4));
    if !inside || !entry.is_multiple_of(4) {
        return Err(GuestError::Entry(entry));
    }
    if !guest.segments().any(|s| s.ipa == guest.dtb()) || guest.dtb() < guest.ram().ipa {
        return Err(GuestError::Dtb(guest.dtb()));
    }
    Ok(())
}

fn devices(plan: &Plan<'_>, guest: &GuestPlan<'_>) -> Result<(), GuestError> {
    let wrong = |nth: usize, error| {
        let nth = u32::try_from(nth).unwrap_or(u32::MAX);
        Err(GuestError::Device(nth, error))
    };
    if guest.device_count() > MAX_DEVICES {
        return wrong(MAX_DEVICES, DeviceError::TooMany);
    }
    let mut known = 0;
    for (nth, device) in guest.devices().enumerate() {
        known = nth + 1;
        if let Err(error) = device.check() {
            return wrong(nth, error);
        }
        let mut before = plan
            .guests()
            .take_while(|earlier| earlier.index() < guest.index())
            .flat_map(|earlier| earlier.devices());
        let mut mine = guest.devices().take(nth);
        if before.any(|other| other.meets(&device))
            || mine.any(|other| other.meets(&device) || other.collides(&device))
        {
            return wrong(nth, DeviceError::Taken);
        }
    }
    if known != guest.device_count() {
        return wrong(known, DeviceError::Kind);
    }
    Ok(())
}

fn pair(earlier: &GuestPlan<'_>, guest: &GuestPlan<'_>) -> Result<(), GuestError> {
    if earlier.name() == guest.name() {
        return Err(GuestError::NameOf(earlier.index()));
    }
    match (earlier.ram().host, guest.ram().host) {
        (Some(a), Some(b)) if overlap(a, earlier.ram().size, b, guest.ram().size) => {
            Err(GuestError::HostRamOf(earlier.index()))
        }
        _ => Ok(()),
    }
}

/// Whether two byte ranges share a byte. Saturation is right here: a range that would wrap has been refused before.
fn overlap(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    a < b.saturating_add(b_len) && b < a.saturating_add(a_len)
}

fn file_name_is_valid(name: &str) -> bool {
    let good = |b: u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'/')
    };
    !name.is_empty() && name.bytes().all(good)
}
