//! What an I/O costs Linux through a virtio device, in instructions of all CPUs together: the median of a thousand.
//!
//! What it costs without a hypervisor is the yardstick's: QEMU's own devices are served by other threads, whose pace the
//! guest's waiting would count.

use anyhow::bail;

use super::judge::Figure;
use super::leaf;
use super::machines::{self, Rig};
use super::parse;
use crate::debian::Debian;
use crate::run::launch::Launch;

const DISK: &str = "[[disk]]\nname = \"root\"\nsize = \"64M\"\n";
const NETWORK: &str = "[[network]]\nname = \"lan\"\necho = \"10.0.2.99\"\n";

/// A guest that measures, but for its initrd.
fn guest(name: &str, role: &str, devices: &str) -> String {
    format!(
        "[[guest]]\nname = \"{name}\"\nkernel = \"debian\"\nmemory = \"256M\"\nlanes = 1\nnetworks = [\"lan\"]\n{devices}cmdline = \"console=ttyAMA0 quiet loglevel=0 xdv.bench={role}\"\n"
    )
}

/// The machines, ready to start.
pub struct Machines {
    /// A guest with every device, and two guests that talk.
    linux: [Launch; 2],
    /// The guest that measures exits.
    exits: Launch,
}

/// Makes the machines, with a hypervisor that has virtio.
pub fn prepare(rig: &Rig<'_>, debian: &Debian) -> anyhow::Result<Machines> {
    let initrd = debian.bench(rig.project)?;
    let initrd = format!("initrd = {:?}\n", initrd.display().to_string());
    let devices = "disks = [\"root\"]\nvsock = 3\nconsole = \"virtio\"\n";
    leaf::check(&rig.el2.elf)?;
    let alone = [DISK, NETWORK, &guest("bench", "alone", devices), &initrd].concat();
    let (ask, serve) = (guest("bench", "ask", ""), guest("other", "serve", ""));
    let pair = [NETWORK, &ask, &initrd, &serve, &initrd].concat();
    Ok(Machines {
        linux: [
            rig.prepare("bench-virtio", &alone, 1)?,
            rig.prepare("bench-virtio-pair", &pair, 1)?,
        ],
        exits: rig.prepare("bench-virtio-exits", machines::BENCH, 2)?,
    })
}

/// Runs the ones with Linux.
pub fn measure(machines: &Machines) -> anyhow::Result<Vec<Figure>> {
    let figures = machines.linux.iter().map(figures);
    Ok(figures.collect::<anyhow::Result<Vec<_>>>()?.concat())
}

/// What exits cost on the EL2 with virtio, which looks for virtio's registers first.
pub fn exits(machines: &Machines) -> anyhow::Result<Vec<Figure>> {
    figures(&machines.exits)
}

fn figures(launch: &Launch) -> anyhow::Result<Vec<Figure>> {
    let seen = machines::run(launch)?;
    let figures: Vec<Figure> = seen
        .lines
        .iter()
        .filter_map(|line| parse::figure(line))
        .collect();
    if figures.is_empty() {
        bail!("the guest printed no figure:\n{}", seen.tail());
    }
    Ok(figures)
}
