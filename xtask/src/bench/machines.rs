//! The machines that the bench starts, and what they say.

use std::time::Duration;

use anyhow::bail;

use crate::build::{self, Built, El2, Profile};
use crate::machine::{Asked, Machine};
use crate::project::Project;
use crate::qemu::Qemu;
use crate::run::keys::Input;
use crate::run::launch::{Ending, Launch};
use crate::run::outcome::Outcome;
use crate::run::session::Viewer;

/// One instruction is one nanosecond under icount, and this makes it one tick: no figure is rounded to 16.
pub const CPU: &str = "cortex-a57,cntfrq=1000000000";
/// The calendar goes with the counter, and the random numbers are the same each time: a figure is one to the last digit.
pub const SETTLED: [&str; 4] = ["-rtc", "base=2026-01-01,clock=vm", "-seed", "1"];
/// A bench that takes longer hangs.
pub const LIMIT: Duration = Duration::from_secs(1800);

/// The guest that measures.
pub const BENCH: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\nmemory = \"64M\"\nlanes = { count = 2, dedicated = true }\n";
/// The same on one lane: QEMU before 10 never leaves a spin of one CPU for another under icount.
pub const BENCH_ONE_LANE: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\nmemory = \"64M\"\nlanes = { count = 1, dedicated = true }\n";
/// A guest whose lanes are shared, each alone on its CPU for the time being.
pub const SHARED: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\ncmdline = \"rows=shared\"\nmemory = \"64M\"\nlanes = 2\n";
/// The same beside a guest that never lets go of either CPU.
pub const CONTENDED: &str = r#"
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
/// A guest with a virtio device, for what its accesses cost by themselves. Its EL2 is the one that has virtio.
pub const VIRTIO: &str = r#"
[[disk]]
name = "root"
size = "1M"

[[guest]]
name = "bench"
kernel = "test:bench"
cmdline = "rows=virtio"
memory = "64M"
lanes = { count = 1, dedicated = true }
disks = ["root"]
"#;
/// A guest with two cards on one network, for what a frame's way between them costs.
pub const SWITCH: &str = r#"
[[network]]
name = "lan"

[[guest]]
name = "bench"
kernel = "test:switch"
memory = "16M"
lanes = { count = 1, dedicated = true }
networks = [
    { name = "lan", mac = "02:00:00:00:00:01" },
    { name = "lan", mac = "02:00:00:00:00:02" },
]
"#;
/// The memory of [`BOOT`].
pub const BOOT_MIB: u64 = 4;
/// The machine of the row `el2_entry_to_first_guest`.
pub const BOOT: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\nmemory = \"4M\"\nlanes = { count = 1, dedicated = true }\n";

/// The machines that are traced, with how often each does an operation.
pub const TRACED: [(&str, &str, u64); 3] = [
    ("bench-trace", TRACE, 80),
    ("bench-trace-shared", TRACE_SHARED, 20),
    ("bench-trace-contended", TRACE_CONTENDED, 9),
];
/// Those above with little memory and few operations: every instruction of EL2 is a line.
const TRACE: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\ncmdline = \"count=80\"\nmemory = \"4M\"\nlanes = { count = 2, dedicated = true }\n";
const TRACE_SHARED: &str = "[[guest]]\nname = \"bench\"\nkernel = \"test:bench\"\ncmdline = \"rows=shared count=20\"\nmemory = \"4M\"\nlanes = 2\n";
const TRACE_CONTENDED: &str = r#"
[[guest]]
name = "bench"
kernel = "test:bench"
cmdline = "rows=contended count=9 after_ms=3"
memory = "4M"
lanes = 2
budget = "50%"
period = "1ms"

[[guest]]
name = "other"
kernel = "test:bench"
cmdline = "rows=none run_ms=60"
memory = "4M"
lanes = 2
"#;

/// What every machine of the bench has in common.
pub struct Rig<'a> {
    /// Where things are.
    pub project: &'a Project,
    /// The emulator.
    pub qemu: Qemu,
    /// The hypervisor.
    pub el2: Built,
}

impl<'a> Rig<'a> {
    /// With a hypervisor that is built for it.
    pub fn new(project: &'a Project, qemu: Qemu, el2: El2) -> anyhow::Result<Self> {
        let el2 = build::hypervisor(project, el2, Profile::Release)?;
        Ok(Self { project, qemu, el2 })
    }

    /// A machine that counts instructions, ready to start.
    pub fn prepare(&self, name: &str, config: &str, cpus: u32) -> anyhow::Result<Launch> {
        let machine = Machine::from_text(self.project, name, config, Profile::Release);
        let compiled = machine.compile(Asked {
            cpus: Some(cpus),
            ..Asked::default()
        })?;
        let files = build::place(
            &self.project.output(name.as_ref()),
            &self.el2,
            &compiled.bundle,
        )?;
        Ok(Launch {
            qemu: self.qemu.clone(),
            cpu: CPU.to_owned(),
            smp: cpus,
            memory: format!("{}M", compiled.memory_mib),
            icount: true,
            files,
            extra: SETTLED.map(str::to_owned).to_vec(),
            input: Input::None,
            limit: Some(LIMIT),
        })
    }
}

/// What a run has said.
#[derive(Debug, Default)]
pub struct Seen {
    /// How it went.
    pub outcome: Outcome,
    /// Its console.
    pub lines: Vec<String>,
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
pub fn run(launch: &Launch) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let ending = launch.watch(&mut seen, &[])?;
    if !seen.outcome.is_success() || ending == Ending::TimedOut {
        bail!(
            "the machine did not end well ({ending:?}):\n{}",
            seen.tail()
        );
    }
    Ok(seen)
}

impl Seen {
    /// Its last words.
    pub fn tail(&self) -> String {
        let lines = &self.lines;
        lines
            .get(lines.len().saturating_sub(30)..)
            .unwrap_or_default()
            .join("\n")
    }
}
