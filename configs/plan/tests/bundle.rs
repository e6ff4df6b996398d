//! The cpio archive and the bundle in it: read what was written, what `cpio` writes, and nothing damaged.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use configs_plan::cpio::{Archive, Writer};
use configs_plan::encode::{GuestSpec, PlanSpec, SegmentSpec, encode};
use configs_plan::{
    Bundle, LanePlan, Lint, OnCrash, PLAN_FILE, PlanError, RAM_BASE, RamPlan, Share, Why,
};
use proptest::prelude::*;

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new();
    for (name, data) in files {
        writer.file(name, data).expect("it is short");
    }
    writer.finish()
}

fn plan() -> Vec<u8> {
    let guest = GuestSpec {
        name: "alpha".to_owned(),
        ram: RamPlan {
            ipa: RAM_BASE,
            size: 4 << 20,
            host: None,
        },
        entry: RAM_BASE,
        dtb: RAM_BASE + (2 << 20),
        lanes: vec![LanePlan {
            cpu: 0,
            share: Share::Dedicated,
        }],
        on_crash: OnCrash::Stop,
        watchdog_ms: None,
        devices: Vec::new(),
        virtio: Vec::new(),
        virtio_lint: Lint::Off,
        is_virtio_traced: false,
        faults: None,
        script: Vec::new(),
        offer: configs_plan::Offer::default(),
        segments: vec![
            SegmentSpec {
                file: "alpha/kernel".to_owned(),
                ipa: RAM_BASE,
                len: 5,
            },
            SegmentSpec {
                file: "alpha/dtb".to_owned(),
                ipa: RAM_BASE + (2 << 20),
                len: 3,
            },
        ],
    };
    encode(&PlanSpec {
        cpus: 1,
        deadline_ms: None,
        disks: Vec::new(),
        networks: Vec::new(),
        guests: vec![guest],
    })
    .expect("it is valid")
}

#[test]
fn files_are_found_by_name() {
    let bytes = archive(&[("plan", b"p"), ("a/kernel", b"kernel"), ("empty", b"")]);
    let archive = Archive::new(&bytes);
    assert_eq!(archive.find("a/kernel"), Ok(Some(b"kernel".as_slice())));
    assert_eq!(archive.find("empty"), Ok(Some(b"".as_slice())));
    assert_eq!(archive.find("kernel"), Ok(None));
    assert_eq!(archive.find("TRAILER!!!"), Ok(None));
    let names: Vec<_> = archive
        .entries()
        .map(|entry| entry.expect("it is sound").name)
        .collect();
    assert_eq!(names, ["plan", "a/kernel", "empty"]);
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let bytes = archive(&[("a", b"1"), ("b", b"2"), ("a", b"3")]);
    let twice = Archive::new(&bytes).find("a").expect_err("a second `a`");
    assert_eq!(twice.why, Why::MemberTwice);
    assert_eq!(Archive::new(&bytes).find("b"), Ok(Some(b"2".as_slice())));
}

#[test]
fn every_cut_is_noticed() {
    let bytes = archive(&[("a", b"12345"), ("b", b"")]);
    let trailer = bytes.len() - "TRAILER!!!".len();
    for length in 0..trailer {
        assert!(
            Archive::new(&bytes[..length]).find("a").is_err(),
            "cut to {length}"
        );
    }
    // Loaders pad archives.
    let padded = [bytes.as_slice(), &[0; 512]].concat();
    assert_eq!(
        Archive::new(&padded).find("a"),
        Ok(Some(b"12345".as_slice()))
    );
}

#[test]
fn damaged_headers_are_refused() {
    let bytes = archive(&[("abc", b"12345")]);
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        Archive::new(&bytes)
            .find("abc")
            .map(|found| found.map(<[u8]>::to_vec))
    };
    assert_eq!(changed(0, b"070707"), Err(PlanError::new(Why::Member, 0)));
    assert_eq!(
        changed(54, b"+0000005"),
        Err(PlanError::new(Why::Member, 0)),
        "a sign is no digit"
    );
    assert_eq!(
        changed(54, b"FFFFFFFF"),
        Err(PlanError::new(Why::ArchiveCut, 0))
    );
    assert_eq!(
        changed(94, b"FFFFFFFF"),
        Err(PlanError::new(Why::ArchiveCut, 0))
    );
    assert_eq!(
        changed(94, b"00000000"),
        Err(PlanError::new(Why::MemberName, 0))
    );
    assert_eq!(
        changed(110, b"a\0c\0"),
        Err(PlanError::new(Why::MemberName, 0))
    );
    assert_eq!(
        changed(110, b"\xFFbc\0"),
        Err(PlanError::new(Why::MemberName, 0))
    );
    assert_eq!(changed(14, b"000041ED"), Ok(None), "a directory is no file");
}

/// Runs the `cpio` of this computer, if it has one.
fn cpio(arguments: &[&str], folder: Option<&std::path::Path>, input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new("cpio");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("cpio reads");
    drop(stdin);
    let output = child.wait_with_output().expect("cpio ends");
    assert!(output.status.success());
    Some(output.stdout)
}

#[test]
fn cpio_lists_what_is_written_and_writes_what_is_read() {
    let bytes = archive(&[("plan", b"p"), ("alpha/kernel", b"kernel")]);
    let Some(list) = cpio(&["-t"], None, &bytes) else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&list), "plan\nalpha/kernel\n");

    let folder = std::env::temp_dir().join(format!("configs-plan-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("sub")).expect("a folder can be made");
    std::fs::write(folder.join("sub/file"), b"content").expect("a file can be written");
    let written =
        cpio(&["-o", "-H", "newc"], Some(&folder), b"./sub\n./sub/file\n").expect("cpio was there");
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    assert_eq!(
        Archive::new(&written).find("sub/file"),
        Ok(Some(b"content".as_slice()))
    );
    assert_eq!(Archive::new(&written).find("sub"), Ok(None));
}

#[test]
fn a_bundle_has_every_file_of_its_plan() {
    let plan = plan();
    let bytes = archive(&[
        (PLAN_FILE, &plan),
        ("alpha/kernel", b"12345"),
        ("alpha/dtb", b"678"),
        ("other", b""),
    ]);
    let bundle = Bundle::open(&bytes).expect("it is sound");
    let guest = bundle.plan().guests().next().expect("there is one");
    let data: Vec<_> = guest
        .segments()
        .map(|segment| bundle.segment(&segment))
        .collect();
    assert_eq!(data, [Some(b"12345".as_slice()), Some(b"678".as_slice())]);

    let refused = |files: &[(&str, &[u8])]| {
        Bundle::open(&archive(files))
            .expect_err("something is wrong")
            .to_string()
    };
    assert_eq!(refused(&[]), "the boot bundle has no `plan`");
    assert_eq!(refused(&[(PLAN_FILE, b"p")]), "the plan is cut short");
    assert_eq!(
        refused(&[(PLAN_FILE, &plan)]),
        "guest 0: the boot bundle does not have the file of the segment at 0x40000000: `alpha/kernel`"
    );
    assert_eq!(
        refused(&[(PLAN_FILE, &plan), ("alpha/kernel", b"1234")]),
        "guest 0: the plan has another length for a file of the boot bundle, whose bytes are 4: `alpha/kernel`"
    );
    let noise = Bundle::open(b"noise").expect_err("it is noise");
    assert_eq!(noise.error, PlanError::new(Why::ArchiveCut, 0));
    assert!(
        Bundle::open(&bytes[..bytes.len() / 2])
            .expect_err("it is cut")
            .to_string()
            .contains("cut short")
    );
    assert_eq!(
        Bundle::open(&archive(&[(PLAN_FILE, &[0; 99])])).map(|_| ()),
        Err(PlanError::new(Why::Magic, 0).into())
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(files in prop::collection::btree_map("[a-z/]{1,40}", prop::collection::vec(any::<u8>(), 0..50), 0..6)) {
        let list: Vec<_> = files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        let bytes = archive(&list);
        let read: Result<Vec<_>, _> = Archive::new(&bytes).entries().map(|entry| entry.map(|entry| (entry.name, entry.data))).collect();
        prop_assert_eq!(read, Ok(list));
    }

    #[test]
    fn noise_never_panics(
        mut bytes in Just(archive(&[("abc", b"12345"), ("d", b"6")])),
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8),
        cut in 0usize..400,
    ) {
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut);
        let total: usize = Archive::new(&bytes).entries().flatten().map(|entry| entry.data.len()).sum();
        prop_assert!(total <= bytes.len());
        let _ = Archive::new(&bytes).find("abc");
    }
}
