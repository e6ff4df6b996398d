//! QEMU 10.x into the cache, from Debian's backports, without installing anything.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::apt::{self, Apt, For};
use crate::project::Project;

/// Where it is unpacked.
pub fn root(project: &Project) -> PathBuf {
    project.cache.join("qemu-10")
}

/// Fetches and unpacks it.
pub fn ten(project: &Project) -> anyhow::Result<()> {
    let state = project.cache.join("apt-host");
    let fetched = Apt::set_up(project, &state, For::ThisMachine).and_then(|apt| {
        apt.download_install(&["qemu-system-arm"], &format!("{}-backports", apt.suite()))
    });
    let debs = fetched.context("QEMU 10.x cannot be fetched here; install QEMU 10 yourself and pass --qemu PATH (or set XDV_QEMU)")?;
    let unfinished = project.cache.join("qemu-10.part");
    let _ = fs::remove_dir_all(&unfinished);
    let _ = fs::remove_dir_all(root(project));
    apt::unpack(&debs, &unfinished)?;
    fs::rename(&unfinished, root(project))?;
    Ok(())
}

/// The library folders of an unpacked Debian root: `usr/lib/<machine's triplet>`.
pub fn library_path(root: &Path) -> OsString {
    let mut paths = vec![root.join("usr/lib")];
    for base in [root.join("usr/lib"), root.join("lib")] {
        let Ok(entries) = fs::read_dir(base) else {
            continue;
        };
        paths.extend(
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| path.is_dir() && path.to_string_lossy().contains("-linux-")),
        );
    }
    paths.sort();
    std::env::join_paths(paths).unwrap_or_default()
}
