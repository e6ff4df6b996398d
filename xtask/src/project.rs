//! Where things are: the workspace, what is built, what is fetched; and whether we may ask the person.

use std::env;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// This checkout and the folders that belong to it.
#[derive(Debug, Clone)]
pub struct Project {
    /// The workspace's root.
    pub root: PathBuf,
    /// Cargo's target folder (honours `CARGO_TARGET_DIR`).
    pub target: PathBuf,
    /// Downloads: QEMU 10.x, Debian's kernel. Survives `cargo clean`.
    pub cache: PathBuf,
    /// Whether things may be installed without asking.
    pub consent: bool,
}

impl Project {
    /// The project this program was built from.
    pub fn find(yes: bool) -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .context("xtask's folder has no parent: this program was moved away from its checkout")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir()?.join(dir),
            None => root.join("target"),
        };
        Ok(Self {
            root,
            target,
            cache: cache_folder()?,
            consent: yes || in_ci() || is_root(),
        })
    }

    /// Where `build CONFIG` leaves its results.
    pub fn output(&self, config: &Path) -> PathBuf {
        let stem = config
            .file_stem()
            .map_or_else(|| "machine".into(), |stem| stem.to_os_string());
        self.target.join("xdv").join(stem)
    }

    /// A path as a person would write it from the project's root.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// Whether a question can be put to somebody.
    pub fn can_ask(&self) -> bool {
        !in_ci() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }
}

/// `$XDV_CACHE`, else the user's cache folder.
fn cache_folder() -> anyhow::Result<PathBuf> {
    if let Some(dir) = env::var_os("XDV_CACHE").filter(|dir| !dir.is_empty()) {
        return Ok(env::current_dir()?.join(dir));
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
    {
        return Ok(dir.join("xdv"));
    }
    let home =
        env::home_dir().context("no home folder: set XDV_CACHE to a folder for downloads")?;
    Ok(home.join(".cache").join("xdv"))
}

/// Continuous integration says so with `CI=true`.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Whether we are root. The owner of `/proc/self` is the effective user; where there is no `/proc`, `$USER` must do.
pub fn is_root() -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        if let Ok(meta) = std::fs::metadata("/proc/self") {
            return meta.uid() == 0;
        }
    }
    env::var("USER").is_ok_and(|user| user == "root")
}
