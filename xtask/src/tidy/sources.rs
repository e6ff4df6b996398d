//! Every file we wrote: how long it and its functions are, and what it is called.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Breach;
use super::tokens::{self, Found};
use crate::project::Project;

/// A file longer than this holds more than one concept.
const FILE: usize = 500;
/// A function longer than this does more than one thing.
const FUNCTION: usize = 70;
/// Names that say nothing.
const EMPTY_NAMES: [&str; 5] = ["utils", "util", "common", "misc", "helpers"];
/// What is written by hand and may not grow without end. Transcripts and prose may.
const WRITTEN: [&str; 6] = ["rs", "s", "S", "ld", "toml", "sh"];
/// What is made, not written.
const MADE: [&str; 3] = ["target", ".git", "node_modules"];

/// One file.
#[derive(Debug)]
pub struct Source {
    /// From the root.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it holds, when it is Rust.
    pub rust: Option<Found>,
}

impl Source {
    /// A file with this text.
    pub fn new(path: PathBuf, text: String) -> Self {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let rust = if is_rust { tokens::look(&text) } else { None };
        Self { path, text, rust }
    }

    /// All files of the checkout.
    pub fn all(project: &Project) -> anyhow::Result<Vec<Self>> {
        let mut sources = Vec::new();
        gather(&project.root, &project.root, &mut sources)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(sources)
    }
}

fn gather(folder: &Path, root: &Path, into: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !MADE.contains(&name.as_str()) {
                gather(&path, root, into)?;
            }
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| WRITTEN.contains(&extension))
        {
            let text =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            into.push(Source::new(
                path.strip_prefix(root).unwrap_or(&path).to_path_buf(),
                String::from_utf8_lossy(&text).into_owned(),
            ));
        }
    }
    Ok(())
}

/// Lengths and names of one file.
pub fn check(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut breach = |line: Option<usize>, what: String| {
        breaches.push(Breach {
            file: source.path.clone(),
            line,
            what,
        })
    };
    let lines = source.text.lines().count();
    if lines > FILE {
        breach(
            Some(FILE + 1),
            format!("{lines} lines; a file holds one concept in at most {FILE}"),
        );
    }
    let is_rust = source
        .path
        .extension()
        .is_some_and(|extension| extension == "rs");
    let stem = source
        .path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    if is_rust && EMPTY_NAMES.contains(&stem.as_str()) {
        breach(None, format!("`{stem}` names no concept"));
    }
    match &source.rust {
        Some(found) => {
            for (name, lines) in found
                .functions
                .iter()
                .filter(|(_, lines)| lines.count() > FUNCTION)
            {
                breach(
                    Some(lines.first),
                    format!(
                        "`{name}` has {} lines; a function has at most {FUNCTION}",
                        lines.count()
                    ),
                );
            }
        }
        None if is_rust => breach(None, "this is not Rust that can be read".to_owned()),
        None => {}
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, text: String) -> Vec<String> {
        check(&Source::new(path.into(), text))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn long_files_and_functions_are_named_with_their_line() {
        assert!(breaches("a.rs", "\n".repeat(FILE)).is_empty());
        assert_eq!(
            breaches("a.rs", "\n".repeat(FILE + 1)),
            ["a.rs:501: 501 lines; a file holds one concept in at most 500"]
        );
        let long = format!("\nfn f() {{\n{}}}\n", "\n".repeat(FUNCTION - 1));
        assert_eq!(
            breaches("a.rs", long),
            ["a.rs:2: `f` has 71 lines; a function has at most 70"]
        );
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        assert_eq!(breaches("x/utils.rs", String::new()).len(), 1);
        assert!(breaches("x/common.toml", String::new()).is_empty());
    }
}
