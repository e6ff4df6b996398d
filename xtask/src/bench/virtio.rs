//! What an I/O costs Linux through a virtio device, in instructions of all CPUs together: the median of a thousand.
//!
//! The machine without a hypervisor has QEMU's own devices in the same slots, which cost it nothing: what XDV adds is its
//! device, and the exits to it.

use std::fs;
use std::process::Command;

use anyhow::{Context, bail};

use super::judge::Figure;
use super::linux::{Bare, bare};
use super::machines::{self, CPU, LIMIT, Rig, SETTLED};
use super::parse;
use crate::build::{self, El2, Profile};
use crate::debian::{Debian, Flavour};
use crate::run::keys::Input;
use crate::run::launch::{self, Ending, Launch};

const DISK: &str = "[[disk]]\nname = \"root\"\nsize = \"64M\"\n";
const NETWORK: &str = "[[network]]\nname = \"lan\"\necho = \"10.0.2.99\"\n";

/// A guest that measures, but for its initrd.
fn guest(name: &str, role: &str, devices: &str) -> String {
    format!(
        "[[guest]]\nname = \"{name}\"\nkernel = \"debian\"\nmemory = \"256M\"\nlanes = 1\nnetworks = [\"lan\"]\n{devices}cmdline = \"console=ttyAMA0 quiet loglevel=0 xdv.bench={role}\"\n"
    )
}

/// What QEMU has in the slots of the guest that is alone: console, disk, network card, random numbers.
const BARE: [&str; 16] = [
    "-global",
    "virtio-mmio.force-legacy=false",
    "-device",
    "virtio-serial-device,bus=virtio-mmio-bus.0",
    "-chardev",
    "null,id=c0",
    "-device",
    "virtconsole,chardev=c0",
    "-drive",
    "driver=null-co,size=64M,read-zeroes=on,if=none,id=d0",
    "-device",
    "virtio-blk-device,drive=d0,bus=virtio-mmio-bus.1",
    "-netdev",
    "user,id=n0,restrict=on",
    "-device",
    "virtio-net-device,netdev=n0,bus=virtio-mmio-bus.2",
];

/// The machines, ready to start.
pub struct Machines {
    bare: Command,
    alone: Launch,
    pair: Launch,
}

/// Makes the machines.
pub fn prepare(rig: &Rig<'_>) -> anyhow::Result<Machines> {
    let debian = Debian::ensure(rig.project, Flavour::Cloud)?;
    let initrd = debian.bench(rig.project)?;
    let initrd = format!("initrd = {:?}\n", initrd.display().to_string());
    let rig = Rig {
        project: rig.project,
        qemu: rig.qemu.clone(),
        el2: build::hypervisor(rig.project, El2::Virtio, Profile::Release)?,
    };
    let devices = "disks = [\"root\"]\nvsock = 3\nconsole = \"virtio\"\n";
    let alone = [DISK, NETWORK, &guest("bench", "alone", devices), &initrd].concat();
    let (ask, serve) = (guest("bench", "ask", ""), guest("other", "serve", ""));
    let pair = [NETWORK, &ask, &initrd, &serve, &initrd].concat();
    let alone = rig.prepare("bench-virtio", &alone, 1)?;
    let pair = rig.prepare("bench-virtio-pair", &pair, 1)?;
    let folder = rig.project.output("bench-linux".as_ref());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let bundle = fs::read(&alone.files.bundle)?;
    let mut bare = bare::machine(&rig.qemu, CPU, &bundle, &folder.join("bare-virtio.elf"))?;
    bare.args(SETTLED).args(BARE);
    Ok(Machines { bare, alone, pair })
}

/// Runs them.
pub fn measure(machines: &mut Machines) -> anyhow::Result<Vec<Figure>> {
    let mut seen = Bare::default();
    let ending = launch::watch(&mut machines.bare, Input::None, Some(LIMIT), &mut seen, &[])?;
    if ending != Ending::ByItself {
        bail!(
            "Linux without a hypervisor did not end well ({ending:?}):\n{}",
            seen.0.tail()
        );
    }
    let of = |line: &String| parse::figure(&format!("bench | {line}"));
    let bare: Vec<Figure> = seen.0.lines.iter().filter_map(of).collect();
    let mut figures = Vec::new();
    for launch in [&machines.alone, &machines.pair] {
        let seen = machines::run(launch)?;
        let measured: Vec<Figure> = seen
            .lines
            .iter()
            .filter_map(|line| parse::figure(line))
            .collect();
        if measured.is_empty() {
            bail!("the guest printed no figure:\n{}", seen.tail());
        }
        figures.extend(measured);
    }
    for figure in &mut figures {
        let without = bare.iter().find(|bare| bare.name == figure.name);
        if let Some(without) = without {
            figure.value = figure.value.saturating_sub(without.value);
        }
    }
    Ok(figures)
}
