//! A plan, its rules said once more, and where its sections are.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

use configs_plan::encode::{GuestSpec, PlanSpec, SegmentSpec};
use configs_plan::{
    HOST_LIMIT, MAX_CPUS, MAX_GUESTS, MAX_LANES, MAX_SEGMENTS, PAGE, Plan, RAM_BASE, RAM_GRANULE,
    RAM_LIMIT, RamPlan, format,
};

/// A guest of 64 MiB.
pub fn guest(name: &str, cpus: &[u32]) -> GuestSpec {
    let segment = |part: &str, at: u64, len| SegmentSpec {
        file: format!("{name}/{part}"),
        ipa: RAM_BASE + at,
        len,
    };
    GuestSpec {
        name: name.to_owned(),
        ram: RamPlan {
            ipa: RAM_BASE,
            size: 64 << 20,
            host: None,
        },
        entry: RAM_BASE,
        dtb: RAM_BASE + (62 << 20),
        cpus: cpus.to_vec(),
        segments: vec![
            segment("kernel", 0, 0x1_2345),
            segment("dtb", 62 << 20, 1000),
        ],
    }
}

/// Two guests on three CPUs.
pub fn two() -> PlanSpec {
    PlanSpec {
        cpus: 3,
        deadline_ms: Some(5000),
        guests: vec![guest("alpha", &[0, 1]), guest("beta", &[2])],
    }
}

/// What a plan says, as it would be written.
pub fn spec(plan: &Plan<'_>) -> PlanSpec {
    let segment = |s: configs_plan::SegmentPlan<'_>| SegmentSpec {
        file: s.file.to_owned(),
        ipa: s.ipa,
        len: s.len,
    };
    let guest = |g: configs_plan::GuestPlan<'_>| GuestSpec {
        name: g.name().to_owned(),
        ram: g.ram(),
        entry: g.entry(),
        dtb: g.dtb(),
        cpus: g.lanes().map(|lane| lane.cpu).collect(),
        segments: g.segments().map(segment).collect(),
    };
    PlanSpec {
        cpus: plan.cpus(),
        deadline_ms: plan.deadline_ms(),
        guests: plan.guests().map(guest).collect(),
    }
}

/// The rules, said once more and in another way than the code says them.
pub fn holds(spec: &PlanSpec) -> bool {
    let mut cpus: Vec<u32> = spec.guests.iter().flat_map(|g| g.cpus.clone()).collect();
    let lanes = cpus.len();
    cpus.sort_unstable();
    cpus.dedup();
    let mut names: Vec<_> = spec.guests.iter().map(|g| g.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let mut hosts: Vec<_> = spec
        .guests
        .iter()
        .filter_map(|g| Some((g.ram.host?, g.ram.host?.checked_add(g.ram.size)?)))
        .collect();
    hosts.sort_unstable();
    let pinned = spec.guests.iter().filter(|g| g.ram.host.is_some()).count();
    cpus.len() == lanes
        && cpus.iter().all(|cpu| *cpu < spec.cpus)
        && (1..=MAX_CPUS).contains(&spec.cpus)
        && (1..=MAX_GUESTS).contains(&spec.guests.len())
        && names.len() == spec.guests.len()
        && hosts.len() == pinned
        && hosts
            .iter()
            .all(|(start, end)| start.is_multiple_of(RAM_GRANULE) && *end <= HOST_LIMIT)
        && hosts.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        && spec.guests.iter().all(guest_holds)
}

fn guest_holds(guest: &GuestSpec) -> bool {
    let name = guest.name.as_bytes();
    let Some(ram_end) = guest.ram.ipa.checked_add(guest.ram.size) else {
        return false;
    };
    let mut ranges: Vec<_> = guest
        .segments
        .iter()
        .map(|s| (s.ipa, s.ipa.saturating_add(s.len)))
        .collect();
    ranges.sort_unstable();
    (1..=31).contains(&name.len())
        && name
            .iter()
            .all(|b| b"abcdefghijklmnopqrstuvwxyz0123456789-".contains(b))
        && name[0] != b'-'
        && name != b"xdv"
        && (1..=MAX_LANES).contains(&guest.cpus.len())
        && guest.ram.ipa >= RAM_BASE
        && ram_end <= RAM_LIMIT
        && guest.ram.size != 0
        && guest.ram.ipa.is_multiple_of(RAM_GRANULE)
        && guest.ram.size.is_multiple_of(RAM_GRANULE)
        && (1..=MAX_SEGMENTS).contains(&ranges.len())
        && ranges.iter().all(|(start, end)| {
            start.is_multiple_of(PAGE) && start < end && *start >= guest.ram.ipa && *end <= ram_end
        })
        && ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        && guest
            .segments
            .iter()
            .all(|s| !s.file.is_empty() && s.file.len() <= 47)
        && guest.entry.is_multiple_of(4)
        && ranges
            .iter()
            .any(|(start, end)| (*start..*end).contains(&guest.entry))
        && ranges.iter().any(|(start, _)| *start == guest.dtb)
}

/// Walks the sections of a blob: kind, owner, where each starts and ends.
pub fn sections(blob: &[u8]) -> Vec<(u16, u16, usize, usize)> {
    let mut found = Vec::new();
    let mut at = format::HEADER;
    while at < blob.len() {
        let u16_at = |at: usize| u16::from_le_bytes([blob[at], blob[at + 1]]);
        let length = usize::from(u16_at(at + 8));
        let end = (at + format::SECTION_HEADER + length).next_multiple_of(format::SECTION_ALIGN);
        found.push((u16_at(at), u16_at(at + 4), at, end));
        at = end;
    }
    found
}

/// A count as the header has it.
pub fn count(sections: usize) -> u32 {
    u32::try_from(sections).expect("there are few")
}
