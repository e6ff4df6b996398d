//! The emulated machine's own disks and network card, for EL2 to hand on.

use std::fs;
use std::path::Path;

use configs_compiler::Summary;

use crate::Refused;
use crate::cli::RunArgs;

/// QEMU's virtio devices as virtio 1.3 has them: version 2 of virtio-mmio.
const MODERN: [&str; 2] = ["-global", "virtio-mmio.force-legacy=false"];

/// What QEMU is told of the devices that the command line and the machine file ask for.
///
/// # Errors
/// [`Refused`] when the machine file wants disks that nobody gave.
pub fn arguments(args: &RunArgs, machine: &Summary) -> anyhow::Result<Vec<String>> {
    let wanted = usize::try_from(machine.machine_disks()).unwrap_or(usize::MAX);
    let given = args.disks.len();
    if given < wanted {
        let disks = if wanted == 1 { "disk" } else { "disks" };
        let text = format!(
            "error: this machine file wants {wanted} {disks} of the machine, and {given} were given\n\
             help: name a raw image for each: `--disk FILE`, the first for `machine = 0`; `truncate -s 1G FILE` makes an empty one"
        );
        return Err(Refused(text).into());
    }
    let mut all = Vec::new();
    for (nth, file) in args.disks.iter().enumerate() {
        all.extend(disk(nth, file)?);
    }
    let net = args.net.as_deref();
    let usual = machine.has_uplink().then_some("user");
    if let Some(net) = net.or(usual).filter(|net| *net != "none") {
        // Behind the disks: they are counted from the first slot on.
        all.extend([
            "-netdev".to_owned(),
            format!("{net},id=net0"),
            "-device".to_owned(),
            format!("virtio-net-device,netdev=net0,bus=virtio-mmio-bus.{given}"),
        ]);
    }
    if !all.is_empty() {
        all.splice(0..0, MODERN.map(str::to_owned));
    }
    Ok(all)
}

/// One disk. Its place is said, because QEMU by itself begins at the last slot.
fn disk(nth: usize, file: &Path) -> anyhow::Result<[String; 4]> {
    let shown = file.display();
    match fs::metadata(file) {
        Err(error) => {
            return Err(Refused(format!("error: cannot read the disk {shown}: {error}")).into());
        }
        Ok(metadata) if metadata.is_dir() => {
            return Err(Refused(format!("error: the disk {shown} is a directory")).into());
        }
        Ok(_) => {}
    }
    // A comma in a value is written twice (QEMU's manual, "Device URL Syntax").
    let path = shown.to_string().replace(',', ",,");
    Ok([
        "-drive".to_owned(),
        format!("file={path},if=none,format=raw,id=disk{nth}"),
        "-device".to_owned(),
        format!("virtio-blk-device,drive=disk{nth},bus=virtio-mmio-bus.{nth}"),
    ])
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use configs_compiler::{DiskSummary, NetworkSummary};

    use super::*;
    use crate::cli::{Cli, Command};

    fn told(words: &[&str], disks: u32, has_uplink: bool) -> Result<String, String> {
        let all = ["xtask", "run", "x.toml"].iter().chain(words);
        let Ok(Cli {
            command: Command::Run(args),
            ..
        }) = Cli::try_parse_from(all)
        else {
            unreachable!("it is `run`")
        };
        let disk = |unit| DiskSummary {
            name: "d".to_owned(),
            size: None,
            what: String::new(),
            unit: Some(unit),
            users: Vec::new(),
        };
        let machine = Summary {
            cpus_needed: 1,
            cpus_least: 1,
            memory_needed: 0,
            cpus_stated: None,
            memory_stated: None,
            guests: Vec::new(),
            disks: (0..disks).map(disk).collect(),
            networks: vec![NetworkSummary {
                name: "n".to_owned(),
                has_uplink,
                cards: Vec::new(),
            }],
        };
        let told = arguments(&args, &machine);
        told.map(|words| words.join(" "))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_machine_has_what_is_asked_for_in_the_order_of_its_slots() {
        assert_eq!(told(&[], 0, false).unwrap(), "");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let modern = "-global virtio-mmio.force-legacy=false";
        assert_eq!(
            told(&["--disk", manifest], 1, true).unwrap(),
            format!(
                "{modern} -drive file={manifest},if=none,format=raw,id=disk0 -device virtio-blk-device,drive=disk0,bus=virtio-mmio-bus.0 \
                 -netdev user,id=net0 -device virtio-net-device,netdev=net0,bus=virtio-mmio-bus.1"
            )
        );
        assert_eq!(told(&["--net", "none"], 0, true).unwrap(), "");
        assert!(
            told(&["--net", "tap,ifname=t"], 0, false)
                .unwrap()
                .contains("-netdev tap,ifname=t,id=net0")
        );
    }

    #[test]
    fn a_disk_that_nobody_gave_is_missed_before_the_machine_starts() {
        let missing = told(&[], 2, false).unwrap_err();
        assert!(
            missing.contains("wants 2 disks of the machine, and 0 were given"),
            "{missing}"
        );
        let absent = told(&["--disk", "/nowhere/disk"], 1, false).unwrap_err();
        assert!(
            absent.contains("cannot read the disk /nowhere/disk"),
            "{absent}"
        );
        let folder = told(&["--disk", "/"], 1, false).unwrap_err();
        assert!(folder.contains("is a directory"), "{folder}");
    }
}
