//! How much longer Linux takes to its first process than it would without a hypervisor.
//!
//! Debian's own kernel on one CPU, quiet, with an `/init` that reads the counter first of all. Once on QEMU's `virt` at EL1,
//! with the device tree and the memory that the guest has; then as a guest that owns its CPU, and as one that shares it.

mod bare;
mod elf;
mod init;

use std::fs;
use std::process::Command;

use anyhow::{Context, bail};

use super::judge::Figure;
use super::machines::{self, CPU, LIMIT, Rig, SETTLED, Seen};
use super::rows;
use crate::run::keys::Input;
use crate::run::launch::{self, Ending, Launch};
use crate::run::session::Viewer;

/// The guest, but for the initrd and its lane.
const GUEST: &str = "[[guest]]\nname = \"linux\"\nkernel = \"debian\"\nmemory = \"256M\"\ncmdline = \"console=ttyAMA0 quiet loglevel=0\"\nconsole = \"pl011\"\n";
const OWNED: &str = "lanes = { count = 1, dedicated = true }\n";
const SHARED: &str = "lanes = 1\n";

/// The machines, ready to start.
pub struct Machines {
    bare: Command,
    owned: Launch,
    shared: Launch,
}

/// Makes the machines, with Debian's kernel from the cache.
pub fn prepare(rig: &Rig<'_>) -> anyhow::Result<Machines> {
    let folder = rig.project.output("bench-linux".as_ref());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let initrd = folder.join("init.cpio");
    fs::write(&initrd, init::initramfs()?)?;
    let initrd = format!("initrd = {:?}\n", initrd.display().to_string());
    let owned = rig.prepare("bench-linux", &[GUEST, &initrd, OWNED].concat(), 1)?;
    let shared = rig.prepare("bench-linux-shared", &[GUEST, &initrd, SHARED].concat(), 1)?;
    let bundle = fs::read(&owned.files.bundle)?;
    let mut bare = bare::machine(&rig.qemu, CPU, &bundle, &folder.join("bare.elf"))?;
    bare.args(SETTLED);
    Ok(Machines {
        bare,
        owned,
        shared,
    })
}

/// Runs them. Nothing is subtracted for the few instructions of QEMU's reset, nor for what EL2 does between its last line
/// and the guest's first instruction.
pub fn measure(machines: &mut Machines) -> anyhow::Result<Vec<Figure>> {
    let bare = bare_instructions(&mut machines.bare)?;
    let mut figures = Vec::new();
    for (name, launch) in [
        (rows::LINUX, &machines.owned),
        (rows::LINUX_SHARED, &machines.shared),
    ] {
        let seen = machines::run(launch)?;
        let boot = seen.outcome.boot_ticks().zip(seen.outcome.memory_ticks());
        let said = seen
            .lines
            .iter()
            .find_map(|line| init::reading(line.strip_prefix("linux | ")?));
        let (Some((boot, memory)), Some(said)) = (boot, said) else {
            bail!("Linux did not come to `/init`:\n{}", seen.tail())
        };
        let guest = said.saturating_sub(boot).saturating_sub(memory);
        figures.push(Figure::ratio(name, guest, bare));
    }
    Ok(figures)
}

fn bare_instructions(command: &mut Command) -> anyhow::Result<u64> {
    let mut seen = Bare(Seen::default());
    let ending = launch::watch(command, Input::None, Some(LIMIT), &mut seen, &[])?;
    let said = seen.0.lines.iter().find_map(|line| init::reading(line));
    match (said, ending) {
        (Some(said), Ending::ByItself) => Ok(said),
        (_, ending) => bail!(
            "Linux without a hypervisor did not end well ({ending:?}):\n{}",
            seen.0.tail()
        ),
    }
}

/// The console of a machine without EL2: its end is QEMU's.
struct Bare(Seen);

impl Viewer for Bare {
    fn line(&mut self, line: &str) -> bool {
        self.0.lines.push(line.to_owned());
        false
    }

    fn unfinished(&mut self, _: &str) {}
}
