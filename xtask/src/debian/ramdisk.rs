//! The initramfs that comes with Debian's kernels: busybox, the modules a guest may need, and a shell or a self-test.

use std::collections::BTreeMap;

use crate::initramfs::Initramfs;

use super::modules::{self, Module};

const HELLO: &str = include_str!("hello.sh");
const INITTAB: &str = include_str!("inittab");
const RC: &str = include_str!("rc.sh");
const PROFILE: &str = include_str!("profile.sh");
const SELFTEST: &str = include_str!("selftest.sh");
/// What the last line of a self-test that found nothing is.
pub const SELFTEST_OK: &str = "selftest: ok";
/// What begins the last line of one that did.
pub const SELFTEST_FAILED: &str = "selftest: FAILED: ";
/// What begins the line that says that the kernel has come to the end of its way.
pub const USER_SPACE: &str = "user space reached ";

/// What a guest may need. `rc.sh` loads those whose device is there; a file system's come when it is mounted.
pub const WANTED: [&str; 10] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "vmw_vsock_virtio_transport",
    "arm_smccc_trng",
    "ext4",
    // What ext4 asks the kernel's crypto for by name, and no list of dependencies says so.
    "crc32c_generic",
];

/// What is in the initramfs beside busybox.
#[derive(Debug)]
pub struct Contents {
    /// The kernel's version, as `uname -r` says it.
    pub version: String,
    /// The modules, each after what it needs.
    pub modules: Vec<Module>,
    /// Further programs and their libraries, by path.
    pub programs: BTreeMap<String, Vec<u8>>,
    /// Links to programs: name and target.
    pub links: Vec<(&'static str, &'static str)>,
    /// The command that tests the guest.
    pub check: &'static str,
    /// Whether it tests itself and powers off instead of opening a shell.
    pub selftest: bool,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            version: String::new(),
            modules: Vec::new(),
            programs: BTreeMap::new(),
            links: Vec::new(),
            check: "selftest",
            selftest: false,
        }
    }
}

/// Busybox and an `/init` that says what it sees and powers off.
pub fn hello(busybox: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = common(busybox)?;
    archive.program("init", HELLO.as_bytes())?;
    archive.finish()
}

/// Busybox as `init`, with a shell on the guest's UART.
pub fn shell(busybox: &[u8], contents: &Contents) -> anyhow::Result<Vec<u8>> {
    let mut archive = common(busybox)?;
    for folder in ["etc", "lib", "lib/modules", "root", "run", "tmp"] {
        archive.folder(folder)?;
    }
    archive
        .link("init", "bin/busybox")?
        .file("etc/inittab", INITTAB.as_bytes())?
        .program("etc/rc", RC.as_bytes())?
        .file("etc/profile", PROFILE.as_bytes())?
        .file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")?
        .file("etc/group", b"root:x:0:\n")?
        .program("bin/selftest", SELFTEST.as_bytes())?;
    for (path, bytes) in &contents.programs {
        archive.program(path, bytes)?;
    }
    for (name, target) in &contents.links {
        archive.link(name, target)?;
    }
    archive.file("etc/check", format!("{}\n", contents.check).as_bytes())?;
    if contents.selftest {
        archive.file("etc/selftest", b"")?;
    }
    if !contents.modules.is_empty() {
        archive
            .file(
                "lib/modules/version",
                format!("{}\n", contents.version.trim_end()).as_bytes(),
            )?
            .file(
                "lib/modules/modules.alias",
                modules::aliases(&contents.modules).as_bytes(),
            )?
            .file(
                "lib/modules/modules.dep",
                modules::dependencies(&contents.modules).as_bytes(),
            )?;
        for module in &contents.modules {
            archive.file(&format!("lib/modules/{}.ko", module.name), &module.bytes)?;
        }
    }
    archive.finish()
}

fn common(busybox: &[u8]) -> anyhow::Result<Initramfs> {
    let mut archive = Initramfs::default();
    for folder in ["bin", "dev", "proc", "sys"] {
        archive.folder(folder)?;
    }
    archive
        .device("dev/console", 5, 1)?
        .program("bin/busybox", busybox)?
        .link("bin/sh", "busybox")?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::super::kit::Kit;
    use super::*;

    fn holds(archive: &[u8], text: &str) -> bool {
        archive
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    #[test]
    fn the_greeting_powers_off() {
        assert!(HELLO.starts_with("#!/bin/busybox sh\n"));
        assert!(HELLO.contains("poweroff -f"));
        assert!(hello(b"x").unwrap().starts_with(b"070701"));
    }

    #[test]
    fn the_scripts_say_what_this_program_listens_for() {
        assert!(RC.contains(USER_SPACE) && RC.contains("/etc/selftest"));
        assert!(SELFTEST.contains(&format!("echo \"{SELFTEST_OK}\"")));
        assert!(SELFTEST.contains(SELFTEST_FAILED));
        for kit in Kit::ALL {
            assert!(kit.script().contains(&format!("echo \"{SELFTEST_OK}\"")));
            assert!(kit.script().contains(SELFTEST_FAILED));
        }
    }

    #[test]
    fn only_a_headless_guest_tests_itself() {
        let with = |selftest| {
            let contents = Contents {
                selftest,
                ..Contents::default()
            };
            shell(b"x", &contents).unwrap()
        };
        assert!(holds(&with(true), "etc/selftest\0"));
        assert!(!holds(&with(false), "etc/selftest\0"));
    }

    #[test]
    fn modules_are_there_with_their_version_and_their_order() {
        let module = |name: &str, needs: &[&str]| Module {
            name: name.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            aliases: vec![format!("virtio:d-{name}")],
            bytes: b"elf".to_vec(),
        };
        let contents = Contents {
            version: "6.1.0-1".to_owned(),
            modules: vec![module("virtio", &[]), module("virtio_net", &["virtio"])],
            programs: BTreeMap::from([("bin/cyclictest".to_owned(), b"elf".to_vec())]),
            links: vec![("bin/late", "cyclictest")],
            check: "load",
            selftest: false,
        };
        let archive = shell(b"x", &contents).unwrap();
        for text in [
            "6.1.0-1",
            "lib/modules/virtio_net.ko\0",
            "virtio_net.ko: virtio.ko\n",
            "alias virtio:d-virtio_net virtio_net\n",
            "bin/cyclictest\0",
            "bin/late\0",
            "load\n",
        ] {
            assert!(holds(&archive, text), "{text}");
        }
    }
}
