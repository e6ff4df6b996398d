//! Memory: each guest's alone, and all guests' in the machine's.

use std::ops::Range;

use configs_plan::{DiskKind, HOST_LIMIT, RAM_BASE, RAM_GRANULE, RAM_LIMIT, SECTOR, VirtioDevice};

use crate::diagnostic::Diagnostic;
use crate::raw::{Field, RawConfig, RawGuest, RawMachine};
use crate::size::{address, written};
use crate::summary::size;
use crate::virtio::Virtio;

/// Where `virt` has its memory: the default of `memory_base`, which matters only to `host_memory`.
const VIRT_MEMORY: u64 = 0x4000_0000;
/// EL2's image, tables and stacks at the bottom of memory, with room to grow.
const HYPERVISOR: u64 = 32 << 20;
/// A loader puts the bundle at half of memory, but not beyond this (QEMU `hw/arm/boot.c`; others place it freely).
const BUNDLE_AT_MOST: u64 = 128 << 20;
/// What a loader puts behind the bundle: the machine's device tree, and the rounding before it.
const BEHIND_BUNDLE: u64 = 4 << 20;
/// Machines come in steps of this.
const STEP: u64 = 64 << 20;
/// The smallest machine asked for.
const SMALLEST: u64 = 256 << 20;

/// Judges every guest's memory, and the pinned ones together.
pub(crate) fn judge(
    guests: &[RawGuest],
    machine: &RawMachine,
    machine_memory: Option<u64>,
    found: &mut Vec<Diagnostic>,
) {
    for guest in guests {
        if let Some(memory) = &guest.memory {
            amount(memory, found);
        }
    }
    machine_itself(machine, found);
    let base = machine
        .memory_base
        .as_ref()
        .map_or(VIRT_MEMORY, |base| base.value);
    let mut seen: Vec<Pin<'_>> = Vec::new();
    for guest in guests {
        let Some(pin) = Pin::new(guest) else { continue };
        if let Some(problem) = pin.judge(base, machine, machine_memory) {
            found.push(problem);
            continue;
        }
        if let Some(first) = seen
            .iter()
            .find(|first| first.start < pin.end() && pin.start < first.end())
        {
            found.push(pin.overlaps(first));
        }
        seen.push(pin);
    }
}

fn amount(memory: &Field<u64>, found: &mut Vec<Diagnostic>) {
    let here = memory.span.clone();
    if memory.value == 0 {
        let diagnostic = Diagnostic::new("a guest needs memory").at(here, "none");
        found.push(diagnostic.help("write an amount: `memory = \"64M\"`"));
    } else if memory.value > RAM_LIMIT.saturating_sub(RAM_BASE) {
        let most = written(RAM_LIMIT.saturating_sub(RAM_BASE));
        let diagnostic =
            Diagnostic::new(format!("{} is too much for one guest", size(memory.value)));
        found.push(
            diagnostic
                .at(here, format!("more than {most}"))
                .help(format!("a guest has at most `\"{most}\"`")),
        );
    } else if !memory.value.is_multiple_of(RAM_GRANULE) {
        let up = written(memory.value.next_multiple_of(RAM_GRANULE));
        let diagnostic = Diagnostic::new("a guest's memory comes in steps of 2 MiB");
        let label = format!("{} is not a multiple of 2 MiB", size(memory.value));
        found.push(diagnostic.at(here.clone(), label).fix(
            "the next multiple",
            here,
            format!("\"{up}\""),
        ));
    }
}

fn machine_itself(machine: &RawMachine, found: &mut Vec<Diagnostic>) {
    if let Some(memory) = machine
        .memory
        .as_ref()
        .filter(|memory| memory.value == 0 || !memory.value.is_multiple_of(1 << 20))
    {
        let diagnostic = Diagnostic::new("a machine's memory comes in whole MiB, and is not zero");
        found.push(
            diagnostic
                .at(memory.span.clone(), size(memory.value))
                .help("leave it out for the smallest machine that fits"),
        );
    }
    if let Some(base) = machine
        .memory_base
        .as_ref()
        .filter(|base| !base.value.is_multiple_of(RAM_GRANULE) || base.value >= HOST_LIMIT)
    {
        let diagnostic = Diagnostic::new("a machine's memory does not begin here");
        let label = "not a 48-bit address that is a multiple of 2 MiB";
        found.push(
            diagnostic
                .at(base.span.clone(), label)
                .help("QEMU's `virt` has its memory at `0x4000_0000`"),
        );
    }
}

/// A guest's RAM at a fixed host address.
struct Pin<'c> {
    name: &'c str,
    start: u64,
    size: u64,
    span: Range<usize>,
    memory: Range<usize>,
}

impl<'c> Pin<'c> {
    fn new(guest: &'c RawGuest) -> Option<Self> {
        let (host, memory) = (guest.host_memory.as_ref()?, guest.memory.as_ref()?);
        let name = guest
            .name
            .as_ref()
            .map_or("this guest", |name| name.value.as_str());
        Some(Self {
            name,
            start: host.value,
            size: memory.value,
            span: host.span.clone(),
            memory: memory.span.clone(),
        })
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }

    fn range(&self) -> String {
        format!(
            "{} to {}",
            address(self.start),
            address(self.end().saturating_sub(1))
        )
    }

    fn judge(
        &self,
        base: u64,
        machine: &RawMachine,
        machine_memory: Option<u64>,
    ) -> Option<Diagnostic> {
        let here = || self.span.clone();
        if !self.start.is_multiple_of(RAM_GRANULE) {
            let down = self.start.saturating_sub(self.start % RAM_GRANULE);
            let diagnostic =
                Diagnostic::new("`host_memory` must be a multiple of 2 MiB (0x20_0000)");
            let label = format!("{} past one", address(self.start % RAM_GRANULE));
            return Some(diagnostic.at(here(), label).fix(
                "the multiple before it",
                here(),
                address(down),
            ));
        }
        if self
            .start
            .checked_add(self.size)
            .is_none_or(|end| end > HOST_LIMIT)
        {
            let what = if self.start.checked_add(self.size).is_none() {
                "wraps around the end of the address space"
            } else {
                "lies beyond 48-bit addresses"
            };
            let diagnostic = Diagnostic::new(format!("the memory of `{}` {what}", self.name))
                .at(here(), "begins here");
            let diagnostic =
                diagnostic.see(self.memory.clone(), format!("{} long", size(self.size)));
            return Some(diagnostic.help(
                "choose an address at which the machine has memory, or leave `host_memory` out",
            ));
        }
        let beyond = machine_memory
            .and_then(|memory| base.checked_add(memory))
            .filter(|end| self.end() > *end);
        if self.start >= base && beyond.is_none() {
            return None;
        }
        let diagnostic = Diagnostic::new(format!(
            "the memory of `{}` lies outside the machine's",
            self.name
        ));
        let mut diagnostic = diagnostic.at(here(), self.range());
        if let Some(field) = &machine.memory_base {
            diagnostic = diagnostic.see(field.span.clone(), "the machine's memory begins here");
        }
        if let (Some(field), Some(_)) = (&machine.memory, beyond) {
            diagnostic = diagnostic.see(
                field.span.clone(),
                format!("the machine has {}", size(field.value)),
            );
        }
        let there = match beyond {
            Some(end) => format!(
                "the machine's memory is {} to {}",
                address(base),
                address(end.saturating_sub(1))
            ),
            None => format!("the machine's memory begins at {}", address(base)),
        };
        Some(
            diagnostic
                .note(there)
                .help("choose an address inside it, or leave `host_memory` out to have one chosen"),
        )
    }

    fn overlaps(&self, first: &Self) -> Diagnostic {
        Diagnostic::new(format!(
            "the memory of `{}` overlaps that of `{}`",
            self.name, first.name
        ))
        .at(
            self.span.clone(),
            format!("`{}`: {}", self.name, self.range()),
        )
        .see(
            first.span.clone(),
            format!("`{}`: {}", first.name, first.range()),
        )
        .help(format!(
            "the first address behind `{}` is {}; or leave `host_memory` out",
            first.name,
            address(first.end())
        ))
    }
}

/// How much memory disks take that are in none of their users' own: with what EL2 keeps of each snapshot's pages, and in
/// granules, since each is a piece of its own.
pub(crate) fn of_virtio(virtio: &Virtio) -> u64 {
    let mut total = 0u64;
    for (nth, disk) in (0u32..).zip(&virtio.disks) {
        let has = |device: &VirtioDevice| matches!(device, VirtioDevice::Block { disk, .. } if *disk == nth);
        let slots = virtio.guests.iter().flat_map(|guest| &guest.slots);
        let users = slots.filter(|slot| has(&slot.device)).count();
        let bytes = disk.sectors.saturating_mul(SECTOR);
        let pieces = match disk.kind {
            DiskKind::Memory { .. } => (1, bytes),
            DiskKind::Snapshot { memory, .. } => {
                // 8 bytes for each page of 4 KiB are 1/512; twice that is room.
                let index = bytes.saturating_add(memory) / 256;
                (users, memory.saturating_add(index))
            }
            DiskKind::Readonly { .. } | DiskKind::Machine { .. } => (0, 0),
        };
        let count = u64::try_from(pieces.0).unwrap_or(u64::MAX);
        let whole = pieces.1.checked_next_multiple_of(RAM_GRANULE);
        total = total.saturating_add(whole.unwrap_or(u64::MAX).saturating_mul(count));
    }
    total
}

/// How much memory the machine needs for these guests, a bundle of `bundle` bytes and `disks` of them: the least at which
/// EL2 finds a place for each in one piece, beside itself and the bundle.
pub(crate) fn needed(guests: &[RawGuest], machine: &RawMachine, bundle: u64, disks: u64) -> u64 {
    let base = machine
        .memory_base
        .as_ref()
        .map_or(VIRT_MEMORY, |base| base.value);
    let pins: Vec<_> = guests
        .iter()
        .filter_map(Pin::new)
        .map(|pin| pin.start.saturating_sub(base)..pin.end().saturating_sub(base))
        .collect();
    let chosen = guests.iter().filter(|guest| guest.host_memory.is_none());
    let of_guests = chosen
        .filter_map(|guest| guest.memory.as_ref())
        .map(|memory| memory.value);
    // EL2 takes what it needs for itself first.
    let sizes: Vec<_> = Some(disks)
        .filter(|disks| *disks != 0)
        .into_iter()
        .chain(of_guests)
        .collect();
    let last_pin = pins.iter().map(|pin| pin.end).max().unwrap_or(0);
    let sum = sizes
        .iter()
        .fold(HYPERVISOR.saturating_add(bundle), |sum, size| {
            sum.saturating_add(*size)
        });
    // What surely suffices: everything behind the last pin and the bundle, each at the alignment EL2 likes best.
    let roomy = sizes
        .iter()
        .fold(sum, |sum, size| sum.saturating_add(preferred_align(*size)));
    let enough = roomy
        .saturating_add(BUNDLE_AT_MOST)
        .saturating_add(last_pin)
        .next_multiple_of(STEP)
        .saturating_add(STEP);
    let mut total = sum.max(last_pin).max(SMALLEST).next_multiple_of(STEP);
    while total < enough && !fits(total, bundle, base, &pins, &sizes) {
        total = total.saturating_add(STEP);
    }
    total
}

/// EL2 aligns RAM so that stage 2 maps it in the largest blocks that its size fills.
fn preferred_align(size: u64) -> u64 {
    if size >= 1 << 30 {
        1 << 30
    } else {
        RAM_GRANULE
    }
}

/// Whether every size finds its place in `total` bytes of memory, placed as EL2 places: one after the other, each at
/// the lowest free address, with the alignment it prefers if there is one.
fn fits(total: u64, bundle: u64, base: u64, pins: &[Range<u64>], sizes: &[u64]) -> bool {
    let bundle_start = (total / 2).min(BUNDLE_AT_MOST);
    let bundle_end = bundle_start
        .saturating_add(bundle)
        .saturating_add(BEHIND_BUNDLE)
        .next_multiple_of(RAM_GRANULE);
    let mut taken = vec![0..HYPERVISOR, bundle_start..bundle_end];
    taken.extend_from_slice(pins);
    sizes.iter().all(|size| {
        taken.sort_unstable_by_key(|range| range.start);
        let aligns = [preferred_align(*size), RAM_GRANULE];
        let start = aligns
            .iter()
            .find_map(|align| lowest(total, base, &taken, *size, *align));
        taken.extend(start.map(|start| start..start.saturating_add(*size)));
        start.is_some()
    })
}

/// The lowest free place for `size` bytes below `total`. `align` is one of addresses, which begin at `base`.
fn lowest(total: u64, base: u64, taken: &[Range<u64>], size: u64, align: u64) -> Option<u64> {
    let mut start = 0u64;
    loop {
        start = base
            .checked_add(start)?
            .checked_next_multiple_of(align)?
            .checked_sub(base)?;
        let end = start.checked_add(size)?;
        if end > total {
            return None;
        }
        match taken
            .iter()
            .find(|range| range.start < end && start < range.end)
        {
            None => return Some(start),
            Some(range) => start = range.end,
        }
    }
}

/// Refuses a machine whose memory does not hold its guests.
pub(crate) fn judge_total(
    config: &RawConfig,
    machine_memory: u64,
    needed: u64,
    found: &mut Vec<Diagnostic>,
) {
    if needed <= machine_memory {
        return;
    }
    let (guests, machine) = (&config.guests, &config.machine);
    let title = format!(
        "these guests do not fit into a machine with {}",
        size(machine_memory)
    );
    let mut diagnostic = Diagnostic::new(title);
    if let Some(field) = machine
        .memory
        .as_ref()
        .filter(|field| field.value == machine_memory)
    {
        diagnostic = diagnostic.at(field.span.clone(), "the machine's memory");
    }
    for guest in guests {
        let (Some(memory), Some(name)) = (&guest.memory, &guest.name) else {
            continue;
        };
        diagnostic = diagnostic.see(
            memory.span.clone(),
            format!("`{}` has {}", name.value, size(memory.value)),
        );
    }
    for disk in &config.disks {
        let (Some(size_of), Some(name)) = (&disk.size, &disk.name) else {
            continue;
        };
        let label = format!("the disk `{}` has {}", name.value, size(size_of.value));
        diagnostic = diagnostic.see(size_of.span.clone(), label);
    }
    let needed = written(needed);
    let diagnostic = diagnostic.note(
        "XDV itself and the boot bundle need room as well, and each guest's memory is one piece",
    );
    found.push(match &machine.memory {
        Some(field) if field.value == machine_memory => diagnostic.fix(
            "give the machine what it needs",
            field.span.clone(),
            format!("\"{needed}\""),
        ),
        _ => diagnostic.help(format!(
            "give the machine at least {needed}, or the guests less"
        )),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn guests(sizes: &[(u64, Option<u64>)]) -> Vec<RawGuest> {
        let field = |value| Field { value, span: 0..0 };
        let guest = |(size, host): &(u64, Option<u64>)| RawGuest {
            memory: Some(field(*size)),
            host_memory: host.map(field),
            ..RawGuest::default()
        };
        sizes.iter().map(guest).collect()
    }

    fn machine(sizes: &[(u64, Option<u64>)], bundle: u64) -> u64 {
        needed(&guests(sizes), &RawMachine::default(), bundle, 0)
    }

    #[test]
    fn machines_are_as_small_as_may_be() {
        assert_eq!(
            machine(&[(64 * MIB, None), (64 * MIB, None)], MIB),
            256 * MIB
        );
        // 96 MiB fit below the bundle, not 128.
        assert_eq!(machine(&[(96 * MIB, None)], MIB), 256 * MIB);
        assert_eq!(machine(&[(128 * MIB, None)], MIB), 320 * MIB);
        assert_eq!(
            machine(&[(256 * MIB, None), (64 * MIB, None)], 40 * MIB),
            448 * MIB
        );
        // EL2 likes 1 GiB alignment, and does without where there is none.
        assert_eq!(machine(&[(GIB, None)], MIB), GIB + 192 * MIB);
        assert_eq!(
            machine(&[(64 * MIB, Some(0x8000_0000))], MIB),
            GIB + 64 * MIB
        );
        assert_eq!(
            machine(
                &[(64 * MIB, Some(0x4000_0000 + 64 * MIB)), (64 * MIB, None)],
                MIB
            ),
            256 * MIB
        );
    }

    #[test]
    fn a_machine_never_has_less_than_its_guests() {
        for first in [2 * MIB, 100 * MIB, GIB, 3 * GIB] {
            for second in [2 * MIB, 500 * MIB, 2 * GIB] {
                let needed = machine(&[(first, None), (second, None)], 10 * MIB);
                let sum = first + second + 10 * MIB;
                assert!(
                    needed > sum && needed < sum + 3 * GIB,
                    "{first:#x} {second:#x} {needed:#x}"
                );
            }
        }
    }

    #[test]
    fn a_pin_at_the_end_of_addresses_is_counted_without_overflow() {
        let needed = machine(
            &[(64 * MIB, Some(HOST_LIMIT - 64 * MIB)), (64 * MIB, None)],
            MIB,
        );
        assert_eq!(needed, HOST_LIMIT - 0x4000_0000);
    }
}
