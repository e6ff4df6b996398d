//! What the nodes mean: RAM, reservations, processors, PSCI and the boot bundle.

use core::ops::ControlFlow;

use arrayvec::ArrayVec;
use stage2_addr::{HostPhys, HostRegion, PageCount, RegionError};

use super::cells::{self, Reg, number};
use super::error::{FdtError, Problem};
use super::gic::Gic;
use super::header::Blob;
use super::model::Models;
use super::node::{Node, Prop, each};
use super::timer::Timer;
use super::tree::Tree;
use super::uart::FirstPort;
use super::{HostRange, MAX_CPUS, MAX_RAM, MAX_RESERVED, Machine, PsciConduit};

/// The affinity fields of an MPIDR, and so of a processor's `reg` (Arm ARM D19.2.101; bindings/arm/cpus.yaml).
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Reads the machine out of `tree`, whose blob is `blob`.
pub(super) fn read<'dt>(blob: &Blob<'dt>, tree: &Tree<'_, 'dt>) -> Result<Machine, FdtError> {
    let mut found = Found::default();
    for (index, (base, size)) in blob.reservations().enumerate() {
        let wrong = |problem| FdtError::Reservation { index, problem };
        let region = covering(Reg { base, size }).map_err(wrong)?;
        let full = Problem::TooMany(MAX_RESERVED);
        found.reserved.try_push(region).map_err(|_| wrong(full))?;
    }
    each(tree, &mut |node| {
        if node.enabled() {
            found.node(node)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let missing = |what| FdtError::Missing { what };
    if found.ram.is_empty() {
        return Err(missing("enabled memory node"));
    }
    if found.cpus.is_empty() {
        return Err(missing("enabled processor in /cpus"));
    }
    let interrupt_cells = found.gic.interrupt_cells()?;
    let uart = found.uart.finish(tree, found.stdout)?;
    let machine = Machine {
        timer_irqs: found.timer.finish(interrupt_cells)?,
        psci: found.psci.finish()?,
        gicd: found.gic.gicd()?,
        gicr: found.gic.gicr,
        ram: found.ram,
        reserved: found.reserved,
        cpus: found.cpus,
        bundle: found.bundle,
        seed: found.seed,
        uart: uart.registers,
        uart_irq: uart.intid(interrupt_cells),
        rtc: found.rtc,
    };
    disjoint(&machine)?;
    Ok(Machine {
        rtc: machine.rtc.filter(|rtc| is_apart(rtc, &machine)),
        ..machine
    })
}

/// The smallest run of pages that holds `reg`.
pub(super) fn covering(reg: Reg) -> Result<HostRegion, Problem> {
    HostRegion::covering(HostPhys::new(reg.base), reg.size).map_err(|error| problem(error, reg))
}

fn problem(error: RegionError, reg: Reg) -> Problem {
    match error {
        RegionError::Empty { .. } => Problem::Empty(reg.base),
        RegionError::MisalignedBase { base } => Problem::Misaligned(base),
        RegionError::MisalignedLength { bytes } => Problem::Misaligned(bytes),
        RegionError::Wraps { .. } => Problem::Wraps(reg.base, reg.size),
    }
}

/// What has been found so far.
#[derive(Default)]
struct Found<'dt> {
    ram: ArrayVec<HostRegion, MAX_RAM>,
    reserved: ArrayVec<HostRegion, MAX_RESERVED>,
    cpus: ArrayVec<u64, MAX_CPUS>,
    gic: Gic,
    timer: Timer<'dt>,
    psci: Psci,
    uart: FirstPort<'dt>,
    bundle: Option<HostRange>,
    stdout: Option<&'dt [u8]>,
    seed: Option<[u8; 32]>,
    rtc: Option<HostRegion>,
    once: Once,
}

/// Which of the nodes that are known by their names have been seen.
#[derive(Default)]
struct Once {
    chosen: bool,
    cpus: bool,
    reserved: bool,
}

/// Notes that a node is there, and refuses it when it already was.
pub(super) fn once(
    seen: &mut bool,
    node: &Node<'_, '_>,
    what: &'static str,
) -> Result<(), FdtError> {
    if core::mem::replace(seen, true) {
        return Err(FdtError::Again {
            node: node.path(),
            what,
        });
    }
    Ok(())
}

impl<'dt> Found<'dt> {
    fn node(&mut self, node: &Node<'_, 'dt>) -> Result<(), FdtError> {
        if node.is_top("chosen") {
            once(&mut self.once.chosen, node, "chosen")?;
            self.bundle = bundle(node)?;
            self.stdout = node.string(Prop::StdoutPath)?;
            self.seed = node.get(Prop::RngSeed).and_then(seed);
        } else if node.is_top("cpus") {
            once(&mut self.once.cpus, node, "cpus")?;
        } else if node.is_top("reserved-memory") {
            once(&mut self.once.reserved, node, "reserved-memory")?;
        } else if node.is_child_of("cpus") {
            self.cpu(node)?;
        } else if node.is_child_of("reserved-memory") {
            self.reserve(node)?;
        } else if is_memory(node)? {
            self.memory(node)?;
        }
        let models = node.models()?;
        self.gic.node(node, &models)?;
        self.timer.node(node, &models)?;
        self.psci.node(node, &models)?;
        self.uart.node(node, &models);
        if models.pl031 && self.rtc.is_none() {
            self.rtc = registers(node);
        }
        Ok(())
    }

    fn memory(&mut self, node: &Node<'_, 'dt>) -> Result<(), FdtError> {
        let wrong = |problem| node.wrong(Prop::Reg, problem);
        for reg in cells::regs(node)? {
            let reg = reg?;
            if reg.size == 0 {
                return Err(wrong(Problem::Empty(reg.base)));
            }
            let pages = within(reg).ok_or_else(|| wrong(Problem::TooSmall(reg.size)))?;
            if let Some(other) = self.ram.iter().find(|other| other.overlaps(&pages)) {
                return Err(wrong(Problem::Overlaps(other.base().raw())));
            }
            self.ram
                .try_push(pages)
                .map_err(|_| wrong(Problem::TooMany(MAX_RAM)))?;
        }
        Ok(())
    }

    /// One child of `/reserved-memory`. Without `reg` it asks for memory that an operating system is to choose.
    fn reserve(&mut self, node: &Node<'_, 'dt>) -> Result<(), FdtError> {
        if node.get(Prop::Reg).is_none() {
            return Ok(());
        }
        let wrong = |problem| node.wrong(Prop::Reg, problem);
        for reg in cells::regs(node)? {
            let pages = covering(cells::translate(node, reg?)?).map_err(wrong)?;
            let full = Problem::TooMany(MAX_RESERVED);
            self.reserved.try_push(pages).map_err(|_| wrong(full))?;
        }
        Ok(())
    }

    fn cpu(&mut self, node: &Node<'_, 'dt>) -> Result<(), FdtError> {
        if !node.says(Prop::DeviceType, "cpu")? && node.base_name() != b"cpu" {
            return Ok(());
        }
        let wrong = |problem| node.wrong(Prop::Reg, problem);
        let mut regs = cells::regs(node)?;
        let Reg { base: mpidr, size } = regs.next().ok_or_else(|| wrong(Problem::Missing))??;
        if size != 0 || regs.next().is_some() {
            return Err(wrong(Problem::Not("one affinity value without a size")));
        }
        if mpidr & !AFFINITY != 0 {
            return Err(wrong(Problem::Value(mpidr)));
        }
        if self.cpus.contains(&mpidr) {
            return Err(wrong(Problem::Taken(mpidr)));
        }
        if node.get(Prop::EnableMethod).is_some() && !node.says(Prop::EnableMethod, "psci")? {
            return Err(node.wrong(Prop::EnableMethod, Problem::Not("psci")));
        }
        self.cpus
            .try_push(mpidr)
            .map_err(|_| wrong(Problem::TooMany(MAX_CPUS)))
    }
}

/// A device's first range of registers. A clock that cannot be read is no reason to refuse a machine.
fn registers(node: &Node<'_, '_>) -> Option<HostRegion> {
    let reg = cells::regs(node).ok()?.next()?.ok()?;
    covering(cells::translate(node, reg).ok()?).ok()
}

/// Whether a device lies neither in RAM nor in one of the others.
fn is_apart(device: &HostRegion, machine: &Machine) -> bool {
    let others = machine.ram.iter().chain(&machine.gicr);
    let mut others = others.chain([&machine.gicd, &machine.uart]);
    !others.any(|other| other.overlaps(device))
}

/// Memory nodes are at the top (3.4). Some firmware forgets their `device_type`.
fn is_memory(node: &Node<'_, '_>) -> Result<bool, FdtError> {
    Ok(node.depth() == 1
        && (node.base_name() == b"memory" || node.says(Prop::DeviceType, "memory")?))
}

/// The whole pages of RAM in `reg`.
fn within(reg: Reg) -> Option<HostRegion> {
    let pages = PageCount::covering(reg.base);
    let from = HostPhys::new(pages.bytes()?);
    let to = HostPhys::new(reg.base.checked_add(reg.size)?).page_floor();
    HostRegion::between(from, to).ok()
}

/// 256 bits of the loader's seed (bindings/chosen.yaml: rng-seed), which is uniform, so that what is longer may be
/// folded. None of a shorter one.
fn seed(bytes: &[u8]) -> Option<[u8; 32]> {
    let (first, rest) = bytes.split_first_chunk::<32>()?;
    let mut seed = *first;
    for chunk in rest.chunks(32) {
        for (byte, more) in seed.iter_mut().zip(chunk) {
            *byte ^= more;
        }
    }
    Some(seed)
}

/// The boot bundle that `/chosen` names.
fn bundle(node: &Node<'_, '_>) -> Result<Option<HostRange>, FdtError> {
    let address = |prop| match node.get(prop) {
        None => Ok(None),
        Some(bytes) if matches!(bytes.len(), 4 | 8) => Ok(Some(number(bytes))),
        Some(bytes) => Err(node.wrong(prop, Problem::Length(bytes.len()))),
    };
    match (address(Prop::InitrdStart)?, address(Prop::InitrdEnd)?) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(node.wrong(Prop::InitrdEnd, Problem::Missing)),
        (None, Some(_)) => Err(node.wrong(Prop::InitrdStart, Problem::Missing)),
        (Some(start), Some(end)) => match end.checked_sub(start) {
            None | Some(0) => Err(node.wrong(Prop::InitrdEnd, Problem::Empty(start))),
            Some(len) => Ok(Some(HostRange {
                base: HostPhys::new(start),
                len,
            })),
        },
    }
}

/// The firmware's power interface, version 0.2 or newer (bindings/arm/psci.yaml).
#[derive(Default)]
struct Psci {
    conduit: Option<PsciConduit>,
    seen: bool,
    old: bool,
}

impl Psci {
    fn node(&mut self, node: &Node<'_, '_>, models: &Models) -> Result<(), FdtError> {
        if !models.psci {
            self.old |= models.old_psci;
            return Ok(());
        }
        once(&mut self.seen, node, "PSCI node")?;
        self.conduit = match node.string(Prop::Method)? {
            Some(b"smc") => Some(PsciConduit::Smc),
            Some(b"hvc") => Some(PsciConduit::Hvc),
            Some(_) => return Err(node.wrong(Prop::Method, Problem::Not("smc or hvc"))),
            None => return Err(node.wrong(Prop::Method, Problem::Missing)),
        };
        Ok(())
    }

    fn finish(&self) -> Result<PsciConduit, FdtError> {
        let (needs, has) = ("PSCI 0.2 or newer", "arm,psci");
        self.conduit.ok_or(match self.old {
            true => FdtError::Unsupported { needs, has },
            false => FdtError::Missing {
                what: "enabled PSCI node (arm,psci-0.2 or arm,psci-1.0)",
            },
        })
    }
}

/// Whether no device lies in RAM or in another device, and the bundle lies in RAM.
fn disjoint(machine: &Machine) -> Result<(), FdtError> {
    let mut taken: ArrayVec<&HostRegion, { MAX_RAM + 2 }> = machine.ram.iter().collect();
    let devices = [
        ("distributor", &machine.gicd),
        ("serial port", &machine.uart),
    ];
    for (what, device) in devices {
        clear(what, device, &taken)?;
        let _ = taken.try_push(device);
    }
    for (n, device) in machine.gicr.iter().enumerate() {
        clear("redistributor", device, &taken)?;
        let earlier = machine
            .gicr
            .iter()
            .take(n)
            .find(|other| other.overlaps(device));
        if let Some(other) = earlier {
            clear("redistributor", device, &[other])?;
        }
    }
    let Some(bundle) = machine.bundle else {
        return Ok(());
    };
    let end = bundle.base.raw().saturating_add(bundle.len);
    let mut at = bundle.base;
    // Adjacent ranges of RAM are one to a loader. Each turn leaves one of them behind.
    while at.raw() < end {
        match machine.ram.iter().find(|ram| ram.contains(at)) {
            Some(ram) => at = ram.end(),
            None => {
                let (what, base) = ("boot bundle", at.raw());
                return Err(FdtError::Place {
                    what,
                    base,
                    problem: Problem::OutsideRam(base),
                });
            }
        }
    }
    Ok(())
}

fn clear(what: &'static str, device: &HostRegion, taken: &[&HostRegion]) -> Result<(), FdtError> {
    let Some(other) = taken.iter().find(|other| other.overlaps(device)) else {
        return Ok(());
    };
    let problem = Problem::Overlaps(other.base().raw());
    Err(FdtError::Place {
        what,
        base: device.base().raw(),
        problem,
    })
}
