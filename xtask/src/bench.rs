//! `cargo xtask bench`: what a VM exit costs, in instructions, beside the limits and the peers.
//!
//! The machine counts instructions instead of time, so that a rerun gives the same figures to the last digit.

mod baseline;
mod judge;
mod leaf;
mod parse;
mod rows;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use self::baseline::Baseline;
use self::judge::{Figure, Verdict};
use crate::build::{self, Built, Profile};
use crate::cli::BenchArgs;
use crate::machine::{Asked, Machine};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::run::keys::Input;
use crate::run::launch::{Ending, Launch};
use crate::run::outcome::Outcome;
use crate::run::session::Viewer;
use crate::say::{self, Step};

/// One instruction is one nanosecond under icount, and this makes it one tick: no figure is rounded to 16.
const CPU: &str = "cortex-a57,cntfrq=1000000000";
/// A bench that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// The guest that measures.
const BENCH: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\nmemory = \"64M\"\nlanes = { count = 2, dedicated = true }\n";
/// The same on one lane: QEMU before 10 never leaves a spin of one CPU for another under icount.
const BENCH_ONE_LANE: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\nmemory = \"64M\"\nlanes = { count = 1, dedicated = true }\n";
/// A guest whose lanes are shared, each alone on its CPU for the time being.
const SHARED: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\ncmdline = \"rows=shared\"\nmemory = \"64M\"\nlanes = 2\n";
/// The same beside a guest that never lets go of either CPU.
const CONTENDED: &str = r#"
[[guest]]
name = "bench"
kernel = "test:bench"
cmdline = "rows=contended"
memory = "64M"
lanes = 2
budget = "50%"
period = "1ms"

[[guest]]
name = "other"
kernel = "test:noisy"
cmdline = "how=burn run_ms=1500"
memory = "64M"
lanes = 2
"#;
/// The memory of [`BOOT`].
const BOOT_MIB: u64 = 4;
/// The machine of the row `el2_entry_to_first_guest`.
const BOOT: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\nmemory = \"4M\"\nlanes = { count = 1, dedicated = true }\n";

/// Measures, shows, and judges.
pub fn bench(project: &Project, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let qemu = emulator(project, args)?;
    let all_rows = qemu.version.major >= 10;
    if !all_rows {
        say::note(&format!(
            "QEMU {}: synchronous rows only; QEMU 10.x measures them all (`--qemu 10`)",
            qemu.version
        ));
    }
    let el2 = build::hypervisor(project, Profile::Release)?;
    leaf::check(&el2.elf)?;
    // Both machines first: building and counting would draw over each other.
    let (exits, cpus) = if all_rows {
        (BENCH, 2)
    } else {
        (BENCH_ONE_LANE, 1)
    };
    let exits = prepare(project, &qemu, &el2, "bench", exits, cpus)?;
    let boot = prepare(project, &qemu, &el2, "bench-boot", BOOT, 1)?;
    let mut others = Vec::new();
    if all_rows {
        others.push(prepare(project, &qemu, &el2, "bench-shared", SHARED, 2)?);
        others.push(prepare(
            project,
            &qemu,
            &el2,
            "bench-contended",
            CONTENDED,
            2,
        )?);
    }
    let step = Step::begin("counting instructions");
    let measured = measure(&exits, &others, &boot, &el2);
    match &measured {
        Ok(_) => step.done(),
        Err(_) => step.failed(),
    }
    let figures = judge::known(measured?, all_rows);
    let path = project.root.join("xtask/bench-baseline.json");
    if args.update_baseline {
        if !all_rows {
            bail!(
                "a baseline has all rows, and QEMU {} measures the synchronous ones only",
                qemu.version
            );
        }
        Baseline::of(&figures, &qemu.version.to_string(), CPU).write(&path)?;
        say::note(&format!("{} is the new baseline", project.shown(&path)));
    }
    let baseline = Baseline::read(&path)?;
    if args.json {
        let json = judge::json(&figures, &qemu.version.to_string(), CPU);
        say::answer(&format!("{json:#}"));
    } else {
        say::answer(&table::render(&figures, baseline.as_ref()));
    }
    let verdicts = judge::all(&figures, baseline.as_ref(), all_rows);
    Ok(report(&verdicts, baseline.is_some()))
}

/// QEMU 10 unless told otherwise; where it cannot be had, the system's.
fn emulator(project: &Project, args: &BenchArgs) -> anyhow::Result<Qemu> {
    if let Some(asked) = &args.qemu.qemu {
        return Qemu::ensure(project, Some(asked));
    }
    match Qemu::ensure_ten(project) {
        Ok(qemu) => Ok(qemu),
        Err(error) => {
            say::note(&format!("{error:#}"));
            Qemu::ensure(project, None)
        }
    }
}

fn measure(
    exits: &Launch,
    others: &[Launch],
    boot: &Launch,
    el2: &Built,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for launch in core::iter::once(exits).chain(others) {
        let (lines, _) = run(launch)?;
        let before = figures.len();
        figures.extend(lines.iter().filter_map(|line| parse::figure(line)));
        if figures.len() == before {
            bail!("the bench guest printed no figure:\n{}", tail(&lines));
        }
    }
    let (lines, outcome) = run(boot)?;
    let Some(ticks) = outcome.boot_ticks() else {
        bail!(
            "the hypervisor did not say how long its boot took:\n{}",
            tail(&lines)
        )
    };
    figures.push(Figure {
        name: rows::BOOT.to_owned(),
        value: ticks,
    });
    figures.extend(outcome.memory_ticks().map(|ticks| Figure {
        name: rows::SCRUB.to_owned(),
        value: ticks / BOOT_MIB,
    }));
    figures.push(Figure {
        name: rows::SIZE.to_owned(),
        value: el2.text_rodata,
    });
    Ok(figures)
}

/// A machine that counts instructions, ready to start.
fn prepare(
    project: &Project,
    qemu: &Qemu,
    el2: &Built,
    name: &str,
    config: &str,
    cpus: u32,
) -> anyhow::Result<Launch> {
    let machine = Machine::from_text(project, name, config, Profile::Release);
    let compiled = machine.compile(Asked {
        cpus: Some(cpus),
        ..Asked::default()
    })?;
    let files = build::place(&project.output(name.as_ref()), el2, &compiled.bundle)?;
    Ok(Launch {
        qemu: qemu.clone(),
        cpu: CPU.to_owned(),
        smp: cpus,
        memory: format!("{}M", compiled.memory_mib),
        icount: true,
        files,
        extra: Vec::new(),
        input: Input::None,
        limit: Some(LIMIT),
    })
}

/// What a run has said.
#[derive(Default)]
struct Seen {
    outcome: Outcome,
    lines: Vec<String>,
}

impl Viewer for Seen {
    fn line(&mut self, line: &str) -> bool {
        self.outcome.take(line);
        self.lines.push(line.to_owned());
        self.outcome.is_over()
    }

    fn unfinished(&mut self, _: &str) {}
}

/// Runs a machine to its end and returns its console.
fn run(launch: &Launch) -> anyhow::Result<(Vec<String>, Outcome)> {
    let mut seen = Seen::default();
    let ending = launch.watch(&mut seen, &[])?;
    let Seen { outcome, lines } = seen;
    if !outcome.is_success() || ending == Ending::TimedOut {
        bail!(
            "the machine did not end well ({ending:?}):\n{}",
            tail(&lines)
        );
    }
    Ok((lines, outcome))
}

fn tail(lines: &[String]) -> String {
    lines
        .get(lines.len().saturating_sub(30)..)
        .unwrap_or_default()
        .join("\n")
}

fn report(verdicts: &[Verdict], has_baseline: bool) -> ExitCode {
    if !has_baseline {
        say::note("there is no baseline yet: `cargo xtask bench --update-baseline` makes one");
    }
    for verdict in verdicts {
        match verdict {
            Verdict::Better(_) | Verdict::Owed(..) => say::note(&verdict.to_string()),
            Verdict::OverLimit(..)
            | Verdict::Paid(_)
            | Verdict::Grown(..)
            | Verdict::Vanished(_) => say::error(&verdict.to_string()),
        }
    }
    if verdicts.iter().any(Verdict::is_failure) {
        return ExitCode::FAILURE;
    }
    let owed = verdicts
        .iter()
        .filter(|one| matches!(one, Verdict::Owed(..)));
    match owed.count() {
        0 => say::note("bench: every figure is within its limit"),
        n => say::note(&format!(
            "bench: nothing has grown; {n} figures are over their limits, as is known"
        )),
    }
    ExitCode::SUCCESS
}
