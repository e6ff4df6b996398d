//! A config file, compiled with everything this checkout can give it: its own kernels, Debian's, and files by path.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use configs_compiler::{FileKind, GuestSummary, HostFiles, RunOptions, Seeds, Summary, USUAL_DTB};
use configs_plan::Lint;

use crate::build::{self, Profile};
use crate::debian::firmware::Firmware;
use crate::debian::kit::Kit;
use crate::debian::{self, Debian, Flavour};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::run::places::{self, Source};
use crate::{Refused, say};

/// QEMU's memory is rounded up to a multiple of this.
const GRAIN_MIB: u64 = 64;

/// One config file.
pub struct Machine {
    project: Project,
    config: PathBuf,
    /// How messages name it.
    shown: String,
    text: Vec<u8>,
    profile: Profile,
    selftest: bool,
    seeds: Option<Seeds>,
    qemu: Option<String>,
}

/// The seeds of machines of our own making. Any will do but zero, which Linux takes for none.
const SEEDS: Seeds = Seeds {
    kaslr: 0x0123_4567_89ab_cdef,
    rng: [0x5a; 32],
};

/// What the command line says of a machine; what it leaves open, the file states or the compiler chooses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// How many CPUs it has.
    pub cpus: Option<u32>,
    /// How many bytes of memory it has.
    pub memory: Option<u64>,
    /// When EL2 stops everything and reports.
    pub timeout_seconds: Option<u32>,
    /// Whether each operation on virtio queues is said.
    pub traces_virtio: bool,
    /// How closely guests' drivers are watched at least.
    pub lint: Lint,
}

/// What a config file compiles to.
#[derive(Debug)]
pub struct Compiled {
    /// The guests' names.
    pub guests: Vec<String>,
    /// Those of them that test themselves and say how it went.
    pub selftests: Vec<String>,
    /// Where the guests' addresses have their names from.
    pub places: Vec<places::Guest>,
    /// How many CPUs the machine has: as stated, else the smallest number that fits.
    pub cpus: u32,
    /// How much memory the machine has, in MiB: as stated, else the smallest that fits.
    pub machine_mib: u64,
    /// The smallest number of CPUs it fits.
    pub cpus_needed: u32,
    /// The smallest memory it fits, in MiB.
    pub memory_mib: u64,
    /// The initrd for EL2.
    pub bundle: Vec<u8>,
    /// All of it, for who wants it written otherwise.
    pub whole: configs_compiler::Compiled,
    /// The machine, for a person to read.
    pub summary: Summary,
}

impl Machine {
    /// Reads a config file.
    pub fn load(project: &Project, config: &Path, profile: Profile) -> anyhow::Result<Self> {
        let text = fs::read(config).map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::NotFound {
                missing(project, config)
            } else {
                String::new()
            };
            Refused(format!(
                "error: cannot read {}: {error}{hint}",
                config.display()
            ))
        })?;
        Ok(Self {
            project: project.clone(),
            config: config.to_path_buf(),
            shown: config.display().to_string(),
            text,
            profile,
            selftest: false,
            seeds: None,
            qemu: None,
        })
    }

    /// A config that a person did not write but asked for all the same.
    pub fn described(project: &Project, name: &str, text: String, profile: Profile) -> Self {
        Self {
            shown: "--print-config".to_owned(),
            text: text.into_bytes(),
            seeds: None,
            ..Self::from_text(project, name, "", profile)
        }
    }

    /// A config of our own making, whose guests find the same each time.
    pub fn from_text(project: &Project, name: &str, text: &str, profile: Profile) -> Self {
        let config = PathBuf::from(format!("{name}.toml"));
        Self {
            project: project.clone(),
            shown: config.display().to_string(),
            config,
            text: text.as_bytes().to_vec(),
            profile,
            selftest: false,
            seeds: Some(SEEDS),
            qemu: None,
        }
    }

    /// With nobody at the keyboard: Linux guests of ours test themselves and power off instead of opening a shell.
    #[must_use]
    pub fn unattended(mut self, unattended: bool) -> Self {
        self.selftest = unattended;
        self
    }

    /// For the machine that this QEMU emulates, as `--qemu` names it.
    #[must_use]
    pub fn on(mut self, qemu: Option<&str>) -> Self {
        self.qemu = qemu.map(str::to_owned);
        self
    }

    /// Compiles it for the machine that is asked for.
    ///
    /// # Errors
    /// [`Refused`] with the compiler's diagnostics when the file is at fault; anything else when a kernel it names cannot be had.
    pub fn compile(&self, asked: Asked) -> anyhow::Result<Compiled> {
        let trouble = Trouble::default();
        let files = self
            .files(&trouble)
            .with_cpus(asked.cpus)
            .with_memory(asked.memory)
            .with_seeds(self.seeds);
        let options = RunOptions {
            deadline_ms: asked
                .timeout_seconds
                .map(|seconds| seconds.saturating_mul(1000)),
            traces_virtio: asked.traces_virtio,
            lint: asked.lint,
        };
        let compiled = configs_compiler::compile(&self.shown, &self.text, &files, &options);
        // A kernel that does not build is no fault of the config file.
        if let Some(error) = trouble.0.borrow_mut().take() {
            return Err(error);
        }
        let compiled = compiled
            .map_err(|diagnostics| Refused(diagnostics.render(say::colours_on_stderr())))?;
        let memory_mib = compiled
            .memory_needed()
            .div_ceil(1 << 20)
            .next_multiple_of(GRAIN_MIB);
        let tests_itself = |initrd: &Option<String>| {
            let flavours = Flavour::ALL.map(Flavour::name);
            let kits = Kit::ALL.map(Kit::name);
            self.selftest
                && initrd
                    .as_deref()
                    .is_some_and(|initrd| kits.contains(&initrd) || flavours.contains(&initrd))
        };
        let guests = compiled.summary().guests.iter();
        Ok(Compiled {
            places: guests.map(|guest| self.place(guest)).collect(),
            selftests: compiled
                .summary()
                .guests
                .iter()
                .filter(|guest| tests_itself(&guest.initrd))
                .map(|guest| guest.name.clone())
                .collect(),
            cpus: compiled.cpus(),
            machine_mib: compiled
                .summary()
                .memory_stated
                .map_or(memory_mib, |bytes| bytes >> 20),
            guests: compiled
                .summary()
                .guests
                .iter()
                .map(|guest| guest.name.clone())
                .collect(),
            cpus_needed: compiled.cpus_needed(),
            memory_mib,
            bundle: compiled.bundle().to_vec(),
            summary: compiled.summary().clone(),
            whole: compiled,
        })
    }

    /// The folder that a path in the file begins at.
    fn folder(&self) -> &Path {
        self.config
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// Where a guest's addresses have their names from.
    fn place(&self, guest: &GuestSummary) -> places::Guest {
        let (project, kernel) = (&self.project, guest.kernel.as_str());
        let flavour = || Flavour::ALL.into_iter().find(|one| one.name() == kernel);
        let built = kernel.strip_prefix("test:").or_else(|| {
            let ours = "guest-kernel";
            (kernel == ours).then_some(ours)
        });
        let source = match (&guest.symbols, built) {
            (Some(symbols), _) => Source::Read(Rc::clone(symbols)),
            (None, Some(bin)) => Source::File(build::guest_elf(project, bin, self.profile)),
            (None, None) => Source::File(match flavour() {
                Some(flavour) => Debian::image(project, flavour),
                None => self.folder().join(kernel),
            }),
        };
        places::Guest::new(guest.name.clone(), guest.kernel_at, source)
    }

    fn files(&self, trouble: &Trouble) -> HostFiles {
        let mut files = HostFiles::new(self.folder());
        let profile = self.profile;
        files = self.provide(
            files,
            trouble,
            FileKind::Kernel,
            "guest-kernel",
            move |project| Ok(build::guest_kernel(project, profile)?.image),
        );
        files = self.debian(files, trouble);
        let qemu = self.qemu.clone();
        files = self.provide(files, trouble, FileKind::Dtb, USUAL_DTB, move |project| {
            Qemu::ensure(project, qemu.as_deref())?.device_tree(project)
        });
        for firmware in Firmware::ALL {
            let name = firmware.name();
            files = self.provide(files, trouble, FileKind::Kernel, name, move |project| {
                firmware.ensure(project)
            });
            files = files.with_firmware(name);
        }
        for name in test_guests(&self.project) {
            let shown = format!("test:{name}");
            files = self.provide(files, trouble, FileKind::Kernel, &shown, move |project| {
                Ok(build::test_guest(project, &name, profile)?.image)
            });
        }
        files
    }

    /// Debian's kernels, each with the initrd that goes with it, and the initrd that only greets.
    fn debian(&self, mut files: HostFiles, trouble: &Trouble) -> HostFiles {
        let selftest = self.selftest;
        for flavour in Flavour::ALL {
            let name = flavour.name();
            files = self.provide(files, trouble, FileKind::Kernel, name, move |project| {
                Ok(Debian::ensure(project, flavour)?.kernel())
            });
            files = self.provide(files, trouble, FileKind::Initrd, name, move |project| {
                Debian::ensure(project, flavour)?.shell(selftest)
            });
            files = files.with_companion(name, name);
        }
        for kit in Kit::ALL {
            files = self.provide(
                files,
                trouble,
                FileKind::Initrd,
                kit.name(),
                move |project| {
                    Debian::ensure(project, Flavour::Cloud)?.with(project, kit, selftest)
                },
            );
        }
        for (kernel, initrd) in debian::with_virtio_console() {
            files = files.with_virtio_console(kernel, initrd);
        }
        let hello = |project: &Project| Debian::ensure(project, Flavour::Cloud)?.hello();
        self.provide(files, trouble, FileKind::Initrd, "debian-hello", hello)
    }

    fn provide(
        &self,
        files: HostFiles,
        trouble: &Trouble,
        kind: FileKind,
        name: &str,
        make: impl Fn(&Project) -> anyhow::Result<PathBuf> + 'static,
    ) -> HostFiles {
        let (project, trouble) = (self.project.clone(), Trouble(Rc::clone(&trouble.0)));
        files.with_builtin_from(kind, name, move || {
            make(&project).map_err(|error| {
                let words = format!("{error:#}");
                trouble.0.borrow_mut().get_or_insert(error);
                words
            })
        })
    }
}

/// What to say when there is no such machine file: the one that was probably meant, else those that there are.
fn missing(project: &Project, config: &Path) -> String {
    let folder = project.root.join("configs");
    let here = std::env::current_dir().unwrap_or_default();
    let mut known: Vec<(String, String)> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter_map(|path| {
            let shown = path.strip_prefix(&here).unwrap_or(&path).display();
            Some((path.file_stem()?.to_str()?.to_owned(), shown.to_string()))
        })
        .collect();
    known.sort();
    let wanted = config
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let near = configs_compiler::nearest(&wanted, known.iter().map(|(stem, _)| stem.as_str()));
    match known.iter().find(|(stem, _)| Some(stem.as_str()) == near) {
        Some((_, shown)) => format!("\nhelp: did you mean `{shown}`?"),
        None if known.is_empty() => String::new(),
        None => {
            let all: Vec<&str> = known.iter().map(|(_, shown)| shown.as_str()).collect();
            format!("\nhelp: there are {}", all.join(", "))
        }
    }
}

/// The first failure of ours while the compiler asked for a file.
#[derive(Debug, Default)]
struct Trouble(Rc<RefCell<Option<anyhow::Error>>>);

/// The test guests: every binary of `tests/guests`.
pub fn test_guests(project: &Project) -> Vec<String> {
    let Ok(entries) = fs::read_dir(project.root.join("tests/guests/src/bin")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_machine_file_has_a_near_one_or_all() {
        let root = std::env::temp_dir().join(format!("xdv-missing-{}", std::process::id()));
        let project = Project {
            root: root.clone(),
            target: root.clone(),
            cache: root.clone(),
            consent: false,
        };
        assert_eq!(missing(&project, Path::new("x.toml")), "");
        fs::create_dir_all(root.join("configs")).unwrap();
        for name in ["two-guests.toml", "linux.toml", "README.md"] {
            fs::write(root.join("configs").join(name), "").unwrap();
        }
        for near in ["config/two-guests.toml", "two-guest", "tow-guests.tml"] {
            let hint = missing(&project, Path::new(near));
            assert!(
                hint.ends_with("configs/two-guests.toml`?"),
                "{near}: {hint}"
            );
        }
        let all = missing(&project, Path::new("something-else.toml"));
        assert!(
            all.contains("linux.toml, ") && !all.contains("README"),
            "{all}"
        );
        fs::remove_dir_all(&root).unwrap();
    }
}
