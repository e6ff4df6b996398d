//! What a compiled machine is: plan, files, device trees, and what the environment gives.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;

use std::path::{Path, PathBuf};

use configs_compiler::{
    Compiled, Environment, FileKind, HostFiles, LoadError, MAX_FILE, RunOptions, compile,
};
use configs_plan::{Bundle, Lint, Plan};
use fixtures::{Fixtures, SMALL};
use proptest::prelude::*;

const LINUX: &str = include_str!("../../linux-hello.toml");
const VIRTIO: &str = include_str!("accepted/virtio.toml");
const TWO: &str = include_str!("../../two-guests.toml");

fn compiled(text: &str) -> Compiled {
    compile(
        "test.toml",
        text.as_bytes(),
        &Fixtures::default(),
        &RunOptions::default(),
    )
    .expect("it is valid")
}

#[test]
fn the_bundle_is_what_the_plan_says() {
    let compiled = compiled(LINUX);
    let bundle = Bundle::open(compiled.bundle()).expect("EL2 takes it");
    let names: Vec<_> = compiled
        .files()
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "hello/kernel",
            "hello/initrd",
            "hello/dtb",
            "kernel/kernel",
            "kernel/dtb"
        ]
    );
    let plan = Plan::decode(compiled.plan()).expect("EL2 takes it");
    assert_eq!(plan.cpus(), compiled.cpus_needed());
    assert_eq!(plan.deadline_ms(), None);
    let cpus: Vec<Vec<u32>> = plan
        .guests()
        .map(|guest| guest.lanes().map(|lane| lane.cpu).collect())
        .collect();
    assert_eq!(cpus, [vec![0, 1], vec![0]]);
    for segment in plan.guests().flat_map(|guest| guest.segments()) {
        let file = compiled
            .files()
            .iter()
            .find(|file| file.name == segment.file)
            .expect("it is there");
        assert_eq!(bundle.segment(&segment), Some(file.data.as_slice()));
    }
    assert!(compiled.memory_needed() > (256 + 64) << 20);
    assert_eq!(compiled.summary().guests.len(), 2);
}

/// What the documentation shows is a machine file.
#[test]
fn the_documented_keys_compile() {
    let documentation = include_str!("../../README.md");
    let block = documentation
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let compiled = compiled(
        &(block
            .expect("it shows a file")
            .replace("initrd.cpio", "debian-hello")
            .replace("mine.dtbo", "good.dtbo")
            // The board of the tests has more than one of each.
            .replace(r#"["rtc", "gpio"]"#, r#"["/soc/rtc@110000"]"#)
            // Both are what other examples are about.
            + "[[disk]]\nname = \"root\"\nsize = \"64M\"\n[[network]]\nname = \"lan\"\n"),
    );
    assert_eq!(compiled.cpus_needed(), 3);
}

/// The same of the examples about virtio: those of a guest compile, and each key of the others is in a file that does.
#[test]
fn the_documented_keys_of_virtio_compile() {
    let documentation = include_str!("../../README.md");
    let mut blocks = documentation.split("```toml").skip(2);
    let mut block = || {
        let block = blocks.next().and_then(|rest| rest.split("```").next());
        block.expect("it shows a file")
    };
    let (disks, uses, trials) = (block(), block(), block());
    let accepted = include_str!("accepted/virtio.toml");
    let keys = disks.lines().filter_map(|line| line.split_once(" = "));
    let keys: Vec<_> = keys.map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 13, "{keys:?}");
    for key in keys {
        assert!(accepted.contains(&format!("\n{key} = ")), "{key}");
    }
    let named = "[[disk]]\nname = \"root\"\nsize = \"1M\"\n[[disk]]\nname = \"data\"\nsize = \"1M\"\n\
                 [[network]]\nname = \"lan\"\n[[network]]\nname = \"dmz\"\n\
                 [[guest]]\nname = \"a\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = 1\n";
    let compiled = compiled(&format!("{named}{uses}{trials}"));
    let plan = Plan::decode(compiled.plan()).expect("EL2 takes it");
    let guest = plan.guests().next().expect("there is one");
    assert_eq!(guest.virtio().count(), 5);
    assert_eq!(guest.virtio_lint(), Lint::Errors);
    let faults = guest.faults().expect("it shows all of them");
    assert!(faults.rates().iter().all(|rate| *rate != 0));
}

#[test]
fn run_options_reach_the_plan() {
    let deadline = |ms| {
        let options = RunOptions {
            deadline_ms: ms,
            ..RunOptions::default()
        };
        let compiled =
            compile("t", TWO.as_bytes(), &Fixtures::default(), &options).expect("it is valid");
        Plan::decode(compiled.plan())
            .expect("EL2 takes it")
            .deadline_ms()
    };
    assert_eq!(deadline(None), None);
    assert_eq!(deadline(Some(0)), None);
    assert_eq!(deadline(Some(30_000)), Some(30_000));
}

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("configs-compiler-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn host_files_are_found_and_refused() {
    let folder = Folder::new("files");
    std::fs::write(folder.0.join("kernel.img"), SMALL.image()).expect("a file can be written");
    let huge = std::fs::File::create(folder.0.join("huge")).expect("a file can be made");
    huge.set_len(MAX_FILE + 1).expect("it can be sparse");
    let files = HostFiles::new(&folder.0)
        .with_builtin(FileKind::Kernel, "ours", folder.0.join("kernel.img"))
        .with_builtin(FileKind::Kernel, "gone", folder.0.join("gone.img"))
        .with_builtin_from(FileKind::Initrd, "offline", || Err("no network".to_owned()));
    let load = |name: &str| files.load(FileKind::Kernel, name);

    assert_eq!(load("ours"), Ok(SMALL.image()));
    assert_eq!(load("kernel.img"), Ok(SMALL.image()));
    assert_eq!(
        load("gone"),
        Err(LoadError::NotFound(folder.0.join("gone.img")))
    );
    assert_eq!(
        load("missing"),
        Err(LoadError::NotFound(folder.0.join("missing")))
    );
    assert_eq!(
        load("kernel.img/x"),
        Err(LoadError::NotFound(folder.0.join("kernel.img/x")))
    );
    assert_eq!(load("."), Err(LoadError::Directory(folder.0.join("."))));
    assert_eq!(
        load("huge"),
        Err(LoadError::TooLarge {
            path: folder.0.join("huge"),
            size: MAX_FILE + 1
        })
    );
    assert_eq!(
        files.load(FileKind::Initrd, "offline"),
        Err(LoadError::NotReady("no network".to_owned()))
    );
    assert!(matches!(load("a\0b"), Err(LoadError::Unreadable { .. })));
    if Path::new("/dev/zero").exists() {
        assert_eq!(
            load("/dev/zero"),
            Err(LoadError::Special(PathBuf::from("/dev/zero")))
        );
    }
    assert_eq!(files.builtins(FileKind::Kernel), ["gone", "ours"]);
    assert!(format!("{files:?}").contains("ours"));
    assert_eq!((files.cpus(), files.memory()), (None, None));
    let files = files.with_cpus(Some(2)).with_memory(Some(1 << 30));
    assert_eq!((files.cpus(), files.memory()), (Some(2), Some(1 << 30)));
}

#[test]
fn host_files_make_a_machine_of_stated_size() {
    let folder = Folder::new("machine");
    std::fs::write(folder.0.join("kernel.img"), SMALL.image()).expect("a file can be written");
    let files = HostFiles::new(&folder.0).with_cpus(Some(2));
    let dedicated = |n: u32| format!("lanes = {{ count = {n}, dedicated = true }}");
    let text = TWO
        .replace("guest-kernel", "kernel.img")
        .replace("lanes = 2", &dedicated(2))
        .replace("lanes = 1", &dedicated(1));
    let refused = compile("t", text.as_bytes(), &files, &RunOptions::default())
        .expect_err("2 CPUs are too few");
    assert_eq!(refused.list().len(), 1);
    assert_eq!(
        refused
            .list()
            .iter()
            .map(|found| found.title())
            .collect::<Vec<_>>(),
        ["3 dedicated lanes do not fit on 2 CPUs"]
    );
    let compiled = compile(
        "t",
        text.as_bytes(),
        &files.with_cpus(Some(3)),
        &RunOptions::default(),
    );
    assert_eq!(compiled.expect("3 CPUs are enough").cpus_needed(), 3);
}

/// The command line's size comes before the file's, and the file's before the smallest that fits.
#[test]
fn a_machine_is_as_large_as_stated() {
    let sizes = |text: &str, environment: &Fixtures| {
        let compiled =
            compile("t", text.as_bytes(), environment, &RunOptions::default()).expect("it fits");
        (compiled.cpus(), compiled.memory() >> 20)
    };
    let stated = format!("[machine]\ncpus = 4\nmemory = \"2G\"\n{TWO}");
    let more_cpus = Fixtures {
        cpus: Some(5),
        memory: None,
    };
    let more_memory = Fixtures {
        cpus: None,
        memory: Some(3 << 30),
    };
    assert_eq!(sizes(TWO, &Fixtures::default()), (2, 256));
    assert_eq!(sizes(&stated, &Fixtures::default()), (4, 2048));
    assert_eq!(sizes(&stated, &more_cpus), (5, 2048));
    assert_eq!(sizes(&stated, &more_memory), (4, 3072));
}

/// A file that is not asked for is not made: a config with an error costs no build and no download.
#[test]
fn built_in_files_are_not_made_for_a_refused_config() {
    let files = HostFiles::new(".").with_builtin_from(FileKind::Kernel, "guest-kernel", || {
        unreachable!("it was asked for")
    });
    let text = TWO.replace("lanes = 1", "lanes = 0");
    let refused =
        compile("t", text.as_bytes(), &files, &RunOptions::default()).expect_err("no lane");
    assert_eq!(refused.list().len(), 1);
}

/// A guest that names no initrd gets the one that goes with its kernel; one that names its own keeps it.
#[test]
fn a_kernel_may_bring_its_initrd() {
    let folder = Folder::new("companion");
    for (name, bytes) in [("kernel.img", SMALL.image()), ("with.cpio", vec![1; 64])] {
        std::fs::write(folder.0.join(name), bytes).expect("a file can be written");
    }
    std::fs::write(folder.0.join("own.cpio"), [2; 64]).expect("a file can be written");
    let files = HostFiles::new(&folder.0)
        .with_builtin(FileKind::Kernel, "linux", folder.0.join("kernel.img"))
        .with_builtin(FileKind::Initrd, "shell", folder.0.join("with.cpio"))
        .with_companion("linux", "shell");
    let initrd = |more: &str| {
        let text = format!(
            "[[guest]]\nname = \"a\"\nkernel = \"linux\"\nmemory = \"64M\"\nlanes = 1\n{more}"
        );
        let compiled =
            compile("t", text.as_bytes(), &files, &RunOptions::default()).expect("it is valid");
        let file = compiled.files().iter().find(|f| f.name == "a/initrd");
        let named = compiled.summary().guests.first();
        (
            file.map(|file| file.data.clone()),
            named.and_then(|guest| guest.initrd.clone()),
        )
    };
    assert_eq!(initrd(""), (Some(vec![1; 64]), Some("shell".to_owned())));
    assert_eq!(
        initrd("initrd = \"own.cpio\"\n"),
        (Some(vec![2; 64]), Some("own.cpio".to_owned()))
    );
}

#[test]
fn large_files_are_refused_unread() {
    let text = vec![b'#'; (1 << 20) + 1];
    let refused = compile(
        "big.toml",
        &text,
        &Fixtures::default(),
        &RunOptions::default(),
    )
    .expect_err("too large");
    assert!(
        refused
            .to_string()
            .contains("this file is too large for a machine file: 1.0 MiB"),
        "{refused}"
    );
}

#[test]
fn many_errors_are_cut_short_and_quick() {
    for text in [
        "a = 1\n".repeat(100_000),
        "[[guest]]\n".repeat(100_000),
        (0..80_000).map(|n| format!("k{n} = 1\n")).collect(),
        "[guest]\n".repeat(100_000),
        "[".repeat(1_000_000),
        format!("x = {}", "[".repeat(1_000_000)),
        format!("x = {}", "{a=".repeat(300_000)),
        format!("x{} = 1", ".a".repeat(400_000)),
        "=\n".repeat(500_000),
    ] {
        let start = std::time::Instant::now();
        let refused = compile(
            "t",
            text.as_bytes(),
            &Fixtures::default(),
            &RunOptions::default(),
        )
        .expect_err("nonsense");
        let message = refused.render(false);
        assert!(message.len() < 100_000, "{}", message.len());
        assert!(
            start.elapsed().as_secs() < 20,
            "{:?} for {}…",
            start.elapsed(),
            text.get(..20).unwrap_or_default()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A config with bytes changed, put in or left out: compiled to what EL2 takes, or refused in words. No panic.
    #[test]
    fn damaged_configs_are_compiled_or_refused(
        which in prop::sample::select(vec![LINUX, TWO, VIRTIO]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<u8>(), "[ -~\n]"), 1..8),
    ) {
        let mut text = which.as_bytes().to_vec();
        for (at, what, byte, character) in changes {
            let at = at.index(text.len());
            match what {
                0 => text.splice(at..=at, [byte]).for_each(drop),
                1 => text.splice(at..=at, []).for_each(drop),
                2 => text.splice(at..at, character.bytes()).for_each(drop),
                _ => text.splice(at..=at, character.bytes()).for_each(drop),
            }
            if text.is_empty() {
                break;
            }
        }
        match compile("t", &text, &Fixtures::default(), &RunOptions::default()) {
            Ok(compiled) => prop_assert!(Bundle::open(compiled.bundle()).is_ok()),
            Err(refused) => {
                prop_assert!(!refused.list().is_empty());
                prop_assert!(refused.to_string().starts_with("error: "));
                prop_assert!(!refused.to_string().contains("fault of XDV"), "{}", refused);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Values at random: whatever compiles keeps the rules of a plan, and nothing is found only by the last check.
    #[test]
    fn any_values_are_compiled_or_refused(
        memory in prop::sample::select(vec!["2M", "4M", "40M", "64M", "1G", "255G", "0M", "3M", "99999999G"]),
        lanes in 0i64..10,
        cpus in prop::option::of(prop::collection::vec(-1i64..9, 0..4)),
        load in prop::option::of(prop::sample::select(vec![0u64, 0x4000_0000, 0x4020_0000, 0x4008_0000, 0x43e0_0000, u64::MAX, u64::MAX - 0x1F_FFFF])),
        host in prop::option::of(prop::sample::select(vec![0u64, 0x4000_0000, 0x8000_0000, 0x8020_0000, (1 << 48) - 0x20_0000, u64::MAX - 0x1F_FFFF])),
        kernel in prop::sample::select(vec!["guest-kernel", "debian", "old-linux", "vmlinux"]),
        initrd in prop::option::of(prop::sample::select(vec!["debian-hello", "empty", "big.cpio"])),
        machine in prop::option::of(0i64..10),
    ) {
        let mut text = machine.map(|n| format!("[machine]\ncpus = {n}\n")).unwrap_or_default();
        text += &format!("[[guest]]\nname = \"a\"\nkernel = \"{kernel}\"\nmemory = \"{memory}\"\nlanes = {lanes}\n");
        text += &cpus.map(|cpus| format!("cpus = {cpus:?}\n")).unwrap_or_default();
        text += &load.map(|load| format!("load = {load:#x}\n")).unwrap_or_default();
        text += &host.map(|host| format!("host_memory = {host:#x}\n")).unwrap_or_default();
        text += &initrd.map(|initrd| format!("initrd = \"{initrd}\"\n")).unwrap_or_default();
        text += "\n[[guest]]\nname = \"b\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = 1\nhost_memory = 0x8010_0000\n".replace("0x8010_0000", "0x8400_0000").as_str();
        match compile("t", text.as_bytes(), &Fixtures::default(), &RunOptions::default()) {
            Ok(compiled) => {
                prop_assert!(Bundle::open(compiled.bundle()).is_ok());
                prop_assert!(!compiled.summary().to_string().is_empty());
            }
            Err(refused) => prop_assert!(!refused.to_string().contains("fault of XDV"), "{}\n{}", text, refused),
        }
    }
}
