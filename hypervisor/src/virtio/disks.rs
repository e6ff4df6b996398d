//! The disks of a plan, and what a guest's device does with one.

use configs_plan::{Bundle, DiskKind, DiskPlan, Image, MAX_DISKS, SECTOR};
use domain_hv::Owner;
use hypervisor_arch::fault;
use hypervisor_arch::memory::{Grant, GuestRam};
use hypervisor_arch::reach::Reach;
use stage2::Ledger;
use stage2_addr::{HostRegion, Ipa, PageCount};
use virtio::blk::{Disk, Facts, Outcome, RamDisk, ReadOnly, Request, Status, Token};
use virtio::chain::Cursor;

/// What memory for disks is taken from.
pub struct Room<'a, 'b> {
    pub ledger: &'a mut Ledger<'b, Owner>,
    pub ram: &'a [HostRegion],
}

/// Where the sectors of each disk are.
pub struct Disks(arrayvec::ArrayVec<(&'static str, Home), MAX_DISKS>);

enum Home {
    Ram(RamDisk<Reach>),
    Image(&'static [u8]),
    /// Not of a kind that there is.
    Nowhere,
}

impl Disks {
    /// Prepares the disks of a plan: those in memory of their own are filled.
    pub fn prepare(bundle: &Bundle<'static>, room: &mut Room<'_, '_>) -> Self {
        let homes = bundle
            .plan()
            .disks()
            .map(|plan| (plan.name, home(bundle, room, &plan)));
        Self(homes.collect())
    }

    /// The name of a disk.
    pub fn name(&self, disk: u32) -> &'static str {
        let disk = usize::try_from(disk).ok().and_then(|disk| self.0.get(disk));
        disk.map_or("", |(name, _)| *name)
    }

    /// A disk, as a guest has it.
    pub fn open(&self, disk: u32, is_readonly: bool) -> Option<AnyDisk> {
        let (_, home) = self.0.get(usize::try_from(disk).ok()?)?;
        let kind = match home {
            Home::Ram(disk) => Kind::Ram(*disk),
            Home::Image(bytes) => Kind::Image(ReadOnly::new(bytes)),
            Home::Nowhere => return None,
        };
        Some(AnyDisk { kind, is_readonly })
    }
}

fn home(bundle: &Bundle<'static>, room: &mut Room<'_, '_>, plan: &DiskPlan<&str>) -> Home {
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
        DiskKind::Snapshot { .. } | DiskKind::Machine { .. } => Home::Nowhere,
    }
}

/// Memory for a disk, with an image at its beginning and zeros after it.
fn memory(room: &mut Room<'_, '_>, sectors: u64, image: &[u8]) -> Option<RamDisk<Reach>> {
    let pages = PageCount::covering(sectors.checked_mul(SECTOR)?);
    let region = room
        .ledger
        .allocate(room.ram, pages, Owner::Hypervisor)
        .ok()?;
    let ram = GuestRam::new(Grant::take(region)?);
    ram.scrub(0, region.bytes())?;
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
}

impl AnyDisk {
    fn disk(&self) -> &dyn Disk<Reach> {
        match &self.kind {
            Kind::Ram(disk) => disk,
            Kind::Image(disk) => disk,
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
        }
    }

    fn finished(&mut self) -> Option<Token> {
        None
    }

    fn collect(&mut self, _: Token, _: Option<(Cursor<'_>, &Reach)>) -> Status {
        Status::IoError
    }
}
