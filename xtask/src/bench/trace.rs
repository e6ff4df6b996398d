//! What EL2 does in an operation that costs more on silicon than its share of instructions: accesses to system registers,
//! barriers, operations on TLBs and caches.
//!
//! QEMU logs every instruction that EL2 executes, and the marks that the bench guest leaves around its spans. Machines of their own,
//! because this is slow: each operation a few times only.

mod kind;
mod tally;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use configs_plan::Bundle;

use self::tally::{Code, Mark, Tally};
use super::judge::Figure;
use super::machines::{LIMIT, Rig, TRACED};
use super::parse;
use crate::process;
use crate::run::launch::Launch;
use crate::say;

/// Where QEMU's `virt` puts the hypervisor's Image.
const EL2_BASE: u64 = 0x4020_0000;
/// How often the time is looked at.
const TICK: Duration = Duration::from_millis(20);

/// What EL2 does in an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    /// Accesses to system registers.
    pub sysreg: u64,
    /// Barriers.
    pub barrier: u64,
    /// Operations on TLBs, caches and predictors.
    pub tlb: u64,
}

impl Work {
    /// The counts with their names.
    pub const fn parts(&self) -> [(&'static str, u64); 3] {
        [
            ("sysreg", self.sysreg),
            ("barrier", self.barrier),
            ("tlb", self.tlb),
        ]
    }
}

/// A machine to trace, ready to start.
pub struct Traced {
    command: Command,
    count: u64,
    el2: Code,
    guest: Code,
}

/// The machines of all rows that a guest measures.
pub fn prepare(rig: &Rig<'_>) -> anyhow::Result<Vec<Traced>> {
    let one = |(name, config, count): &(&str, &str, u64)| {
        let launch = rig.prepare(name, config, 2)?;
        Traced::new(rig, &launch, *count)
    };
    TRACED.iter().map(one).collect()
}

impl Traced {
    fn new(rig: &Rig<'_>, launch: &Launch, count: u64) -> anyhow::Result<Self> {
        let el2 = Code::new(EL2_BASE, &fs::read(&rig.el2.image)?);
        let bundle = fs::read(&launch.files.bundle)?;
        let bundle = Bundle::open(&bundle).map_err(|error| anyhow!("{error}"))?;
        let guest = bundle.plan().guests().next();
        let guest = guest.context("the bundle has no guest")?;
        let kernel = guest.loads().find(|load| load.ipa == guest.entry());
        let kernel = kernel.and_then(|load| bundle.segment(&load));
        let guest = Code::new(guest.entry(), kernel.context("the guest has no kernel")?);
        let mut ranges = vec![format!("{EL2_BASE:#x}..{:#x}", el2.end() - 1)];
        let marks = guest.words().filter(|(_, word)| Mark::of(*word).is_some());
        ranges.extend(marks.map(|(address, _)| format!("{address:#x}+4")));
        let mut command = launch.command();
        command
            .args(["-accel", "tcg,one-insn-per-tb=on"])
            .args(["-d", "exec,nochain"])
            .args(["-dfilter", &ranges.join(",")]);
        Ok(Self {
            command,
            count,
            el2,
            guest,
        })
    }

    /// Runs it: what the guest measured meanwhile, with what EL2 did.
    pub fn run(&mut self) -> anyhow::Result<Vec<Figure>> {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .with_context(|| format!("cannot start `{}`", process::shown(&self.command)))?;
        let (console, log) = (child.stdout.take(), child.stderr.take());
        let mut tally = Tally::new(&self.el2, &self.guest);
        let (ended, console) = thread::scope(|scope| {
            let console = scope.spawn(|| text(console));
            let log = scope.spawn(|| follow(log, &mut tally));
            let ended = wait(&mut child);
            let _ = log.join();
            (ended, console.join().unwrap_or_default())
        });
        ensure!(ended?, "a traced machine did not end:\n{console}");
        let (rows, executed) = tally.finish();
        ensure!(executed > 0, "QEMU logged no instruction of EL2");
        let mut figures: Vec<Figure> = console.lines().filter_map(parse::figure).collect();
        ensure!(
            figures.len() == rows.len(),
            "{} rows are marked, and {} were said:\n{console}",
            rows.len(),
            figures.len()
        );
        for (figure, spans) in figures.iter_mut().zip(&rows) {
            figure.work = per_operation(spans, self.count);
            ensure!(
                figure.work.is_some(),
                "no span of {} is marked",
                figure.name
            );
        }
        Ok(figures)
    }
}

/// Of as many spans as operations the median, as not every span is undisturbed; else all spans together hold the operations.
fn per_operation(spans: &[Work], count: u64) -> Option<Work> {
    let all = |part: fn(&Work) -> u64| -> Vec<u64> {
        let mut values: Vec<u64> = spans.iter().map(part).collect();
        values.sort_unstable();
        values
    };
    let one = |values: Vec<u64>| {
        if values.len() as u64 == count {
            values.get(values.len() / 2).copied()
        } else {
            let sum: u64 = values.iter().sum();
            sum.checked_add(count / 2)?.checked_div(count)
        }
    };
    if spans.is_empty() {
        return None;
    }
    Some(Work {
        sysreg: one(all(|work| work.sysreg))?,
        barrier: one(all(|work| work.barrier))?,
        tlb: one(all(|work| work.tlb))?,
    })
}

fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn follow(stream: Option<impl Read>, tally: &mut Tally<'_>) {
    let Some(stream) = stream else {
        return;
    };
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line);
        if !tally.line(text.trim_end()) {
            say::note(text.trim_end());
        }
        line.clear();
    }
}

/// Waits for its end; says whether it came by itself, and well.
fn wait(child: &mut Child) -> anyhow::Result<bool> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(sysreg: u64, barrier: u64, tlb: u64) -> Work {
        Work {
            sysreg,
            barrier,
            tlb,
        }
    }

    #[test]
    fn a_span_may_hold_one_operation_or_all() {
        assert_eq!(per_operation(&[], 80), None);
        assert_eq!(per_operation(&[work(400, 80, 39)], 80), Some(work(5, 1, 0)));
        let spans = [work(9, 2, 0), work(5, 1, 0), work(5, 1, 4)];
        assert_eq!(per_operation(&spans, 3), Some(work(5, 1, 0)));
        // Two spans that hold 79 operations and one.
        let spans = [work(79 * 4, 79, 0), work(6, 1, 0)];
        assert_eq!(per_operation(&spans, 80), Some(work(4, 1, 0)));
    }
}
