//! Damaged plans: refused, or plans that keep the rules. Never a panic.
#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of a test fail by panicking"
)]

mod support;

use configs_plan::encode::{GuestSpec, PlanSpec, SegmentSpec, encode, seal};
use configs_plan::format;
use configs_plan::{
    DeviceKind, DevicePlan, HOST_LIMIT, LanePlan, OnCrash, PAGE, Plan, PlanError, RAM_BASE,
    RAM_GRANULE, RamPlan, Share, Why,
};
use proptest::prelude::*;
use support::any_virtio;
use support::virtio::full;
use support::{count, holds, spec, three, two};

/// The blob with some bytes written over.
fn changed(blob: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut blob = blob.to_vec();
    blob[at..at + bytes.len()].copy_from_slice(bytes);
    blob
}

/// An error of the plan as a whole.
fn wrong<T>(why: Why, value: u64) -> Result<T, PlanError> {
    Err(PlanError::new(why, value))
}

fn decode(blob: &[u8]) -> Result<PlanSpec, PlanError> {
    Plan::decode(blob).map(|plan| spec(&plan))
}

/// What is read of a blob that says it has `n` sections, behind a right checksum.
fn sealed(mut blob: Vec<u8>, n: u32) -> Result<PlanSpec, PlanError> {
    seal(&mut blob, n);
    decode(&blob)
}

#[test]
fn damaged_headers_are_refused() {
    let blob = encode(&two()).expect("it is valid");
    assert_eq!(decode(&changed(&blob, 0, b"Y")), wrong(Why::Magic, 0));
    assert_eq!(decode(&changed(&blob, 8, &[1])), wrong(Why::Version, 1));
    let said = u32::try_from(blob.len()).expect("it is short") ^ 1;
    assert_eq!(
        decode(&changed(&blob, 12, &said.to_le_bytes())),
        wrong(Why::Length, u64::from(said))
    );
    assert!(matches!(
        decode(&changed(&blob, 100, &[0xEE])),
        Err(PlanError {
            why: Why::Checksum,
            ..
        })
    ));
    for length in 0..blob.len() {
        assert!(decode(&blob[..length]).is_err(), "cut to {length}");
    }
    let n = count(support::sections(&blob).len());
    assert_eq!(sealed(blob.clone(), n), Ok(two()));
    assert_eq!(
        sealed(blob.clone(), n - 1),
        wrong(Why::SectionCount, u64::from(n - 1))
    );
    assert_eq!(sealed(blob.clone(), n + 1), wrong(Why::Truncated, 0));
    assert_eq!(sealed(blob.clone(), u32::MAX), wrong(Why::Truncated, 0));
}

#[test]
fn damaged_sections_are_refused() {
    let blob = encode(&two()).expect("it is valid");
    let sections = support::sections(&blob);
    let n = count(sections.len());
    for (kind, owner, start, end) in sections {
        let with = |at: usize, byte: u8| sealed(changed(&blob, start + at, &[byte]), n);
        let of = |why, owner| Err(PlanError::of(owner, why, u64::from(kind)));
        let without: Vec<u8> = [&blob[..start], &blob[end..]].concat();
        assert_eq!(sealed(without, n - 1), of(Why::SectionMissing, owner));
        let twice: Vec<u8> = [&blob[..end], &blob[start..]].concat();
        assert_eq!(sealed(twice, n + 1), of(Why::SectionTwice, owner));
        for reserved in [2, 6, 12] {
            assert_eq!(
                with(reserved, 2),
                of(Why::SectionFlags, owner),
                "{reserved}"
            );
        }
        let stranger = owner & 0xFF00 | 99;
        assert_eq!(with(4, 99), of(Why::SectionOwner, stranger));
        assert!(with(8, 1).is_err(), "length");
        assert_eq!(
            with(0, 77),
            Err(PlanError::of(owner, Why::UnknownSection, 77))
        );
    }
}

#[test]
fn an_unknown_thing_to_do_on_a_crash_is_refused() {
    let blob = encode(&two()).expect("it is valid");
    let sections = support::sections(&blob);
    let n = count(sections.len());
    let guests = sections.iter().filter(|s| s.0 == format::KIND_GUEST);
    for (_, owner, start, _) in guests {
        let at = start + format::SECTION_HEADER + 16 + format::NAME_FIELD;
        assert_eq!(
            sealed(changed(&blob, at, &[3]), n),
            Err(PlanError::of(*owner, Why::OnCrash, 3))
        );
    }
}

/// A lane's numbers have more bits in the plan than in memory: what does not fit is refused, not cut.
#[test]
fn a_priority_of_more_than_eight_bits_is_refused() {
    let blob = encode(&three()).expect("it is valid");
    let sections = support::sections(&blob);
    let n = count(sections.len());
    let lanes = sections.iter().find(|s| s.0 == format::KIND_LANES);
    let at = lanes.expect("there is one").2 + format::SECTION_HEADER + 12;
    for priority in [5u32, 0x100, 0x102, u32::MAX] {
        assert_eq!(
            sealed(changed(&blob, at, &priority.to_le_bytes()), n),
            Err(PlanError::of(0, Why::Share, 0)),
            "{priority:#x}"
        );
    }
    assert!(sealed(changed(&blob, at, &4u32.to_le_bytes()), n).is_ok());
}

#[test]
fn a_device_of_an_unknown_kind_is_refused() {
    let mut plan = two();
    plan.guests[1].devices = vec![support::RTC, support::SERIAL];
    let blob = encode(&plan).expect("it is valid");
    let all = support::sections(&blob);
    let n = count(all.len());
    let (_, _, start, end) = all[all.len() - 1];
    let kind = start + format::SECTION_HEADER + format::DEVICE + 24;
    assert_eq!(end, start + format::SECTION_HEADER + 2 * format::DEVICE);
    for number in [0u32, 0x10, 0x12, 0x3100, u32::MAX] {
        assert_eq!(
            sealed(changed(&blob, kind, &number.to_le_bytes()), n),
            Err(PlanError::of(1, Why::DeviceKind, 1))
        );
    }
    assert!(sealed(changed(&blob, kind, &0x61u32.to_le_bytes()), n).is_ok());
}

#[test]
fn unknown_sections_are_skipped_only_if_optional() {
    let blob = encode(&two()).expect("it is valid");
    let n = count(support::sections(&blob).len());
    let with = |flags: u8, padding: u8| {
        let mut blob = blob.clone();
        blob.extend([
            77, 0, flags, 0, 0xFF, 0xFF, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, padding,
        ]);
        sealed(blob, n + 1)
    };
    assert_eq!(with(1, 0), Ok(two()));
    assert_eq!(with(0, 0), wrong(Why::UnknownSection, 77));
    assert_eq!(with(1, 1), wrong(Why::SectionSize, 77));
}

/// Mostly shared: two dedicated lanes rarely find CPUs of their own among so few.
fn any_lane() -> impl Strategy<Value = LanePlan> {
    let period = prop_oneof![Just(1_000u32), Just(10_000), Just(9_999), 900u32..1_100_000];
    let part = prop_oneof![0u32..=1_000, Just(333), Just(334), Just(500)];
    let shared = (period, part, 0u8..6).prop_map(|(period_us, part, priority)| Share::Shared {
        budget_us: period_us / 1_000 * part + period_us % 1_000 * part / 1_000,
        period_us,
        // The highest is rarely one too many.
        priority: priority.saturating_sub(u8::from(part % 8 != 0)),
    });
    let share = prop_oneof![1 => Just(Share::Dedicated), 4 => shared];
    (0u32..8, share).prop_map(|(cpu, share)| LanePlan { cpu, share })
}

fn any_device() -> impl Strategy<Value = DevicePlan> {
    let page = |n: u64| n * PAGE;
    let ipa = prop_oneof![
        8 => (0u64..32).prop_map(move |n| 0xC00_0000 + page(n)),
        4 => Just(0x901_0000u64),
        1 => Just(0x900_0000u64),
        1 => Just(0xE00_0000u64 - PAGE),
    ];
    let intid = prop_oneof![4 => 80u32..88, 1 => 79u32..89, 1 => Just(34), 1 => Just(0)];
    let host = prop_oneof![
        20 => (0u64..100).prop_map(page),
        1 => Just(HOST_LIMIT - PAGE),
        1 => any::<u64>(),
    ];
    let size =
        prop_oneof![20 => Just(PAGE), 4 => Just(2 * PAGE), 1 => Just(0), 1 => Just(513 * PAGE)];
    let kind = prop::sample::select(DeviceKind::ALL.to_vec());
    (kind, host, size, ipa, intid).prop_map(|(kind, host, size, ipa, intid)| {
        // In its place, a clock is mostly one.
        let rtc = ipa == 0x901_0000 && host % 5 != 0;
        DevicePlan {
            kind: if rtc { DeviceKind::Pl031 } else { kind },
            intid: (intid != 0).then_some(if rtc { 34 } else { intid }),
            host,
            size,
            ipa,
        }
    })
}

prop_compose! {
    fn any_guest()(
        name in "[a-z0-9][a-z0-9-]{0,30}",
        granules in 4u64..64,
        host in prop::option::of(0u64..64),
        lanes in prop::collection::vec(any_lane(), 1..4),
        on_crash in prop::sample::select(vec![OnCrash::Stop, OnCrash::Restart, OnCrash::Hold]),
        watchdog_ms in prop::option::of(prop_oneof![1 => 1u32..200, 9 => 100u32..4_000_000]),
        kernel in 1u64..0x40_0000,
        word in 0u64..0x10_0000,
        devices in prop::collection::vec(any_device(), 0..3),
        virtio in any_virtio::any_devices(),
        ((virtio_lint, is_virtio_traced), faults, script, offer) in ((any_virtio::any_lint(), any::<bool>()), any_virtio::any_faults(), any_virtio::any_script(), any_virtio::any_offer()),
    ) -> GuestSpec {
        let kernel_file = SegmentSpec { file: format!("{name}/kernel"), ipa: RAM_BASE, len: kernel };
        let dtb = RAM_BASE + (granules - 1) * RAM_GRANULE;
        GuestSpec {
            ram: RamPlan { ipa: RAM_BASE, size: granules * RAM_GRANULE, host: host.map(|n| n * RAM_GRANULE) },
            entry: RAM_BASE + (word * 4) % kernel.next_multiple_of(4),
            dtb,
            lanes,
            on_crash,
            watchdog_ms,
            segments: vec![kernel_file, SegmentSpec { file: format!("{name}/dtb"), ipa: dtb, len: 100 }],
            devices,
            virtio,
            virtio_lint,
            is_virtio_traced,
            faults,
            script,
            offer,
            name,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Written or refused exactly as the rules say; and what is written is read again.
    #[test]
    fn valid_plans_and_only_those_travel(
        guests in prop::collection::vec(any_guest(), 1..4),
        cpus in 1u32..9,
        deadline in prop::option::of(1u32..),
        (disks, networks) in any_virtio::any_machine(),
    ) {
        let given = PlanSpec { cpus, deadline_ms: deadline, disks, networks, guests };
        match encode(&given) {
            Ok(blob) => {
                prop_assert!(holds(&given));
                prop_assert_eq!(spec(&Plan::decode(&blob).expect("it was just written")), given);
            }
            Err(error) => prop_assert!(!holds(&given), "{}: {:?}", error, given),
        }
    }

    /// The same of virtio, in a plan that is good otherwise.
    #[test]
    fn valid_virtio_and_only_that_travels(
        (disks, networks) in any_virtio::any_machine(),
        devices in prop::collection::vec(any_virtio::any_devices(), 2),
        faults in any_virtio::any_faults(),
        mut script in any_virtio::any_script(),
        offer in any_virtio::any_offer(),
    ) {
        let mut given = PlanSpec { disks, networks, ..two() };
        for (guest, devices) in given.guests.iter_mut().zip(devices) {
            guest.virtio = devices;
            // Often of a device that there is.
            for (strike, device) in script.iter_mut().zip(&guest.virtio) {
                if strike.first % 4 != 0 {
                    strike.slot = device.slot;
                }
            }
            guest.script.clone_from(&script);
            guest.faults = faults;
            guest.offer = offer;
        }
        match encode(&given) {
            Ok(blob) => {
                prop_assert!(holds(&given));
                prop_assert_eq!(spec(&Plan::decode(&blob).expect("it was just written")), given);
            }
            Err(error) => prop_assert!(!holds(&given), "{}: {:?}", error, given),
        }
    }

    /// Bytes changed behind a right checksum: refused, or a plan that keeps the rules. Never a panic.
    #[test]
    fn damaged_plans_are_refused_or_keep_the_rules(
        nth in 0usize..3,
        changes in prop::collection::vec((format::HEADER.., any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::weighted(0.3, 0usize..3000),
        sections in prop::option::weighted(0.1, any::<u32>()),
    ) {
        let mut blob = encode(&[two(), three(), full()][nth]).expect("it is valid");
        let n = count(support::sections(&blob).len());
        for (at, value, is_flip) in changes {
            let at = format::HEADER + at % (blob.len() - format::HEADER);
            blob[at] = if is_flip { blob[at] ^ (1 << (value % 8)) } else { value };
        }
        if let Some(cut) = cut {
            blob.truncate(cut.max(format::HEADER));
        }
        seal(&mut blob, sections.unwrap_or(n));
        if let Ok(plan) = Plan::decode(&blob) {
            prop_assert!(holds(&spec(&plan)), "{:?}", spec(&plan));
        }
    }

    /// Any bytes at all.
    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), sections in 0u32..5) {
        prop_assert!(Plan::decode(&bytes).is_err());
        let mut sealed = bytes;
        seal(&mut sealed, sections);
        prop_assert!(Plan::decode(&sealed).is_err());
    }
}
