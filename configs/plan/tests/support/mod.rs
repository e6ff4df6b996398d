//! A plan, its rules said once more, and where its sections are.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

pub mod any_virtio;
pub mod virtio;

use configs_plan::encode::{GuestSpec, PlanSpec, SegmentSpec};
use configs_plan::{
    DeviceKind, DevicePlan, HOST_LIMIT, LanePlan, Lint, MAX_CPUS, MAX_GUESTS, MAX_LANES,
    MAX_SEGMENTS, Offer, OnCrash, PAGE, Plan, RAM_BASE, RAM_GRANULE, RAM_LIMIT, RamPlan, Share,
    format,
};

/// A lane with a CPU to itself.
pub fn dedicated(cpu: u32) -> LanePlan {
    LanePlan {
        cpu,
        share: Share::Dedicated,
    }
}

/// A lane with a part of a CPU.
pub fn shared(cpu: u32, budget_us: u32, period_us: u32) -> LanePlan {
    LanePlan {
        cpu,
        share: Share::Shared {
            budget_us,
            period_us,
            priority: 2,
        },
    }
}

/// A real-time clock in the place of the emulated one.
pub const RTC: DevicePlan = DevicePlan {
    kind: DeviceKind::Pl031,
    host: 0x0901_0000,
    size: 0x1000,
    ipa: 0x0901_0000,
    intid: Some(34),
};
/// A serial port on the platform bus.
pub const SERIAL: DevicePlan = DevicePlan {
    kind: DeviceKind::Pl011,
    host: 0xFE20_1000,
    size: 0x1000,
    ipa: 0x0C00_0000,
    intid: Some(80),
};

/// A guest of 64 MiB with dedicated lanes.
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
        lanes: cpus.iter().copied().map(dedicated).collect(),
        on_crash: OnCrash::Stop,
        watchdog_ms: None,
        segments: vec![
            segment("kernel", 0, 0x1_2345),
            segment("dtb", 62 << 20, 1000),
        ],
        devices: Vec::new(),
        virtio: Vec::new(),
        virtio_lint: Lint::Off,
        is_virtio_traced: false,
        faults: None,
        script: Vec::new(),
        offer: Offer::default(),
    }
}

/// Two guests on three CPUs.
pub fn two() -> PlanSpec {
    PlanSpec {
        cpus: 3,
        deadline_ms: Some(5000),
        disks: Vec::new(),
        networks: Vec::new(),
        guests: vec![guest("alpha", &[0, 1]), guest("beta", &[2])],
    }
}

/// Three guests on two CPUs: two that share one, and one that has the other.
pub fn three() -> PlanSpec {
    let with = |name: &str, lanes: Vec<LanePlan>| GuestSpec {
        lanes,
        ..guest(name, &[])
    };
    PlanSpec {
        cpus: 2,
        deadline_ms: None,
        disks: Vec::new(),
        networks: Vec::new(),
        guests: vec![
            GuestSpec {
                on_crash: OnCrash::Restart,
                watchdog_ms: Some(5_000),
                devices: vec![RTC, SERIAL],
                ..with(
                    "alpha",
                    vec![shared(0, 3_000, 10_000), shared(0, 1, 1_000_000)],
                )
            },
            GuestSpec {
                on_crash: OnCrash::Hold,
                devices: vec![DevicePlan {
                    kind: DeviceKind::Pl061,
                    host: 0x903_0000,
                    size: 0x2000,
                    intid: None,
                    ..SERIAL
                }],
                ..with("beta", vec![shared(0, 500, 1_000)])
            },
            with("gamma", vec![dedicated(1)]),
        ],
    }
}

/// What a plan says, as it would be written.
pub fn spec(plan: &Plan<'_>) -> PlanSpec {
    let segment = |s: configs_plan::SegmentPlan<'_>| SegmentSpec {
        file: s.file.to_owned(),
        ipa: s.ipa,
        len: s.len,
    };
    let guest = |g: configs_plan::GuestPlan<'_, '_>| GuestSpec {
        name: g.name().to_owned(),
        ram: g.ram(),
        entry: g.entry(),
        dtb: g.dtb(),
        lanes: g.lanes().collect(),
        on_crash: g.on_crash(),
        watchdog_ms: g.watchdog_ms(),
        segments: g.segments().map(segment).collect(),
        devices: g.devices().collect(),
        virtio: g.virtio().collect(),
        virtio_lint: g.virtio_lint(),
        is_virtio_traced: g.is_virtio_traced(),
        faults: g.faults(),
        script: g.script().collect(),
        offer: g.offer(),
    };
    PlanSpec {
        cpus: plan.cpus(),
        deadline_ms: plan.deadline_ms(),
        disks: plan.disks().map(virtio::disk).collect(),
        networks: plan.networks().map(virtio::network).collect(),
        guests: plan.guests().map(guest).collect(),
    }
}

/// The rules, said once more and in another way than the code says them.
pub fn holds(spec: &PlanSpec) -> bool {
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
    (0..64).all(|cpu| cpu_holds(spec, cpu))
        && (1..=MAX_CPUS).contains(&spec.cpus)
        && (1..=MAX_GUESTS).contains(&spec.guests.len())
        && names.len() == spec.guests.len()
        && hosts.len() == pinned
        && hosts
            .iter()
            .all(|(start, end)| start.is_multiple_of(RAM_GRANULE) && *end <= HOST_LIMIT)
        && hosts.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        && devices_hold(spec)
        && virtio::holds(spec)
        && spec
            .guests
            .iter()
            .all(|g| guest_holds(g) && g.lanes.iter().all(|lane| lane.cpu < spec.cpus))
}

/// Devices are given once, each has its place, and nothing in it is another one's.
fn devices_hold(spec: &PlanSpec) -> bool {
    let apart = |mut ranges: Vec<(u64, u64)>| {
        ranges.sort_unstable();
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
    };
    let in_machine = |d: &DevicePlan| (d.host, d.host.saturating_add(d.size));
    apart(
        spec.guests
            .iter()
            .flat_map(|g| &g.devices)
            .map(in_machine)
            .collect(),
    ) && spec.guests.iter().all(|guest| {
        let devices = &guest.devices;
        let mut intids: Vec<_> = devices.iter().filter_map(|d| d.intid).collect();
        let all = intids.len();
        intids.sort_unstable();
        intids.dedup();
        let each = |d: &DevicePlan| {
            let end = d.ipa.saturating_add(d.size);
            let rtc = d.ipa == 0x901_0000;
            d.size != 0
                && d.size <= 2 << 20
                && [d.host, d.size, d.ipa]
                    .iter()
                    .all(|n| n.is_multiple_of(PAGE))
                && d.host
                    .checked_add(d.size)
                    .is_some_and(|end| end <= HOST_LIMIT)
                && (rtc && d.size == PAGE && d.kind == DeviceKind::Pl031
                    || d.ipa >= 0xC00_0000 && end <= 0xE00_0000)
                && d.intid
                    .is_none_or(|n| if rtc { n == 34 } else { (80..88).contains(&n) })
        };
        devices.len() <= 8
            && intids.len() == all
            && devices.iter().all(each)
            && apart(
                devices
                    .iter()
                    .map(|d| (d.ipa, d.ipa.saturating_add(d.size)))
                    .collect(),
            )
    })
}

/// A dedicated lane is alone; shared ones have no more than everything, over a common multiple of their periods.
fn cpu_holds(spec: &PlanSpec, cpu: u32) -> bool {
    let lanes = spec.guests.iter().flat_map(|g| &g.lanes);
    let here: Vec<Share> = lanes.filter(|l| l.cpu == cpu).map(|l| l.share).collect();
    if here.contains(&Share::Dedicated) {
        return here.len() == 1;
    }
    let (mut over, mut under) = (0u128, 1u128);
    for share in here {
        let Share::Shared {
            budget_us,
            period_us,
            priority,
        } = share
        else {
            unreachable!("there is none")
        };
        if budget_us == 0
            || budget_us > period_us
            || !(1_000..=1_000_000).contains(&period_us)
            || priority > 4
        {
            return false;
        }
        let (mut a, mut b) = (under, u128::from(period_us));
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let common = under / a * u128::from(period_us);
        over = over * (common / under) + u128::from(budget_us) * (common / u128::from(period_us));
        under = common;
    }
    over <= under
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
        && (1..=MAX_LANES).contains(&guest.lanes.len())
        && guest
            .watchdog_ms
            .is_none_or(|ms| (100..=3_600_000).contains(&ms))
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
