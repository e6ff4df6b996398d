//! `cargo xtask virtio-matrix`: the same machine with every combination of virtio's features.
//!
//! The machine is compiled once. From run to run only what devices offer changes, which is a few bytes of the plan.

mod combination;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use configs_plan::Lint;

use self::combination::{Combination, all};
use self::verdict::{Row, Seen};
use crate::Refused;
use crate::build::{self, Built, El2, Files, Profile};
use crate::cli::{MatrixArgs, RunArgs};
use crate::kernel::{self, Source};
use crate::machine::{Asked, Compiled};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::run::launch::{Ending, Launch};
use crate::run::outcome::Outcome;
use crate::run::{self, hardware};
use crate::say;

/// When EL2 stops everything, unless the command line says so.
const SECONDS: u32 = 60;
/// What a kernel has that was given no disk and no network.
const USUAL: &str = "disks = [\"disk0\"]\nnetworks = [\"net\"]\n\n[[disk]]\nname = \"disk0\"\nsize = \"16M\"\n\n[[network]]\nname = \"net\"\n";

/// Runs them all.
pub fn matrix(project: &Project, args: &MatrixArgs) -> anyhow::Result<ExitCode> {
    let run = &args.run;
    if run.gdb.is_some() || run.log.is_some() || run.control.is_some() || run.kernel.print_config {
        let why =
            "error: `--gdb`, `--log`, `--control` and `--print-config` are for one run: use `run`";
        return Err(Refused(why.to_owned()).into());
    }
    let rig = Rig::build(project, run)?;
    let combinations = all(&args.queue_sizes);
    let mut rows = Vec::new();
    let mut is_interrupted = false;
    for (nth, combination) in (1..).zip(&combinations) {
        let row = rig.run(combination)?;
        is_interrupted = row.ending == Ending::Interrupted;
        if is_interrupted {
            say::note("ended by hand");
            break;
        }
        say::note(&format!(
            "{nth} of {}: {combination}: {}",
            combinations.len(),
            row.shown()
        ));
        rows.push(row);
    }
    let failed = rows.iter().filter(|row| row.why.is_some()).count();
    say::answer(&if args.json {
        format!("{:#}", verdict::json(&rows))
    } else {
        say::table(&verdict::table(&rows))
    });
    say::note(&format!("{} of {} worked", rows.len() - failed, rows.len()));
    Ok(match (is_interrupted, failed) {
        (true, _) => ExitCode::from(130),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

/// All that stays the same.
struct Rig<'a> {
    args: &'a RunArgs,
    el2: Built,
    compiled: Compiled,
    launch: Launch,
    folder: std::path::PathBuf,
}

impl<'a> Rig<'a> {
    fn build(project: &Project, args: &'a RunArgs) -> anyhow::Result<Self> {
        let profile = Profile::from(args.profile);
        let source = match kernel::source(args)? {
            Source::Text(name, text) if args.disks.is_empty() && args.net.is_none() => {
                Source::Text(name, text + USUAL)
            }
            source @ (Source::File(_) | Source::Text(..)) => source,
        };
        let (machine, output) = run::described(project, source, profile)?;
        let machine = machine.unattended(true).on(args.qemu.qemu.as_deref());
        let compiled = machine.compile(Asked {
            cpus: args.smp,
            memory: args.memory.filter(|_| args.kernel.kernel.is_none()),
            timeout_seconds: Some(args.timeout.unwrap_or(SECONDS)),
            traces_virtio: false,
            lint: Lint::Errors,
        })?;
        if !compiled.summary.has_virtio() {
            let why = "error: no guest of this machine has a virtio device\nhelp: give it a disk, a network or `rng = true`";
            return Err(Refused(why.to_owned()).into());
        }
        let hardware = hardware::arguments(args, &compiled.summary)?;
        let qemu = Qemu::ensure(project, args.qemu.qemu.as_deref())?;
        let el2 = build::hypervisor(project, El2::Virtio, profile)?;
        let folder = output.join(format!("matrix-{}", std::process::id()));
        let files = build::place(&folder, &el2, &compiled.bundle)?;
        let launch = run::launch(args, qemu, &compiled, files, hardware);
        Ok(Self {
            args,
            el2,
            compiled,
            launch,
            folder,
        })
    }

    /// One run.
    fn run(&self, combination: &Combination) -> anyhow::Result<Row> {
        let bundle = match self.compiled.whole.offering(combination.offer()) {
            Ok(bundle) => bundle,
            Err(why) => bail!("{combination}: {why}"),
        };
        let files: Files = build::place(&self.folder, &self.el2, &bundle)?;
        let launch = Launch {
            files,
            qemu: self.launch.qemu.clone(),
            cpu: self.launch.cpu.clone(),
            memory: self.launch.memory.clone(),
            extra: self.launch.extra.clone(),
            limit: Some(
                Duration::from_secs(self.args.timeout.unwrap_or(SECONDS).into()) + run::GRACE,
            ),
            input: crate::run::keys::Input::None,
            ..self.launch
        };
        let outcome =
            Outcome::expecting(&self.compiled.guests).with_selftests(&self.compiled.selftests);
        let mut seen = Seen::new(outcome);
        let started = Instant::now();
        let ending = launch.watch(&mut seen, &[])?;
        Ok(Row::new(*combination, seen, ending, started.elapsed()))
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
