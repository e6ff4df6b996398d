//! Building: EL2 and the guests in cargo invocations of their own, then flat arm64 Images, then the bundle.

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use configs_compiler::Summary;

pub use self::image::Image;
use crate::cli::{BuildArgs, ProfileArgs};
use crate::machine::{Asked, Machine};
use crate::project::Project;
use crate::{files, process, say, toolchain};

/// Which profile the bare-metal crates are built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Optimised.
    Release,
    /// Not optimised, every check on.
    Debug,
}

impl From<ProfileArgs> for Profile {
    fn from(args: ProfileArgs) -> Self {
        if args.debug {
            Self::Debug
        } else {
            Self::Release
        }
    }
}

/// Which hypervisor: a machine without virtio devices is served by a smaller one. Each has a target folder of its own, so
/// that neither is taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum El2 {
    /// Without virtio.
    Lean,
    /// With it.
    Virtio,
}

impl El2 {
    /// The one that serves a machine.
    pub fn of(machine: &Summary) -> Self {
        if machine.has_virtio() {
            Self::Virtio
        } else {
            Self::Lean
        }
    }
}

/// Which half of the machine a crate belongs to. Built together, cargo would unify their features and, say,
/// switch a shared registry crate's `alloc` on at EL2; so each half has an invocation and a target folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    El2(El2),
    Guest,
    /// Programs for guests that run Linux.
    Linux,
}

impl Profile {
    const fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }
}

impl Half {
    fn folder(self, project: &Project) -> PathBuf {
        project.target.join(match self {
            Self::El2(El2::Lean) => "el2",
            Self::El2(El2::Virtio) => "el2-virtio",
            Self::Guest => "guest",
            Self::Linux => "linux",
        })
    }

    const fn target(self) -> &'static str {
        match self {
            Self::El2(_) | Self::Guest => toolchain::TARGET,
            Self::Linux => toolchain::LINUX_TARGET,
        }
    }
}

/// One built binary.
#[derive(Debug, Clone)]
pub struct Built {
    /// The ELF, with symbols.
    pub elf: PathBuf,
    /// The flat Image.
    pub image: PathBuf,
    /// Bytes of code and constants.
    pub text_rodata: u64,
}

/// The hypervisor.
pub fn hypervisor(project: &Project, el2: El2, profile: Profile) -> anyhow::Result<Built> {
    let half = Half::El2(el2);
    let elf = compile(project, half, "hypervisor", "hypervisor", profile)?;
    flatten(&elf)
}

/// Where the ELF file of a guest that is built here lies, or will.
pub fn guest_elf(project: &Project, bin: &str, profile: Profile) -> PathBuf {
    elf(project, Half::Guest, bin, profile)
}

/// The guest kernel that comes with XDV.
pub fn guest_kernel(project: &Project, profile: Profile) -> anyhow::Result<Built> {
    let elf = compile(
        project,
        Half::Guest,
        "guest-kernel",
        "guest-kernel",
        profile,
    )?;
    flatten(&elf)
}

/// One of the test guests.
pub fn test_guest(project: &Project, name: &str, profile: Profile) -> anyhow::Result<Built> {
    let elf = compile(project, Half::Guest, "tests-guests", name, profile)?;
    flatten(&elf)
}

/// A program for guests that run Linux: what `tests/linux` holds, without libraries of its own.
pub fn linux_program(project: &Project, bin: &str) -> anyhow::Result<PathBuf> {
    compile(project, Half::Linux, "tests-linux", bin, Profile::Release)
}

/// The linker that comes with the compiler: the host's makes programs for the host.
fn linker() -> String {
    format!("target.{}.linker = \"rust-lld\"", toolchain::LINUX_TARGET)
}

/// What EL2's release build adds to cargo's configured flags.
///
/// All of it lies within 1 MiB, so one ADR names an address where ADRP and ADD would be two instructions (a build without
/// optimisation is too large for that). And what a panic in a library would name is not where this machine keeps it: the
/// same sources make the same image everywhere.
fn release_flags() -> anyhow::Result<String> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let flags = [
        "-Ccode-model=tiny".to_owned(),
        format!(
            "--remap-path-prefix={}=",
            home.join("registry/src").display()
        ),
    ];
    Ok(format!(
        "target.{}.rustflags = {flags:?}",
        toolchain::TARGET
    ))
}

fn compile(
    project: &Project,
    half: Half,
    package: &str,
    bin: &str,
    profile: Profile,
) -> anyhow::Result<PathBuf> {
    toolchain::ensure(half.target())?;
    let level = match half {
        Half::El2(El2::Lean) => "EL2",
        Half::El2(El2::Virtio) => "EL2 with virtio",
        Half::Guest => "guest",
        Half::Linux => "Linux program",
    };
    let mut cargo = toolchain::cargo();
    if say::colours_on_stderr() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
        .current_dir(&project.root)
        .args([
            "build",
            "-p",
            package,
            "--bin",
            bin,
            "--target",
            half.target(),
            "--target-dir",
        ])
        .arg(half.folder(project));
    if half == Half::El2(El2::Virtio) {
        cargo.args(["--features", "virtio"]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
        if matches!(half, Half::El2(_)) {
            cargo.args(["--config", &release_flags()?]);
        }
    }
    if matches!(half, Half::Linux) {
        cargo.args([
            "--config",
            &linker(),
            "--config",
            "profile.release.strip=true",
        ]);
    }
    process::under_step(
        &format!("building {level} `{bin}` ({})", profile.folder()),
        &mut cargo,
    )?;
    Ok(elf(project, half, bin, profile))
}

/// Where cargo puts a binary.
fn elf(project: &Project, half: Half, bin: &str, profile: Profile) -> PathBuf {
    half.folder(project)
        .join(half.target())
        .join(profile.folder())
        .join(bin)
}

fn flatten(elf: &Path) -> anyhow::Result<Built> {
    let bytes =
        fs::read(elf).with_context(|| format!("cargo built nothing at {}", elf.display()))?;
    let flat = Image::from_elf(&bytes)
        .with_context(|| format!("{} does not make an arm64 Image", elf.display()))?;
    let image = elf.with_extension("Image");
    files::write_whole(&image, &flat.bytes)?;
    Ok(Built {
        elf: elf.to_path_buf(),
        image,
        text_rodata: flat.text_rodata,
    })
}

/// `cargo xtask build [CONFIG]`.
pub fn command(project: &Project, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let profile = Profile::from(args.profile);
    let Some(config) = &args.config else {
        for (name, built) in [
            ("hypervisor", hypervisor(project, El2::Lean, profile)?),
            (
                "hypervisor with virtio",
                hypervisor(project, El2::Virtio, profile)?,
            ),
            ("guest-kernel", guest_kernel(project, profile)?),
        ] {
            say::answer(&format!(
                "{name}: {} ({} of text and rodata)",
                project.shown(&built.image),
                kib(built.text_rodata)
            ));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let machine = Machine::load(project, config, profile)?;
    let compiled = machine.compile(Asked {
        timeout_seconds: args.timeout,
        ..Asked::default()
    })?;
    let el2 = hypervisor(project, El2::of(&compiled.summary), profile)?;
    let output = project.output(config);
    let files = place(&output, &el2, &compiled.bundle)?;
    say::answer(&format!(
        "{}  {} of text and rodata; boots like any arm64 Linux kernel",
        project.shown(&files.image),
        kib(el2.text_rodata)
    ));
    say::answer(&format!(
        "{}  give it as the initrd; `cpio -t` lists it",
        project.shown(&files.bundle)
    ));
    say::note(&format!(
        "the machine needs {} CPU(s) and {} MiB of memory",
        compiled.cpus_needed, compiled.memory_mib
    ));
    Ok(ExitCode::SUCCESS)
}

/// What a loader is given.
#[derive(Debug, Clone)]
pub struct Files {
    /// The kernel.
    pub image: PathBuf,
    /// The initrd.
    pub bundle: PathBuf,
}

/// Puts the two files where the person finds them.
pub fn place(output: &Path, el2: &Built, bundle: &[u8]) -> anyhow::Result<Files> {
    fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
    let placed = Files {
        image: output.join("Image"),
        bundle: output.join("bundle.cpio"),
    };
    files::write_whole(&placed.image, &fs::read(&el2.image)?)?;
    files::write_whole(&placed.bundle, bundle)?;
    Ok(placed)
}

/// Bytes as KiB, rounded up.
pub fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
