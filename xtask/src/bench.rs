//! `cargo xtask bench`: what a VM exit costs, in instructions, beside the limits and the peers.
//!
//! The machine counts instructions instead of time, so that a rerun gives the same figures to the last digit.

mod baseline;
mod judge;
mod leaf;
mod linux;
mod machines;
mod parse;
mod rows;
mod table;
mod trace;
mod virtio;

use std::process::ExitCode;

use anyhow::bail;

use self::baseline::Baseline;
use self::judge::{Figure, Scope, Verdict};
use self::machines::{
    BENCH, BENCH_ONE_LANE, BOOT, BOOT_MIB, CONTENDED, CPU, Rig, SHARED, SWITCH, Seen, VIRTIO, run,
};
use self::trace::Traced;
use crate::build::El2;
use crate::cli::BenchArgs;
use crate::debian::{Debian, Flavour};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::run::launch::Launch;
use crate::say::{self, Step};

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
    let rig = Rig::new(project, qemu, El2::Lean)?;
    leaf::check(&rig.el2.elf)?;
    // All machines first: building and counting would draw over each other.
    let machines = Machines::prepare(&rig, all_rows)?;
    let scope = Scope {
        interrupts: all_rows,
        linux: machines.linux.is_some(),
        virtio: machines.virtio.is_some(),
    };
    let step = Step::begin("counting instructions");
    let measured = measure(machines);
    match &measured {
        Ok(_) => step.done(),
        Err(_) => step.failed(),
    }
    let (figures, with_virtio) = measured?;
    let figures = judge::known(figures, scope);
    let version = rig.qemu.version.to_string();
    let path = project.root.join("xtask/bench-baseline.json");
    if args.update_baseline {
        if scope != Scope::ALL {
            bail!("a baseline has all rows, and some were not measured");
        }
        Baseline::of(&figures, &version, CPU).write(&path)?;
        say::note(&format!("{} is the new baseline", project.shown(&path)));
    }
    let baseline = Baseline::read(&path)?;
    if args.json {
        say::answer(&format!("{:#}", judge::json(&figures, &version, CPU)));
    } else {
        say::answer(&table::render(&figures, baseline.as_ref()));
    }
    let mut verdicts = judge::all(&figures, baseline.as_ref(), scope);
    verdicts.extend(judge::with_virtio(&with_virtio));
    Ok(report(&verdicts, baseline.is_some()))
}

/// The machines that are measured, and how large their hypervisors are.
struct Machines {
    sizes: Vec<Figure>,
    exits: Vec<Launch>,
    boot: Launch,
    linux: Option<linux::Machines>,
    virtio: Option<virtio::Machines>,
    traced: Vec<Traced>,
}

impl Machines {
    fn prepare(rig: &Rig<'_>, all_rows: bool) -> anyhow::Result<Self> {
        let boot = rig.prepare("bench-boot", BOOT, 1)?;
        let mut sizes = vec![Figure::new(rows::SIZE, rig.el2.text_rodata)];
        if !all_rows {
            return Ok(Self {
                sizes,
                exits: vec![rig.prepare("bench", BENCH_ONE_LANE, 1)?],
                boot,
                linux: None,
                virtio: None,
                traced: Vec::new(),
            });
        }
        let exits = [
            ("bench", BENCH),
            ("bench-shared", SHARED),
            ("bench-contended", CONTENDED),
        ];
        let exits = exits.map(|(name, config)| rig.prepare(name, config, 2));
        let mut exits = exits.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let with_virtio = Rig::new(rig.project, rig.qemu.clone(), El2::Virtio)?;
        exits.push(with_virtio.prepare("bench-slots", VIRTIO, 1)?);
        exits.push(with_virtio.prepare("bench-switch", SWITCH, 1)?);
        sizes.push(Figure::new(rows::SIZE_VIRTIO, with_virtio.el2.text_rodata));
        // Only what cannot be fetched is left out: what does not build is an error like any other.
        let debian = Debian::ensure(rig.project, Flavour::Cloud).inspect_err(|error| {
            say::note(&format!("the rows of Linux are left out: {error:#}"));
        });
        let linux = debian.as_ref().ok().map(|_| linux::prepare(rig));
        let virtio = debian
            .as_ref()
            .ok()
            .map(|one| virtio::prepare(&with_virtio, one));
        Ok(Self {
            sizes,
            exits,
            boot,
            linux: linux.transpose()?,
            virtio: virtio.transpose()?,
            traced: trace::prepare(rig)?,
        })
    }
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

/// The figures, and those of exits on the EL2 with virtio.
fn measure(machines: Machines) -> anyhow::Result<(Vec<Figure>, Vec<Figure>)> {
    let (mut figures, mut with_virtio) = (machines.sizes, Vec::new());
    for launch in &machines.exits {
        let seen = run(launch)?;
        let before = figures.len();
        figures.extend(seen.lines.iter().filter_map(|line| parse::figure(line)));
        if figures.len() == before {
            bail!("the bench guest printed no figure:\n{}", seen.tail());
        }
    }
    figures.extend(boot(&run(&machines.boot)?)?);
    if let Some(mut linux) = machines.linux {
        figures.extend(linux::measure(&mut linux)?);
    }
    if let Some(virtio) = machines.virtio {
        figures.extend(virtio::measure(&virtio)?);
        with_virtio = virtio::exits(&virtio)?;
    }
    for mut traced in machines.traced {
        let rows = traced.run()?;
        figures
            .iter_mut()
            .for_each(|figure| figure.traced_as(&rows));
    }
    Ok((figures, with_virtio))
}

/// The rows of EL2's own boot.
fn boot(seen: &Seen) -> anyhow::Result<[Figure; 2]> {
    let ticks = seen.outcome.boot_ticks().zip(seen.outcome.memory_ticks());
    let Some((boot, memory)) = ticks else {
        bail!(
            "the hypervisor did not say how long its boot took:\n{}",
            seen.tail()
        )
    };
    Ok([
        Figure::new(rows::BOOT, boot),
        Figure::new(rows::SCRUB, memory / BOOT_MIB),
    ])
}

fn report(verdicts: &[Verdict], has_baseline: bool) -> ExitCode {
    if !has_baseline {
        say::note("there is no baseline yet: `cargo xtask bench --update-baseline` makes one");
    }
    for verdict in verdicts {
        match verdict {
            Verdict::Better(_) => say::note(&verdict.to_string()),
            Verdict::OverLimit(..) | Verdict::Grown(..) | Verdict::Vanished(_) => {
                say::error(&verdict.to_string());
            }
        }
    }
    if verdicts.iter().any(Verdict::is_failure) {
        return ExitCode::FAILURE;
    }
    say::note("bench: every figure is within its limit");
    ExitCode::SUCCESS
}
