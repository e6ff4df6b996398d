//! Our crates and who depends on whom, from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::project::Project;
use crate::{process, toolchain};

/// One crate of ours.
#[derive(Debug, Clone, Default)]
pub struct Crate {
    /// Its folder, from the root.
    pub folder: PathBuf,
    /// The root files of its library and binaries, from the workspace's root.
    pub roots: Vec<PathBuf>,
    /// Those of our crates it depends on in a build.
    pub depends: BTreeSet<String>,
    /// Those it depends on in its tests only.
    pub dev_depends: BTreeSet<String>,
}

impl Crate {
    /// Whether it may contain unsafe code: its folder is called `arch`.
    pub fn may_be_unsafe(&self) -> bool {
        self.folder.file_name().is_some_and(|name| name == "arch")
    }

    /// Its manifest.
    pub fn manifest(&self) -> PathBuf {
        self.folder.join("Cargo.toml")
    }
}

/// The crates of the workspace.
#[derive(Debug, Default)]
pub struct Crates(BTreeMap<String, Crate>);

impl Crates {
    /// Asks cargo.
    pub fn of_workspace(project: &Project) -> anyhow::Result<Self> {
        let mut cargo = toolchain::cargo();
        cargo
            .current_dir(&project.root)
            .args(["metadata", "--format-version=1", "--no-deps"]);
        Self::read(&process::output_of(&mut cargo)?)
    }

    /// Reads what `cargo metadata --no-deps` prints.
    pub fn read(metadata: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(metadata).context("cargo metadata is no JSON")?;
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let root =
            PathBuf::from(text(&value, "workspace_root").context("cargo metadata names no root")?);
        let packages = list(&value, "packages");
        let ours: BTreeSet<String> = packages
            .iter()
            .filter_map(|package| text(package, "name"))
            .collect();
        let mut crates = BTreeMap::new();
        for package in packages {
            let name = text(package, "name").context("a package without a name")?;
            let manifest = PathBuf::from(
                text(package, "manifest_path").context("a package without a manifest")?,
            );
            let mut entry = Crate {
                folder: from_root(manifest.parent().unwrap_or(&root), &root),
                ..Crate::default()
            };
            for target in list(package, "targets") {
                let is_ours = list(target, "kind")
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|kind| matches!(kind, "lib" | "bin"));
                if let Some(path) = text(target, "src_path").filter(|_| is_ours) {
                    entry.roots.push(from_root(Path::new(&path), &root));
                }
            }
            for dependency in list(package, "dependencies") {
                let Some(on) = text(dependency, "name").filter(|on| ours.contains(on)) else {
                    continue;
                };
                let set = if text(dependency, "kind").as_deref() == Some("dev") {
                    &mut entry.dev_depends
                } else {
                    &mut entry.depends
                };
                set.insert(on);
            }
            crates.insert(name, entry);
        }
        Ok(Self(crates))
    }

    /// All of them by name.
    pub fn all(&self) -> &BTreeMap<String, Crate> {
        &self.0
    }

    /// What a crate is built of: itself and all of ours below it, without tests' dependencies.
    pub fn closure(&self, name: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(next) = open.pop() {
            if let Some(entry) = self.0.get(&next)
                && seen.insert(next)
            {
                open.extend(entry.depends.iter().cloned());
            }
        }
        seen
    }

    /// The crate that a file belongs to: the one with the deepest folder above it.
    pub fn owner(&self, file: &Path) -> Option<(&String, &Crate)> {
        self.0
            .iter()
            .filter(|(_, entry)| file.starts_with(&entry.folder))
            .max_by_key(|(_, entry)| entry.folder.components().count())
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn from_root(path: &Path, root: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_path_buf()
}
