//! What a machine file is compiled against: the machine's limits and the files it may name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The built-in device tree of the machine that a plan is for when its file names no other.
pub const USUAL_DTB: &str = "virt";
/// No file for a guest may be larger: beyond it lies a mistake (a disk image, a device), not a kernel.
pub const MAX_FILE: u64 = 1 << 30;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A guest's kernel.
    Kernel,
    /// A guest's initial RAM disk.
    Initrd,
    /// What a guest's device tree has beside what is generated: a compiled overlay.
    Overlay,
    /// The machine's own device tree.
    Dtb,
    /// The names of a kernel's addresses.
    Symbols,
    /// What is on a disk.
    Image,
}

impl FileKind {
    /// What such a file is called; the key that names it is its `Display`.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Overlay => "overlay",
            Self::Dtb => "dtb",
            Self::Symbols => "symbol file",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Overlay => "overlay",
            Self::Dtb => "dtb",
            Self::Symbols => "symbols",
            Self::Image => "image",
        })
    }
}

/// Random bytes for one guest, which its kernel finds in `/chosen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// Where the kernel puts itself in its virtual addresses (`kaslr-seed`).
    pub kaslr: u64,
    /// What its random number generator begins with (`rng-seed`).
    pub rng: [u8; 32],
}

/// The machine's limits and the files a config may name.
pub trait Environment {
    /// How many CPUs the machine has, when that is settled (`--smp`). It overrides `[machine] cpus`.
    fn cpus(&self) -> Option<u32> {
        None
    }

    /// How many bytes of memory the machine has, when that is settled. It overrides `[machine] memory`.
    fn memory(&self) -> Option<u64> {
        None
    }

    /// The names that need no path, for suggestions.
    fn builtins(&self, kind: FileKind) -> Vec<String>;

    /// Random bytes for a guest. `None`: it gets none.
    fn seeds(&self, _guest: &str) -> Option<Seeds> {
        None
    }

    /// The initrd that goes with a kernel when the file names none.
    fn companion(&self, _kernel: &str) -> Option<String> {
        None
    }

    /// Whether a kernel with this initrd speaks through a virtio console, where its guest's file says nothing else.
    fn has_virtio_console(&self, _kernel: &str, _initrd: &str) -> bool {
        false
    }

    /// Whether a built-in kernel is firmware, which no file's content tells.
    fn is_firmware(&self, _kernel: &str) -> bool {
        false
    }

    /// The bytes behind a built-in name or a path.
    ///
    /// # Errors
    /// Why there are none.
    fn load(&self, kind: FileKind, name: &str) -> Result<Vec<u8>, LoadError>;
}

/// Why a file could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Nothing is there.
    NotFound(PathBuf),
    /// A directory is there.
    Directory(PathBuf),
    /// Something is there that is neither a file nor a directory: a device, a pipe, a socket.
    Special(PathBuf),
    /// The file is larger than [`MAX_FILE`].
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// The file cannot be read, for the reason given.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// A built-in file could not be made or fetched, for the reason given.
    NotReady(String),
}

type Provider = Box<dyn Fn() -> Result<PathBuf, String>>;

/// Files of this computer: built-in names, and paths relative to a folder (the config's own).
pub struct HostFiles {
    folder: PathBuf,
    cpus: Option<u32>,
    memory: Option<u64>,
    seeds: Option<Seeds>,
    builtins: BTreeMap<(FileKind, String), Provider>,
    companions: BTreeMap<String, String>,
    firmware: BTreeSet<String>,
    virtio_consoles: BTreeSet<(String, String)>,
}

impl HostFiles {
    /// Paths are taken relative to `folder`; nothing is built in yet, and the machine is as large as it must be.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            cpus: None,
            memory: None,
            seeds: None,
            builtins: BTreeMap::new(),
            companions: BTreeMap::new(),
            firmware: BTreeSet::new(),
            virtio_consoles: BTreeSet::new(),
        }
    }

    /// Settles how many CPUs the machine has.
    #[must_use]
    pub fn with_cpus(mut self, cpus: Option<u32>) -> Self {
        self.cpus = cpus;
        self
    }

    /// Settles how many bytes of memory the machine has.
    #[must_use]
    pub fn with_memory(mut self, memory: Option<u64>) -> Self {
        self.memory = memory;
        self
    }

    /// Settles what every guest finds in `/chosen`: for machines that are to do the same each time.
    #[must_use]
    pub fn with_seeds(mut self, seeds: Option<Seeds>) -> Self {
        self.seeds = seeds;
        self
    }

    /// Gives a file a name of its own.
    #[must_use]
    pub fn with_builtin(self, kind: FileKind, name: &str, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.with_builtin_from(kind, name, move || Ok(path.clone()))
    }

    /// Gives a name to a file that is made or fetched when a config first asks for it. `provide` says where the
    /// file then is, or in words why there is none.
    #[must_use]
    pub fn with_builtin_from(
        mut self,
        kind: FileKind,
        name: &str,
        provide: impl Fn() -> Result<PathBuf, String> + 'static,
    ) -> Self {
        self.builtins
            .insert((kind, name.to_owned()), Box::new(provide));
        self
    }

    /// A guest with this kernel and no initrd of its own gets this one.
    #[must_use]
    pub fn with_companion(mut self, kernel: &str, initrd: &str) -> Self {
        self.companions.insert(kernel.to_owned(), initrd.to_owned());
        self
    }

    /// This kernel speaks through a virtio console, unless the file says something else, because this initrd has the
    /// driver. With another it would be mute.
    #[must_use]
    pub fn with_virtio_console(mut self, kernel: &str, initrd: &str) -> Self {
        let pair = (kernel.to_owned(), initrd.to_owned());
        self.virtio_consoles.insert(pair);
        self
    }

    /// This built-in kernel is firmware.
    #[must_use]
    pub fn with_firmware(mut self, kernel: &str) -> Self {
        self.firmware.insert(kernel.to_owned());
        self
    }
}

impl fmt::Debug for HostFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFiles")
            .field("folder", &self.folder)
            .field("cpus", &self.cpus)
            .field("memory", &self.memory)
            .field("seeds", &self.seeds)
            .field("builtins", &self.builtins.keys())
            .field("companions", &self.companions)
            .field("firmware", &self.firmware)
            .field("virtio_consoles", &self.virtio_consoles)
            .finish()
    }
}

impl Environment for HostFiles {
    fn cpus(&self) -> Option<u32> {
        self.cpus
    }

    fn memory(&self) -> Option<u64> {
        self.memory
    }

    fn builtins(&self, kind: FileKind) -> Vec<String> {
        self.builtins
            .keys()
            .filter(|(of, _)| *of == kind)
            .map(|(_, name)| name.clone())
            .collect()
    }

    fn companion(&self, kernel: &str) -> Option<String> {
        self.companions.get(kernel).cloned()
    }

    fn has_virtio_console(&self, kernel: &str, initrd: &str) -> bool {
        let mut all = self.virtio_consoles.iter();
        all.any(|(of, with)| of == kernel && with == initrd)
    }

    fn is_firmware(&self, kernel: &str) -> bool {
        self.firmware.contains(kernel)
    }

    /// Of the host's own random numbers, each time others, unless they are settled.
    fn seeds(&self, _guest: &str) -> Option<Seeds> {
        if self.seeds.is_some() {
            return self.seeds;
        }
        let (mut kaslr, mut rng) = ([0; 8], [0; 32]);
        getrandom::fill(&mut kaslr).ok()?;
        getrandom::fill(&mut rng).ok()?;
        Some(Seeds {
            kaslr: u64::from_le_bytes(kaslr),
            rng,
        })
    }

    fn load(&self, kind: FileKind, name: &str) -> Result<Vec<u8>, LoadError> {
        let path = match self.builtins.get(&(kind, name.to_owned())) {
            Some(provide) => provide().map_err(LoadError::NotReady)?,
            None => self.folder.join(name),
        };
        read(&path)
    }
}

/// Reads a regular file of bounded size. The size is checked while reading too: the file may grow meanwhile.
fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |error: io::Error| {
        if matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ) {
            LoadError::NotFound(path.to_owned())
        } else {
            LoadError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            }
        }
    };
    // Asked before opening: to open a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(LoadError::Directory(path.to_owned()));
    }
    if !metadata.is_file() {
        return Err(LoadError::Special(path.to_owned()));
    }
    let too_large = |size| LoadError::TooLarge {
        path: path.to_owned(),
        size,
    };
    if metadata.len() > MAX_FILE {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match u64::try_from(bytes.len()) {
        Ok(size) if size <= MAX_FILE => Ok(bytes),
        _ => Err(too_large(MAX_FILE.saturating_add(1))),
    }
}
