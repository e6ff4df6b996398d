//! Firmware that Debian builds for QEMU's `virt` machine: what `kernel = "u-boot"` and `kernel = "edk2"` mean.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::apt::{self, Apt, For};
use crate::files::{self, Hold};
use crate::project::Project;

/// Which firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// U-Boot, as its `qemu_arm64` configuration builds it.
    UBoot,
    /// EDK2: UEFI, with a shell.
    Edk2,
}

impl Firmware {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::UBoot, Self::Edk2];

    /// What a machine file calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UBoot => "u-boot",
            Self::Edk2 => "edk2",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::UBoot => "u-boot-qemu",
            Self::Edk2 => "qemu-efi-aarch64",
        }
    }

    /// Where it is in its package.
    const fn path(self) -> &'static str {
        match self {
            Self::UBoot => "usr/lib/u-boot/qemu_arm64/u-boot.bin",
            Self::Edk2 => "usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
        }
    }

    /// The file, from the cache or fetched. What a person put there is used as it is.
    pub fn ensure(self, project: &Project) -> anyhow::Result<PathBuf> {
        let file = project.cache.join("firmware").join(self.name());
        // Two runs side by side must not fetch into one folder.
        let _held = Hold::on(&project.cache)?;
        if !file.is_file() {
            self.fetch(project, &file).with_context(|| {
                format!(
                    "Debian's {package} cannot be fetched here; put its {path} at {place} (https://packages.debian.org/{package})",
                    package = self.package(),
                    path = self.path(),
                    place = file.display(),
                )
            })?;
        }
        Ok(file)
    }

    fn fetch(self, project: &Project, file: &Path) -> anyhow::Result<()> {
        let state = project.cache.join("apt-arm64");
        let apt = Apt::set_up(project, &state, For::Arm64Guest { suite: None })?;
        let debs = apt.download(&[self.package()])?;
        let unpacked = file.with_extension("unpacked");
        let _ = fs::remove_dir_all(&unpacked);
        apt::unpack(&debs, &unpacked)?;
        for deb in debs {
            let _ = fs::remove_file(deb);
        }
        let found = fs::read(unpacked.join(self.path()))
            .with_context(|| format!("{} has no {}", self.package(), self.path()));
        let _ = fs::remove_dir_all(&unpacked);
        files::write_whole(file, &found?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a person puts into the cache where there is no apt is used as it is.
    #[test]
    fn a_file_of_a_person_s_own_is_enough() {
        let cache = std::env::temp_dir().join(format!("xdv-firmware-{}", std::process::id()));
        let project = Project {
            root: cache.clone(),
            target: cache.clone(),
            cache: cache.clone(),
            consent: false,
        };
        fs::create_dir_all(cache.join("firmware")).unwrap();
        for firmware in Firmware::ALL {
            let file = cache.join("firmware").join(firmware.name());
            fs::write(&file, firmware.name()).unwrap();
            assert_eq!(firmware.ensure(&project).unwrap(), file);
        }
        fs::remove_dir_all(&cache).unwrap();
    }
}
