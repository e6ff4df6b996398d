//! A private apt: Debian packages are fetched and verified by apt itself, from a state folder of our own,
//! so that the machine's own sources, lists and packages are neither read for choice nor changed.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use self::sources::Source;
use crate::packages::{self, Package};
use crate::process;
use crate::project::Project;

/// Which packages a private apt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Packages that run on this machine: its own architecture, and what is installed counts as there.
    ThisMachine,
    /// Packages that a guest runs: arm64, and nothing is installed.
    Arm64Guest {
        /// The release that has them; none: the machine's own.
        suite: Option<&'static str>,
    },
}

/// One private apt state.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
    suite: String,
}

impl Apt {
    /// Sets up a private apt in `folder` that sees Debian's suite of this machine (and its backports), and fetches its lists.
    pub fn set_up(project: &Project, folder: &Path, purpose: For) -> anyhow::Result<Self> {
        if process::which("apt-get").is_none() || process::which("dpkg").is_none() {
            bail!("this machine has no apt");
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        if purpose == For::ThisMachine && !sources::is_debian(&release) {
            bail!("only Debian's own backports fit a machine, and this one is not Debian");
        }
        let mut source = Source::for_machine(&release, &sources::configured()?);
        if let For::Arm64Guest { suite: Some(suite) } = purpose {
            source.suite = suite.to_owned();
        }
        if !source.keyring.is_file() {
            packages::install(
                project,
                Package::DebianKeys,
                &format!(
                    "Debian's archive keys ({}) are needed to verify what is fetched",
                    source.keyring.display()
                ),
            )?;
        }
        // What an earlier release left behind must not be unpacked with this one's.
        let _ = fs::remove_dir_all(folder.join("deb"));
        let _ = fs::remove_dir_all(folder.join("cache/archives"));
        for dir in [
            "state/lists/partial",
            "cache/archives/partial",
            "parts",
            "deb",
        ] {
            fs::create_dir_all(folder.join(dir))
                .with_context(|| format!("cannot create {}", folder.join(dir).display()))?;
        }
        fs::write(folder.join("state/none"), "")?;
        let suites = match purpose {
            For::ThisMachine => format!("{0} {0}-backports", source.suite),
            For::Arm64Guest { .. } => source.suite.clone(),
        };
        fs::write(folder.join("parts/debian.sources"), source.deb822(&suites))?;
        fs::write(folder.join("apt.conf"), configuration(folder, purpose))?;
        let apt = Self {
            folder: folder.to_path_buf(),
            suite: source.suite,
        };
        process::fetching(
            "fetching Debian's package lists",
            apt.tool("apt-get").args(["-q", "update", "--error-on=any"]),
        )?;
        Ok(apt)
    }

    /// Debian's suite that this apt sees, without `-backports`.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .arg("-c")
            .arg(self.folder.join("apt.conf"))
            .current_dir(self.folder.join("deb"))
            .env("LC_ALL", "C");
        command
    }

    /// What a package depends on, as names.
    pub fn depends(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let text = process::output_of(self.tool("apt-cache").args(["depends", package]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(|name| name.trim().to_owned())
            .collect())
    }

    /// Fetches packages (signatures verified by apt) and returns the `.deb` files.
    pub fn download(&self, what: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        process::fetching(
            &format!("fetching {}", what.join(" and ")),
            self.tool("apt-get").args(["-q", "download"]).args(what),
        )?;
        debs_in(&self.folder.join("deb"))
    }

    /// Fetches packages and the libraries that installing them would bring.
    pub fn download_with_libraries(&self, packages: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut simulated = self.tool("apt-get");
        simulated.args([
            "-q",
            "-s",
            "--no-install-recommends",
            "-o",
            "Debug::NoLocking=1",
            "install",
        ]);
        let text = process::output_of(simulated.args(packages))?;
        let wanted = with_libraries(&text, packages);
        let title = format!("fetching {} with their libraries", packages.join(" and "));
        let mut command = self.tool("apt-get");
        command.args(["-q", "download"]).args(wanted);
        process::fetching(&title, &mut command)?;
        debs_in(&self.folder.join("deb"))
    }

    /// Fetches what installing packages would fetch, from the given release.
    pub fn download_install(
        &self,
        packages: &[&str],
        release: &str,
    ) -> anyhow::Result<Vec<PathBuf>> {
        let mut command = self.tool("apt-get");
        command.args([
            "-q",
            "-y",
            "--no-install-recommends",
            "--download-only",
            "-o",
            "Debug::NoLocking=1",
            "-t",
            release,
            "install",
        ]);
        command.args(packages);
        let title = format!("fetching {} of {release}", packages.join(" and "));
        process::fetching(&title, &mut command)?;
        debs_in(&self.folder.join("cache/archives"))
    }
}

/// The packages themselves and the libraries in what `apt-get -s install` says: programs depend on interpreters and
/// services that none of what is taken out of them needs.
fn with_libraries(simulated: &str, packages: &[&str]) -> Vec<String> {
    let is_library = |name: &str| {
        let starts = |heads: &[&str]| heads.iter().any(|head| name.starts_with(head));
        starts(&["lib", "zlib"]) && !starts(&["libperl", "libpython"])
    };
    simulated
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .filter(|name| packages.contains(name) || is_library(name))
        .map(str::to_owned)
        .collect()
}

fn debs_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut debs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            debs.push(path);
        }
    }
    debs.sort();
    if debs.is_empty() {
        bail!("apt fetched nothing into {}", folder.display());
    }
    Ok(debs)
}

/// Unpacks packages into a folder, without installing them.
pub fn unpack(debs: &[PathBuf], into: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(into)?;
    for deb in debs {
        process::output_of(Command::new("dpkg").arg("-x").arg(deb).arg(into))?;
    }
    Ok(())
}

/// The private configuration. It is read after the machine's own, so it has the last word; proxies and the like are kept.
fn configuration(folder: &Path, purpose: For) -> String {
    let at = folder.display();
    let status = match purpose {
        For::ThisMachine => "/var/lib/dpkg/status".to_owned(),
        For::Arm64Guest { .. } => format!("{at}/state/none"),
    };
    let architecture = match purpose {
        For::ThisMachine => "",
        For::Arm64Guest { .. } => {
            "#clear APT::Architectures;\nAPT::Architecture \"arm64\";\nAPT::Architectures { \"arm64\"; };\n"
        }
    };
    format!(
        "{architecture}\
         Dir::State \"{at}/state\";\n\
         Dir::State::status \"{status}\";\n\
         Dir::Cache \"{at}/cache\";\n\
         Dir::Etc::sourcelist \"/dev/null\";\n\
         Dir::Etc::sourceparts \"{at}/parts\";\n\
         Dir::Etc::preferencesparts \"{at}/none\";\n\
         Dir::Etc::preferences \"{at}/none\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n\
         Acquire::Retries \"3\";\n\
         APT::Sandbox::User \"\";\n\
         #clear APT::Update::Pre-Invoke;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear DPkg::Post-Invoke;\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_come_along_and_interpreters_do_not() {
        let said = "Reading package lists...\nInst libc6 (2.36 Debian:12/stable [arm64])\nInst perl (5)\nInst libpython3 (3)\nInst zlib1g (1)\nInst fio (3.33 [arm64])\nConf fio (3.33)\n";
        assert_eq!(with_libraries(said, &["fio"]), ["libc6", "zlib1g", "fio"]);
    }

    #[test]
    fn a_guest_s_apt_is_arm64_and_sees_nothing_installed() {
        let text = configuration(Path::new("/c"), For::Arm64Guest { suite: None });
        assert!(text.contains("APT::Architecture \"arm64\""));
        assert!(text.contains("Dir::State::status \"/c/state/none\""));
        let text = configuration(Path::new("/c"), For::ThisMachine);
        assert!(!text.contains("APT::Architecture "));
        assert!(text.contains("/var/lib/dpkg/status"));
    }
}
