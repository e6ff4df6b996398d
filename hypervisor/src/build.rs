//! Builds the machines of a plan: RAM, tables, interrupt controller, kernel in place.

mod machine;

use configs_plan::{Bundle, GuestPlan};
use domain_hv::{Owner, VmId};
use hypervisor_arch::boot::Boot;
use hypervisor_arch::hardware::id_register;
use hypervisor_arch::memory::{Arena, Grant, GuestRam};
use hypervisor_arch::tables::{AllTlbs, TableFrames};
use hypervisor_arch::{fault, gic, mmu, say, timer};
use hypervisor_fdt::Machine as Host;
use stage2::{
    Access, Attrs, Geometry, GuestTables, Lease, Ledger, VmidAllocator, VmidSlot, VmidWidth,
};
use stage2_addr::{HostPhys, HostRegion, Ipa, IpaRegion, PAGE_SIZE, PageCount};
use vcpu::idregs::{IdRegs, Limits};
use vcpu::inject::Features;
use vcpu::timer::VmClock;
use vcpu_board::flash::{VARIABLES_SIZE, VARIABLES_WORDS};
use vcpu_board::{FLASH_BASE, RAM_BASE};

use crate::alike;
use crate::boot::{sgi_to, vm_id};
use crate::crew::{Crew, Members};
use crate::devices;
use crate::fill::Fill;
#[cfg(feature = "virtio")]
use crate::virtio;
use crate::vm::{File, Seat, Vm};
use machine::Common;

/// The IPA space of a guest: 40 bits, or what the CPU has if that is less.
const IPA_BITS: u32 = 40;
/// CPUs that the VMID allocator counts.
const CPUS: usize = 64;
/// EL2's records besides lanes and stacks: seats, names, CPU records.
const SLACK: u64 = 64 << 10;
/// Runs of frames in all guests' tables together: RAM is one run a guest, and each device may be one.
const RUNS: usize = configs_plan::MAX_GUESTS * (configs_plan::MAX_DEVICES + 4);
/// What a guest's tables map at most: RAM, flash, devices.
const PARTS: usize = configs_plan::MAX_DEVICES + 2;
/// One of it: where the guest finds it, where it is, and what it may do there.
pub type Part = (IpaRegion, HostRegion, Attrs);

/// How large the arena must be.
pub fn arena_bytes(lanes: usize, cpus: usize, firmwares: usize, stacks: u64) -> u64 {
    let each = |count: usize, bytes: u64| bytes.saturating_mul(count as u64);
    let machine = size_of::<Vm>() as u64 + 512;
    let crew = size_of::<Crew>() as u64 + size_of::<Members>() as u64 + 64;
    each(lanes, Arena::lane_bytes())
        + each(firmwares, VARIABLES_SIZE)
        + each(cpus, stacks + 3 * PAGE_SIZE + crew)
        + each(configs_plan::MAX_GUESTS, machine)
        + SLACK
}

/// Claims the RAM of every guest whose config says where it lies, before anything takes RAM that may lie anywhere.
pub fn claim_pinned(bundle: &Bundle, ledger: &mut Ledger<'_, Owner>) {
    for guest in bundle
        .plan()
        .guests()
        .filter(|guest| guest.ram().host.is_some())
    {
        let claimed =
            pinned(&guest).map(|region| ledger.claim(region, Owner::Guest(vm_id(&guest))));
        if !matches!(claimed, Some(Ok(()))) {
            refuse_ram(&guest);
        }
    }
}

/// Where a guest's RAM lies in the machine's, when its config says so.
fn pinned(guest: &GuestPlan) -> Option<HostRegion> {
    let ram = guest.ram();
    HostRegion::new(HostPhys::new(ram.host?), PageCount::covering(ram.size)).ok()
}

fn refuse_ram(guest: &GuestPlan) -> ! {
    let ram = guest.ram();
    fault::refuse(format_args!(
        "guest {}: no {} MiB of free RAM{}",
        guest.name(),
        ram.size >> 20,
        if ram.host.is_some() {
            " at the place its config names"
        } else {
            ""
        }
    ))
}

/// One of something for each guest of a plan.
type PerGuest<T> = arrayvec::ArrayVec<T, { configs_plan::MAX_GUESTS }>;

/// Guests count with the machine: CNTVOFF_EL2 = 0. An offset would hide how long the machine has been up from guests
/// that read the physical counter anyway, and emulators before QEMU 8.2 stand still for good when a guest's deadline
/// and the offset add up beyond 2^64.
const CLOCK: VmClock = VmClock::starting_at(0);

/// What a machine is built from.
pub struct Builder<'a, 'b> {
    boot: &'a Boot,
    host: &'a Host,
    ledger: &'a mut Ledger<'b, Owner>,
    arena: &'a mut Arena,
    geometry: Geometry,
    pa_range: u8,
    memory_ticks: u64,
    epoch: u64,
}

/// A guest's memory: frames and tables.
struct Memory {
    ram: GuestRam,
    flash: Option<GuestRam>,
    tables: GuestTables,
    files: &'static [File],
    lines: devices::Lines,
    #[cfg(feature = "virtio")]
    virtio: &'static virtio::Devices,
}

impl<'a, 'b> Builder<'a, 'b> {
    /// A builder for this computer.
    pub fn new(boot: &'a Boot, ledger: &'a mut Ledger<'b, Owner>, arena: &'a mut Arena) -> Self {
        let host = &boot.machine;
        let pa_bits = mmu::physical_bits();
        let (ipa_bits, pa_range) = if pa_bits >= IPA_BITS {
            (IPA_BITS, 2)
        } else {
            (pa_bits.min(36), u8::from(pa_bits >= 36))
        };
        let geometry = match Geometry::new(ipa_bits, pa_bits) {
            Ok(geometry) => geometry,
            Err(error) => fault::refuse(format_args!("stage 2: {error}")),
        };
        Self {
            boot,
            host,
            ledger,
            arena,
            geometry,
            pa_range,
            memory_ticks: 0,
            epoch: boot.epoch,
        }
    }

    /// Counter ticks spent on guests' memory so far: scrubbing and loading.
    pub fn memory_ticks(&self) -> u64 {
        self.memory_ticks
    }

    /// Builds every machine of the plan. `None` when the arena is too small.
    pub fn machines(&mut self, bundle: &Bundle<'static>) -> Option<&'static mut [Vm]> {
        let width = if mmu::wide_vmids() {
            VmidWidth::Sixteen
        } else {
            VmidWidth::Eight
        };
        let guests: PerGuest<GuestPlan<'_, 'static>> = bundle.plan().guests().collect();
        let mut memories = self.memories(bundle, &guests, width);
        prove_disjoint(&guests, &memories);
        let mut seats = PerGuest::new();
        let mut variables = PerGuest::new();
        for guest in &guests {
            seats.push(self.seats(guest)?);
            let words = if guest.flash().is_some() {
                VARIABLES_WORDS
            } else {
                0
            };
            variables.push(self.arena.alloc_slice(words, |_| u32::MAX)?);
        }
        let common = Common {
            vtcr: self.geometry.vtcr(width),
            ids: IdRegs::sanitise(
                &alike::id,
                Limits {
                    pa_range: self.pa_range,
                },
            ),
            features: Features::of_host(id_register(7, 1), id_register(4, 1)),
            workarounds: alike::workarounds(),
            epoch: self.epoch,
        };
        self.arena.alloc_slice(guests.len(), |index| {
            let memory = memories.get_mut(index).and_then(Option::take);
            let variables = variables.get_mut(index).map(core::mem::take);
            let variables = variables.unwrap_or_default();
            match (guests.get(index), memory, seats.get(index)) {
                (Some(guest), Some(memory), Some(seats)) => {
                    common.vm(guest, memory, seats, variables)
                }
                _ => fault::refuse(format_args!("machine {index} was not built")),
            }
        })
    }

    /// RAM, tables and VMID of every guest, its files in place.
    fn memories(
        &mut self,
        bundle: &Bundle<'static>,
        guests: &PerGuest<GuestPlan<'_, 'static>>,
        width: VmidWidth,
    ) -> PerGuest<Option<Memory>> {
        // A machine keeps its tag for life, so nobody asks for one later.
        let mut vmids = VmidAllocator::<CPUS>::new(width);
        let mut memories = PerGuest::new();
        #[cfg(feature = "virtio")]
        let common = {
            let room = &mut virtio::Room {
                boot: self.boot,
                ledger: self.ledger,
                arena: self.arena,
            };
            virtio::Common::prepare(bundle, room)
        };
        for guest in guests {
            let mut memory = self.memory(
                bundle,
                guest,
                #[cfg(feature = "virtio")]
                &common,
            );
            let started = timer::now();
            fill(guest, &memory);
            let took = timer::now().saturating_sub(started);
            self.memory_ticks = self.memory_ticks.saturating_add(took);
            tag(&mut vmids, guest, &mut memory.tables);
            memories.push(Some(memory));
        }
        memories
    }

    /// A guest's lanes, as other CPUs see them.
    fn seats(&mut self, guest: &GuestPlan) -> Option<&'static [Seat]> {
        let cpus: arrayvec::ArrayVec<u32, { vcpu_board::MAX_LANES }> =
            guest.lanes().map(|lane| lane.cpu).collect();
        let host = self.host;
        let sgi = |lane: usize, sgi| cpus.get(lane).map_or(0, |cpu| sgi_to(host, *cpu, sgi));
        let seats = self.arena.alloc_slice(cpus.len(), |lane| {
            let sgi = |number| sgi(lane, number);
            Seat::new(sgi(gic::KICK_SGI), sgi(gic::CALL_SGI), sgi(gic::WAKE_SGI))
        })?;
        Some(seats)
    }

    /// Frames and tables of a guest.
    fn memory(
        &mut self,
        bundle: &Bundle<'static>,
        guest: &GuestPlan<'_, 'static>,
        #[cfg(feature = "virtio")] common: &virtio::Common,
    ) -> Memory {
        let name = guest.name();
        let plan = guest.ram();
        let ram = self.frames(guest);
        let Ok(window) = IpaRegion::from_bytes(Ipa::new(plan.ipa), plan.size) else {
            fault::refuse(format_args!("guest {name}: its RAM's bounds make no sense"));
        };
        let flash = self.flash(bundle, guest);
        let mut parts = arrayvec::ArrayVec::<Part, PARTS>::new();
        parts.push((window, ram.region(), Attrs::normal(Access::RWX)));
        parts.extend(flash.as_ref().and_then(flash_window));
        let mut lines = devices::Lines::new();
        for device in guest.devices() {
            let part = devices::claim(self.boot, self.ledger, guest, &device, &mut lines);
            // The plan's reader has counted them.
            let _ = parts.try_push(part);
        }
        let mut tables = self.tables(name, vm_id(guest), &parts);
        for (window, region, attrs) in &parts {
            if let Err(error) = tables.map(&mut TableFrames, *window, region.base(), *attrs) {
                fault::refuse(format_args!(
                    "guest {name}: {window} cannot be mapped: {error}"
                ));
            }
        }
        let files = self.files(bundle, guest);
        #[cfg(feature = "virtio")]
        let virtio = {
            let room = &mut virtio::Room {
                boot: self.boot,
                ledger: self.ledger,
                arena: self.arena,
            };
            common.build(room, guest, &ram)
        };
        Memory {
            ram,
            flash,
            tables,
            files,
            lines,
            #[cfg(feature = "virtio")]
            virtio,
        }
    }

    /// A guest's firmware in frames of its own. It never changes, so a guest that begins anew finds it as it was.
    fn flash(&mut self, bundle: &Bundle<'static>, guest: &GuestPlan) -> Option<GuestRam> {
        let segment = guest.flash()?;
        let pages = PageCount::covering(segment.len);
        let owner = Owner::Guest(vm_id(guest));
        let region = self.ledger.allocate(&self.host.ram, pages, owner).ok();
        let flash = region.and_then(Grant::take).map(GuestRam::new);
        let bytes = bundle.segment(&segment).unwrap_or(&[]);
        let filled = flash.as_ref().and_then(|flash| {
            flash.scrub(0, flash.region().bytes())?;
            flash.write(0, bytes)?;
            flash.hand_over(0, flash.region().bytes())
        });
        if filled.is_none() {
            fault::refuse(format_args!(
                "guest {}: no free RAM for its firmware",
                guest.name()
            ));
        }
        flash
    }

    /// What a guest is loaded from, for the first time and every time that it begins anew.
    fn files(&mut self, bundle: &Bundle<'static>, guest: &GuestPlan) -> &'static [File] {
        let files: arrayvec::ArrayVec<File, { configs_plan::MAX_SEGMENTS }> = guest
            .loads()
            .map(|segment| File {
                offset: segment.ipa.saturating_sub(RAM_BASE),
                bytes: bundle.segment(&segment).unwrap_or(&[]),
            })
            .collect();
        let nothing = File {
            offset: 0,
            bytes: &[],
        };
        let copy = |index: usize| files.get(index).copied().unwrap_or(nothing);
        match self.arena.alloc_slice(files.len(), copy) {
            Some(files) => files,
            None => fault::refuse(format_args!(
                "guest {}: EL2's arena is too small for its files",
                guest.name()
            )),
        }
    }

    /// A guest's frames: those that [`claim_pinned`] has claimed for it, or any.
    fn frames(&mut self, guest: &GuestPlan) -> GuestRam {
        let owner = Owner::Guest(vm_id(guest));
        let pages = PageCount::covering(guest.ram().size);
        let region = match guest.ram().host {
            Some(_) => pinned(guest).filter(|region| self.ledger.owns(owner, region)),
            None => self.ledger.allocate(&self.host.ram, pages, owner).ok(),
        };
        match region.and_then(Grant::take) {
            Some(grant) => GuestRam::new(grant),
            None => refuse_ram(guest),
        }
    }

    fn tables(&mut self, name: &str, id: VmId, parts: &[Part]) -> GuestTables {
        let shape = self.geometry.shape();
        let root = shape.root_pages().raw();
        let each = |(window, host, _): &Part| {
            shape.tables_to_map(window.base().raw(), host.base().raw(), window.bytes())
        };
        // The root may have to skip frames to be aligned to its own size.
        let needed = 2 * root + parts.iter().map(each).sum::<u64>();
        let quota = self
            .ledger
            .allocate(&self.host.ram, PageCount::new(needed), Owner::Tables(id))
            .ok()
            .and_then(Grant::take)
            .map(Grant::into_quota);
        let Some(quota) = quota else {
            fault::refuse(format_args!("guest {name}: no RAM for its tables"));
        };
        match GuestTables::new(self.geometry, quota, &mut TableFrames) {
            Ok(tables) => tables,
            Err(error) => fault::refuse(format_args!("guest {name}: its tables: {error}")),
        }
    }
}

/// Where firmware is seen, and where it is.
fn flash_window(flash: &GuestRam) -> Option<Part> {
    let region = flash.region();
    let window = IpaRegion::from_bytes(Ipa::new(FLASH_BASE), region.bytes()).ok()?;
    Some((window, region, Attrs::normal(Access::RX)))
}

/// Puts a guest's memory into the state it starts in.
fn fill(guest: &GuestPlan, memory: &Memory) {
    let mut fill = Fill::START;
    while fill != Fill::Done {
        fill = match fill.step(&memory.ram, memory.files, !0xFFF) {
            Some(next) => next,
            None => fault::refuse(format_args!(
                "guest {}: a file of it is outside its RAM",
                guest.name()
            )),
        };
    }
}

/// Gives a guest its VMID, on every CPU that will run it.
fn tag(vmids: &mut VmidAllocator<CPUS>, guest: &GuestPlan, tables: &mut GuestTables) {
    let mut slot = VmidSlot::new();
    for lane in guest.lanes() {
        let cpu = usize::try_from(lane.cpu).unwrap_or(usize::MAX);
        loop {
            match vmids.acquire(cpu, &mut slot) {
                Ok(Lease::Ready(vmid)) => {
                    tables.set_vmid(vmid);
                    break;
                }
                Ok(Lease::FlushFirst(debt)) => {
                    let receipt = debt.pay(&AllTlbs);
                    if let Err(error) = vmids.settle(receipt) {
                        fault::refuse(format_args!("guest {}: {error}", guest.name()));
                    }
                }
                Err(error) => fault::refuse(format_args!("guest {}: {error}", guest.name())),
            }
        }
    }
}

/// Walks the live tables of all guests, each once: no frame is in two of them. What the ledger promises is seen here
/// to be so.
fn prove_disjoint(guests: &[GuestPlan], memories: &[Option<Memory>]) {
    let mut seen = arrayvec::ArrayVec::<(&str, HostRegion), RUNS>::new();
    for (guest, memory) in guests.iter().zip(memories.iter().flatten()) {
        let name = guest.name();
        for run in memory.tables.runs(&TableFrames) {
            say!("guest {name}: memory {run}");
            for (other, theirs) in &seen {
                if let Some(shared) = stage2::shared_frames([run.host], [*theirs]) {
                    fault::refuse(format_args!(
                        "guests {other} and {name} would share {shared}"
                    ));
                }
            }
            if seen.try_push((name, run.host)).is_err() {
                fault::refuse(format_args!(
                    "guest {name}: memory in more pieces than can be compared"
                ));
            }
        }
    }
}

/// Only for the interrupt controller's constant, which the reports name too.
const _: () = assert!(gic::KICK_SGI == vcpu::hot::KICK);
