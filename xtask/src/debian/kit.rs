//! Kits: programs of Debian's packages and of ours that an initrd has beside busybox, and the script that tests a guest
//! with them.

use std::collections::BTreeMap;
use std::fs;

use super::programs;
use crate::apt::{self, Apt, For};
use crate::build;
use crate::files::Hold;
use crate::project::Project;

/// Which programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kit {
    /// What loads a machine.
    Load,
    /// What uses disks, networks and what else virtio brings.
    Io,
    /// The same with fio, which brings the libraries of every storage system that there is.
    Fio,
}

impl Kit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Load, Self::Io, Self::Fio];

    /// What a machine file calls the initrd with them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "debian-load",
            Self::Io => "debian-io",
            Self::Fio => "debian-fio",
        }
    }

    /// The command that tests a guest with it, and the name of the initrd's file.
    pub const fn check(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Io => "io",
            Self::Fio => "fio-verify",
        }
    }

    /// That command's text.
    pub const fn script(self) -> &'static str {
        match self {
            Self::Load => include_str!("load.sh"),
            Self::Io | Self::Fio => include_str!("io.sh"),
        }
    }

    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Load => &["stress-ng", "rt-tests"],
            Self::Io => &["e2fsprogs", "iperf3"],
            Self::Fio => &["e2fsprogs", "iperf3", "fio"],
        }
    }

    /// Those programs of the packages that are taken.
    const fn wanted(self) -> &'static [&'static str] {
        match self {
            Self::Load => &["stress-ng", "cyclictest"],
            Self::Io => &["mke2fs", "e2fsck", "iperf3"],
            Self::Fio => &["mke2fs", "e2fsck", "iperf3", "fio"],
        }
    }

    /// Further names of them.
    pub const fn links(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Load => &[],
            Self::Io | Self::Fio => &[("bin/mkfs.ext4", "mke2fs"), ("bin/fsck.ext4", "e2fsck")],
        }
    }

    /// The programs, their libraries and the script by their places in the initrd; from the cache or fetched, ours built.
    pub fn programs(self, project: &Project) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let mut files = self.fetched(project)?;
        files.insert(
            format!("bin/{}", self.check()),
            self.script().as_bytes().to_vec(),
        );
        if self != Self::Load {
            let probe = build::linux_program(project, "probe")?;
            files.insert("bin/probe".to_owned(), fs::read(probe)?);
        }
        Ok(files)
    }

    fn fetched(self, project: &Project) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let folder = project
            .cache
            .join(self.name().replace("debian-", "debian-arm64-"));
        let _held = Hold::on(&project.cache)?;
        // What an older xtask fetched may lack programs that are wanted today.
        let has = |program: &&str| folder.join("bin").join(program).is_file();
        if !self.wanted().iter().all(has) {
            let state = project.cache.join("apt-arm64");
            let apt = Apt::set_up(project, &state, For::Arm64Guest { suite: None })?;
            let debs = apt.download_with_libraries(self.packages())?;
            let unpacked = folder.with_extension("part");
            let _ = fs::remove_dir_all(&unpacked);
            apt::unpack(&debs, &unpacked)?;
            for deb in debs {
                let _ = fs::remove_file(deb);
            }
            let kept = unpacked.join("kept");
            for (place, bytes) in programs::gather(&unpacked, self.wanted())? {
                let path = kept.join(place);
                fs::create_dir_all(path.parent().unwrap_or(&kept))?;
                fs::write(path, bytes)?;
            }
            let _ = fs::remove_dir_all(&folder);
            fs::rename(&kept, &folder)?;
            let _ = fs::remove_dir_all(&unpacked);
        }
        let mut files = BTreeMap::new();
        for part in ["bin", "lib"] {
            for entry in fs::read_dir(folder.join(part))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                files.insert(format!("{part}/{name}"), fs::read(&path)?);
            }
        }
        Ok(files)
    }
}
