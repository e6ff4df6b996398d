//! The codec as a whole: what is written is read again, and nothing that breaks a rule is read.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod support;

use configs_plan::encode::{GuestSpec, PlanSpec, SegmentSpec, encode};
use configs_plan::format;
use configs_plan::{
    DeviceKind, DevicePlan, FLASH_BASE, FLASH_SIZE, HOST_LIMIT, LanePlan, MAX_CPUS, MAX_LANES,
    MAX_NAME, MAX_SEGMENTS, OnCrash, PAGE, Plan, PlanError, RAM_BASE, RAM_GRANULE, RAM_LIMIT,
    RamPlan, Share, Why,
};
use support::{RTC, SERIAL, dedicated, guest, holds, shared, spec, three, two};

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
    let blob = encode(&three()).expect("it is valid");
    assert_eq!(spec(&Plan::decode(&blob).expect("it is valid")), three());
}

/// Why a changed plan is refused.
fn refused(change: &dyn Fn(&mut PlanSpec)) -> PlanError {
    let mut spec = two();
    change(&mut spec);
    assert!(!holds(&spec), "{spec:?}");
    encode(&spec).expect_err("a rule is broken")
}

/// Why a plan whose second guest was changed is refused, and the number that is wrong.
fn of(change: &dyn Fn(&mut GuestSpec)) -> (Why, u64) {
    let error = refused(&|spec| spec.guests.iter_mut().skip(1).for_each(change));
    assert_eq!(error.guest, 1, "{error}");
    (error.why, error.value)
}

#[test]
fn each_rule_of_machines_names_and_lanes_is_kept() {
    assert_eq!(
        refused(&|s| s.guests.clear()),
        PlanError::new(Why::NoGuest, 0)
    );
    assert_eq!(refused(&|s| s.cpus = 0), PlanError::new(Why::Cpus, 0));
    assert_eq!(refused(&|s| s.cpus = 65), PlanError::new(Why::Cpus, 65));
    let many =
        |s: &mut PlanSpec| s.guests = (0..9).map(|n| guest(&format!("g{n}"), &[n])).collect();
    assert_eq!(
        refused(&many),
        PlanError::of(8, Why::SectionOwner, u64::from(format::KIND_GUEST))
    );

    for (name, error) in [
        ("", (Why::NameEmpty, 0)),
        ("xdv", (Why::NameReserved, 0)),
        ("-a", (Why::NameHyphen, 0)),
        ("A", (Why::NameCharacter, u64::from('A'))),
        ("a b", (Why::NameCharacter, u64::from(' '))),
        ("ä", (Why::NameCharacter, u64::from('ä'))),
        (&"a".repeat(32), (Why::NameLong, 0)),
    ] {
        assert_eq!(of(&|g| g.name = name.to_owned()), error);
    }
    assert_eq!(of(&|g| g.name = "alpha".to_owned()), (Why::NameOf, 0));
    let on = |cpus: &[u32]| of(&|g| g.lanes = cpus.iter().copied().map(dedicated).collect());
    assert_eq!(on(&[]), (Why::Lanes, 0));
    assert_eq!(on(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), (Why::Lanes, 9));
    assert_eq!(on(&[3]), (Why::CpuAbsent, 3));
    assert_eq!(on(&[64]), (Why::CpuAbsent, 64));
    assert_eq!(on(&[u32::MAX]), (Why::CpuAbsent, u64::from(u32::MAX)));
    assert_eq!(on(&[1]), (Why::CpuTaken, 1));
    assert_eq!(on(&[2, 2]), (Why::CpuTaken, 2));
}

#[test]
fn each_rule_of_shares_is_kept() {
    let with = |lanes: &[LanePlan]| of(&|g| g.lanes = lanes.to_vec());
    // Beside the first guest's dedicated lane, and after a lane of one's own.
    assert_eq!(with(&[shared(1, 1, 1_000)]), (Why::CpuTaken, 1));
    assert_eq!(
        with(&[shared(2, 1, 1_000), dedicated(2)]),
        (Why::CpuTaken, 2)
    );
    assert_eq!(
        with(&[shared(2, 500, 1_000), shared(2, 500_001, 1_000_000)]),
        (Why::CpuFull, 2)
    );
    for lane in [
        shared(2, 0, 1_000),
        shared(2, 1_001, 1_000),
        shared(2, 1, 999),
        shared(2, 1, 1_000_001),
        shared(2, 0, 0),
    ] {
        assert_eq!(with(&[lane]), (Why::Share, 0));
    }
    let share = Share::Shared {
        budget_us: 1,
        period_us: 1_000,
        priority: 5,
    };
    assert_eq!(with(&[LanePlan { cpu: 2, share }]), (Why::Share, 0));
}

#[test]
fn a_cpu_is_not_promised_twice_across_guests() {
    let full = |s: &mut PlanSpec| {
        *s = three();
        s.guests[1].lanes = vec![shared(0, 700, 1_000)];
    };
    assert_eq!(refused(&full), PlanError::of(1, Why::CpuFull, 0));
}

#[test]
fn each_rule_of_lifecycles_is_kept() {
    for ms in [1, 99, 3_600_001, u32::MAX] {
        assert_eq!(
            of(&|g| g.watchdog_ms = Some(ms)),
            (Why::Watchdog, u64::from(ms))
        );
    }
    for number in 0..5 {
        let known = OnCrash::from_number(number);
        assert_eq!(known.map(OnCrash::number), (number < 3).then_some(number));
    }
}

#[test]
fn each_rule_of_memory_is_kept() {
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
            (Why::Ram, ipa)
        );
    }
    for host in [
        PAGE,
        HOST_LIMIT - RAM_GRANULE,
        0u64.wrapping_sub(RAM_GRANULE),
    ] {
        assert_eq!(of(&|g| g.ram.host = Some(host)), (Why::HostRam, host));
    }
    let both = |s: &mut PlanSpec| {
        s.guests[0].ram.host = Some(0x8000_0000);
        s.guests[1].ram.host = Some(0x8000_0000 + (62 << 20));
    };
    assert_eq!(refused(&both), PlanError::of(1, Why::HostRamOf, 0));
}

#[test]
fn each_rule_of_segments_is_kept() {
    assert_eq!(of(&|g| g.segments.clear()), (Why::SegmentCount, 0));
    let nine = |g: &mut GuestSpec| {
        let nth = |n| SegmentSpec {
            file: "x".to_owned(),
            ipa: RAM_BASE + n * PAGE,
            len: 1,
        };
        g.segments = (0..9).map(nth).collect();
    };
    assert_eq!(of(&nine), (Why::SegmentCount, 9));
    for name in ["", "A", "a b", "a\0b", &"a".repeat(48)] {
        // Whatever is wrong with the name: a file of this name is never looked for.
        let mut spec = two();
        spec.guests[1].segments[0].file = name.to_owned();
        let error = encode(&spec).expect_err("a rule is broken");
        assert_eq!(error, PlanError::of(1, Why::FileName, 0), "{name:?}");
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
        assert_eq!(of(&change), (Why::Segment, ipa));
    }
    let over = |g: &mut GuestSpec| g.segments[1].ipa = RAM_BASE + 0x1_2000;
    assert_eq!(of(&over), (Why::SegmentOverlap, RAM_BASE + 0x1_2000));
    for entry in [
        0,
        RAM_BASE + 2,
        RAM_BASE + 0x1_2348,
        RAM_BASE - 4,
        u64::MAX - 3,
    ] {
        assert_eq!(of(&|g| g.entry = entry), (Why::Entry, entry));
    }
    for dtb in [0, RAM_BASE + 8] {
        assert_eq!(of(&|g| g.dtb = dtb), (Why::Dtb, dtb));
    }
}

/// The error of a guest with a clock and a serial port, changed.
fn of_devices(change: &dyn Fn(&mut Vec<DevicePlan>)) -> (Why, u64) {
    of(&|g| {
        g.devices = vec![RTC, SERIAL];
        change(&mut g.devices);
    })
}

#[test]
fn each_rule_of_devices_is_kept() {
    let of = of_devices;
    for (host, size) in [
        (0x1001, PAGE),
        (0x1000, 0),
        (0x1000, 0x1001),
        (0x1000, (2 << 20) + PAGE),
        (HOST_LIMIT, PAGE),
        (0u64.wrapping_sub(PAGE), 2 * PAGE),
    ] {
        let change = |d: &mut Vec<DevicePlan>| (d[1].host, d[1].size) = (host, size);
        assert_eq!(of(&change), (Why::DeviceRegisters, host));
    }
    // Nothing of the guest's own is behind a device: RAM, the interrupt controller, the console, the slots.
    for ipa in [
        0, 0x800_0000, 0x900_0000, RTC.ipa, 0xA00_0000, 0xBFF_F000, 0xE00_0000, RAM_BASE,
    ] {
        let change = |d: &mut Vec<DevicePlan>| d[1].ipa = ipa;
        assert_eq!(of(&change), (Why::DevicePlace, ipa));
    }
    let long = |d: &mut Vec<DevicePlan>| d[0].size = 2 * PAGE;
    assert_eq!(of(&long), (Why::DevicePlace, RTC.ipa));
    let other = |d: &mut Vec<DevicePlan>| d[0].kind = DeviceKind::Pl061;
    assert_eq!(of(&other), (Why::DevicePlace, RTC.ipa));
    let end = |d: &mut Vec<DevicePlan>| (d[1].ipa, d[1].size) = (0xDFF_F000, 2 * PAGE);
    assert_eq!(of(&end), (Why::DevicePlace, 0xDFF_F000));
    for (nth, intid) in [(0, 80), (0, 33), (1, 34), (1, 79), (1, 88), (1, u32::MAX)] {
        let change = |d: &mut Vec<DevicePlan>| d[nth].intid = Some(intid);
        assert_eq!(of(&change), (Why::DeviceInterrupt, u64::from(intid)));
    }
}

#[test]
fn nothing_is_given_twice() {
    let of = of_devices;
    let twice = |d: &mut Vec<DevicePlan>| d[1].host = RTC.host;
    assert_eq!(of(&twice), (Why::DeviceTaken, RTC.host));
    let place = |d: &mut Vec<DevicePlan>| {
        d.push(DevicePlan {
            host: 0x7000,
            intid: None,
            ..SERIAL
        });
    };
    assert_eq!(of(&place), (Why::DeviceTaken, 0x7000));
    let interrupt = |d: &mut Vec<DevicePlan>| {
        d.push(DevicePlan {
            host: 0x7000,
            ipa: 0xC00_1000,
            ..SERIAL
        });
    };
    assert_eq!(of(&interrupt), (Why::DeviceTaken, 0x7000));
    let many = |d: &mut Vec<DevicePlan>| *d = vec![SERIAL; 9];
    assert_eq!(of(&many), (Why::DeviceCount, 9));
    // Two guests, one device.
    let both = |s: &mut PlanSpec| {
        s.guests[0].devices = vec![SERIAL];
        s.guests[1].devices = vec![DevicePlan {
            size: 0x3000,
            host: SERIAL.host - 0x2000,
            ..SERIAL
        }];
    };
    let at = SERIAL.host - 0x2000;
    assert_eq!(refused(&both), PlanError::of(1, Why::DeviceTaken, at));
    for number in 0..0x1000 {
        let kind = DeviceKind::from_number(number);
        assert_eq!(kind.map_or(number, DeviceKind::number), number);
    }
}

#[test]
fn every_error_has_words() {
    let says = |why: Why| PlanError::of(1, why, 77).to_string();
    let mut words: Vec<_> = Why::ALL.iter().map(|why| says(*why)).collect();
    let all = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), all, "different errors have different words");
    assert_eq!(
        says(Why::NameEmpty),
        "guest 1: its name is empty, or no text"
    );
    assert_eq!(says(Why::CpuAbsent), "guest 1: there is no CPU 77");
    let dtb = "guest 1: no segment starts at its device tree 0x4d";
    assert_eq!(says(Why::Dtb), dtb);
    let nobody = PlanError::new(Why::Cpus, 65).to_string();
    assert_eq!(nobody, "the plan is not for 1 to 64 CPUs, but for 65");
    // The words have the crate's limits in them.
    let limits = [
        (Why::Cpus, u64::from(MAX_CPUS)),
        (Why::NameLong, MAX_NAME as u64),
    ];
    let counts = [
        (Why::Lanes, MAX_LANES as u64),
        (Why::SegmentCount, MAX_SEGMENTS as u64),
    ];
    for (why, limit) in limits.into_iter().chain(counts) {
        let said = says(why);
        assert!(said.contains(&format!(" {limit} ")), "{said}");
    }
}

#[test]
fn firmware_lies_in_flash_and_nowhere_else_outside_ram() {
    let with = |kernel: u64, len: u64, dtb: u64| {
        let mut plan = two();
        for guest in plan.guests.iter_mut().skip(1) {
            let part = |name: &str, ipa, len| SegmentSpec {
                file: format!("beta/{name}"),
                ipa,
                len,
            };
            guest.entry = kernel;
            guest.dtb = dtb;
            guest.segments = vec![part("kernel", kernel, len), part("dtb", dtb, 100)];
        }
        encode(&plan).map(|blob| {
            let plan = Plan::decode(&blob).expect("it is valid");
            plan.guests()
                .filter(|guest| guest.flash().is_some())
                .count()
        })
    };
    assert_eq!(with(FLASH_BASE, 4096, RAM_BASE), Ok(1));
    assert_eq!(with(FLASH_BASE, FLASH_SIZE, RAM_BASE), Ok(1));
    assert_eq!(with(RAM_BASE + PAGE, 4096, RAM_BASE), Ok(0));
    assert!(with(FLASH_BASE, FLASH_SIZE + 1, RAM_BASE).is_err());
    assert!(
        with(PAGE, 4096, RAM_BASE).is_err(),
        "flash begins at its start"
    );
    assert!(with(0x0900_0000, 4096, RAM_BASE).is_err(), "a device");
    assert!(
        with(RAM_BASE + PAGE, 4096, FLASH_BASE).is_err(),
        "no device tree in flash"
    );
}
