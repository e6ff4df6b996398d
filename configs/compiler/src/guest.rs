//! One guest: its files in its RAM, as the plan says it and as a person reads it.

use std::rc::Rc;

use configs_plan::encode::{GuestSpec, SegmentSpec};
use configs_plan::{LanePlan, OnCrash, RAM_BASE, RAM_GRANULE, RAM_LIMIT, RamPlan};

use crate::board;
use crate::devices::Given;
use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::kernel::Kernel;
use crate::layout::{Layout, Load};
use crate::raw::RawGuest;
use crate::summary::{GuestSummary, RegionSummary};
use crate::symbols::Symbols;
use crate::tree::Tree;
use crate::virtio::{Devices, Virtio};
use crate::{BundleFile, names, room, summary};

/// A guest whose files are there and have their places.
#[derive(Debug)]
pub(crate) struct Loaded {
    load: Load,
    layout: Layout,
    kernel: Kernel,
    tree: Tree,
    initrd: Option<Rc<Vec<u8>>>,
    symbols: Option<Rc<Symbols>>,
}

/// A guest as it leaves the compiler.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) spec: GuestSpec,
    pub(crate) files: Vec<BundleFile>,
    pub(crate) summary: GuestSummary,
}

/// Gets a guest's files and finds their places. `None`: something is wrong, and reported.
pub(crate) fn load(
    guest: &RawGuest,
    devices: Vec<Given>,
    files: &mut Files<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Loaded> {
    if let Some(cmdline) = &guest.cmdline {
        names::judge_cmdline(cmdline, found);
    }
    // All are asked for before any is given up, so that all can be reported.
    let kernel = files.kernel(guest, guest.memory.as_ref().map(|m| m.value), found);
    let overlay = match &guest.overlay {
        None => None,
        Some(name) => Some(files.overlay(name, found)?),
    };
    let initrd = match &guest.initrd {
        None => None,
        Some(name) => Some(files.initrd(name, found)?),
    };
    let symbols = match &guest.symbols {
        None => None,
        Some(name) => Some(files.symbols(name, found)?),
    };
    let kernel = kernel?;
    let memory = guest
        .memory
        .as_ref()
        .map(|memory| memory.value)
        .filter(|m| *m != 0 && m.is_multiple_of(RAM_GRANULE))?;
    if memory > RAM_LIMIT.saturating_sub(RAM_BASE) {
        return None;
    }
    let firmware = kernel.is_firmware();
    let tree = Tree::draft(
        guest,
        memory,
        firmware,
        devices,
        files.seeds(guest),
        overlay,
        found,
    )?;
    let load = Load {
        memory,
        kernel: kernel.footprint,
        address: guest.load.as_ref().map(|load| load.value),
        dtb: tree.length(),
        initrd: initrd.as_ref().map(|bytes| length(bytes)),
    };
    match load.place() {
        Ok(layout) => Some(Loaded {
            load,
            layout,
            kernel,
            tree,
            initrd,
            symbols,
        }),
        Err(why) => {
            found.extend(room::explain(guest, &load, why));
            None
        }
    }
}

/// Writes down a guest that was found good.
pub(crate) fn build(
    guest: &RawGuest,
    loaded: Loaded,
    lanes: Vec<LanePlan>,
    virtio: &Virtio,
    own: &Devices,
) -> Option<Built> {
    let name = guest.name.as_ref()?.value.clone();
    let Loaded {
        load,
        layout,
        kernel,
        tree,
        initrd,
        symbols,
    } = loaded;
    let initrd = layout.initrd.zip(initrd);
    let place = initrd
        .as_ref()
        .map(|(start, bytes)| (*start, length(bytes)));
    let devices = tree.devices().to_vec();
    let tree = tree.with_initrd(place)?;

    let mut parts = vec![("kernel", layout.kernel, kernel.bytes.to_vec())];
    parts.extend(initrd.map(|(start, bytes)| ("initrd", start, bytes.to_vec())));
    parts.push(("dtb", layout.dtb, tree));
    let mut regions = regions(&load, &kernel, &parts, &devices, lanes.len());
    slots(&mut regions, virtio, own);
    let summary = GuestSummary {
        kernel_at: layout.kernel,
        symbols,
        lanes: lanes.clone(),
        virtio: own.slots.len(),
        regions,
        ..described(guest, load.memory)?
    };
    let (segments, files) = packed(&name, parts);
    let ram = RamPlan {
        ipa: RAM_BASE,
        size: load.memory,
        host: summary.host_memory,
    };
    let spec = GuestSpec {
        name,
        ram,
        entry: layout.entry,
        dtb: layout.dtb,
        lanes,
        on_crash: summary.on_crash,
        watchdog_ms: summary.watchdog_ms,
        segments,
        devices: devices.iter().map(|device| device.plan).collect(),
        virtio: own.slots.clone(),
        virtio_lint: own.lint,
        is_virtio_traced: false,
        faults: own.faults,
        script: own.script.clone(),
        offer: own.offer,
    };
    Some(Built {
        spec,
        files,
        summary,
    })
}

/// What the file says of a guest. Its lanes and places are open.
fn described(guest: &RawGuest, memory: u64) -> Option<GuestSummary> {
    let watchdog = guest.watchdog.as_ref();
    let on_crash = guest.on_crash.as_ref();
    let cmdline = guest.cmdline.as_ref();
    Some(GuestSummary {
        name: guest.name.as_ref()?.value.clone(),
        kernel: guest.kernel.as_ref()?.value.clone(),
        initrd: guest.initrd.as_ref().map(|initrd| initrd.value.clone()),
        kernel_at: 0,
        symbols: None,
        memory,
        lanes: Vec::new(),
        on_crash: on_crash.map_or(OnCrash::default(), |field| field.value),
        watchdog_ms: watchdog.and_then(|field| u32::try_from(field.value / 1_000).ok()),
        host_memory: guest.host_memory.as_ref().map(|host| host.value),
        cmdline: cmdline.map_or_else(String::new, |cmdline| cmdline.value.clone()),
        virtio: 0,
        regions: Vec::new(),
    })
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// What the plan says of each part of a guest's memory, and what goes into the bundle.
fn packed(name: &str, parts: Vec<(&str, u64, Vec<u8>)>) -> (Vec<SegmentSpec>, Vec<BundleFile>) {
    let pack = |(part, ipa, data): (&str, u64, Vec<u8>)| {
        let file = format!("{name}/{part}");
        let segment = SegmentSpec {
            file: file.clone(),
            ipa,
            len: length(&data),
        };
        (segment, BundleFile { name: file, data })
    };
    parts.into_iter().map(pack).unzip()
}

/// Puts the slots that are not empty behind the window that they are in.
fn slots(regions: &mut Vec<RegionSummary>, virtio: &Virtio, own: &Devices) {
    let window = regions.iter().position(|r| r.start == board::VIRTIO.start);
    let window = window.filter(|_| !own.slots.is_empty());
    let Some(window) = window else { return };
    if let Some(region) = regions.get_mut(window) {
        region.what = board::VIRTIO_IN_USE.to_owned();
    }
    let behind = own.slots.iter().map(|slot| RegionSummary {
        start: board::slot(slot.slot),
        size: board::VIRTIO_STRIDE,
        what: format!("- {}", summary::virtio::words(virtio, &slot.device)),
    });
    let at = window.saturating_add(1);
    regions.splice(at..at, behind.collect::<Vec<_>>());
}

/// The guest's address space, lowest address first.
fn regions(
    load: &Load,
    kernel: &Kernel,
    parts: &[(&str, u64, Vec<u8>)],
    devices: &[Given],
    lanes: usize,
) -> Vec<RegionSummary> {
    let given = |start| devices.iter().any(|device| device.plan.ipa == start);
    let lanes = u64::try_from(lanes).unwrap_or(0);
    let mut regions: Vec<_> = board::windows(lanes, kernel.is_firmware())
        .iter()
        .filter(|w| !given(w.start))
        .map(|w| RegionSummary {
            start: w.start,
            size: w.size,
            what: w.what.to_owned(),
        })
        .collect();
    regions.extend(devices.iter().map(|device| RegionSummary {
        start: device.plan.ipa,
        size: device.plan.size,
        what: format!("{} of the machine", device.path),
    }));
    // Firmware is not in RAM.
    let in_ram = |start: u64| start >= RAM_BASE;
    regions.extend(
        parts
            .iter()
            .filter(|(_, start, _)| !in_ram(*start))
            .map(|(_, start, _)| RegionSummary {
                start: *start,
                size: load.kernel.memory,
                what: kernel.described(*start),
            }),
    );
    regions.sort_by_key(|region| region.start);
    regions.push(RegionSummary {
        start: RAM_BASE,
        size: load.memory,
        what: "RAM".to_owned(),
    });
    let mut inside: Vec<_> = parts
        .iter()
        .filter(|(_, start, _)| in_ram(*start))
        .map(|(part, start, data)| {
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            match *part {
                "kernel" => RegionSummary {
                    start: *start,
                    size: load.kernel.memory,
                    what: format!("- {}", kernel.described(*start)),
                },
                "dtb" => RegionSummary {
                    start: *start,
                    size,
                    what: "- device tree".to_owned(),
                },
                other => RegionSummary {
                    start: *start,
                    size,
                    what: format!("- {other}"),
                },
            }
        })
        .collect();
    inside.sort_by_key(|region| region.start);
    regions.extend(inside);
    regions
}
