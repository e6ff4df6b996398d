//! The emulator: finding one, judging its version, getting one.

mod fetch;
mod tree;
mod version;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

pub use self::version::Version;
use crate::files::Hold;
use crate::packages::{self, Package};
use crate::process;
use crate::project::Project;

/// The program's name everywhere.
const PROGRAM: &str = "qemu-system-aarch64";

/// The machine that it emulates for us.
pub const MACHINE: &str = "virt,virtualization=on,gic-version=3";

/// A QEMU that was started once and is new enough.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// The root it was unpacked into, when it is not installed but fetched into the cache.
    pub unpacked: Option<PathBuf>,
}

impl Qemu {
    /// The emulator a person asked for (`--qemu`, `XDV_QEMU`), or the system's; installed when missing.
    pub fn ensure(project: &Project, asked: Option<&str>) -> anyhow::Result<Self> {
        match asked {
            Some("10") => Self::ensure_ten(project),
            Some(path) => Self::at(Path::new(path))?.accepted(),
            None => Self::ensure_system(project)?.accepted(),
        }
    }

    /// The system's QEMU, if there is one.
    pub fn system() -> Option<anyhow::Result<Self>> {
        process::which(PROGRAM).map(|program| Self::at(&program))
    }

    fn ensure_system(project: &Project) -> anyhow::Result<Self> {
        if let Some(found) = Self::system() {
            return found;
        }
        packages::install(project, Package::Qemu, &format!("{PROGRAM} is missing"))?;
        match Self::system() {
            Some(found) => found,
            None => bail!("{PROGRAM} was installed but is not on the PATH"),
        }
    }

    /// QEMU 10.x: the system's when it is new enough, else from the cache, else fetched.
    pub fn ensure_ten(project: &Project) -> anyhow::Result<Self> {
        if let Some(Ok(system)) = Self::system()
            && system.version.major >= 10
        {
            return Ok(system);
        }
        if let Some(cached) = Self::cached_ten(project) {
            return Ok(cached);
        }
        let held = Hold::on(&project.cache)?;
        // Another run may have fetched it while this one waited.
        if Self::cached_ten(project).is_none() {
            fetch::ten(project)?;
        }
        drop(held);
        Self::cached_ten(project)
            .context("QEMU 10 was fetched, but the program in the cache does not start")
    }

    /// QEMU 10.x in the cache, if it is there and starts.
    pub fn cached_ten(project: &Project) -> Option<Self> {
        let root = fetch::root(project);
        let program = root.join("usr/bin").join(PROGRAM);
        let mut qemu = Self {
            program,
            version: Version::default(),
            unpacked: Some(root),
        };
        qemu.version = qemu.ask_version().ok()?;
        (qemu.version.major >= 10).then_some(qemu)
    }

    /// The QEMU at a path. A path into an unpacked package (`…/usr/bin/…` with its own libraries) runs with those.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        let unpacked = path.ancestors().nth(3).filter(|root| {
            *root != Path::new("/")
                && path.ends_with(Path::new("usr/bin").join(PROGRAM))
                && root.join("usr/share/qemu").is_dir()
        });
        let mut qemu = Self {
            program: path.to_path_buf(),
            version: Version::default(),
            unpacked: unpacked.map(Path::to_path_buf),
        };
        qemu.version = qemu.ask_version()?;
        Ok(qemu)
    }

    fn ask_version(&self) -> anyhow::Result<Version> {
        let text = process::output_of(self.command().arg("--version"))?;
        Version::parse(&text).with_context(|| {
            format!(
                "`{} --version` does not read like QEMU: {}",
                self.program.display(),
                text.trim()
            )
        })
    }

    /// Refuses what is too old, with what to do.
    fn accepted(self) -> anyhow::Result<Self> {
        if self.version >= Version::OLDEST {
            return Ok(self);
        }
        bail!(
            "{} is QEMU {}, and XDV needs {} or newer.\n\
             Pass `--qemu 10` to have QEMU 10.x fetched into {}, or `--qemu PATH` for one of your own",
            self.program.display(),
            self.version,
            Version::OLDEST,
            "the cache (Debian and its kin)"
        )
    }

    /// A command that starts it, with its libraries and firmware when it is not installed.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.unpacked {
            command
                .env("LD_LIBRARY_PATH", fetch::library_path(root))
                .arg("-L")
                .arg(root.join("usr/share/qemu"));
        }
        command
    }
}
