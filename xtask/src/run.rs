//! `cargo xtask run`: build, boot, show the console, and say how it ended.

mod backtrace;
pub mod console;
pub mod launch;
pub mod outcome;
mod verdict;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use self::backtrace::Symbols;
use self::console::Painter;
use self::launch::{Ending, Launch};
use self::outcome::Outcome;
use self::verdict::Said;
use crate::build::{self, Built, Profile};
use crate::cli::RunArgs;
use crate::machine::{Asked, Compiled, Machine};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::say;

/// How much longer than the hypervisor's own deadline a run may take before QEMU is ended from outside.
const GRACE: Duration = Duration::from_secs(20);
/// Under icount a second of the machine's time takes longer than one of ours.
const ICOUNT_FACTOR: u32 = 20;

/// Runs a machine as a person asked.
pub fn run(project: &Project, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let profile = Profile::from(args.profile);
    let machine = Machine::load(project, &args.config, profile)?;
    let compiled = machine.compile(Asked {
        cpus: args.smp,
        memory: args.memory,
        timeout_seconds: args.timeout,
    })?;
    let qemu = Qemu::ensure(project, args.qemu.qemu.as_deref())?;
    let el2 = build::hypervisor(project, profile)?;
    let scratch = Scratch::new(&project.output(&args.config))?;
    let files = build::place(&scratch.0, &el2, &compiled.bundle)?;
    let launch = Launch {
        qemu,
        cpu: args.cpu.clone(),
        smp: compiled.cpus,
        memory: format!("{}M", compiled.machine_mib),
        icount: args.icount,
        files,
        extra: args.extra.clone(),
        interactive: !args.headless,
        limit: args.timeout.map(|seconds| {
            Duration::from_secs(u64::from(seconds)) * if args.icount { ICOUNT_FACTOR } else { 1 }
                + GRACE
        }),
    };
    say::note(&format!(
        "QEMU {}, {} x {}, {} of memory",
        launch.qemu.version, launch.smp, launch.cpu, launch.memory
    ));
    let mut log = match &args.log {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => None,
    };
    let started = Instant::now();
    let seen = observe(
        &launch,
        &el2,
        &compiled,
        !args.headless && say::colours_on_stdout(),
        log.as_mut(),
    )?;
    Ok(conclude(&seen, &launch, started.elapsed()))
}

/// What a run showed.
struct Seen {
    outcome: Outcome,
    ending: Ending,
}

fn observe(
    launch: &Launch,
    el2: &Built,
    compiled: &Compiled,
    colours: bool,
    mut log: Option<&mut File>,
) -> anyhow::Result<Seen> {
    let mut outcome = Outcome::expecting(&compiled.guests);
    let mut painter = Painter::new(colours);
    let mut symbols = Symbols::of(&el2.elf);
    let mut stdout = std::io::stdout().lock();
    let ending = launch.watch(|line| {
        let mut show = |line: &str| {
            if let Some(log) = &mut log {
                let _ = writeln!(log, "{line}");
            }
            // A closed pipe (`run | head`) must not end the run before its outcome is known.
            let _ = writeln!(stdout, "{}", painter.paint(line));
        };
        show(line);
        for frame in symbols.explain(line) {
            show(&frame);
        }
        outcome.take(line);
        outcome.is_over()
    })?;
    let _ = stdout.flush();
    Ok(Seen { outcome, ending })
}

/// Says how each guest ended; the exit status follows.
fn conclude(seen: &Seen, launch: &Launch, took: Duration) -> ExitCode {
    let Seen { outcome, ending } = seen;
    if outcome.is_success() && matches!(ending, Ending::ByItself | Ending::AfterTheEnd) {
        say::note(&format!("all guests ended well ({})", say::seconds(took)));
        return ExitCode::SUCCESS;
    }
    for said in verdict::of(outcome, ending, launch.limit) {
        match said {
            Said::Note(text) => say::note(&text),
            Said::Error(text) => say::error(&text),
        }
    }
    if *ending == Ending::Interrupted {
        return ExitCode::from(130);
    }
    ExitCode::FAILURE
}

/// A folder of this run's own, so that runs of one config side by side do not share files.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(output: &Path) -> anyhow::Result<Self> {
        let folder = output.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
