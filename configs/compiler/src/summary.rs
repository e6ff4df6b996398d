//! A compiled machine as a table and a memory map.

use std::fmt;

use crate::cpus::cpus;

/// A compiled machine, for a person to read. `Display` renders it as plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many CPUs the machine needs.
    pub cpus_needed: u32,
    /// How many bytes of memory the machine needs, hypervisor included.
    pub memory_needed: u64,
    /// How many CPUs the machine has, where the command line or the file states it.
    pub cpus_stated: Option<u32>,
    /// How many bytes of memory the machine has, where the command line or the file states it.
    pub memory_stated: Option<u64>,
    /// The guests, in the order of the file.
    pub guests: Vec<GuestSummary>,
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
    /// Its RAM in bytes.
    pub memory: u64,
    /// The physical CPU of each lane.
    pub cpus: Vec<u32>,
    /// The host address its RAM is pinned to.
    pub host_memory: Option<u64>,
    /// Its command line.
    pub cmdline: String,
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
                "COMMAND LINE",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.guests.iter().map(GuestSummary::row));
        write_table(f, &rows)?;
        for guest in &self.guests {
            writeln!(f, "\n{}", guest.name)?;
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
        if self.cpus_stated.is_none() && self.memory_stated.is_none() {
            let cpus = cpus(self.cpus_needed);
            return writeln!(f, "\nThe machine needs {cpus} and {memory} of memory.");
        }
        writeln!(
            f,
            "\nFor a machine with {} and {}; the guests need at least {} and {memory}.",
            cpus(self.cpus()),
            size(self.memory()),
            self.cpus_needed
        )
    }
}

impl GuestSummary {
    fn row(&self) -> [String; 6] {
        let cpus: Vec<_> = self.cpus.iter().map(u32::to_string).collect();
        [
            self.name.clone(),
            self.kernel.clone(),
            size(self.memory),
            self.cpus.len().to_string(),
            cpus.join(" "),
            self.cmdline.clone(),
        ]
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
