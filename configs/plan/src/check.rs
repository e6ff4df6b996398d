//! The rules a plan must keep as a whole: what no single field can break alone.

use core::fmt;

use crate::share::Sum;
use crate::{
    FLASH_BASE, FLASH_SIZE, GuestPlan, HOST_LIMIT, MAX_CPUS, MAX_DEVICES, MAX_LANES, MAX_NAME,
    MAX_SEGMENTS, MAX_WATCHDOG_MS, MIN_WATCHDOG_MS, OnCrash, PAGE, Plan, PlanError, RAM_BASE,
    RAM_GRANULE, RAM_LIMIT, Share, Why,
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
    let cpus = plan.cpus();
    if cpus == 0 || cpus > MAX_CPUS {
        return Err(PlanError::new(Why::Cpus, u64::from(cpus)));
    }
    if plan.guests().next().is_none() {
        return Err(PlanError::new(Why::NoGuest, 0));
    }
    for guest in plan.guests() {
        name(&guest)?;
        lanes(&guest, cpus)?;
        end(&guest)?;
        ram(&guest)?;
        segments(&guest)?;
        start(&guest)?;
        devices(&guest)?;
        for earlier in plan.guests() {
            if earlier.index() >= guest.index() {
                break;
            }
            pair(&earlier, &guest)?;
        }
    }
    for cpu in 0..cpus {
        carries(plan, cpu)?;
    }
    #[cfg(feature = "virtio")]
    crate::virtio::plan(plan)?;
    Ok(())
}

fn name(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let (why, value) = match check_name(guest.name()) {
        Ok(()) => return Ok(()),
        Err(NameError::Empty) => (Why::NameEmpty, 0),
        Err(NameError::TooLong) => (Why::NameLong, 0),
        Err(NameError::LeadingHyphen) => (Why::NameHyphen, 0),
        Err(NameError::Character(c)) => (Why::NameCharacter, u64::from(c)),
        Err(NameError::Reserved) => (Why::NameReserved, 0),
    };
    Err(guest.wrong(why, value))
}

fn lanes(guest: &GuestPlan<'_, '_>, cpus: u32) -> Result<(), PlanError> {
    let count = guest.lanes().count();
    if count == 0 || count > MAX_LANES {
        return Err(guest.wrong(Why::Lanes, count as u64));
    }
    for (nth, lane) in (0..).zip(guest.lanes()) {
        if lane.cpu >= cpus {
            return Err(guest.wrong(Why::CpuAbsent, u64::from(lane.cpu)));
        }
        if !lane.share.is_valid() {
            return Err(guest.wrong(Why::Share, nth));
        }
    }
    Ok(())
}

/// Whether one CPU can carry the lanes on it, each of which is valid.
fn carries(plan: &Plan<'_>, cpu: u32) -> Result<(), PlanError> {
    let mut sum = Sum::ZERO;
    let (mut taken, mut dedicated) = (false, false);
    for guest in plan.guests() {
        for lane in guest.lanes() {
            if lane.cpu != cpu {
                continue;
            }
            dedicated |= lane.share == Share::Dedicated;
            if taken && dedicated {
                return Err(guest.wrong(Why::CpuTaken, u64::from(cpu)));
            }
            taken = true;
            sum.add(lane.share);
            if !sum.is_at_most_one() {
                return Err(guest.wrong(Why::CpuFull, u64::from(cpu)));
            }
        }
    }
    Ok(())
}

/// What becomes of it in the end.
fn end(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let number = guest.on_crash_number();
    if OnCrash::from_number(number).is_none() {
        return Err(guest.wrong(Why::OnCrash, u64::from(number)));
    }
    match guest.watchdog_ms() {
        Some(ms) if !(MIN_WATCHDOG_MS..=MAX_WATCHDOG_MS).contains(&ms) => {
            Err(guest.wrong(Why::Watchdog, u64::from(ms)))
        }
        _ => Ok(()),
    }
}

fn ram(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let ram = guest.ram();
    // Neither sum is near the end of its 64 bits when it counts: each part has been compared by itself.
    let end = ram.ipa.saturating_add(ram.size);
    let aligned = (ram.ipa | ram.size).is_multiple_of(RAM_GRANULE);
    if ram.size == 0 || !aligned || ram.ipa < RAM_BASE || end > RAM_LIMIT {
        return Err(guest.wrong(Why::Ram, ram.ipa));
    }
    match ram.host {
        Some(host)
            if !host.is_multiple_of(RAM_GRANULE) || host.saturating_add(ram.size) > HOST_LIMIT =>
        {
            Err(guest.wrong(Why::HostRam, host))
        }
        _ => Ok(()),
    }
}

fn segments(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let ram = guest.ram();
    let count = guest.segments().count();
    if count == 0 || count > MAX_SEGMENTS {
        return Err(guest.wrong(Why::SegmentCount, count as u64));
    }
    for (nth, segment) in guest.segments().enumerate() {
        if !file_name_is_valid(segment.file) {
            return Err(guest.wrong(Why::FileName, nth as u64));
        }
        let (base, size) = if segment.ipa == FLASH_BASE {
            (FLASH_BASE, FLASH_SIZE)
        } else {
            (ram.ipa, ram.size)
        };
        let inside =
            segment.ipa >= base && segment.len <= size && segment.ipa - base <= size - segment.len;
        if segment.len == 0 || !segment.ipa.is_multiple_of(PAGE) || !inside {
            return Err(guest.wrong(Why::Segment, segment.ipa));
        }
        for earlier in guest.segments().take(nth) {
            if overlap(earlier.ipa, earlier.len, segment.ipa, segment.len) {
                return Err(guest.wrong(Why::SegmentOverlap, segment.ipa));
            }
        }
    }
    Ok(())
}

fn start(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let (entry, dtb) = (guest.entry(), guest.dtb());
    let (mut entered, mut described) = (false, false);
    for segment in guest.segments() {
        // An aligned instruction that shares a byte with a segment begins inside it: segments are page aligned.
        entered |= overlap(segment.ipa, segment.len, entry, 4);
        described |= segment.ipa == dtb;
    }
    if !entered || !entry.is_multiple_of(4) {
        return Err(guest.wrong(Why::Entry, entry));
    }
    if !described || dtb < guest.ram().ipa {
        return Err(guest.wrong(Why::Dtb, dtb));
    }
    Ok(())
}

fn devices(guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let count = guest.device_count();
    if count > MAX_DEVICES {
        return Err(guest.wrong(Why::DeviceCount, count as u64));
    }
    let mut known = 0;
    for device in guest.devices() {
        if let Err((why, value)) = device.check() {
            return Err(guest.wrong(why, value));
        }
        for mine in guest.devices().take(known) {
            if mine.meets(&device) || mine.collides(&device) {
                return Err(guest.wrong(Why::DeviceTaken, device.host));
            }
        }
        known += 1;
    }
    if known != count {
        return Err(guest.wrong(Why::DeviceKind, known as u64));
    }
    Ok(())
}

fn pair(earlier: &GuestPlan<'_, '_>, guest: &GuestPlan<'_, '_>) -> Result<(), PlanError> {
    let other = u64::from(earlier.index());
    if earlier.name() == guest.name() {
        return Err(guest.wrong(Why::NameOf, other));
    }
    let (a, b) = (earlier.ram(), guest.ram());
    if let (Some(at), Some(here)) = (a.host, b.host)
        && overlap(at, a.size, here, b.size)
    {
        return Err(guest.wrong(Why::HostRamOf, other));
    }
    for device in guest.devices() {
        for theirs in earlier.devices() {
            if theirs.meets(&device) {
                return Err(guest.wrong(Why::DeviceTaken, device.host));
            }
        }
    }
    Ok(())
}

/// Whether two byte ranges share a byte. Saturation is right here: a range that would wrap has been refused before.
pub(crate) fn overlap(a: u64, a_len: u64, b: u64, b_len: u64) -> bool {
    a < b.saturating_add(b_len) && b < a.saturating_add(a_len)
}

pub(crate) fn file_name_is_valid(name: &str) -> bool {
    let good = |b: u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b'/')
    };
    !name.is_empty() && name.bytes().all(good)
}
