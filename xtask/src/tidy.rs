//! `cargo xtask tidy`: the laws of ARCHITECTURE.md that a compiler does not check.

mod configs;
mod crates;
mod laws;
mod sources;
mod tokens;
mod unsafety;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use self::crates::Crates;
use self::sources::Source;
use crate::project::Project;
use crate::say;

/// One breach, where it is and what the law is.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    /// The file, from the root.
    pub file: PathBuf,
    /// The line, when there is one.
    pub line: Option<usize>,
    /// What is wrong and what the law says.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

/// Checks everything and shows the count of unsafe lines per crate.
pub fn tidy(project: &Project) -> anyhow::Result<ExitCode> {
    let crates = Crates::of_workspace(project)?;
    let sources = Source::all(project)?;
    let mut breaches = laws::check(&crates);
    breaches.extend(laws::check_el2_closure(project)?);
    breaches.extend(sources.iter().flat_map(sources::check));
    breaches.extend(unsafety::check(&crates, &sources));
    breaches.extend(configs::check(&sources));
    say::answer(&say::table(&unsafety::report(&crates, &sources)));
    if breaches.is_empty() {
        say::note(&format!(
            "tidy: {} files in {} crates keep the laws",
            sources.len(),
            crates.all().len()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    for breach in &breaches {
        eprintln!("{breach}");
    }
    say::error(&format!("tidy: {} breach(es) of the laws", breaches.len()));
    Ok(ExitCode::FAILURE)
}
