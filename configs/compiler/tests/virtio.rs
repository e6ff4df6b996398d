//! What the keys of virtio mean in the plan and in the bundle.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;

use configs_compiler::{Compiled, RunOptions, compile};
use configs_plan::{
    Bundle, DiskKind, FaultKind, Lint, Offer, Part, Strike, VirtioDevice, cpio::Archive,
};
use fixtures::Fixtures;
use proptest::prelude::*;

fn compiled(text: &str) -> Compiled {
    let options = RunOptions::default();
    let compiled = compile("t", text.as_bytes(), &Fixtures::default(), &options);
    compiled.unwrap_or_else(|why| unreachable!("{why}"))
}

fn guest(name: &str, more: &str) -> String {
    format!(
        "[[guest]]\nname = \"{name}\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = 1\n{more}\n"
    )
}

const ALL: &str = include_str!("accepted/virtio.toml");

#[test]
fn devices_are_in_the_slots_that_the_order_says() {
    let compiled = compiled(ALL);
    let bundle = Bundle::open(compiled.bundle()).expect("it is sound");
    let plan = bundle.plan();
    let kinds = |nth: usize| {
        let guest = plan.guests().nth(nth).expect("it is there");
        let slots: Vec<_> = guest.virtio().collect();
        assert!((0..).zip(&slots).all(|(nth, virtio)| virtio.slot == nth));
        slots
            .iter()
            .map(|virtio| virtio.device.number())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(0), [3, 2, 2, 2, 2, 2, 1, 1, 4, 19, 5]);
    assert_eq!(kinds(1), [2, 2, 2, 2, 2, 1, 1], "no console, no numbers");
    assert_eq!(kinds(2), [3, 4]);
    assert_eq!(kinds(3), [4]);
    let guests: Vec<_> = plan.guests().collect();
    assert_eq!(
        guests.iter().map(|g| g.virtio_lint()).collect::<Vec<_>>(),
        [Lint::Errors, Lint::Off, Lint::Off, Lint::Off]
    );
    assert_eq!(guests[0].faults(), None);
    let offer = guests[0].offer();
    assert_eq!(offer.withheld, 1 << 34 | 1 << 35);
    assert_eq!(offer.queue_size, 16);
    assert_eq!(guests[1].offer(), configs_plan::Offer::default());
    let faults = guests[1].faults().expect("some are asked for");
    assert_eq!((faults.seed, faults.error, faults.delay), (42, 10_000, 500));
    let strike = |kind, count| Strike {
        slot: 2,
        kind,
        first: 6,
        count,
    };
    let script: Vec<_> = guests[1].script().collect();
    assert_eq!(
        script,
        [strike(FaultKind::Drop, 1), strike(FaultKind::Interrupt, 3)]
    );
    assert!(guests[1].has_faults() && !guests[0].has_faults());
}

/// How closely a machine's guests are watched, when the command line asks for so much.
fn watched(text: &str, lint: Lint) -> Vec<Lint> {
    let options = RunOptions {
        lint,
        ..RunOptions::default()
    };
    let compiled = compile("t", text.as_bytes(), &Fixtures::default(), &options);
    let compiled = compiled.expect("it is valid");
    let bundle = Bundle::open(compiled.bundle()).expect("EL2 takes it");
    bundle.plan().guests().map(|g| g.virtio_lint()).collect()
}

#[test]
fn guests_are_watched_as_closely_as_the_file_or_the_command_line_says() {
    let lint = |value| format!("rng = true\n[guest.lint]\nvirtio = {value}");
    let text = [
        guest("none", ""),
        guest("usual", "rng = true"),
        guest("off", &lint("false")),
        guest("errors", &lint("true")),
        guest("strict", &lint("\"strict\"")),
    ];
    let text = text.concat();
    use Lint::{Errors, Off, Strict};
    for (asked, found) in [
        (Off, [Off, Off, Off, Errors, Strict]),
        (Errors, [Off, Errors, Errors, Errors, Strict]),
        (Strict, [Off, Strict, Strict, Strict, Strict]),
    ] {
        assert_eq!(watched(&text, asked), found, "{asked:?}");
    }
}

#[test]
fn a_trace_is_of_those_who_have_devices() {
    let options = RunOptions {
        traces_virtio: true,
        ..RunOptions::default()
    };
    let text = guest("none", "") + &guest("one", "rng = true");
    let compiled = compile("t", text.as_bytes(), &Fixtures::default(), &options);
    let compiled = compiled.expect("it is valid");
    let bundle = Bundle::open(compiled.bundle()).expect("EL2 takes it");
    let traced: Vec<_> = bundle
        .plan()
        .guests()
        .map(|g| g.is_virtio_traced())
        .collect();
    assert_eq!(traced, [false, true]);
}

#[test]
fn the_same_machine_is_offered_less() {
    let compiled = compiled(ALL);
    let offer = Offer {
        withheld: Offer::INDIRECT,
        queue_size: 4,
    };
    let bundle = compiled.offering(offer).expect("EL2 takes it");
    let opened = Bundle::open(&bundle).expect("EL2 takes it");
    for guest in opened.plan().guests() {
        assert_eq!((guest.offer(), guest.virtio_lint()), (offer, Lint::Errors));
    }
    let before = Bundle::open(compiled.bundle()).expect("it is sound");
    assert!(opened.plan().disks().eq(before.plan().disks()));
    let same = Offer::default();
    assert_eq!(
        compiled.offering(same).map(|bundle| bundle.len()),
        Ok(bundle.len())
    );
}

#[test]
fn disks_are_what_the_file_says() {
    let compiled = compiled(ALL);
    let bundle = Bundle::open(compiled.bundle()).expect("it is sound");
    let disks: Vec<_> = bundle.plan().disks().collect();
    let names: Vec<_> = disks.iter().map(|disk| disk.name).collect();
    let all = [
        "root", "programs", "data", "scratch", "swap", "logs", "shared",
    ];
    assert_eq!(names, all);
    let sectors: Vec<_> = disks.iter().map(|disk| disk.sectors).collect();
    assert_eq!(sectors, [6144, 2, 131_072, 32_768, 131_072, 0, 0]);
    let DiskKind::Snapshot { image, memory } = &disks[0].kind else {
        unreachable!("it is a snapshot")
    };
    assert_eq!((image.len, *memory), (3 << 20, 1 << 20));
    // What is no whole sector is filled up.
    let DiskKind::Readonly { image } = &disks[1].kind else {
        unreachable!("it is read only")
    };
    let bytes = bundle.image(image).expect("it is there");
    assert_eq!(bytes.len(), 1024);
    assert!(bytes[..1000].iter().all(|byte| *byte == 0x30));
    assert!(bytes[1000..].iter().all(|byte| *byte == 0));
    assert!(matches!(disks[2].kind, DiskKind::Memory { image: Some(_) }));
    assert_eq!(disks[3].kind, DiskKind::Memory { image: None });
    let of_machine = |unit, part, is_readonly| DiskKind::Machine {
        unit,
        part,
        is_readonly,
    };
    assert_eq!(disks[4].kind, of_machine(0, Part::From(2048), false));
    assert_eq!(disks[5].kind, of_machine(1, Part::Number(2), false));
    let named = Part::Name("things to read");
    assert_eq!(disks[6].kind, of_machine(1, named, true));
    // Images can be read in place, wherever they are.
    for entry in Archive::new(compiled.bundle()).entries() {
        let entry = entry.expect("it is sound");
        if entry.name.starts_with("disks/") {
            let at = entry.data.as_ptr().addr() - compiled.bundle().as_ptr().addr();
            assert!(at.is_multiple_of(4096), "{}", entry.name);
        }
    }
    let summary = compiled.summary();
    assert!(summary.has_virtio() && summary.has_uplink());
    assert_eq!(summary.machine_disks(), 2);
}

#[test]
fn cards_have_their_own_addresses_and_keep_them() {
    let cards = |text: &str| {
        let compiled = compiled(text);
        let bundle = Bundle::open(compiled.bundle()).expect("it is sound");
        let devices = bundle.plan().guests().flat_map(|guest| guest.virtio());
        let mut macs = Vec::new();
        for virtio in devices {
            if let VirtioDevice::Net { mac, .. } = virtio.device {
                macs.push(mac);
            }
        }
        macs
    };
    let lan = "[[network]]\nname = \"lan\"\n";
    let alone = cards(&format!("{lan}{}", guest("web", "networks = [\"lan\"]")));
    let both = format!(
        "{lan}{}{}",
        guest("db", "networks = [\"lan\", \"lan\"]"),
        guest("web", "networks = [\"lan\"]")
    );
    let both = cards(&both);
    assert_eq!(both[2], alone[0], "whoever else is there");
    assert_eq!(both.len(), 3);
    assert!(both[0] != both[1] && both[1] != both[2]);
    assert!(both.iter().all(|mac| mac[0] == 2));
}

#[test]
fn a_kernel_that_speaks_through_virtio_is_told() {
    let cmdline = |more: &str| {
        let compiled = compiled(&guest("alpha", more));
        compiled.summary().guests[0].cmdline.clone()
    };
    let virtio = "console = \"virtio\"";
    assert_eq!(cmdline(virtio), "console=hvc0 earlycon");
    assert_eq!(
        cmdline(&format!("{virtio}\ncmdline = \"quiet\"")),
        "console=hvc0 earlycon quiet"
    );
    let own = "cmdline = \"quiet console=ttyAMA0\"";
    assert_eq!(
        cmdline(&format!("{virtio}\n{own}")),
        "quiet console=ttyAMA0"
    );
    assert_eq!(cmdline("console = \"pl011\""), "");
    assert_eq!(cmdline("rng = true"), "");
}

/// One whose initrd has the driver speaks so without being told. Any other would be mute.
#[test]
fn linux_speaks_through_virtio_if_its_initrd_has_the_driver() {
    let guest = |kernel: &str, more: &str| {
        let text = format!(
            "[[guest]]\nname = \"alpha\"\nkernel = \"{kernel}\"\nmemory = \"128M\"\nlanes = 1\n{more}"
        );
        let compiled = compiled(&text);
        let guest = &compiled.summary().guests[0];
        let bundle = Bundle::open(compiled.bundle()).expect("it is sound");
        let mut plans = bundle.plan().guests();
        let devices = plans.next().expect("it is there").virtio().count();
        (guest.cmdline.clone(), devices)
    };
    let virtio = |cmdline: &str| (cmdline.to_owned(), 2);
    let serial = |cmdline: &str| (cmdline.to_owned(), 0);
    let usual = "console=hvc0 earlycon";
    for (kernel, more, wanted) in [
        ("linux", "", virtio(usual)),
        ("linux", "initrd = \"debian-io\"", virtio(usual)),
        ("debian", "initrd = \"debian-io\"", virtio(usual)),
        (
            "linux",
            "cmdline = \"quiet\"",
            virtio("console=hvc0 earlycon quiet"),
        ),
        (
            "linux",
            "cmdline = \"console=hvc0\"",
            virtio("console=hvc0"),
        ),
        // Another initrd, and a kernel that was not made for this one.
        ("linux", "initrd = \"debian-hello\"", serial("")),
        ("guest-kernel", "initrd = \"debian-io\"", serial("")),
        ("debian", "", serial("")),
        // Who names another console has chosen.
        (
            "linux",
            "cmdline = \"console=ttyAMA0\"",
            serial("console=ttyAMA0"),
        ),
        ("linux", "console = \"pl011\"", serial("")),
    ] {
        assert_eq!(guest(kernel, more), wanted, "{kernel} {more}");
    }
}

#[test]
fn the_machine_has_memory_for_its_disks() {
    let needed = |disks: &str, guests: &str| compiled(&format!("{disks}{guests}")).memory_needed();
    let empty = "[[disk]]\nname = \"a\"\nsize = \"1G\"\n";
    let user = "disks = [\"a\"]";
    let without = needed("", &guest("alpha", ""));
    let with = needed(empty, &guest("alpha", user));
    assert!(with > without && with >= (1 << 30) + (64 << 20));
    // Each user of a snapshot writes to memory of its own.
    let snapshot = "[[disk]]\nname = \"a\"\nimage = \"root.img\"\nsize = \"1G\"\nsnapshot = true\n";
    let one = needed(snapshot, &guest("alpha", user));
    let two = needed(
        snapshot,
        &format!("{}{}", guest("alpha", user), guest("beta", user)),
    );
    assert!(one >= with && two - one >= 1 << 30);
    let machine = "[[disk]]\nname = \"a\"\nmachine = 0\n";
    assert_eq!(needed(machine, &guest("alpha", user)), without);
}

/// One of these lines: mostly one of the first, which are good by themselves.
fn line(
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> impl Strategy<Value = String> {
    let of = |lines: &[&'static str]| prop::sample::select(lines.to_vec());
    let all = [good, bad].concat();
    prop_oneof![15 => of(good), 1 => of(&all)].prop_map(|line| format!("{line}\n"))
}

/// What a disk is made of.
fn any_disk() -> impl Strategy<Value = String> {
    let of_image = (
        line(
            &[
                "",
                "size = \"4M\"",
                "snapshot = true",
                "readonly = true",
                "snapshot = true\nsize = \"64M\"\nsnapshot_memory = \"3K\"",
            ],
            &[
                "size = \"1M\"",
                "size = \"99999999999G\"",
                "readonly = true\nsize = \"4M\"",
            ],
        ),
        line(
            &[""],
            &[
                "snapshot_memory = \"0K\"",
                "snapshot = true\nsnapshot_memory = \"300000G\"",
                "machine = 0",
            ],
        ),
    );
    let of_image = of_image.prop_map(|(one, two)| format!("image = \"odd.img\"\n{one}{two}"));
    let of_machine = (
        line(
            &["machine = 0", "machine = 1", "machine = 31"],
            &["machine = 32"],
        ),
        line(
            &[
                "",
                "partition = 1",
                "partition = \"p\"",
                "first_sector = 0\nsectors = 9",
                "first_sector = 9\nsectors = 9",
                "first_sector = 8\nsectors = 9",
            ],
            &[
                "partition = 0",
                "partition = \"\"",
                "first_sector = 0xffff_ffff\nsectors = 0xffff_ffff_ffff",
                "sectors = 1",
                "first_sector = 1",
            ],
        ),
        line(&["", "readonly = true"], &["snapshot = true"]),
    );
    let of_machine = of_machine.prop_map(|(unit, part, way)| unit + &part + &way);
    let empty = line(
        &["size = \"64K\"", "size = \"1G\""],
        &["size = \"0K\"", "", "size = \"300000G\""],
    );
    prop_oneof![of_image, of_machine, empty]
}

/// Which of two guests have something, and how each names it.
fn users(
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> impl Strategy<Value = [Option<String>; 2]> {
    let one = move || line(good, bad);
    let both = (one(), one()).prop_map(|(a, b)| [Some(a), Some(b)]);
    prop_oneof![
        6 => (one(), any::<bool>()).prop_map(|(one, first)| match first {
            true => [Some(one), None],
            false => [None, Some(one)],
        }),
        3 => both,
    ]
}

/// What else a guest says of virtio.
fn any_rest() -> impl Strategy<Value = (String, String, String)> {
    (
        line(
            &[
                "",
                "console = \"virtio\"",
                "console = \"pl011\"",
                "rng = true",
                "rng = false",
            ],
            &[],
        ),
        line(
            &[
                "",
                "vsock = 3",
                "vsock = 4",
                "vsock = 4294967294",
                "balloon = true",
            ],
            &["vsock = 2", "vsock = 4294967295"],
        ),
        line(
            &["", ""],
            &[
                "[guest.lint]\nvirtio = true",
                "[guest.faults]\nseed = 0xffff_ffff\ndelay = \"100%\"",
                "[guest.faults]\nerror = \"0%\"",
            ],
        ),
    )
}

/// A whole file: every disk and network has a user.
fn any_file() -> impl Strategy<Value = String> {
    let disk_users = users(&["", ", readonly = true"], &[", readonly = false"]);
    let card_users = users(
        &[
            "",
            ", vlan = 1",
            ", rate = \"1Gbit/s\"",
            ", mac = \"02:00:00:00:00:01\"",
        ],
        &[
            ", vlan = 4095",
            ", rate = \"0kbit/s\"",
            ", mac = \"03:00:00:00:00:01\"",
        ],
    );
    let disks = prop::collection::vec((any_disk(), disk_users), 0..4);
    let uplink = line(&["", "uplink = false"], &["uplink = true"]);
    let networks = prop::collection::vec((uplink, card_users), 0..3);
    (disks, networks, [any_rest(), any_rest()]).prop_map(|(disks, networks, rests)| {
        let mut text = String::new();
        for (nth, (disk, _)) in disks.iter().enumerate() {
            text += &format!("[[disk]]\nname = \"d{nth}\"\n{disk}");
        }
        for (nth, (network, _)) in networks.iter().enumerate() {
            text += &format!("[[network]]\nname = \"n{nth}\"\n{network}");
        }
        for (nth, (own, more, trials)) in rests.into_iter().enumerate() {
            let entry = |letter: char, number: usize, rest: &str| {
                format!("{{ name = \"{letter}{number}\"{} }}", rest.trim_end())
            };
            let of = |letter: char, users: Vec<&Option<String>>| {
                let named = users.into_iter().enumerate();
                let named = named.filter_map(|(n, rest)| Some(entry(letter, n, rest.as_ref()?)));
                named.collect::<Vec<_>>().join(", ")
            };
            let mine = of('d', disks.iter().map(|(_, users)| &users[nth]).collect());
            let cards = of('n', networks.iter().map(|(_, users)| &users[nth]).collect());
            let more = format!("disks = [{mine}]\nnetworks = [{cards}]\n{own}{more}{trials}");
            text += &guest(&format!("guest-{nth}"), &more);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever compiles keeps the rules of a plan, and nothing is found only by the last check.
    #[test]
    fn any_devices_are_compiled_or_refused(text in any_file()) {
        match compile("t", text.as_bytes(), &Fixtures::default(), &RunOptions::default()) {
            Ok(compiled) => {
                prop_assert!(Bundle::open(compiled.bundle()).is_ok());
                prop_assert!(!compiled.summary().to_string().is_empty());
            }
            Err(refused) => prop_assert!(!refused.to_string().contains("fault of XDV"), "{}\n{}", text, refused),
        }
    }
}
