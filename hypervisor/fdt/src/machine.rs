//! What the nodes mean: RAM, reservations, processors, PSCI and the boot bundle.

use arrayvec::ArrayVec;
use stage2_addr::{HostPhys, HostRegion, PageCount};

use super::cells::{self, Reg, number};
use super::error::{Stop, Thing, What, Why};
use super::gic::{self, Gic};
use super::header::Blob;
use super::model::{Model, Models, Word};
use super::node::{Prop, Spot, Walk, Way};
use super::timer;
use super::tree::Tree;
use super::uart::{self, Port};
use super::{HostRange, MAX_CPUS, MAX_GICR, MAX_RAM, MAX_RESERVED, Machine, PsciConduit};

/// The affinity fields of an MPIDR, and so of a processor's `reg` (Arm ARM D19.2.101; bindings/arm/cpus.yaml).
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Reads the machine out of the blob at the start of `bytes`. Of a complaint about a node, `way` leads to the node.
pub(super) fn read<'dt>(bytes: &'dt [u8], way: &mut Way<'dt>) -> Result<Machine, Stop> {
    let tree = Tree::new(Blob::new(bytes, way)?, way)?;
    let mut found = Found::default();
    for entry in tree.blob.reservations.as_chunks::<16>().0 {
        let (base, size) = entry.split_at(8);
        let (base, size) = (number(base), number(size));
        let wrong = |why| way.thing(Thing::Reservation, why, base);
        let region = Reg { base, size }.covering().map_err(wrong)?;
        found
            .reserved
            .try_push(region)
            .map_err(|_| wrong(Why::TooMany))?;
    }
    let mut walk = Walk::new(&tree, way, b"");
    while walk.next()? {
        if walk.enabled() {
            found.node(&walk)?;
        }
    }
    let missing = |what| Err(way.thing(what, Why::Missing, 0));
    if found.ram.is_empty() {
        return missing(Thing::Memory);
    }
    if found.cpus.is_empty() {
        return missing(Thing::Cpu);
    }
    let gic = found.gic.take().ok_or_else(|| match found.other_gic {
        Some(model) => way.without(model, Why::NoGicV3),
        None => way.without(Model::GicV3, Why::NoNode),
    })?;
    let psci = found.psci.ok_or_else(|| match found.old_psci {
        true => way.without(Model::OldPsci, Why::OldPsci),
        false => way.without(Model::Psci, Why::NoNode),
    })?;
    // How long the description of an interrupt is, the interrupt controller has said by now.
    let timer = found
        .timer
        .ok_or_else(|| way.without(Model::Timer, Why::NoNode))?;
    let timer_irqs = timer::read(&Walk::back_at(&tree, way, &timer)?, gic.interrupt)?;
    let uart = found
        .uart
        .ok_or_else(|| way.without(Model::Pl011, Why::NoNode))?;
    let uart = serial(&tree, way, &uart, found.stdout, gic.interrupt)?;
    let mut machine = Machine {
        ram: found.ram,
        reserved: found.reserved,
        cpus: found.cpus,
        gicd: gic.gicd,
        gicr: gic.gicr,
        uart: uart.registers,
        uart_irq: uart.intid,
        rtc: found.rtc,
        bundle: found.bundle,
        seed: found.seed,
        psci,
        timer_irqs,
    };
    place(&mut machine, way)?;
    Ok(machine)
}

/// The PL011 that `stdout` leads to, or else the first one that is enabled.
fn serial<'dt>(
    tree: &Tree<'dt>,
    way: &mut Way<'dt>,
    first: &Spot<'dt>,
    stdout: Option<&'dt [u8]>,
    entry: usize,
) -> Result<Port, Stop> {
    let path = match stdout {
        Some(stdout) => uart::path(tree, way, stdout)?,
        None => None,
    };
    if let Some(path) = path
        && !Walk::back_at(tree, way, first)?.is_at(path)
    {
        let mut walk = Walk::new(tree, way, b"");
        while walk.next()? {
            if walk.enabled() && walk.is_at(path) && walk.models()?.has(Model::Pl011) {
                return Port::read(&walk, entry);
            }
        }
    }
    Port::read(&Walk::back_at(tree, way, first)?, entry)
}

/// What has been found so far.
#[derive(Default)]
struct Found<'dt> {
    ram: ArrayVec<HostRegion, MAX_RAM>,
    reserved: ArrayVec<HostRegion, MAX_RESERVED>,
    cpus: ArrayVec<u64, MAX_CPUS>,
    gic: Option<Gic>,
    other_gic: Option<Model>,
    psci: Option<PsciConduit>,
    old_psci: bool,
    bundle: Option<HostRange>,
    stdout: Option<&'dt [u8]>,
    seed: Option<[u8; 32]>,
    rtc: Option<HostRegion>,
    timer: Option<Spot<'dt>>,
    uart: Option<Spot<'dt>>,
    /// Which of the nodes that are known by their names have been seen.
    chosen: bool,
    in_cpus: bool,
    in_reserved: bool,
}

/// Refuses a node that was there already.
#[inline(never)]
fn once(seen: bool, node: &Walk<'_, '_>, what: What) -> Result<(), Stop> {
    match seen {
        true => Err(node.stop(node.nodes(), what, Why::Twice, 0)),
        false => Ok(()),
    }
}

impl<'dt> Found<'dt> {
    fn node(&mut self, node: &Walk<'_, 'dt>) -> Result<(), Stop> {
        let again = What::Thing(Thing::Node);
        match node.place() {
            (1, Some(Word::Chosen)) => {
                once(core::mem::replace(&mut self.chosen, true), node, again)?;
                self.bundle = bundle(node)?;
                self.stdout = node.string(Prop::StdoutPath)?;
                self.seed = node.get(Prop::RngSeed).and_then(seed);
            }
            (1, Some(Word::Cpus)) => {
                once(core::mem::replace(&mut self.in_cpus, true), node, again)?
            }
            (1, Some(Word::ReservedMemory)) => {
                once(core::mem::replace(&mut self.in_reserved, true), node, again)?
            }
            // Memory nodes are at the top (3.4). Some firmware forgets their `device_type`.
            (1, _) if node.is(Word::Memory)? => self.memory(node)?,
            (2, Some(Word::Cpus)) if node.is(Word::Cpu)? => self.cpu(node)?,
            // Without `reg` it asks for memory that an operating system is to choose.
            (2, Some(Word::ReservedMemory)) if node.get(Prop::Reg).is_some() => {
                self.reserve(node)?
            }
            _ => {}
        }
        let models = node.models()?;
        self.models(node, models)
    }

    fn models(&mut self, node: &Walk<'_, 'dt>, models: Models) -> Result<(), Stop> {
        if models.has(Model::GicV3) {
            once(self.gic.is_some(), node, What::Model(Model::GicV3))?;
            self.gic = Some(gic::read(node)?);
        } else {
            self.other_gic = self.other_gic.or(models.other_gic());
        }
        if models.has(Model::Psci) || models.has(Model::Psci1) {
            once(self.psci.is_some(), node, What::Model(Model::Psci))?;
            self.psci = Some(psci(node)?);
        }
        self.old_psci |= models.has(Model::OldPsci);
        if models.has(Model::Timer) {
            once(self.timer.is_some(), node, What::Model(Model::Timer))?;
            self.timer = Some(node.spot());
        }
        if models.has(Model::Pl011) && self.uart.is_none() {
            self.uart = Some(node.spot());
        }
        // A clock that cannot be read is no reason to refuse a machine.
        if models.has(Model::Pl031) && self.rtc.is_none() {
            self.rtc = cells::device(node).ok();
        }
        Ok(())
    }

    fn memory(&mut self, node: &Walk<'_, 'dt>) -> Result<(), Stop> {
        let wrong = |why, value| node.wrong(Prop::Reg, why, value);
        let mut nth = 0;
        while let Some(reg) = cells::reg(node, nth)? {
            if reg.size == 0 {
                return Err(wrong(Why::Empty, reg.base));
            }
            let pages = within(reg).ok_or_else(|| wrong(Why::TooSmall, reg.size))?;
            if let Some(at) = shared(&self.ram, &pages) {
                return Err(wrong(Why::Overlaps, at));
            }
            let full = |_| wrong(Why::TooMany, MAX_RAM as u64);
            self.ram.try_push(pages).map_err(full)?;
            nth += 1;
        }
        Ok(())
    }

    fn reserve(&mut self, node: &Walk<'_, 'dt>) -> Result<(), Stop> {
        let mut nth = 0;
        while let Some(reg) = cells::seen(node, nth)? {
            let pages = reg
                .covering()
                .map_err(|why| node.wrong(Prop::Reg, why, reg.base))?;
            let full = |_| node.wrong(Prop::Reg, Why::TooMany, MAX_RESERVED as u64);
            self.reserved.try_push(pages).map_err(full)?;
            nth += 1;
        }
        Ok(())
    }

    fn cpu(&mut self, node: &Walk<'_, 'dt>) -> Result<(), Stop> {
        let wrong = |why, value| node.wrong(Prop::Reg, why, value);
        let one = cells::reg(node, 0)?.filter(|reg| reg.size == 0);
        let (Some(Reg { base: mpidr, .. }), None) = (one, cells::reg(node, 1)?) else {
            return Err(wrong(Why::NotOneValue, 0));
        };
        if mpidr & !AFFINITY != 0 {
            return Err(wrong(Why::Value, mpidr));
        }
        if !self.cpus.iter().all(|cpu| *cpu != mpidr) {
            return Err(wrong(Why::Taken, mpidr));
        }
        if !matches!(
            node.word(Prop::EnableMethod)?,
            None | Some(Some(Word::Psci))
        ) {
            return Err(node.wrong(Prop::EnableMethod, Why::NotPsci, 0));
        }
        let full = |_| wrong(Why::TooMany, MAX_CPUS as u64);
        self.cpus.try_push(mpidr).map_err(full)
    }
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
    let mut seed = [0; 32];
    for (n, byte) in bytes.iter().enumerate() {
        *seed.get_mut(n % 32)? ^= byte;
    }
    (bytes.len() >= seed.len()).then_some(seed)
}

/// The boot bundle that `/chosen` names.
fn bundle(node: &Walk<'_, '_>) -> Result<Option<HostRange>, Stop> {
    let start = node.number(Prop::InitrdStart, 8)?;
    let end = node.number(Prop::InitrdEnd, 8)?;
    let (start, end) = match (start, end) {
        (None, None) => return Ok(None),
        (Some(start), Some(end)) => (start, end),
        (Some(_), None) => return Err(node.wrong(Prop::InitrdEnd, Why::Missing, 0)),
        (None, Some(_)) => return Err(node.wrong(Prop::InitrdStart, Why::Missing, 0)),
    };
    if end <= start {
        return Err(node.wrong(Prop::InitrdEnd, Why::Empty, start));
    }
    Ok(Some(HostRange {
        base: HostPhys::new(start),
        len: end - start,
    }))
}

/// How the firmware's power interface, version 0.2 or newer, is called (bindings/arm/psci.yaml).
fn psci(node: &Walk<'_, '_>) -> Result<PsciConduit, Stop> {
    node.need(Prop::Method)?;
    match node.word(Prop::Method)?.flatten() {
        Some(Word::Smc) => Ok(PsciConduit::Smc),
        Some(Word::Hvc) => Ok(PsciConduit::Hvc),
        _ => Err(node.wrong(Prop::Method, Why::NotMethod, 0)),
    }
}

/// An address that `new` shares with one of the others.
#[inline(never)]
pub(super) fn shared(others: &[HostRegion], new: &HostRegion) -> Option<u64> {
    let other = others.iter().find(|other| other.overlaps(new))?;
    Some(other.base().max(new.base()).raw())
}

/// Whether no device lies in RAM or in another device, and the bundle lies in RAM.
fn place(machine: &mut Machine, way: &Way<'_>) -> Result<(), Stop> {
    let mut taken: ArrayVec<HostRegion, { MAX_RAM + MAX_GICR + 2 }> = ArrayVec::new();
    let _ = taken.try_extend_from_slice(&machine.ram);
    let mut put = |what, device: &HostRegion| {
        if let Some(at) = shared(&taken, device) {
            return Err(way.thing(what, Why::Overlaps, at));
        }
        let _ = taken.try_push(*device);
        Ok(())
    };
    put(Thing::Distributor, &machine.gicd)?;
    put(Thing::Serial, &machine.uart)?;
    for device in &machine.gicr {
        put(Thing::Redistributor, device)?;
    }
    machine.rtc = machine
        .rtc
        .filter(|device| shared(&taken, device).is_none());
    let Some(bundle) = machine.bundle else {
        return Ok(());
    };
    let end = bundle.base.raw().saturating_add(bundle.len);
    let mut at = bundle.base;
    // Adjacent ranges of RAM are one to a loader. Each turn leaves one of them behind.
    while at.raw() < end {
        let ram = machine.ram.iter().find(|ram| ram.contains(at));
        let outside = || way.thing(Thing::Bundle, Why::OutsideRam, at.raw());
        at = ram.ok_or_else(outside)?.end();
    }
    Ok(())
}
