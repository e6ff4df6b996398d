//! Makes the virtio devices of machines, as the plan has them.

use configs_plan::{
    Bundle, GuestPlan, Lint as Watched, MAX_DISKS, MAX_VIRTIO, VirtioDevice, VirtioPlan,
};
use hypervisor_arch::fault;
use hypervisor_arch::memory::GuestRam;
use hypervisor_arch::reach::Reach;
use spin::Once;
use spin::mutex::TicketMutex;
use stage2_addr::Ipa;
use vcpu::machine::Machine;
use vcpu::virtio::SLOTS;
use vcpu_board::RAM_BASE;
use virtio::balloon::Balloon;
use virtio::blk::{Blk, ID_BYTES, Job, Shape};
use virtio::console::Console;
use virtio::faults::{Clock, FaultyDisk, Link};
use virtio::features::Features;
use virtio::lint::{Lint, Subject};
use virtio::mmio::{Offer, Transport};
use virtio::net::Net;
use virtio::rng::Rng;
use virtio::vsock::Vsock;

use super::disks::{self, AnyDisk, Disks, Room};
use super::fabric::{self, Fabric};
use super::sources::{Pages, Pool};
use super::terminal::Mux;
use super::trouble::{self, Trouble};
use super::watcher::Watcher;
use super::{Any, Devices, Inner, PART_JOBS, Slot, hardware, sockets};

/// The largest queue of a source of random numbers.
const RNG_QUEUE_MAX: u16 = 16;
/// The largest queue of a disk.
const QUEUE_MAX: u16 = 256;

/// What devices take of EL2's arena, at most.
pub fn arena_bytes(bundle: &Bundle<'_>) -> u64 {
    let mut bytes = hardware::arena_bytes(bundle) + fabric::arena_bytes(bundle);
    let disks: arrayvec::ArrayVec<u64, MAX_DISKS> = bundle
        .plan()
        .disks()
        .map(|plan| disks::arena_bytes(&plan))
        .collect();
    for guest in bundle.plan().guests() {
        bytes += size_of::<Devices>() as u64 + 64;
        for one in guest.virtio() {
            if guest.has_faults() {
                bytes += trouble::ARENA_BYTES + size_of::<FaultyDisk<'_, AnyDisk>>() as u64;
            }
            if is_watched(&guest) {
                bytes += size_of::<Watcher>() as u64 + 64;
            }
            bytes += size_of::<Slot>() as u64 + 64 + device_bytes(&one.device);
            if let VirtioDevice::Block { disk, .. } = one.device {
                let disk = usize::try_from(disk).ok().and_then(|disk| disks.get(disk));
                bytes += disk.copied().unwrap_or(0);
            }
        }
    }
    bytes
}

/// Whether somebody watches a guest's devices.
fn is_watched(guest: &GuestPlan<'_, '_>) -> bool {
    guest.virtio_lint() != Watched::Off || guest.is_virtio_traced()
}

fn device_bytes(device: &VirtioDevice) -> u64 {
    let bytes = match device {
        VirtioDevice::Console => size_of::<Console<Mux>>(),
        VirtioDevice::Block { .. } => {
            size_of::<Blk<'_, AnyDisk>>() + PART_JOBS * size_of::<Job>() + 64
        }
        VirtioDevice::Net { .. } => size_of::<Net<'_, Reach>>(),
        VirtioDevice::Entropy => size_of::<Rng<Pool>>(),
        VirtioDevice::Balloon => size_of::<Balloon<Pages>>(),
        VirtioDevice::Vsock { .. } => size_of::<Vsock<'_, Reach>>(),
    };
    bytes as u64 + 64
}

/// What the devices of all machines have in common.
pub struct Common {
    disks: Disks,
    fabric: &'static Fabric,
}

impl Common {
    /// Prepares disks and networks of a plan.
    pub fn prepare(bundle: &Bundle<'static>, room: &mut Room<'_, '_>) -> Self {
        let hardware = hardware::open(bundle, room.boot, room.ledger, room.arena);
        let disks = Disks::prepare(bundle, hardware.drives, room);
        match Fabric::prepare(bundle, room.arena, hardware.card) {
            Some(fabric) => {
                sockets::open(fabric);
                Self { disks, fabric }
            }
            None => fault::refuse(format_args!("EL2's arena is too small for its networks")),
        }
    }

    /// The virtio devices of a machine.
    pub fn build(
        &self,
        room: &mut Room<'_, '_>,
        guest: &GuestPlan<'_, 'static>,
        ram: &GuestRam,
    ) -> &'static Devices {
        let memory = Reach::guest(ram, Ipa::new(RAM_BASE));
        let mut builder = Builder {
            room,
            common: self,
            memory,
        };
        match builder.devices(guest) {
            Some(devices) => devices,
            None => fault::refuse(format_args!(
                "guest {}: no room for its virtio devices",
                guest.name()
            )),
        }
    }
}

/// What a guest's devices offer its drivers.
fn offer(plan: configs_plan::Offer) -> Offer {
    let configs_plan::Offer {
        withheld,
        queue_size,
    } = plan;
    Offer {
        mask: Features::from_bits_retain(!withheld),
        queue_max: match queue_size {
            0 => Offer::ALL.queue_max,
            size => size,
        },
    }
}

/// What devices are made from.
struct Builder<'a, 'b, 'c> {
    room: &'a mut Room<'b, 'c>,
    common: &'a Common,
    memory: Reach,
}

impl Builder<'_, '_, '_> {
    fn devices(&mut self, guest: &GuestPlan<'_, 'static>) -> Option<&'static Devices> {
        let plans: arrayvec::ArrayVec<VirtioPlan, MAX_VIRTIO> = guest.virtio().collect();
        let machine: &'static Once<&'static Machine> = self.room.arena.alloc(Once::new())?;
        let mut index = [u8::MAX; SLOTS];
        let mut made = arrayvec::ArrayVec::<Slot, MAX_VIRTIO>::new();
        for plan in &plans {
            let number = usize::try_from(plan.slot).ok()?;
            *index.get_mut(number)? = u8::try_from(made.len()).ok()?;
            let trouble = match trouble::of(guest, plan.slot) {
                Some(faults) => Some(Trouble {
                    faults,
                    clock: self.room.arena.alloc(Clock::new())?,
                }),
                None => None,
            };
            let device = self.device(guest, plan, machine, trouble)?;
            let device = match trouble {
                Some(trouble) => self.disturb(guest, plan, trouble, device)?,
                None => device,
            };
            let transport = Transport::new(offer(guest.offer()));
            let watcher = match is_watched(guest) {
                true => Some(self.watcher(guest, plan, &transport, device)?),
                false => None,
            };
            let inner = TicketMutex::new(Inner {
                transport,
                device,
                watcher,
            });
            made.push(Slot {
                number,
                inner,
                due: u64::MAX.into(),
            });
        }
        let mut made = made.into_iter();
        let nothing = || fault::refuse(format_args!("a virtio device was not made"));
        let slots = self
            .room
            .arena
            .alloc_slice(plans.len(), |_| made.next().unwrap_or_else(nothing))?;
        let slot_of = |device| {
            let plan = plans.iter().find(|plan| plan.device == device)?;
            usize::try_from(plan.slot).ok()
        };
        let devices = Devices {
            memory: self.memory,
            slots,
            index,
            console: slot_of(VirtioDevice::Console),
            balloon: slot_of(VirtioDevice::Balloon),
            pending: 0.into(),
            turn: 0.into(),
            resume: 0.into(),
            awaited_by: 0.into(),
            is_timed: guest.has_faults(),
            due: u64::MAX.into(),
            machine,
            fabric: self.common.fabric,
            ports: self.common.fabric.ports_of(guest.index()),
        };
        self.room.arena.alloc(devices).map(|devices| {
            let devices = &*devices;
            if let Some(owner) = self.common.fabric.owner(guest.index()) {
                owner.call_once(|| devices);
            }
            devices
        })
    }

    fn device(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        plan: &VirtioPlan,
        machine: &'static Once<&'static Machine>,
        trouble: Option<Trouble>,
    ) -> Option<&'static mut Any> {
        Some(match &plan.device {
            VirtioDevice::Console => {
                let console = self.room.arena.alloc(Console::new())?;
                console.add(Mux::new(guest.name(), machine));
                console
            }
            VirtioDevice::Block { disk, is_readonly } => {
                self.block(guest, plan.slot, (*disk, *is_readonly), trouble)?
            }
            VirtioDevice::Net { .. } => self.net(guest, plan.slot)?,
            VirtioDevice::Entropy if !Pool::is_there() => fault::refuse(format_args!(
                "guest {}: `rng`: neither this machine's CPUs nor its loader have random numbers",
                guest.name()
            )),
            VirtioDevice::Entropy => self.room.arena.alloc(Rng::new(Pool, RNG_QUEUE_MAX))?,
            VirtioDevice::Balloon => self.room.arena.alloc(Balloon::new(Pages(self.memory)))?,
            VirtioDevice::Vsock { .. } => self.vsock(guest, plan.slot)?,
        })
    }

    /// A device behind its faults.
    fn disturb(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        plan: &VirtioPlan,
        trouble: Trouble,
        device: &'static mut Any,
    ) -> Option<&'static mut Any> {
        let fabric = self.common.fabric;
        let port = fabric.port(guest.index(), plan.slot);
        let port = port.and_then(|port| fabric.switch.port(port));
        let link = port.map(|port| port as &(dyn Link + Sync));
        let is_disk = matches!(plan.device, VirtioDevice::Block { .. });
        trouble.around(device, is_disk, link, self.room.arena)
    }

    /// Who watches a device and its driver.
    fn watcher(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        plan: &VirtioPlan,
        transport: &Transport,
        device: &Any,
    ) -> Option<&'static mut Watcher> {
        let mut sectors = [0; 8];
        let name = match &plan.device {
            VirtioDevice::Block { disk, .. } => {
                device.read_config(0, &mut sectors);
                self.common.disks.name(*disk)
            }
            VirtioDevice::Net { .. } => "net",
            VirtioDevice::Console => "console",
            VirtioDevice::Entropy => "rng",
            VirtioDevice::Balloon => "balloon",
            VirtioDevice::Vsock { .. } => "vsock",
        };
        let is_linted = guest.virtio_lint() != Watched::Off;
        let lint = is_linted.then(|| {
            Lint::new(Subject {
                id: device.id(),
                offered: transport.offered::<Reach>(device),
                sectors: u64::from_le_bytes(sectors),
            })
        });
        let watcher = Watcher::new(guest, name, lint);
        self.room.arena.alloc(watcher)
    }

    /// The socket device of a guest.
    fn vsock(&mut self, guest: &GuestPlan<'_, 'static>, slot: u32) -> Option<&'static mut Any> {
        let sockets = &self.common.fabric.sockets;
        let mut places = sockets.places.iter();
        let station = places.position(|place| place.is(guest.index(), slot))?;
        let vsock = Vsock::new(&sockets.exchange, station, self.memory)?;
        Some(self.room.arena.alloc(vsock)?)
    }

    /// A card in its port, with a pair of queues for each lane.
    fn net(&mut self, guest: &GuestPlan<'_, 'static>, slot: u32) -> Option<&'static mut Any> {
        let fabric = self.common.fabric;
        let port = fabric.port(guest.index(), slot)?;
        let pairs = u8::try_from(guest.lanes().count()).unwrap_or(1);
        let net = Net::new(&fabric.switch, port, self.memory, pairs)?;
        Some(self.room.arena.alloc(net)?)
    }

    /// A block device over a disk (its number, and whether this guest may not write there), with a queue for each lane.
    fn block(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        slot: u32,
        (number, is_readonly): (u32, bool),
        trouble: Option<Trouble>,
    ) -> Option<&'static mut Any> {
        let (vm, slot) = (usize::try_from(guest.index()), usize::try_from(slot));
        let place = (vm.ok()?, slot.ok()?);
        let disks = &self.common.disks;
        let disk = disks.open(number, is_readonly, place, self.room)?;
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(disks.name(number).bytes()) {
            *to = from;
        }
        let shape = Shape {
            id,
            queues: u16::try_from(guest.lanes().count()).unwrap_or(1),
            queue_max: QUEUE_MAX,
        };
        let arena = &mut *self.room.arena;
        // A disk with faults holds requests back.
        let count = trouble.map_or(disk.jobs(), |_| PART_JOBS);
        let jobs = arena.alloc_slice(count, |_| Job::new())?;
        Some(match trouble {
            None => arena.alloc(Blk::new::<Reach>(disk, shape, jobs))?,
            Some(Trouble { faults, clock }) => {
                let disk = FaultyDisk::new(disk, faults, clock);
                arena.alloc(Blk::new::<Reach>(disk, shape, jobs))?
            }
        })
    }
}
