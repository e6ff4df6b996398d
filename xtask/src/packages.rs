//! System packages, through the system's own package manager: asking first, unless consent was given.

use std::process::Command;

use anyhow::bail;

use crate::project::{self, Project};
use crate::{process, say};

/// The package managers whose names for our packages we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu and their kin: we install by ourselves.
    Apt,
    /// Fedora, RHEL and their kin.
    Dnf,
    /// Arch.
    Pacman,
    /// openSUSE.
    Zypper,
    /// Alpine.
    Apk,
    /// macOS.
    Brew,
}

/// What we may need from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// `qemu-system-aarch64`.
    Qemu,
    /// The keys that Debian signs its archive with.
    DebianKeys,
}

impl Manager {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Apt, "apt-get"),
        (Self::Dnf, "dnf"),
        (Self::Pacman, "pacman"),
        (Self::Zypper, "zypper"),
        (Self::Apk, "apk"),
        (Self::Brew, "brew"),
    ];

    /// The machine's package manager.
    pub fn of_this_machine() -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, program)| process::which(program).is_some())
            .map(|(manager, _)| *manager)
    }

    /// The command that installs a package, as a person would type it; `None` when we know none.
    pub fn advice(self, package: Package) -> Option<&'static str> {
        match (self, package) {
            (Self::Apt, Package::Qemu) => {
                Some("sudo apt-get install --no-install-recommends qemu-system-arm")
            }
            (Self::Apt, Package::DebianKeys) => {
                Some("sudo apt-get install --no-install-recommends debian-archive-keyring")
            }
            (Self::Dnf, Package::Qemu) => Some("sudo dnf install qemu-system-aarch64-core"),
            (Self::Pacman, Package::Qemu) => Some("sudo pacman -S qemu-system-aarch64"),
            (Self::Zypper, Package::Qemu) => Some("sudo zypper install qemu-arm"),
            (Self::Apk, Package::Qemu) => Some("sudo apk add qemu-system-aarch64"),
            (Self::Brew, Package::Qemu) => Some("brew install qemu"),
            (
                Self::Dnf | Self::Pacman | Self::Zypper | Self::Apk | Self::Brew,
                Package::DebianKeys,
            ) => None,
        }
    }
}

/// What a person on this machine types to get the package.
pub fn advice(package: Package) -> String {
    match Manager::of_this_machine().and_then(|manager| manager.advice(package)) {
        Some(command) => format!("install it with:  {command}"),
        None => match package {
            Package::Qemu => "install QEMU 7.2 or newer with its aarch64 system emulator (https://www.qemu.org/download)".to_owned(),
            Package::DebianKeys => "Debian's archive keys are in the package debian-archive-keyring".to_owned(),
        },
    }
}

/// Installs a package with apt; on other systems says exactly what to install.
pub fn install(project: &Project, package: Package, why: &str) -> anyhow::Result<()> {
    let name = match package {
        Package::Qemu => "qemu-system-arm",
        Package::DebianKeys => "debian-archive-keyring",
    };
    if Manager::of_this_machine() != Some(Manager::Apt) {
        bail!("{why}; {}", advice(package));
    }
    let root = project::is_root();
    if !root && process::which("sudo").is_none() {
        bail!(
            "{why}; there is no sudo here: as root, {}",
            advice(package).replace("sudo ", "")
        );
    }
    if !project.consent {
        if !project.can_ask() {
            bail!("{why}; {} (or pass --yes)", advice(package));
        }
        say::note(why);
        if !process::ask(&format!("Install {name} with sudo apt-get?")) {
            bail!("{name} was not installed; {}", advice(package));
        }
    }
    if !root && !process::in_the_open(Command::new("sudo").arg("-v"))? {
        // Asked for here, where nothing is drawn over the question for the password.
        bail!(
            "{why}; sudo refused: as root, {}",
            advice(package).replace("sudo ", "")
        );
    }
    if !apt_knows(name) {
        process::fetching(
            "fetching the package lists",
            &mut apt_get(root, &["update", "-q"]),
        )?;
    }
    let arguments = ["install", "-q", "-y", "--no-install-recommends", name];
    let first = process::under_step(
        &format!("installing {name}"),
        &mut apt_get(root, &arguments),
    );
    if first.is_ok() {
        return Ok(());
    }
    // Lists that are there may still be old: packages they name are gone from the mirror.
    process::fetching(
        "fetching the package lists",
        &mut apt_get(root, &["update", "-q"]),
    )?;
    process::fetching(
        &format!("installing {name}"),
        &mut apt_get(root, &arguments),
    )
}

/// Whether apt has a version of the package to install; on fresh containers the lists are missing.
fn apt_knows(name: &str) -> bool {
    process::output_of(Command::new("apt-cache").args(["policy", name]))
        .is_ok_and(|text| has_candidate(&text))
}

fn has_candidate(policy: &str) -> bool {
    policy.lines().any(|line| {
        line.trim_start()
            .strip_prefix("Candidate:")
            .is_some_and(|version| version.trim() != "(none)")
    })
}

fn apt_get(root: bool, arguments: &[&str]) -> Command {
    let mut command = if root {
        Command::new("apt-get")
    } else {
        // Consent was given, or the question answered; sudo asks for its password on the terminal by itself.
        let mut command = Command::new("sudo");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manager_has_advice_for_qemu() {
        for (manager, _) in Manager::ALL {
            assert!(
                manager
                    .advice(Package::Qemu)
                    .is_some_and(|text| text.contains("qemu"))
            );
        }
    }

    #[test]
    fn a_candidate_is_told_from_none() {
        assert!(has_candidate(
            "qemu-system-arm:\n  Installed: (none)\n  Candidate: 1:7.2+dfsg-7\n"
        ));
        assert!(!has_candidate(
            "qemu-system-arm:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }
}
