//! A compiled machine as a table and a memory map.

use std::fmt;
use std::rc::Rc;

use configs_plan::{LanePlan, OnCrash, Share};

use crate::cpus::cpus;
use crate::shares::PRIORITY;
use crate::symbols::Symbols;
use crate::time::shown;
pub use virtio::{DiskSummary, NetworkSummary};

pub(crate) mod virtio;

/// A compiled machine, for a person to read. `Display` renders it as plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many CPUs the machine needs, as the lanes are placed.
    pub cpus_needed: u32,
    /// On how many CPUs the lanes would have found a place at the least.
    pub cpus_least: u32,
    /// How many bytes of memory the machine needs, hypervisor included.
    pub memory_needed: u64,
    /// How many CPUs the machine has, where the command line or the file states it.
    pub cpus_stated: Option<u32>,
    /// How many bytes of memory the machine has, where the command line or the file states it.
    pub memory_stated: Option<u64>,
    /// The guests, in the order of the file.
    pub guests: Vec<GuestSummary>,
    /// The disks.
    pub disks: Vec<DiskSummary>,
    /// The networks.
    pub networks: Vec<NetworkSummary>,
}

/// One guest of a compiled machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSummary {
    /// Its name.
    pub name: String,
    /// The kernel, as the file names it.
    pub kernel: String,
    /// The initrd: as the file names it, or the one that goes with the kernel.
    pub initrd: Option<String>,
    /// Where its kernel lies.
    pub kernel_at: u64,
    /// The symbols that the file names.
    pub symbols: Option<Rc<Symbols>>,
    /// Its RAM in bytes.
    pub memory: u64,
    /// Its lanes: the physical CPU of each, and how much of it.
    pub lanes: Vec<LanePlan>,
    /// What becomes of it when it fails.
    pub on_crash: OnCrash,
    /// After how many milliseconds without a sign of life it counts as hung.
    pub watchdog_ms: Option<u32>,
    /// The host address its RAM is pinned to.
    pub host_memory: Option<u64>,
    /// Its command line.
    pub cmdline: String,
    /// How many virtio devices it has.
    pub virtio: usize,
    /// Its address space, lowest address first.
    pub regions: Vec<RegionSummary>,
}

/// One range of a guest's address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSummary {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// What is there.
    pub what: String,
}

impl Summary {
    /// How many CPUs the machine has: no more than it needs, unless more are stated.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.cpus_stated.unwrap_or(self.cpus_needed)
    }

    /// How many bytes of memory the machine has: no more than it needs, unless more are stated.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory_stated.unwrap_or(self.memory_needed)
    }

    /// Whether any guest has a virtio device.
    #[must_use]
    pub fn has_virtio(&self) -> bool {
        self.guests.iter().any(|guest| guest.virtio != 0)
    }

    /// How many disks of its own the machine must have.
    #[must_use]
    pub fn machine_disks(&self) -> u32 {
        let last = self.disks.iter().filter_map(|disk| disk.unit).max();
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// Whether the machine must have a network card of its own.
    #[must_use]
    pub fn has_uplink(&self) -> bool {
        self.networks.iter().any(|network| network.has_uplink)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![
            [
                "GUEST",
                "KERNEL",
                "MEMORY",
                "LANES",
                "ON CPUS",
                "EACH SURE OF",
                "COMMAND LINE",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.guests.iter().map(GuestSummary::row));
        write_table(f, &rows)?;
        writeln!(f)?;
        write_table(f, &self.lanes_by_cpu())?;
        self.write_virtio(f)?;
        for guest in &self.guests {
            writeln!(f, "\n{}", guest.name)?;
            if let Some(words) = guest.lifecycle() {
                writeln!(f, "  {words}")?;
            }
            for region in &guest.regions {
                let end = region.start.saturating_add(region.size.saturating_sub(1));
                writeln!(
                    f,
                    "  {:#012x} to {end:#012x}  {:>9}  {}",
                    region.start,
                    size(region.size),
                    region.what
                )?;
            }
            if let Some(host) = guest.host_memory {
                writeln!(f, "  its RAM is at {host:#x} in the machine's memory")?;
            }
        }
        let memory = size(self.memory_needed);
        let least = cpus(self.cpus_least);
        if self.cpus_stated.is_some() || self.memory_stated.is_some() {
            let (cpus, has) = (cpus(self.cpus()), size(self.memory()));
            return writeln!(
                f,
                "\nFor a machine with {cpus} and {has}; the guests need at least {least} and {memory}."
            );
        }
        let cpus = cpus(self.cpus_needed);
        if self.cpus_least < self.cpus_needed {
            writeln!(
                f,
                "\nThe machine has {cpus} and {memory} of memory; the lanes would fit on {least} as well."
            )
        } else {
            writeln!(f, "\nThe machine needs {cpus} and {memory} of memory.")
        }
    }
}

impl Summary {
    /// Which lanes are on each CPU, and what each is sure of.
    fn lanes_by_cpu(&self) -> Vec<[String; 2]> {
        let mut rows = vec![["CPU", "LANES"].map(str::to_owned)];
        for cpu in 0..self.cpus_needed {
            let lanes: Vec<String> = self
                .guests
                .iter()
                .filter_map(|guest| guest.lanes_on(cpu))
                .collect();
            if !lanes.is_empty() {
                rows.push([cpu.to_string(), lanes.join(", ")]);
            }
        }
        rows
    }
}

impl Summary {
    /// The disks and the networks, where there are any.
    fn write_virtio(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.disks.is_empty() {
            writeln!(f)?;
            let mut rows = vec![["DISK", "SIZE", "WHAT IT IS", "GUESTS"].map(str::to_owned)];
            rows.extend(self.disks.iter().map(DiskSummary::row));
            write_table(f, &rows)?;
        }
        if !self.networks.is_empty() {
            writeln!(f)?;
            let mut rows = vec![["NETWORK", "WHO IS ON IT"].map(str::to_owned)];
            rows.extend(self.networks.iter().map(NetworkSummary::row));
            write_table(f, &rows)?;
        }
        Ok(())
    }
}

/// "all", "30 %", "7.5 %", "33.33 %": what a lane is sure of, rounded down.
fn part(share: Share) -> String {
    match share {
        Share::Dedicated => "all".to_owned(),
        Share::Shared {
            budget_us,
            period_us,
            ..
        } => {
            let hundredths = u64::from(budget_us)
                .saturating_mul(10_000)
                .checked_div(u64::from(period_us))
                .unwrap_or(0);
            match hundredths % 100 {
                0 => format!("{} %", hundredths / 100),
                tenths if tenths % 10 == 0 => format!("{}.{} %", hundredths / 100, tenths / 10),
                rest => format!("{}.{rest:02} %", hundredths / 100),
            }
        }
    }
}

impl GuestSummary {
    fn row(&self) -> [String; 7] {
        let cpus: Vec<_> = self.lanes.iter().map(|lane| lane.cpu.to_string()).collect();
        [
            self.name.clone(),
            self.kernel.clone(),
            size(self.memory),
            self.lanes.len().to_string(),
            cpus.join(" "),
            self.sure_of(),
            self.cmdline.clone(),
        ]
    }

    /// Its lanes on one CPU: "alpha lane 0: 30 %", "alpha lanes 0 2: 30 % each". On one CPU they all have the same.
    fn lanes_on(&self, cpu: u32) -> Option<String> {
        let numbered = || self.lanes.iter().enumerate();
        let (_, first) = numbered().find(|(_, lane)| lane.cpu == cpu)?;
        let here = numbered().filter(|(_, lane)| lane.cpu == cpu);
        let numbers: Vec<String> = here.map(|(nth, _)| nth.to_string()).collect();
        let (plural, each) = if numbers.len() == 1 {
            ("", "")
        } else {
            ("s", " each")
        };
        Some(format!(
            "{} lane{plural} {}: {}{each}",
            self.name,
            numbers.join(" "),
            part(first.share)
        ))
    }

    /// What each lane is sure of: "a whole CPU", "30 % of each 10 ms", "25 % to 50 % of each 10 ms".
    fn sure_of(&self) -> String {
        let budget = |share: Share| match share {
            Share::Dedicated => None,
            Share::Shared {
                budget_us,
                period_us,
                priority,
            } => Some((budget_us, period_us, priority)),
        };
        let shares = || self.lanes.iter().map(|lane| lane.share);
        let least = shares().min_by_key(|share| budget(*share));
        let most = shares().max_by_key(|share| budget(*share));
        let (Some(least), Some(most)) = (least, most) else {
            return String::new();
        };
        let Some((_, period_us, priority)) = budget(least) else {
            return "a whole CPU".to_owned();
        };
        let parts = if least == most {
            part(least)
        } else {
            format!("{} to {}", part(least), part(most))
        };
        let period = shown(u64::from(period_us));
        let priority = if u32::from(priority) == PRIORITY {
            String::new()
        } else {
            format!(", priority {priority}")
        };
        format!("{parts} of each {period}{priority}")
    }

    /// What becomes of it when it fails, where that is not simply its end.
    fn lifecycle(&self) -> Option<String> {
        let hangs = self
            .watchdog_ms
            .map(|ms| format!("hangs for {}", shown(u64::from(ms).saturating_mul(1_000))));
        let (what, when) = match (self.on_crash, hangs) {
            (OnCrash::Stop, None) => return None,
            (OnCrash::Stop, Some(hangs)) => ("ends", hangs),
            (OnCrash::Restart, None) => ("starts anew", "crashes".to_owned()),
            (OnCrash::Restart, Some(hangs)) => ("starts anew", format!("crashes or {hangs}")),
            (OnCrash::Hold, None) => ("is kept as it is", "crashes".to_owned()),
            (OnCrash::Hold, Some(hangs)) => ("is kept as it is", format!("crashes or {hangs}")),
        };
        Some(format!("{what} when it {when}"))
    }
}

fn write_table<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let mut widths = [0usize; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A size for a person to read: exact where a unit divides it, else to a tenth.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => {
            let tenths = u128::from(bytes).saturating_mul(10) / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// [`size`] of something in this program's memory.
pub(crate) fn size_of(bytes: usize) -> String {
    size(u64::try_from(bytes).unwrap_or(u64::MAX))
}
