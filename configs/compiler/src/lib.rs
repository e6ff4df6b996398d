//! Compiles a machine file (TOML) into what EL2 boots: a plan and the files it names.
//!
//! A person writes what a machine should be; this crate judges the machine as a whole and says what is
//! wrong in the person's own text, at every place that has to do with it, with what to do. Nothing is
//! guessed and nothing ignored: a key nobody knows is an error, so a misspelt limit never passes for none.
//!
//! The stages, each a module: `text` (bytes to TOML with spans) → `raw` (TOML to keys and values of the right
//! type) → `judge` (values that fit together: names, lanes on CPUs, memory) → `kernel` and `layout` (kernel,
//! initrd and device tree in the guest's RAM) → `configs-plan` (bytes, which are decoded again before they leave).
//!
//! The same text, the same files and the same seeds give the same bytes.
#![forbid(unsafe_code)]

mod admission;
mod board;
mod cpus;
mod devices;
mod diagnostic;
mod dtb;
mod elf;
mod environment;
mod files;
mod guest;
mod hardware;
mod image;
mod kernel;
mod layout;
mod memory;
mod names;
mod odds;
mod overlay;
mod percent;
mod place;
mod quantity;
mod rate;
mod raw;
mod room;
mod shares;
mod size;
mod suggest;
mod summary;
mod symbols;
mod text;
mod time;
mod tree;
mod unpack;
mod virtio;

use configs_plan::cpio::Writer;
use configs_plan::encode::{PlanSpec, encode};
use configs_plan::{Bundle, Lint, Offer, PLAN_FILE};

pub use diagnostic::{Diagnostic, Diagnostics};
pub use elf::Flat;
pub use environment::{Environment, FileKind, HostFiles, LoadError, MAX_FILE, Seeds, USUAL_DTB};
pub use suggest::nearest;
pub use summary::{DiskSummary, GuestSummary, NetworkSummary, RegionSummary, Summary};
pub use symbols::Symbols;

/// A kernel in an ELF file as it lies in memory, where it takes `limit` bytes at most.
///
/// # Errors
/// Why it is none, in words.
pub fn lay_out(elf: &[u8], limit: u64) -> Result<Flat, String> {
    elf::read(elf, limit).map_err(|why| why.to_string())
}

/// The lowest address that an ELF file's segments are linked at.
#[must_use]
pub fn linked_at(elf: &[u8]) -> Option<u64> {
    elf::lowest(elf)
}

/// What is said with a run rather than in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// After how many milliseconds EL2 stops every guest and reports. `None` or zero: never.
    pub deadline_ms: Option<u32>,
    /// EL2 says each operation on virtio queues.
    pub traces_virtio: bool,
    /// How closely EL2 watches guests' drivers at least.
    pub lint: Lint,
}

/// A compiled machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    spec: PlanSpec,
    plan: Vec<u8>,
    files: Vec<BundleFile>,
    /// How many of them, at the end, are images of disks.
    images: usize,
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

    /// The boot bundle of the same machine, whose guests' drivers are watched and offered no more than this.
    ///
    /// # Errors
    /// Why EL2 would refuse it.
    pub fn offering(&self, offer: Offer) -> Result<Vec<u8>, String> {
        let mut spec = self.spec.clone();
        for guest in &mut spec.guests {
            guest.offer = offer;
            if !guest.virtio.is_empty() {
                guest.virtio_lint = guest.virtio_lint.max(Lint::Errors);
            }
        }
        let images = self.files.len().saturating_sub(self.images);
        let (files, images) = self.files.split_at_checked(images).unwrap_or_default();
        Ok(written(&spec, files, images)?.1)
    }

    /// How many CPUs the machine has: as the command line or the file states, else as many as it needs.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.summary.cpus()
    }

    /// How many bytes of memory the machine has: as the command line or the file states, else as many as it needs.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.summary.memory()
    }

    /// How many CPUs the machine needs, as the lanes are placed.
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
    let text = match text::decode(text) {
        Ok(text) => text,
        Err(problem) => {
            let (likeness, found) = *problem;
            return Err(Diagnostics::new(source_name, &likeness, vec![found]));
        }
    };
    let mut found = Vec::new();
    let mut config = text::parse(text, &mut found).map(|table| raw::read(&table, &mut found));
    if let Some(config) = &mut config {
        complete(config, environment);
    }
    let compiled = config.and_then(|config| judge(&config, environment, options, &mut found));
    match compiled {
        Some(compiled) if found.is_empty() => Ok(compiled),
        _ => {
            if found.is_empty() {
                found.push(fault("it was refused without a reason"));
            }
            Err(Diagnostics::new(source_name, text, found))
        }
    }
}

/// Gives each guest that names no initrd or no console the one that goes with its kernel. What is wrong with it is said
/// where the kernel is named.
fn complete(config: &mut raw::RawConfig, environment: &dyn Environment) {
    for guest in &mut config.guests {
        let kernel = guest.kernel.as_ref().filter(|_| guest.initrd.is_none());
        let companion = kernel.and_then(|kernel| {
            environment
                .companion(&kernel.value)
                .map(|value| raw::Field {
                    value,
                    span: kernel.span.clone(),
                })
        });
        if companion.is_some() {
            guest.initrd = companion;
        }
        virtio::complete(guest, environment);
    }
}

/// What should never be said: something that the stages should have found first.
fn fault(what: &str) -> Diagnostic {
    Diagnostic::new(format!("this file could not be compiled: {what}"))
        .help("this is a fault of XDV: please report it")
}

/// Judges the machine as a whole and writes it down. `None` when something is wrong, and reported.
fn judge(
    config: &raw::RawConfig,
    environment: &dyn Environment,
    options: &RunOptions,
    found: &mut Vec<Diagnostic>,
) -> Option<Compiled> {
    let (guests, machine) = (&config.guests, &config.machine);
    let machine_memory = environment
        .memory()
        .or(machine.memory.as_ref().map(|memory| memory.value));
    let named: Vec<_> = guests.iter().filter_map(|g| g.name.as_ref()).collect();
    names::judge(&named, names::Named::Guest, found);
    memory::judge(guests, machine, machine_memory, found);
    let limit = cpus::Limit::new(environment.cpus(), machine, found);
    let placed = cpus::place(guests, &limit, found);
    let mut files = files::Files::new(environment);
    let given = match files.hardware(machine, guests, found) {
        Ok(Some(hardware)) => devices::give(guests, &hardware, found),
        Ok(None) | Err(()) => Vec::new(),
    };
    let mut given = given.into_iter();
    let loaded: Vec<_> = guests
        .iter()
        .map(|guest| guest::load(guest, given.next().unwrap_or_default(), &mut files, found))
        .collect();
    let virtio = virtio::judge(config, &mut files, found);
    if !found.is_empty() {
        return None;
    }
    let placed = placed?;
    let built = guests
        .iter()
        .zip(loaded)
        .zip(placed.lanes)
        .zip(&virtio.guests)
        .map(|(((guest, loaded), lanes), own)| guest::build(guest, loaded?, lanes, &virtio, own));
    let built: Option<Vec<guest::Built>> = built.collect();
    let own = memory::of_virtio(&virtio);
    match finish(built?, virtio, options) {
        Ok(mut compiled) => {
            let bundle = u64::try_from(compiled.bundle.len()).unwrap_or(u64::MAX);
            let needed = memory::needed(guests, machine, bundle, own);
            compiled.summary.memory_needed = needed;
            compiled.summary.cpus_least = placed.least;
            compiled.summary.memory_stated = machine_memory;
            compiled.summary.cpus_stated = environment
                .cpus()
                .or(machine.cpus.as_ref().map(|cpus| cpus.value));
            memory::judge_total(config, machine_memory.unwrap_or(needed), needed, found);
            Some(compiled)
        }
        // What EL2 would refuse should have been found before: say it rather than hand it out.
        Err(why) => {
            found.push(fault(&why));
            None
        }
    }
}

/// Plan and bundle of the guests, judged once more the way EL2 will.
fn finish(
    built: Vec<guest::Built>,
    virtio: virtio::Virtio,
    options: &RunOptions,
) -> Result<Compiled, String> {
    let (mut specs, mut files, mut guests) = (Vec::new(), Vec::new(), Vec::new());
    for mut guest in built {
        if !guest.spec.virtio.is_empty() {
            guest.spec.is_virtio_traced = options.traces_virtio;
            guest.spec.virtio_lint = guest.spec.virtio_lint.max(options.lint);
        }
        specs.push(guest.spec);
        files.extend(guest.files);
        guests.push(guest.summary);
    }
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let (disks, networks) = (
        summary::virtio::disks(&virtio, &names),
        summary::virtio::networks(&virtio, &names),
    );
    let last = specs
        .iter()
        .flat_map(|spec| spec.lanes.iter())
        .map(|lane| lane.cpu)
        .max();
    let cpus_needed = last.map_or(0, |last| last.saturating_add(1));
    let spec = PlanSpec {
        cpus: cpus_needed,
        deadline_ms: options.deadline_ms.filter(|ms| *ms != 0),
        disks: virtio.disks,
        networks: virtio.networks,
        guests: specs,
    };
    let (plan, bundle) = written(&spec, &files, &virtio.images)?;
    let images = virtio.images.len();
    files.extend(virtio.images);
    let summary = Summary {
        cpus_needed,
        cpus_least: cpus_needed,
        memory_needed: 0,
        cpus_stated: None,
        memory_stated: None,
        guests,
        disks,
        networks,
    };
    Ok(Compiled {
        spec,
        plan,
        files,
        images,
        bundle,
        summary,
    })
}

/// A plan, and it with its files as EL2 takes them.
fn written(
    spec: &PlanSpec,
    files: &[BundleFile],
    images: &[BundleFile],
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let plan = encode(spec).map_err(|error| error.to_string())?;
    let bundle = pack(&plan, files, images)?;
    Bundle::open(&bundle).map_err(|error| error.to_string())?;
    Ok((plan, bundle))
}

/// One archive of plan and files. Images of disks come last, where they can be read in place.
fn pack(plan: &[u8], files: &[BundleFile], images: &[BundleFile]) -> Result<Vec<u8>, String> {
    let too_long = |name: &str| format!("`{name}` is too long for the bundle");
    let mut archive = Writer::new();
    archive
        .file(PLAN_FILE, plan)
        .map_err(|_| too_long(PLAN_FILE))?;
    for BundleFile { name, data } in files {
        archive.file(name, data).map_err(|_| too_long(name))?;
    }
    for BundleFile { name, data } in images {
        archive
            .aligned(name, data, configs_plan::IMAGE_ALIGN)
            .map_err(|_| too_long(name))?;
    }
    Ok(archive.finish())
}
