//! Kernel modules: the few that a guest may need, with what they depend on, out of the hundreds in a package.
//!
//! `modules.dep` is made by depmod when a kernel package is installed, and ours is only unpacked. Each module says
//! itself what it depends on: `depends=` in its section `.modinfo` (Linux, `scripts/mod/modpost.c`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

/// One module, ready to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The names of what must be loaded before.
    pub needs: Vec<String>,
    /// What else the kernel may ask for it by: `fs-ext4`.
    pub aliases: Vec<String>,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// The wanted modules below `tree` and what they need, each after what it needs. One that is not there is built in, or
/// not for this kernel.
pub fn pick(tree: &Path, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
    let mut found = BTreeMap::new();
    index(tree, &mut found)?;
    let mut picked = Vec::new();
    for name in wanted {
        take(name, &found, &mut picked, 0)?;
    }
    Ok(picked)
}

/// `modules.dep` of these modules, as modprobe reads it: the nearest need first, each after all that need it.
pub fn dependencies(modules: &[Module]) -> String {
    let mut text = String::new();
    for module in modules {
        let mut all = module.needs.clone();
        let mut next = 0;
        while let Some(name) = all.get(next).cloned() {
            let needs = modules
                .iter()
                .find(|other| other.name == name)
                .map(|other| other.needs.clone());
            for need in needs.unwrap_or_default() {
                // Once more at the end: what several need has to be loaded before the first of them.
                all.retain(|name| *name != need);
                all.push(need);
            }
            next = all
                .iter()
                .position(|other| *other == name)
                .map_or(next, |at| at.saturating_add(1));
        }
        let files: String = all.iter().map(|name| format!(" {name}.ko")).collect();
        text.push_str(&format!("{}.ko:{files}\n", module.name));
    }
    text
}

/// `modules.alias` of these modules, as modprobe reads it.
pub fn aliases(modules: &[Module]) -> String {
    let mut text = String::new();
    for module in modules {
        for alias in &module.aliases {
            text.push_str(&format!("alias {alias} {}\n", module.name));
        }
    }
    text
}

fn index(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} is missing", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, found)?;
        } else if let Some(file) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, _)) = file.split_once(".ko")
        {
            found.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn take(
    name: &str,
    found: &BTreeMap<String, PathBuf>,
    picked: &mut Vec<Module>,
    depth: u32,
) -> anyhow::Result<()> {
    let name = name.replace('-', "_");
    let Some(path) = found.get(&name) else {
        return Ok(());
    };
    if picked.iter().any(|module| module.name == name) {
        return Ok(());
    }
    if depth > 32 {
        bail!("the kernel's modules depend on each other in a circle at {name}");
    }
    let bytes = unpacked(path)?;
    let (mut needs, aliases) =
        information(&bytes).with_context(|| format!("{} is no module", path.display()))?;
    needs.retain(|need| found.contains_key(need));
    for need in &needs {
        take(need, found, picked, depth.saturating_add(1))?;
    }
    picked.push(Module {
        name,
        needs,
        aliases,
        bytes,
    });
    Ok(())
}

/// Debian 12 ships modules as they are, Debian 13 with xz.
fn unpacked(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(bytes),
        Some("xz") => {
            let mut plain = Vec::new();
            lzma_rs::xz_decompress(&mut bytes.as_slice(), &mut plain)
                .map_err(|error| anyhow::anyhow!("{}: {error:?}", path.display()))?;
            Ok(plain)
        }
        _ => bail!("{} is packed in a way not known here", path.display()),
    }
}

/// What a module says it depends on, and its aliases.
fn information(elf: &[u8]) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, elf)?;
    let (_, section) = sections
        .section_by_name(endian, b".modinfo")
        .context("it has no .modinfo")?;
    let data = section.data(endian, elf)?;
    let (mut needs, mut aliases) = (Vec::new(), Vec::new());
    for entry in data.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        if let Some(list) = entry.strip_prefix("depends=") {
            let names = list.split(',').filter(|name| !name.is_empty());
            needs.extend(names.map(|name| name.replace('-', "_")));
        } else if let Some(alias) = entry.strip_prefix("alias=") {
            aliases.push(alias.to_owned());
        }
    }
    Ok((needs, aliases))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of three sections: none, `.modinfo`, and their names.
    fn module(depends: &str) -> Vec<u8> {
        let info = format!("license=GPL\0alias=fs-{depends}\0depends={depends}\0");
        let names = b"\0.modinfo\0.names\0";
        let (info_at, info_len) = (64u64, info.len() as u64);
        let names_at = info_at + info_len;
        let sections_at = (names_at + names.len() as u64).next_multiple_of(8);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        for half in [1u16, 183] {
            elf.extend(half.to_le_bytes());
        }
        elf.extend(1u32.to_le_bytes());
        for word in [0, 0, sections_at] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(0u32.to_le_bytes());
        for half in [64u16, 0, 0, 64, 3, 2] {
            elf.extend(half.to_le_bytes());
        }
        elf.extend(info.bytes());
        elf.extend(names);
        elf.resize(elf.len().next_multiple_of(8), 0);
        elf.extend([0; 64]);
        for (name, kind, at, length) in [
            (1u32, 1u32, info_at, info_len),
            (10, 3, names_at, names.len() as u64),
        ] {
            elf.extend(name.to_le_bytes());
            elf.extend(kind.to_le_bytes());
            for word in [0, 0, at, length] {
                elf.extend(word.to_le_bytes());
            }
            elf.extend([0; 24]);
        }
        elf
    }

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, Vec<u8>)]) -> Self {
            let folder =
                std::env::temp_dir().join(format!("xdv-modules-{name}-{}", std::process::id()));
            for (path, bytes) in files {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            Self(folder)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_what_is_built_in_is_left_out() {
        let tree = Tree::new(
            "order",
            &[
                ("a/virtio.ko", module("")),
                ("a/virtio-ring.ko", module("virtio")),
                ("b/virtio_net.ko", module("virtio-ring,failover,virtio")),
                ("b/other.ko", b"never read".to_vec()),
                ("modules.order", Vec::new()),
            ],
        );
        let picked = pick(&tree.0, &["virtio_net", "built_in", "virtio"]).unwrap();
        let names: Vec<&str> = picked.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio_net"]);
        assert_eq!(
            dependencies(&picked),
            "virtio.ko:\nvirtio_ring.ko: virtio.ko\nvirtio_net.ko: virtio_ring.ko virtio.ko\n"
        );
        assert!(aliases(&picked).contains("alias fs-virtio virtio_ring\n"));
    }

    #[test]
    fn packed_modules_are_unpacked() {
        let mut packed = Vec::new();
        lzma_rs::xz_compress(&mut module("x").as_slice(), &mut packed).unwrap();
        let tree = Tree::new("packed", &[("y.ko.xz", packed), ("x.ko", module(""))]);
        let picked = pick(&tree.0, &["y"]).unwrap();
        assert_eq!(picked.len(), 2);
        assert_eq!(picked[1].bytes, module("x"));
    }

    #[test]
    fn circles_and_what_is_no_module_are_refused() {
        let files = [
            ("a.ko", module("b")),
            ("b.ko", module("a")),
            ("c.ko", b"no".to_vec()),
        ];
        let tree = Tree::new("bad", &files);
        assert!(pick(&tree.0, &["a"]).is_err());
        assert!(pick(&tree.0, &["c"]).is_err());
    }
}
