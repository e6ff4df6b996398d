//! Virtio's half of a plan: each rule broken once.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail by panicking"
)]

mod support;

use configs_plan::cpio::{Archive, Writer};
use configs_plan::encode::{GuestSpec, PlanSpec, encode, seal};
use configs_plan::{
    Bundle, DiskKind, FaultKind, Faults, HOST_LIMIT, IMAGE_ALIGN, MAX_SECTORS, PLAN_FILE, Part,
    Plan, PlanError, VirtioDevice, Why, format,
};
use support::virtio::{at, block, card, disk_of, full, image, net, of_machine, strike};
use support::{count, holds, sections, spec};

#[test]
fn what_is_written_is_read_again() {
    assert!(holds(&full()));
    let blob = encode(&full()).expect("it is valid");
    assert_eq!(spec(&Plan::decode(&blob).expect("it is valid")), full());
}

/// Why a changed plan is refused.
fn refused(change: &dyn Fn(&mut PlanSpec)) -> PlanError {
    let mut spec = full();
    change(&mut spec);
    assert!(!holds(&spec), "{spec:?}");
    encode(&spec).expect_err("a rule is broken")
}

/// Why a plan with a changed first guest is refused, and which device is wrong.
fn of(change: &dyn Fn(&mut GuestSpec)) -> (Why, u64) {
    let error = refused(&|spec| change(&mut spec.guests[0]));
    assert_eq!(error.guest, 0, "{error}");
    (error.why, error.value)
}

#[test]
fn each_rule_of_disks_is_kept() {
    let of = |nth: usize, change: &dyn Fn(&mut PlanSpec)| {
        let error = refused(change);
        assert_eq!(error.value, nth as u64, "{error}");
        error.why
    };
    for name in ["", "A", "xdv", "memory", &"a".repeat(32)] {
        let rename = |s: &mut PlanSpec| s.disks[1].name = name.to_owned();
        assert_eq!(of(1, &rename), Why::DiskName, "{name:?}");
    }
    for sectors in [0, 2047, MAX_SECTORS + 1, u64::MAX] {
        assert_eq!(of(0, &|s| s.disks[0].sectors = sectors), Why::DiskSize);
    }
    for sectors in [0, 1, 3] {
        assert_eq!(of(2, &|s| s.disks[2].sectors = sectors), Why::DiskSize);
    }
    for (file, len) in [
        ("x", 0),
        ("x", 511),
        ("x", 513),
        ("x", 33 * 1024),
        ("", 512),
    ] {
        let kind = DiskKind::Snapshot {
            image: image(file, len),
            memory: 4096,
        };
        let change = |s: &mut PlanSpec| s.disks[3].kind = kind.clone();
        assert_eq!(of(3, &change), Why::DiskSize, "{file} {len}");
    }
    for memory in [0, 512, 4095, HOST_LIMIT + 4096, u64::MAX] {
        let kind = DiskKind::Snapshot {
            image: image("x", 512),
            memory,
        };
        let change = |s: &mut PlanSpec| s.disks[3].kind = kind.clone();
        assert_eq!(of(3, &change), Why::DiskSize, "{memory}");
    }
    let many = |s: &mut PlanSpec| {
        let empty = |n| disk_of(&format!("d{n}"), 1, DiskKind::Memory { image: None });
        s.disks.extend((0..9).map(empty));
    };
    assert_eq!(of(17, &many), Why::DiskCount);
}

#[test]
fn each_rule_of_the_machine_s_disks_is_kept() {
    let part = |nth: usize, sectors, unit, part: Part<String>| {
        let error = refused(&|s| s.disks[nth] = of_machine("x", sectors, unit, part.clone()));
        assert_eq!(error.value, nth as u64, "{error}");
        error.why
    };
    assert_eq!(part(4, 1, 0, Part::Whole), Why::DiskSize);
    assert_eq!(part(4, 0, 32, Part::Whole), Why::DiskSize);
    assert_eq!(part(5, 0, 1, Part::From(0)), Why::DiskSize);
    for (first, sectors) in [(MAX_SECTORS, 1), (u64::MAX, 1), (1, MAX_SECTORS)] {
        assert_eq!(part(5, sectors, 1, Part::From(first)), Why::DiskSize);
    }
    assert_eq!(part(6, 0, 1, Part::Number(0)), Why::DiskSize);
    assert_eq!(part(6, 1, 1, Part::Number(1)), Why::DiskSize);
    for name in ["", "\x7F", "ä", &"a".repeat(37)] {
        assert_eq!(part(7, 0, 1, Part::Name(name.to_owned())), Why::DiskSize);
    }
    // Of disks that meet, the later one is said.
    assert_eq!(part(7, 0, 0, Part::Number(1)), Why::DiskOverlap);
    assert_eq!(part(7, 0, 1, Part::Whole), Why::DiskOverlap);
    assert_eq!(part(7, 0, 1, Part::Number(2)), Why::DiskOverlap);
    assert_eq!(part(7, 1, 1, Part::From(2147)), Why::DiskOverlap);
    let twice = |s: &mut PlanSpec| {
        let name = Part::Name("EFI system".to_owned());
        s.disks.push(of_machine("twice", 0, 1, name));
    };
    assert_eq!(refused(&twice), PlanError::new(Why::DiskOverlap, 8));
    let mut beside = full();
    beside.disks[7] = of_machine("beside", 1, 1, Part::From(2148));
    assert!(encode(&beside).is_ok());
}

#[test]
fn each_rule_of_networks_is_kept() {
    for name in ["", "LAN", "lan"] {
        let change = |s: &mut PlanSpec| s.networks[1].name = name.to_owned();
        assert_eq!(refused(&change), PlanError::new(Why::NetworkName, 1));
    }
    let uplinks = |s: &mut PlanSpec| s.networks[1].has_uplink = true;
    assert_eq!(refused(&uplinks), PlanError::new(Why::NetworkUplink, 1));
    let many = |s: &mut PlanSpec| {
        s.networks
            .extend((0..7).map(|n| net(&format!("n{n}"), false)));
    };
    assert_eq!(refused(&many), PlanError::new(Why::NetworkCount, 9));
}

#[test]
fn each_rule_of_slots_and_devices_is_kept() {
    for slot in [0, 32, 33, u32::MAX] {
        let change = |g: &mut GuestSpec| g.virtio[1].slot = slot;
        assert_eq!(of(&change), (Why::VirtioSlot, u64::from(slot)));
    }
    for device in [
        VirtioDevice::Console,
        VirtioDevice::Entropy,
        VirtioDevice::Balloon,
        VirtioDevice::Vsock { cid: 77, peers: 0 },
    ] {
        let change = |g: &mut GuestSpec| g.virtio.push(at(20, device));
        assert_eq!(of(&change), (Why::VirtioTwice, 11));
    }
    let many = |g: &mut GuestSpec| {
        g.virtio.extend((11..17).map(|n| at(n, block(2, true))));
    };
    assert_eq!(of(&many), (Why::VirtioCount, 17));
    for cid in [0, 1, 2, u32::MAX - 1, u32::MAX] {
        // The last but one is the second guest's.
        let change =
            |s: &mut PlanSpec| s.guests[0].virtio[9].device = VirtioDevice::Vsock { cid, peers: 0 };
        let error = refused(&change);
        assert_eq!(error.why, Why::VirtioCid, "{cid}");
        assert_eq!(error.guest, u16::from(cid == u32::MAX - 1));
    }
}

#[test]
fn each_rule_of_cards_is_kept() {
    let with = |device| move |g: &mut GuestSpec| g.virtio[7].device = device;
    let card_of = |network, mac, vlan| VirtioDevice::Net {
        network,
        mac,
        vlan,
        rate: 0,
    };
    let mac = [2, 0, 0, 0, 0, 9];
    assert_eq!(of(&with(card_of(2, mac, 0))), (Why::VirtioNetwork, 7));
    assert_eq!(
        of(&with(card_of(u32::MAX, mac, 0))),
        (Why::VirtioNetwork, 7)
    );
    assert_eq!(of(&with(card_of(0, [0; 6], 0))), (Why::VirtioAddress, 7));
    assert_eq!(of(&with(card_of(0, [3; 6], 0))), (Why::VirtioAddress, 7));
    assert_eq!(of(&with(card_of(0, mac, 4095))), (Why::VirtioAddress, 7));
    assert_eq!(of(&with(card(1, 0))), (Why::VirtioAddressOf, 7));
    let error = refused(&|s| s.guests[1].virtio[4].device = card(2, 1));
    assert_eq!(error, PlanError::of(1, Why::VirtioAddressOf, 4));
    let mut apart = full();
    apart.guests[1].virtio[4].device = card_of(1, [2, 0, 0, 0, 0, 2], 0);
    assert!(encode(&apart).is_ok(), "another network");
}

#[test]
fn vio_25_two_guests_never_write_to_one_disk() {
    assert_eq!(
        of(&|g| g.virtio[1].device = block(8, true)),
        (Why::VirtioDisk, 1)
    );
    assert_eq!(
        of(&|g| g.virtio[2].device = block(2, false)),
        (Why::VirtioDisk, 2)
    );
    let readonly = |s: &mut PlanSpec| {
        let DiskKind::Machine { is_readonly, .. } = &mut s.disks[4].kind else {
            unreachable!("it is the machine's")
        };
        *is_readonly = true;
    };
    assert_eq!(refused(&readonly), PlanError::of(0, Why::VirtioDisk, 4));
    // A writer and a writer, a reader and a writer, a writer and a reader; and one guest by itself.
    for (nth, disk, is_readonly) in [(3, 0, false), (3, 0, true), (3, 4, false), (3, 4, true)] {
        let change = |s: &mut PlanSpec| s.guests[1].virtio[nth].device = block(disk, is_readonly);
        assert_eq!(refused(&change), PlanError::of(1, Why::VirtioDiskOf, 3));
    }
    let later = |s: &mut PlanSpec| s.guests[1].virtio[2].device = block(7, false);
    assert_eq!(refused(&later), PlanError::of(1, Why::VirtioDiskOf, 2));
    let twice = |g: &mut GuestSpec| g.virtio[4].device = block(0, false);
    assert_eq!(of(&twice), (Why::VirtioDiskOf, 4));
}

#[test]
fn each_rule_of_trials_is_kept() {
    for nth in 0..8 {
        let mut rates = [0; 8];
        rates[nth] = 1_000_001;
        let change = |g: &mut GuestSpec| g.faults = Some(Faults::new(0, rates));
        assert_eq!(of(&change), (Why::FaultRate, 1_000_001));
    }
    let strike_of = |slot, kind, first, count| {
        of(&move |g: &mut GuestSpec| g.script = vec![strike(slot, kind, first, count)])
    };
    let wrong = (Why::FaultScript, 0);
    let disk = full().guests[0].virtio[2].slot;
    let console = full().guests[0].virtio[0].slot;
    assert_eq!(strike_of(disk, FaultKind::Link, 0, 1), wrong);
    assert_eq!(strike_of(console, FaultKind::Drop, 0, 1), wrong);
    assert_eq!(strike_of(console, FaultKind::Delay, 0, 0), wrong);
    assert_eq!(strike_of(console, FaultKind::Delay, u64::MAX, 1), wrong);
    assert_eq!(strike_of(32, FaultKind::Delay, 0, 1), wrong);
    let many = |g: &mut GuestSpec| g.script = vec![strike(console, FaultKind::Delay, 0, 1); 17];
    assert_eq!(of(&many), (Why::FaultCount, 16));
    let most = |g: &mut GuestSpec| g.script = vec![strike(console, FaultKind::Delay, 0, 1); 257];
    assert_eq!(of(&most), (Why::FaultCount, 257));
    let kind = damaged(format::KIND_TRIALS, 1, format::TRIALS + 4, &[8]);
    assert_eq!(kind, Err(PlanError::of(1, Why::FaultScript, 0)));
    for size in [3, 24, 0xFFFF] {
        let change = |g: &mut GuestSpec| g.offer.queue_size = size;
        assert_eq!(of(&change), (Why::QueueSize, u64::from(size)));
    }
    // VERSION_1 and a device's own cannot be kept back.
    for bit in [1 << 32, 1, 1 << 63] {
        let change = |g: &mut GuestSpec| g.offer.withheld |= bit;
        assert_eq!(of(&change), (Why::Offer, bit));
    }
    let wide = damaged(format::KIND_TRIALS, 0, 4, &0x1_0000u32.to_le_bytes());
    assert_eq!(wide, Err(PlanError::of(0, Why::QueueSize, 0x1_0000)));
}

/// The plan with bytes of the n-th section of a kind written over, behind a right checksum.
fn damaged(kind: u16, nth: usize, at: usize, bytes: &[u8]) -> Result<PlanSpec, PlanError> {
    let mut blob = encode(&full()).expect("it is valid");
    let all = sections(&blob);
    let mut of_kind = all.iter().filter(|section| section.0 == kind);
    let start = of_kind.nth(nth).expect("it is there").2 + format::SECTION_HEADER + at;
    blob[start..start + bytes.len()].copy_from_slice(bytes);
    seal(&mut blob, count(all.len()));
    Plan::decode(&blob).map(|plan| spec(&plan))
}

#[test]
fn what_a_kind_has_no_use_for_is_zero() {
    let kind_of = |nth: u64| Err(PlanError::new(Why::DiskKind, nth));
    let disk = |nth: usize, at: usize, bytes: &[u8]| {
        damaged(format::KIND_DISKS, 0, nth * format::DISK + at, bytes)
    };
    for kind in [0u32, 8, u32::MAX] {
        assert_eq!(disk(1, 24, &kind.to_le_bytes()), kind_of(1));
    }
    // Bytes of its own in memory; undefined flags; what is read only only of the machine.
    assert_eq!(disk(0, 16, &[1]), kind_of(0));
    assert_eq!(disk(4, 28, &[2]), kind_of(4));
    assert_eq!(disk(3, 28, &[1]), kind_of(3));
    // A unit or a partition of more than 32 bits; a first sector of a whole disk, and a name of one.
    assert_eq!(disk(4, 12, &[1]), kind_of(4));
    assert_eq!(disk(6, 20, &[1]), kind_of(6));
    assert_eq!(disk(4, 16, &[1]), kind_of(4));
    assert_eq!(disk(4, 64, b"x"), kind_of(4));
    // An empty disk with a file, or a length.
    let size = Err(PlanError::new(Why::DiskSize, 1));
    assert_eq!(disk(1, 64, b"x"), size);
    assert_eq!(disk(1, 8, &512u64.to_le_bytes()), size);

    let network = damaged(format::KIND_NETWORKS, 0, format::NETWORK, &[2]);
    assert_eq!(network, Err(PlanError::new(Why::NetworkKind, 1)));

    let device =
        |nth: usize, at: usize| damaged(format::KIND_VIRTIO, 0, nth * format::VIRTIO + at, &[0x80]);
    let kind = |nth: u64| Err(PlanError::of(0, Why::VirtioKind, nth));
    for (nth, unused) in [
        (0, &[4, 8, 12, 16, 23, 24, 31][..]),
        (1, &[4, 12, 16, 24]),
        (6, &[4, 12]),
        (8, &[4, 8, 12, 16, 24]),
        (9, &[4, 16, 24]),
        (10, &[4, 8, 12, 16, 24]),
    ] {
        for at in unused {
            assert_eq!(device(nth, *at), kind(nth as u64), "{nth} {at}");
        }
    }
    for (watched, undefined) in [(15, 8), (4, 4), (6, 4)] {
        let lint = damaged(format::KIND_TRIALS, 0, 0, &[watched]);
        assert_eq!(lint, Err(PlanError::of(0, Why::Lint, undefined)));
    }
}

#[test]
fn sections_of_virtio_have_their_owners_and_sizes() {
    let blob = encode(&full()).expect("it is valid");
    let all = sections(&blob);
    let n = count(all.len());
    for (kind, owner, start, end) in all.into_iter().filter(|section| section.0 >= 7) {
        let wrong = |why| Err(PlanError::of(owner, why, u64::from(kind)));
        let sealed = |mut blob: Vec<u8>, n: u32| {
            seal(&mut blob, n);
            Plan::decode(&blob).map(|plan| spec(&plan))
        };
        let mut short = blob.clone();
        short[start + 8] ^= 1;
        assert!(sealed(short, n).is_err());
        let twice = [&blob[..end], &blob[start..]].concat();
        assert_eq!(sealed(twice, n + 1), wrong(Why::SectionTwice));
        let mut other = blob.clone();
        let stranger: u16 = if owner == format::NOBODY {
            0
        } else {
            format::NOBODY
        };
        other[start + 4..start + 6].copy_from_slice(&stranger.to_le_bytes());
        let owner = Err(PlanError::of(stranger, Why::SectionOwner, u64::from(kind)));
        assert_eq!(sealed(other, n), owner);
    }
}

/// A bundle of the plan above with its images, the named one changed.
fn bundle(change: &str, data: Option<&[u8]>, is_aligned: bool) -> Vec<u8> {
    let spec = full();
    let plan = encode(&spec).expect("it is valid");
    let mut writer = Writer::new();
    writer.file(PLAN_FILE, &plan).expect("it is short");
    for segment in spec.guests.iter().flat_map(|guest| &guest.segments) {
        let len = usize::try_from(segment.len).expect("it is short");
        writer
            .file(&segment.file, &vec![0; len])
            .expect("it is short");
    }
    for image in spec.disks.iter().filter_map(|disk| disk.kind.image()) {
        let whole = vec![7; usize::try_from(image.len).expect("it is short")];
        let done = match (image.file == change, data) {
            (true, None) => Ok(()),
            (true, Some(data)) if is_aligned => writer.aligned(&image.file, data, IMAGE_ALIGN),
            (true, Some(data)) => writer.file(&image.file, data),
            (false, _) => writer.aligned(&image.file, &whole, IMAGE_ALIGN),
        };
        done.expect("it is short");
    }
    writer.finish()
}

#[test]
fn a_bundle_has_the_images_of_its_disks_on_pages() {
    let good = bundle("", None, true);
    let opened = Bundle::open(&good).expect("it is sound");
    for disk in opened.plan().disks() {
        if let Some(image) = disk.kind.image() {
            let data = opened.image(image).expect("it is there");
            assert_eq!(data.len() as u64, image.len);
            assert!(data.iter().all(|byte| *byte == 7));
        }
    }
    let refused = |data: Option<&[u8]>, is_aligned| {
        let bytes = bundle("disks/readonly", data, is_aligned);
        let error = Bundle::open(&bytes).expect_err("something is wrong");
        assert_eq!((error.file, error.error.value), ("disks/readonly", 2));
        error.error.why
    };
    assert_eq!(refused(None, true), Why::DiskImage);
    assert_eq!(refused(Some(&[7; 1023]), true), Why::DiskImage);
    assert_eq!(refused(Some(&[7; 1025]), true), Why::DiskImage);
    assert_eq!(refused(Some(&[7; 1024]), false), Why::DiskPlace);
}

#[test]
fn aligned_files_are_aligned_whatever_is_before_them() {
    for before in 0..300 {
        let mut writer = Writer::new();
        let long = vec![1; before * 13];
        writer.file("before", &long).expect("it is short");
        writer
            .aligned("image", b"image", 4096)
            .expect("it is short");
        writer.aligned("next", b"next", 64).expect("it is short");
        let bytes = writer.finish();
        for entry in Archive::new(&bytes).entries() {
            let entry = entry.expect("it is sound");
            let at = entry.data.as_ptr().addr() - bytes.as_ptr().addr();
            match entry.name {
                "image" => assert!(at.is_multiple_of(4096)),
                "next" => assert!(at.is_multiple_of(64)),
                _ => {}
            }
        }
        let found = Archive::new(&bytes).find("image");
        assert_eq!(found, Ok(Some(b"image".as_slice())));
    }
}
