//! The disks of a plan, and what a guest's device does with one.

use configs_plan::{Bundle, DiskKind, DiskPlan, Image, MAX_DISKS, SECTOR};
use domain_hv::Owner;
use hypervisor_arch::boot::Boot;
use hypervisor_arch::fault;
use hypervisor_arch::memory::{Arena, Grant, GuestRam};
use hypervisor_arch::reach::Reach;
use stage2::Ledger;
use stage2_addr::{Ipa, PageCount};
use virtio::blk::{
    BLOCK, Disk, Facts, Outcome, RamDisk, ReadOnly, Request, Snapshot, Status, Token,
};
use virtio::chain::Cursor;

use super::PART_JOBS;
use super::drives::{self, Drives, Part};
use super::places::{self, Place};

/// What disks are made from.
pub struct Room<'a, 'b> {
    pub boot: &'a Boot,
    pub ledger: &'a mut Ledger<'b, Owner>,
    pub arena: &'a mut Arena,
}

/// Where the sectors of each disk are.
pub struct Disks(arrayvec::ArrayVec<(&'static str, Home), MAX_DISKS>);

enum Home {
    Ram(RamDisk<Reach>),
    Image(&'static [u8]),
    Machine(Place),
    Snapshot {
        image: &'static [u8],
        sectors: u64,
        memory: u64,
    },
    /// Not of a kind that there is.
    Nowhere,
}

impl Disks {
    /// Prepares the disks of a plan: those in memory of their own are filled.
    pub fn prepare(bundle: &Bundle<'static>, drives: Drives, room: &mut Room<'_, '_>) -> Self {
        let places = places::find(bundle, &drives);
        drives::open(drives);
        let plans = bundle.plan().disks().zip(places);
        let homes = plans.map(|(plan, place)| (plan.name, home(bundle, room, &plan, place)));
        Self(homes.collect())
    }

    /// The name of a disk.
    pub fn name(&self, disk: u32) -> &'static str {
        let disk = usize::try_from(disk).ok().and_then(|disk| self.0.get(disk));
        disk.map_or("", |(name, _)| *name)
    }

    /// A disk, as a guest has it in a slot: `place` is both. `None` when there is no such disk, no memory for it, or too many
    /// have it already.
    pub fn open(
        &self,
        disk: u32,
        is_readonly: bool,
        place: (usize, usize),
        room: &mut Room<'_, '_>,
    ) -> Option<AnyDisk> {
        let (_, home) = self.0.get(usize::try_from(disk).ok()?)?;
        let kind = match home {
            Home::Ram(disk) => Kind::Ram(*disk),
            Home::Image(bytes) => Kind::Image(ReadOnly::new(bytes)),
            Home::Machine(disk) => Kind::Part(disk.drive.join(disk.sectors, place.0, place.1)?),
            Home::Snapshot {
                image,
                sectors,
                memory,
            } => Kind::Snapshot(snapshot(image, *sectors, *memory, room)?),
            Home::Nowhere => return None,
        };
        let fixed = matches!(home, Home::Machine(place) if place.is_readonly);
        let is_readonly = is_readonly || fixed;
        Some(AnyDisk { kind, is_readonly })
    }
}

fn home(
    bundle: &Bundle<'static>,
    room: &mut Room<'_, '_>,
    plan: &DiskPlan<&str>,
    place: Option<Place>,
) -> Home {
    let bytes = |image: &Image<&str>| bundle.image(image).unwrap_or_default();
    match &plan.kind {
        DiskKind::Memory { image } => {
            let image = image.as_ref().map(bytes).unwrap_or_default();
            match memory(room, plan.sectors, image) {
                Some(disk) => Home::Ram(disk),
                None => fault::refuse(format_args!(
                    "disk {}: no {} KiB of free RAM",
                    plan.name,
                    plan.sectors / 2
                )),
            }
        }
        DiskKind::Readonly { image } => Home::Image(bytes(image)),
        DiskKind::Machine { .. } => place.map_or(Home::Nowhere, Home::Machine),
        DiskKind::Snapshot { image, memory } => Home::Snapshot {
            image: bytes(image),
            sectors: plan.sectors,
            memory: *memory,
        },
    }
}

/// What one guest has of a snapshot: the image, and memory of its own for what it writes.
fn snapshot(
    image: &'static [u8],
    sectors: u64,
    memory: u64,
    room: &mut Room<'_, '_>,
) -> Option<Snapshot<'static, Reach>> {
    let ram = zeroed(room, memory)?;
    let overlay = Reach::guest(&ram, Ipa::new(0));
    let blocks = usize::try_from(map_entries(sectors)).ok()?;
    let map = room.arena.alloc_slice(blocks, |_| 0)?;
    let room = u32::try_from(memory / BLOCK).ok()?;
    Snapshot::new(image, sectors, overlay, room, map)
}

/// How many entries the map of a snapshot has.
const fn map_entries(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR).div_ceil(BLOCK)
}

/// What each user of a disk takes of EL2's arena.
pub fn arena_bytes(plan: &DiskPlan<&str>) -> u64 {
    match plan.kind {
        DiskKind::Snapshot { .. } => map_entries(plan.sectors) * 4 + 64,
        DiskKind::Memory { .. } | DiskKind::Readonly { .. } | DiskKind::Machine { .. } => 0,
    }
}

/// Memory for something, with zeroes in it.
fn zeroed(room: &mut Room<'_, '_>, bytes: u64) -> Option<GuestRam> {
    let pages = PageCount::covering(bytes);
    let region = room
        .ledger
        .allocate(&room.boot.machine.ram, pages, Owner::Hypervisor);
    let ram = GuestRam::new(Grant::take(region.ok()?)?);
    ram.scrub(0, ram.region().bytes())?;
    Some(ram)
}

/// Memory for a disk, with an image at its beginning and zeros after it.
fn memory(room: &mut Room<'_, '_>, sectors: u64, image: &[u8]) -> Option<RamDisk<Reach>> {
    let ram = zeroed(room, sectors.checked_mul(SECTOR)?)?;
    ram.write(0, image)?;
    RamDisk::new(Reach::guest(&ram, Ipa::new(0)), sectors)
}

/// A disk of any kind.
pub struct AnyDisk {
    kind: Kind,
    /// The guest may not write, whoever else may.
    is_readonly: bool,
}

enum Kind {
    Ram(RamDisk<Reach>),
    Image(ReadOnly<'static>),
    Part(Part),
    Snapshot(Snapshot<'static, Reach>),
}

impl AnyDisk {
    /// How many requests it may have at a time.
    pub const fn jobs(&self) -> usize {
        match self.kind {
            Kind::Ram(_) | Kind::Image(_) | Kind::Snapshot(_) => 1,
            Kind::Part(_) => PART_JOBS,
        }
    }

    fn disk(&self) -> &dyn Disk<Reach> {
        match &self.kind {
            Kind::Ram(disk) => disk,
            Kind::Image(disk) => disk,
            Kind::Part(disk) => disk,
            Kind::Snapshot(disk) => disk,
        }
    }
}

impl Disk<Reach> for AnyDisk {
    fn facts(&self) -> Facts {
        let facts = self.disk().facts();
        Facts {
            readonly: facts.readonly || self.is_readonly,
            ..facts
        }
    }

    fn submit(
        &mut self,
        request: &Request,
        data: Cursor<'_>,
        memory: &Reach,
        token: Token,
    ) -> Outcome {
        match &mut self.kind {
            Kind::Ram(disk) => disk.submit(request, data, memory, token),
            Kind::Image(disk) => disk.submit(request, data, memory, token),
            Kind::Part(disk) => disk.submit(request, data, memory, token),
            Kind::Snapshot(disk) => disk.submit(request, data, memory, token),
        }
    }

    fn renew(&mut self) {
        if let Kind::Snapshot(disk) = &mut self.kind {
            disk.forget();
        }
    }

    fn finished(&mut self) -> Option<Token> {
        match &mut self.kind {
            Kind::Ram(_) | Kind::Image(_) | Kind::Snapshot(_) => None,
            Kind::Part(disk) => disk.finished(),
        }
    }

    fn collect(&mut self, token: Token, data: Option<(Cursor<'_>, &Reach)>) -> Status {
        match &mut self.kind {
            Kind::Ram(_) | Kind::Image(_) | Kind::Snapshot(_) => Status::IoError,
            Kind::Part(disk) => disk.collect(token, data),
        }
    }
}
