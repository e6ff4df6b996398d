//! `cargo xtask run`: build, boot, show the console, and say how it ended.

mod backtrace;
pub mod console;
pub mod control;
mod debugger;
mod esr;
pub mod hardware;
pub mod keys;
pub mod launch;
pub mod outcome;
pub mod places;
mod screen;
pub mod session;
mod show;
mod verdict;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use configs_plan::Lint;

use self::backtrace::Symbols;
use self::console::Painter;
use self::control::Socket;
use self::keys::Input;
use self::launch::{Ending, Launch};
use self::outcome::Outcome;
use self::places::Places;
use self::screen::Screen;
use self::show::{Names, Show};
use self::verdict::Said;
use crate::Refused;
use crate::build::{self, El2, Files, Profile};
use crate::cli::{Linted, RunArgs, Traced};
use crate::kernel::{self, Source};
use crate::machine::{Asked, Compiled, Machine};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::{ctl, say};

/// How much longer than the hypervisor's own deadline a run may take before QEMU is ended from outside.
pub const GRACE: Duration = Duration::from_secs(20);
/// Under icount a second of the machine's time takes longer than one of ours.
const ICOUNT_FACTOR: u32 = 20;

/// Runs a machine as a person asked.
pub fn run(project: &Project, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let command = Instant::now();
    let source = kernel::source(args)?;
    if let (Source::Text(_, text), true) = (&source, args.kernel.print_config) {
        say::answer(&format!("{text}{}", kernel::remark(&args.kernel)));
        return Ok(ExitCode::SUCCESS);
    }
    let profile = Profile::from(args.profile);
    let (machine, output) = described(project, source, profile)?;
    let machine = machine
        .unattended(args.headless)
        .on(args.qemu.qemu.as_deref());
    let compiled = compiled(&machine, args)?;
    let hardware = hardware::arguments(args, &compiled.summary)?;
    let qemu = Qemu::ensure(project, args.qemu.qemu.as_deref())?;
    let el2 = build::hypervisor(project, El2::of(&compiled.summary), profile)?;
    let scratch = Scratch::new(&output)?;
    let files = build::place(&scratch.0, &el2, &compiled.bundle)?;
    let launch = launch(args, qemu, &compiled, files, hardware);
    let log = match &args.log {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => None,
    };
    let control = Control::open(project, args.control.as_deref(), &scratch)?;
    announce(&launch);
    for line in args
        .gdb
        .iter()
        .flat_map(|port| debugger::words(*port, &compiled.places))
    {
        say::note(&line);
    }
    let screen = Screen::new(
        Painter::new(!args.headless && say::colours_on_stdout()),
        launch.input == Input::Terminal,
        std::io::stdout().lock(),
    );
    let outcome = Outcome::expecting(&compiled.guests).with_selftests(&compiled.selftests);
    let names = Names {
        el2: Symbols::of(&el2.elf),
        guests: Places::of(compiled.places),
    };
    let mut show = Show::new(outcome, screen, !args.headless, names, log);
    let started = Instant::now();
    let ending = launch.watch(&mut show, &control.sockets)?;
    show.end();
    for line in show::arrivals(&show.arrived, command, started) {
        say::note(&line);
    }
    let seen = Seen {
        outcome: show.outcome,
        ending,
    };
    let status = conclude(&seen, &launch, started.elapsed());
    // A kernel that has the machine to itself speaks for the run.
    let own = args.kernel.kernel.as_ref().and(seen.outcome.code());
    Ok(own.map_or(status, |code| {
        ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
    }))
}

/// What the machine comes to, as the command line wants it.
fn compiled(machine: &Machine, args: &RunArgs) -> anyhow::Result<Compiled> {
    let compiled = machine.compile(Asked {
        cpus: args.smp,
        // With a kernel on the command line it is the guest's.
        memory: args.memory.filter(|_| args.kernel.kernel.is_none()),
        timeout_seconds: args.timeout,
        traces_virtio: args.trace.contains(&Traced::Virtio),
        lint: match args.lint {
            None => Lint::Off,
            Some(Linted::Errors) => Lint::Errors,
            Some(Linted::Strict) => Lint::Strict,
        },
    })?;
    let asked = [
        (!args.trace.is_empty(), "trace"),
        (args.lint.is_some(), "watch"),
    ];
    let asked = asked.into_iter().find(|(is_asked, _)| *is_asked);
    if let Some((_, verb)) = asked.filter(|_| !compiled.summary.has_virtio()) {
        let why = format!(
            "error: no guest of this machine has a virtio device to {verb}\nhelp: give it a disk, a network or `rng = true`"
        );
        return Err(Refused(why).into());
    }
    Ok(compiled)
}

/// The machine that is described, and where what is made of it goes.
pub fn described(
    project: &Project,
    source: Source,
    profile: Profile,
) -> anyhow::Result<(Machine, PathBuf)> {
    Ok(match source {
        Source::File(file) => (
            Machine::load(project, &file, profile)?,
            project.output(&file),
        ),
        Source::Text(name, text) => (
            Machine::described(project, &name, text, profile),
            project.output(name.as_ref()),
        ),
    })
}

/// What is started.
pub fn launch(
    args: &RunArgs,
    qemu: Qemu,
    compiled: &Compiled,
    files: Files,
    hardware: Vec<String>,
) -> Launch {
    let debugger = args.gdb.into_iter().flat_map(debugger::arguments);
    Launch {
        qemu,
        cpu: args.cpu.clone(),
        smp: compiled.cpus,
        memory: format!("{}M", compiled.machine_mib),
        icount: args.icount,
        files,
        extra: hardware
            .into_iter()
            .chain(debugger)
            .chain(args.extra.iter().cloned())
            .collect(),
        input: Input::of_this_process(args.headless),
        limit: args.timeout.map(|seconds| {
            Duration::from_secs(u64::from(seconds)) * if args.icount { ICOUNT_FACTOR } else { 1 }
                + GRACE
        }),
    }
}

fn announce(launch: &Launch) {
    say::note(&format!(
        "QEMU {}, {} x {}, {} of memory",
        launch.qemu.version, launch.smp, launch.cpu, launch.memory
    ));
    if launch.input == Input::Terminal {
        say::note(
            "keys go to the guest; Ctrl-] opens the hypervisor's prompt, Ctrl-] Ctrl-D ends the run",
        );
    }
}

/// What a run showed.
struct Seen {
    outcome: Outcome,
    ending: Ending,
}

/// The sockets a run takes commands at.
struct Control<'p> {
    project: &'p Project,
    sockets: Vec<Socket>,
    remembered: PathBuf,
}

impl<'p> Control<'p> {
    /// The one that was asked for; else one in the run's own folder, which `ctl` finds by itself.
    fn open(project: &'p Project, asked: Option<&Path>, scratch: &Scratch) -> anyhow::Result<Self> {
        let path = asked.map_or_else(|| scratch.0.join("control"), Path::to_path_buf);
        let mut control = Self {
            project,
            sockets: Vec::new(),
            remembered: path.clone(),
        };
        match Socket::open(&path) {
            Ok(socket) => {
                control.sockets.push(socket);
                ctl::remember(project, &path)?;
            }
            Err(error) if asked.is_some() => return Err(error),
            // A path can be too long for a socket. Who needs one names one.
            Err(error) => say::note(&format!("`ctl` cannot reach this run: {error:#}")),
        }
        Ok(control)
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        ctl::forget(self.project, &self.remembered);
    }
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
