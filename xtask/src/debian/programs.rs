//! Programs out of Debian's packages, each with the libraries it needs and no more: packages depend on far more than
//! one of their programs does.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// Where Debian keeps an arm64 machine's libraries, from the root of a package.
const LIBRARIES: [&str; 5] = [
    "lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    // librbd's own, which has it as its run path.
    "usr/lib/aarch64-linux-gnu/ceph",
    "lib",
    "usr/lib",
];
/// Where it keeps programs.
const PROGRAMS: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "sbin"];
/// Where they go in a guest: where the loader looks without a cache of its own.
const PLACE: &str = "lib";

/// What a program asks for: its loader (a path from the root) and libraries (names).
#[derive(Debug, Default, PartialEq, Eq)]
struct Asks {
    loader: Option<String>,
    libraries: Vec<String>,
}

/// The files of these programs and of all that they need, by the path they have in a guest. `tree` holds the unpacked
/// packages.
pub fn gather(tree: &Path, programs: &[&str]) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut open: VecDeque<(String, PathBuf)> = VecDeque::new();
    for program in programs {
        let path = PROGRAMS
            .iter()
            .map(|folder| tree.join(folder).join(program))
            .find(|path| path.is_file());
        let path = path.with_context(|| format!("{program} is missing"))?;
        open.push_back((format!("bin/{program}"), path));
    }
    while let Some((place, path)) = open.pop_front() {
        if files.contains_key(&place) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
        let asks = asks(&bytes).with_context(|| format!("{} is no program", path.display()))?;
        for library in asks.libraries {
            let found = library_in(tree, &library)?;
            open.push_back((format!("{PLACE}/{library}"), found));
        }
        if let Some(loader) = asks.loader {
            let name = loader.rsplit('/').next().unwrap_or_default().to_owned();
            let found = library_in(tree, &name)?;
            open.push_back((loader.trim_start_matches('/').to_owned(), found));
        }
        files.insert(place, bytes);
    }
    Ok(files)
}

fn library_in(tree: &Path, name: &str) -> anyhow::Result<PathBuf> {
    LIBRARIES
        .iter()
        .map(|folder| tree.join(folder).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no package holds {name}"))
}

fn asks(elf: &[u8]) -> anyhow::Result<Asks> {
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let interpreter = header
        .program_headers(endian, elf)?
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_INTERP)
        .find_map(|segment| segment.data(endian, elf).ok());
    let loader = interpreter.map(|path| {
        String::from_utf8_lossy(path)
            .trim_end_matches('\0')
            .to_owned()
    });
    let sections = header.sections(endian, elf)?;
    let mut libraries = Vec::new();
    if let Some((entries, link)) = sections.dynamic(endian, elf)? {
        let strings = sections.strings(endian, elf, link)?;
        for entry in entries
            .iter()
            .filter(|entry| entry.tag(endian) == DT_NEEDED)
        {
            let name = entry.string(endian, strings)?;
            libraries.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(Asks { loader, libraries })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very test is a program that needs a loader and the C library.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_program_needs_is_read_from_it() {
        let me = fs::read(std::env::current_exe().unwrap()).unwrap();
        let asks = asks(&me).unwrap();
        let loader = asks.loader.unwrap();
        assert!(loader.starts_with("/lib"), "{loader}");
        assert!(
            asks.libraries
                .iter()
                .any(|name| name.starts_with("libc.so")),
            "{:?}",
            asks.libraries
        );
        assert!(super::asks(b"#!/bin/sh").is_err());
    }

    #[test]
    fn a_library_that_no_package_holds_is_named() {
        let folder = std::env::temp_dir().join(format!("xdv-programs-{}", std::process::id()));
        fs::create_dir_all(folder.join("usr/bin")).unwrap();
        fs::copy(
            std::env::current_exe().unwrap(),
            folder.join("usr/bin/this"),
        )
        .unwrap();
        let error = format!("{:#}", gather(&folder, &["this"]).unwrap_err());
        assert!(error.contains("no package holds"), "{error}");
        let error = format!("{:#}", gather(&folder, &["that"]).unwrap_err());
        assert!(error.contains("that is missing"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
