//! Debian's own arm64 kernels, and what a guest boots them with: what `kernel = "debian"` and its kin mean.

pub mod firmware;
pub mod kit;
mod modules;
mod programs;
pub mod ramdisk;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use flate2::read::GzDecoder;

use self::kit::Kit;
use self::modules::Module;
use self::ramdisk::{Contents, WANTED};
use crate::apt::{self, Apt, For};
use crate::build;
use crate::files::{self, Hold};
use crate::project::Project;
use crate::say;

/// A busybox that needs no library.
const BUSYBOX: &str = "busybox-static";

/// Which of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// The kernel for virtual machines.
    Cloud,
    /// The kernel for every arm64 machine.
    Generic,
    /// The generic kernel with pages of 16 KiB, which Debian has from release 13 on.
    Pages16k,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cloud, Self::Generic, Self::Pages16k];

    /// What a machine file calls the kernel, and the initrd that goes with it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "debian",
            Self::Generic => "debian-generic",
            Self::Pages16k => "debian-16k",
        }
    }

    /// The package that always depends on the newest such kernel.
    const fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-arm64",
            Self::Generic => "linux-image-arm64",
            Self::Pages16k => "linux-image-arm64-16k",
        }
    }

    /// The release that has it, where the machine's own need not.
    const fn suite(self) -> Option<&'static str> {
        match self {
            Self::Cloud | Self::Generic => None,
            Self::Pages16k => Some("trixie"),
        }
    }

    fn folder(self, project: &Project) -> PathBuf {
        project.cache.join(match self {
            Self::Cloud => "debian-arm64",
            Self::Generic => "debian-arm64-generic",
            Self::Pages16k => "debian-arm64-16k",
        })
    }
}

/// The kernels, each with the initrds that have its driver of virtio consoles: what else it is started with may not have it.
pub fn with_virtio_console() -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = Flavour::ALL.map(Flavour::name);
    let kits = Kit::ALL.map(|kit| (Flavour::Cloud.name(), kit.name()));
    own.into_iter().map(|name| (name, name)).chain(kits)
}

/// A kernel of Debian's in the cache, with what goes with it.
#[derive(Debug, Clone)]
pub struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// The files, from the cache or fetched.
    pub fn ensure(project: &Project, flavour: Flavour) -> anyhow::Result<Self> {
        let debian = Self {
            folder: flavour.folder(project),
        };
        // Two runs side by side must not fetch into one folder.
        let _held = Hold::on(&project.cache)?;
        if debian.is_complete() {
            return Ok(debian);
        }
        let fetched = fetch(project, flavour, &debian.folder);
        if debian.is_usable() {
            if let Err(error) = fetched {
                say::note(&format!("the kernel's modules are left out: {error:#}"));
            }
            return Ok(debian);
        }
        fetched.with_context(|| {
            format!(
                "Debian's arm64 kernel cannot be fetched here; put an arm64 Linux Image at {} and a static arm64 busybox at {} (Debian's packages for {} and {BUSYBOX} hold them: https://packages.debian.org)",
                debian.kernel().display(),
                debian.busybox().display(),
                flavour.package()
            )
        })?;
        Ok(debian)
    }

    /// Whether the files are in the cache.
    pub fn is_cached(project: &Project) -> bool {
        let folder = Flavour::Cloud.folder(project);
        Self { folder }.is_usable()
    }

    /// Where the `Image` of a kernel lies once it was fetched.
    pub fn image(project: &Project, flavour: Flavour) -> PathBuf {
        let folder = flavour.folder(project);
        Self { folder }.kernel()
    }

    /// The kernel's `Image`.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("Image")
    }

    fn busybox(&self) -> PathBuf {
        self.folder.join("busybox")
    }

    fn is_usable(&self) -> bool {
        self.kernel().is_file() && self.busybox().is_file()
    }

    /// What a person put there has no version, and nothing is fetched over it. What an older xtask fetched lacks
    /// modules that are wanted today.
    fn is_complete(&self) -> bool {
        let fetched = self.folder.join("version").is_file();
        let wanted = fs::read_to_string(self.folder.join("wanted")).unwrap_or_default();
        self.is_usable() && (!fetched || wanted.split_whitespace().eq(WANTED))
    }

    /// The initramfs that greets and powers off. Cheap, so always made anew: an older checkout may have left another.
    pub fn hello(&self) -> anyhow::Result<PathBuf> {
        let archive = ramdisk::hello(&fs::read(self.busybox())?)?;
        self.place("hello.cpio", &archive)
    }

    /// The initramfs with a shell, or the one that tests itself and powers off.
    pub fn shell(&self, selftest: bool) -> anyhow::Result<PathBuf> {
        let name = if selftest {
            "selftest.cpio"
        } else {
            "shell.cpio"
        };
        self.ramdisk(
            name,
            Contents {
                selftest,
                ..Contents::default()
            },
        )
    }

    /// The same with a kit of programs, and what it tests is that kit's to say.
    pub fn with(&self, project: &Project, kit: Kit, selftest: bool) -> anyhow::Result<PathBuf> {
        let contents = Contents {
            programs: kit.programs(project)?,
            links: kit.links().to_vec(),
            check: kit.check(),
            selftest,
            ..Contents::default()
        };
        let when = if selftest { "-selftest" } else { "" };
        self.ramdisk(&format!("{}{when}.cpio", kit.check()), contents)
    }

    /// The one that measures what operations cost, and powers off.
    pub fn bench(&self, project: &Project) -> anyhow::Result<PathBuf> {
        let probe = fs::read(build::linux_program(project, "probe")?)?;
        let script = include_bytes!("debian/bench.sh").to_vec();
        let programs = [
            ("bin/probe".to_owned(), probe),
            ("bin/bench".to_owned(), script),
        ];
        let contents = Contents {
            programs: programs.into_iter().collect(),
            check: "bench",
            selftest: true,
            ..Contents::default()
        };
        self.ramdisk("bench.cpio", contents)
    }

    fn ramdisk(&self, name: &str, mut contents: Contents) -> anyhow::Result<PathBuf> {
        contents.version = fs::read_to_string(self.folder.join("release")).unwrap_or_default();
        let modules = self.folder.join("modules");
        if modules.is_dir() {
            contents.modules = modules::pick(&modules, &WANTED)?;
        }
        let archive = ramdisk::shell(&fs::read(self.busybox())?, &contents)?;
        self.place(name, &archive)
    }

    fn place(&self, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        files::write_whole(&path, bytes)?;
        Ok(path)
    }
}

fn fetch(project: &Project, flavour: Flavour, folder: &Path) -> anyhow::Result<()> {
    let state = match flavour.suite() {
        None => project.cache.join("apt-arm64"),
        Some(suite) => project.cache.join(format!("apt-arm64-{suite}")),
    };
    let purpose = For::Arm64Guest {
        suite: flavour.suite(),
    };
    let apt = Apt::set_up(project, &state, purpose)?;
    let package = flavour.package();
    let real = apt
        .depends(package)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{package} names no kernel"))?;
    let debs = apt.download(&[&format!("{real}:arm64"), &format!("{BUSYBOX}:arm64")])?;
    let unpacked = folder.join("unpacked");
    let _ = fs::remove_dir_all(&unpacked);
    apt::unpack(&debs, &unpacked)?;
    // As much again as what is kept of them.
    for deb in debs {
        let _ = fs::remove_file(deb);
    }
    let outcome = keep(&unpacked, folder, &real);
    let _ = fs::remove_dir_all(&unpacked);
    outcome
}

/// Takes what is needed out of the unpacked packages. The kernel comes last: with it the folder is whole.
fn keep(unpacked: &Path, folder: &Path, package: &str) -> anyhow::Result<()> {
    let kernel = first_file(&unpacked.join("boot"), "vmlinuz-")?;
    let release = kernel
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("vmlinuz-"))
        .context("the kernel's file has no version in its name")?
        .to_owned();
    let busybox = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| unpacked.join(path))
        .find(|path| path.is_file());
    let busybox = busybox.with_context(|| format!("{BUSYBOX} holds no busybox"))?;
    files::write_whole(&folder.join("busybox"), &fs::read(busybox)?)?;
    let trees = ["lib/modules", "usr/lib/modules"];
    let tree = trees
        .iter()
        .map(|path| unpacked.join(path).join(&release))
        .find(|path| path.is_dir())
        .context("the kernel's package holds no modules")?;
    keep_modules(&modules::pick(&tree, &WANTED)?, &folder.join("modules"))?;
    fs::write(folder.join("release"), &release)?;
    fs::write(folder.join("version"), package)?;
    fs::write(folder.join("wanted"), WANTED.join("\n"))?;
    files::write_whole(&folder.join("Image"), &plain_image(&fs::read(&kernel)?)?)
}

fn keep_modules(modules: &[Module], folder: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    for module in modules {
        fs::write(folder.join(format!("{}.ko", module.name)), &module.bytes)?;
    }
    Ok(())
}

fn first_file(folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} is missing", folder.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("no {prefix}* in {}", folder.display())
}

/// Unpacks a gzip'd kernel; Debian has shipped arm64 kernels both ways.
fn plain_image(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut image = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes)
            .read_to_end(&mut image)
            .context("the kernel's gzip is broken")?;
    } else {
        image.extend_from_slice(bytes);
    }
    if image.get(56..60) != Some(b"ARM\x64") {
        bail!("the kernel is not an arm64 Image");
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn plain_and_gzipped_kernels_come_out_the_same() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&image()).unwrap();
        assert_eq!(plain_image(&packed.finish().unwrap()).unwrap(), image());
        assert_eq!(plain_image(&image()).unwrap(), image());
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(plain_image(b"#!/bin/sh").is_err());
        assert!(plain_image(&[0x1f, 0x8b, 0, 0]).is_err());
    }

    /// What a person puts into the cache where there is no apt is used as it is.
    #[test]
    fn files_of_a_person_s_own_are_enough() {
        let cache = std::env::temp_dir().join(format!("xdv-debian-{}", std::process::id()));
        let project = Project {
            root: cache.clone(),
            target: cache.clone(),
            cache: cache.clone(),
            consent: false,
        };
        let folder = Flavour::Cloud.folder(&project);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("Image"), image()).unwrap();
        fs::write(folder.join("busybox"), b"busybox").unwrap();
        assert!(Debian::is_cached(&project));
        let debian = Debian::ensure(&project, Flavour::Cloud).unwrap();
        for made in [debian.hello(), debian.shell(false), debian.shell(true)] {
            assert!(fs::read(made.unwrap()).unwrap().starts_with(b"070701"));
        }
        // What an older xtask fetched lacks the modules.
        fs::write(folder.join("version"), "linux-image").unwrap();
        assert!(debian.is_usable() && !debian.is_complete());
        fs::remove_dir_all(&cache).unwrap();
    }
}
