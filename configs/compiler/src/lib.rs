//! Compiles a machine file (TOML) into what EL2 boots: a plan and the files it names.
//!
//! A person writes what a machine should be; this crate judges the machine as a whole and says what is
//! wrong in the person's own text, at every place that has to do with it, with what to do. Nothing is
//! guessed and nothing ignored: a key nobody knows is an error, so a misspelt limit never passes for none.
//!
//! The stages, each a module: `text` (bytes to TOML with spans) → `raw` (TOML to keys and values of the right
//! type) → `judge` (values that fit together: names, lanes on CPUs, memory) → `image` and `layout` (kernel,
//! initrd and device tree in the guest's RAM) → `configs-plan` (bytes, which are decoded again before they leave).
//!
//! The same text and the same files give the same bytes.
#![forbid(unsafe_code)]

mod diagnostic;
mod environment;
mod summary;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use environment::{Environment, FileKind, HostFiles, LoadError, MAX_FILE};
pub use summary::{GuestSummary, RegionSummary, Summary};

/// What is said with a run rather than in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// After how many milliseconds EL2 stops every guest and reports. `None` or zero: never.
    pub deadline_ms: Option<u32>,
}

/// A compiled machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    plan: Vec<u8>,
    files: Vec<BundleFile>,
    bundle: Vec<u8>,
    summary: Summary,
}

/// One file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Compiled {
    /// The plan's bytes.
    #[must_use]
    pub fn plan(&self) -> &[u8] {
        &self.plan
    }

    /// The files the plan names.
    #[must_use]
    pub fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// The boot bundle: plan and files in one cpio archive.
    #[must_use]
    pub fn bundle(&self) -> &[u8] {
        &self.bundle
    }

    /// How many CPUs the machine needs.
    #[must_use]
    pub fn cpus_needed(&self) -> u32 {
        self.summary.cpus_needed
    }

    /// How many bytes of memory the machine needs, hypervisor included.
    #[must_use]
    pub fn memory_needed(&self) -> u64 {
        self.summary.memory_needed
    }

    /// The machine, for a person to read.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// Compiles a machine file. `source_name` is how messages name it.
///
/// # Errors
/// Everything found wrong with it.
pub fn compile(
    source_name: &str,
    text: &[u8],
    environment: &dyn Environment,
    options: &RunOptions,
) -> Result<Compiled, Diagnostics> {
    let _ = (text, environment, options);
    Err(Diagnostics::new(
        source_name,
        "",
        vec![Diagnostic::new("not yet")],
    ))
}
