//! The codec as a whole: what is written is read again, and nothing that breaks a rule is read.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "the helpers of a test fail by panicking"
)]

use configs_plan::encode::{GuestSpec, PlanSpec, SegmentSpec, encode, seal};
use configs_plan::format::{self, checksum, crc32};
use configs_plan::{
    GuestError, HOST_LIMIT, MAX_CPUS, MAX_GUESTS, MAX_LANES, MAX_SEGMENTS, NameError, PAGE, Plan,
    PlanError, RAM_BASE, RAM_GRANULE, RAM_LIMIT, RamPlan,
};
use proptest::prelude::*;

fn guest(name: &str, cpus: &[u32]) -> GuestSpec {
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

fn two() -> PlanSpec {
    PlanSpec {
        cpus: 3,
        deadline_ms: Some(5000),
        guests: vec![guest("alpha", &[0, 1]), guest("beta", &[2])],
    }
}

/// What a plan says, as it would be written.
fn spec(plan: &Plan<'_>) -> PlanSpec {
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
fn holds(spec: &PlanSpec) -> bool {
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

#[test]
fn crc32_is_the_usual_one() {
    assert_eq!(crc32(&[b"123456789"]), 0xCBF4_3926);
    assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xCBF4_3926);
    assert_eq!(checksum(&[0; 10]), None);
}

#[test]
fn what_is_written_is_read_again() {
    let blob = encode(&two()).expect("it is valid");
    let plan = Plan::decode(&blob).expect("it is valid");
    assert_eq!(spec(&plan), two());
    assert_eq!(
        plan.guests().map(|guest| guest.index()).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(
        blob,
        encode(&two()).expect("it is valid"),
        "the same plan has the same bytes"
    );
}

#[test]
fn each_rule_is_kept() {
    let refused = |change: &dyn Fn(&mut PlanSpec)| {
        let mut spec = two();
        change(&mut spec);
        assert!(!holds(&spec), "{spec:?}");
        encode(&spec).expect_err("a rule is broken")
    };
    let of = |change: &dyn Fn(&mut GuestSpec)| match refused(&|spec| change(&mut spec.guests[1])) {
        PlanError::Guest { guest: 1, error } => error,
        other => unreachable!("{other}"),
    };
    assert_eq!(refused(&|s| s.guests.clear()), PlanError::NoGuest);
    assert_eq!(refused(&|s| s.cpus = 0), PlanError::Cpus(0));
    assert_eq!(refused(&|s| s.cpus = 9), PlanError::Cpus(9));
    let many =
        |s: &mut PlanSpec| s.guests = (0..9).map(|n| guest(&format!("g{n}"), &[n])).collect();
    assert_eq!(
        refused(&many),
        PlanError::SectionOwner {
            kind: format::KIND_GUEST,
            owner: 8
        }
    );

    for (name, error) in [
        ("", NameError::Empty),
        ("xdv", NameError::Reserved),
        ("-a", NameError::LeadingHyphen),
        ("A", NameError::Character('A')),
        ("a b", NameError::Character(' ')),
        ("ä", NameError::Character('ä')),
        (&"a".repeat(32), NameError::TooLong),
    ] {
        assert_eq!(of(&|g| g.name = name.to_owned()), GuestError::Name(error));
    }
    assert_eq!(of(&|g| g.name = "alpha".to_owned()), GuestError::NameOf(0));
    assert_eq!(of(&|g| g.cpus.clear()), GuestError::Lanes(0));
    assert_eq!(of(&|g| g.cpus = (0..9).collect()), GuestError::Lanes(9));
    assert_eq!(of(&|g| g.cpus = vec![3]), GuestError::CpuAbsent(3));
    assert_eq!(
        of(&|g| g.cpus = vec![u32::MAX]),
        GuestError::CpuAbsent(u32::MAX)
    );
    assert_eq!(of(&|g| g.cpus = vec![1]), GuestError::CpuTaken(1));
    assert_eq!(of(&|g| g.cpus = vec![2, 2]), GuestError::CpuTaken(2));

    for (ipa, size) in [
        (RAM_BASE, 0),
        (RAM_BASE, PAGE),
        (RAM_BASE + PAGE, RAM_GRANULE),
        (RAM_BASE - RAM_GRANULE, 64 << 20),
        (RAM_BASE, RAM_LIMIT),
        (0u64.wrapping_sub(RAM_GRANULE), 2 * RAM_GRANULE),
    ] {
        assert_eq!(
            of(&|g| g.ram = RamPlan {
                ipa,
                size,
                host: None
            }),
            GuestError::Ram { ipa, size }
        );
    }
    for host in [
        PAGE,
        HOST_LIMIT - RAM_GRANULE,
        0u64.wrapping_sub(RAM_GRANULE),
    ] {
        assert_eq!(of(&|g| g.ram.host = Some(host)), GuestError::HostRam(host));
    }
    let both = |s: &mut PlanSpec| {
        s.guests[0].ram.host = Some(0x8000_0000);
        s.guests[1].ram.host = Some(0x8000_0000 + (62 << 20));
    };
    assert_eq!(
        refused(&both),
        PlanError::Guest {
            guest: 1,
            error: GuestError::HostRamOf(0)
        }
    );
}

#[test]
fn each_rule_of_segments_is_kept() {
    let refused = |change: &dyn Fn(&mut GuestSpec)| {
        let mut spec = two();
        change(&mut spec.guests[1]);
        match encode(&spec).expect_err("a rule is broken") {
            PlanError::Guest { guest: 1, error } => error,
            other => unreachable!("{other}"),
        }
    };
    assert_eq!(
        refused(&|g| g.segments.clear()),
        GuestError::SegmentCount(0)
    );
    let nine = |g: &mut GuestSpec| {
        let nth = |n| SegmentSpec {
            file: "x".to_owned(),
            ipa: RAM_BASE + n * PAGE,
            len: 1,
        };
        g.segments = (0..9).map(nth).collect();
    };
    assert_eq!(refused(&nine), GuestError::SegmentCount(9));
    for name in ["", "A", "a b", "a\0b", &"a".repeat(48)] {
        // Whatever is wrong with the name: a file of this name is never looked for.
        let mut spec = two();
        spec.guests[1].segments[0].file = name.to_owned();
        let error = encode(&spec).expect_err("a rule is broken");
        assert_eq!(
            error,
            PlanError::Guest {
                guest: 1,
                error: GuestError::FileName(0)
            },
            "{name:?}"
        );
    }
    for (ipa, len) in [
        (RAM_BASE, 0),
        (RAM_BASE + 4, 4),
        (RAM_BASE - PAGE, PAGE),
        (RAM_BASE, (64 << 20) + 1),
        (RAM_BASE + (64 << 20), 1),
        (RAM_BASE, u64::MAX),
    ] {
        let change = |g: &mut GuestSpec| (g.segments[0].ipa, g.segments[0].len) = (ipa, len);
        assert_eq!(refused(&change), GuestError::Segment { ipa, len });
    }
    let over = |g: &mut GuestSpec| g.segments[1].ipa = RAM_BASE + 0x1_2000;
    assert_eq!(
        refused(&over),
        GuestError::SegmentOverlap(RAM_BASE + 0x1_2000)
    );
    for entry in [
        0,
        RAM_BASE + 2,
        RAM_BASE + 0x1_2348,
        RAM_BASE - 4,
        u64::MAX - 3,
    ] {
        assert_eq!(refused(&|g| g.entry = entry), GuestError::Entry(entry));
    }
    for dtb in [0, RAM_BASE + 8] {
        assert_eq!(refused(&|g| g.dtb = dtb), GuestError::Dtb(dtb));
    }
}

/// Walks the sections of a blob: kind, owner, where each starts and ends.
fn sections(blob: &[u8]) -> Vec<(u16, u16, usize, usize)> {
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

fn count(sections: usize) -> u32 {
    u32::try_from(sections).expect("there are few")
}

#[test]
fn damaged_frames_are_refused() {
    let blob = encode(&two()).expect("it is valid");
    let changed = |at: usize, bytes: &[u8]| {
        let mut blob = blob.clone();
        blob[at..at + bytes.len()].copy_from_slice(bytes);
        blob
    };
    let decode = |blob: &[u8]| Plan::decode(blob).map(|plan| spec(&plan));
    assert_eq!(decode(&changed(0, b"Y")), Err(PlanError::Magic));
    assert_eq!(decode(&changed(8, &[2])), Err(PlanError::Version(2)));
    let said = u32::try_from(blob.len()).expect("it is short") ^ 1;
    assert_eq!(
        decode(&changed(12, &said.to_le_bytes())),
        Err(PlanError::Length {
            said,
            found: blob.len()
        })
    );
    assert!(matches!(
        decode(&changed(100, &[0xEE])),
        Err(PlanError::Checksum { .. })
    ));
    for length in 0..blob.len() {
        assert!(decode(&blob[..length]).is_err(), "cut to {length}");
    }
    let sections = sections(&blob);
    let sealed = |mut blob: Vec<u8>, n: u32| {
        seal(&mut blob, n);
        Plan::decode(&blob).map(|plan| spec(&plan))
    };
    let n = count(sections.len());
    assert_eq!(sealed(blob.clone(), n), Ok(two()));
    assert_eq!(
        sealed(blob.clone(), n - 1),
        Err(PlanError::SectionCount(n - 1))
    );
    assert_eq!(sealed(blob.clone(), n + 1), Err(PlanError::Truncated));
    assert_eq!(sealed(blob.clone(), u32::MAX), Err(PlanError::Truncated));
    for (kind, owner, start, end) in sections {
        let without: Vec<u8> = [&blob[..start], &blob[end..]].concat();
        let missing = sealed(without, n - 1).expect_err("a section is missing");
        assert_eq!(missing, PlanError::SectionMissing { kind, owner });
        let twice: Vec<u8> = [&blob[..end], &blob[start..]].concat();
        assert_eq!(
            sealed(twice, n + 1),
            Err(PlanError::SectionTwice { kind, owner })
        );
        assert_eq!(
            sealed(changed(start + 2, &[2]), n),
            Err(PlanError::SectionFlags(kind)),
            "flags"
        );
        assert_eq!(
            sealed(changed(start + 6, &[1]), n),
            Err(PlanError::SectionFlags(kind)),
            "reserved"
        );
        assert_eq!(
            sealed(changed(start + 12, &[1]), n),
            Err(PlanError::SectionFlags(kind)),
            "reserved"
        );
        assert_eq!(
            sealed(changed(start + 4, &[99]), n).expect_err("owner"),
            PlanError::SectionOwner {
                kind,
                owner: owner & 0xFF00 | 99
            }
        );
        assert!(sealed(changed(start + 8, &[1]), n).is_err(), "length");
        assert_eq!(
            sealed(changed(start, &[77]), n),
            Err(PlanError::UnknownSection(77))
        );
    }
}

#[test]
fn unknown_sections_are_skipped_only_if_optional() {
    let blob = encode(&two()).expect("it is valid");
    let n = count(sections(&blob).len());
    let with = |flags: u8| {
        let mut blob = blob.clone();
        blob.extend([
            77, 0, flags, 0, 0xFF, 0xFF, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0,
        ]);
        seal(&mut blob, n + 1);
        Plan::decode(&blob).map(|plan| spec(&plan))
    };
    assert_eq!(with(1), Ok(two()));
    assert_eq!(with(0), Err(PlanError::UnknownSection(77)));
}

#[test]
fn every_error_has_words() {
    let frames = [
        PlanError::Truncated,
        PlanError::Magic,
        PlanError::Version(7),
        PlanError::Length { said: 1, found: 2 },
        PlanError::Checksum { said: 1, found: 2 },
        PlanError::SectionCount(1),
        PlanError::UnknownSection(9),
        PlanError::SectionFlags(1),
        PlanError::SectionSize(1),
        PlanError::SectionOwner { kind: 1, owner: 2 },
        PlanError::SectionTwice { kind: 1, owner: 2 },
        PlanError::SectionMissing { kind: 1, owner: 2 },
        PlanError::NoGuest,
        PlanError::Cpus(0),
    ];
    let names = [
        NameError::Empty,
        NameError::TooLong,
        NameError::LeadingHyphen,
        NameError::Character('?'),
        NameError::Reserved,
    ];
    let guests = [
        GuestError::NameOf(0),
        GuestError::Lanes(0),
        GuestError::CpuAbsent(1),
        GuestError::CpuTaken(1),
        GuestError::Ram { ipa: 1, size: 2 },
        GuestError::HostRam(1),
        GuestError::HostRamOf(1),
        GuestError::SegmentCount(0),
        GuestError::FileName(0),
        GuestError::Segment { ipa: 1, len: 1 },
        GuestError::SegmentOverlap(1),
        GuestError::Entry(1),
        GuestError::Dtb(1),
    ];
    let guests = names
        .into_iter()
        .map(GuestError::Name)
        .chain(guests)
        .map(|error| PlanError::Guest { guest: 0, error });
    let mut words: Vec<_> = frames
        .into_iter()
        .chain(guests)
        .map(|error| error.to_string())
        .collect();
    let all = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), all, "different errors have different words");
}

prop_compose! {
    fn any_guest()(
        name in "[a-z0-9][a-z0-9-]{0,30}",
        granules in 4u64..64,
        host in prop::option::of(0u64..64),
        lanes in prop::collection::vec(0u32..8, 1..4),
        kernel in 1u64..0x40_0000,
        word in 0u64..0x10_0000,
    ) -> GuestSpec {
        let kernel_file = SegmentSpec { file: format!("{name}/kernel"), ipa: RAM_BASE, len: kernel };
        let dtb = RAM_BASE + (granules - 1) * RAM_GRANULE;
        GuestSpec {
            ram: RamPlan { ipa: RAM_BASE, size: granules * RAM_GRANULE, host: host.map(|n| n * RAM_GRANULE) },
            entry: RAM_BASE + (word * 4) % kernel.next_multiple_of(4),
            dtb,
            cpus: lanes,
            segments: vec![kernel_file, SegmentSpec { file: format!("{name}/dtb"), ipa: dtb, len: 100 }],
            name,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Written or refused exactly as the rules say; and what is written is read again.
    #[test]
    fn valid_plans_and_only_those_travel(
        guests in prop::collection::vec(any_guest(), 1..4),
        cpus in 1u32..9,
        deadline in prop::option::of(1u32..),
    ) {
        let given = PlanSpec { cpus, deadline_ms: deadline, guests };
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
        changes in prop::collection::vec((format::HEADER.., any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::of(0usize..2000),
        sections in prop::option::weighted(0.1, any::<u32>()),
    ) {
        let mut blob = encode(&two()).expect("it is valid");
        let n = count(self::sections(&blob).len());
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
