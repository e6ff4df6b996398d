//! Makes the virtio devices of machines, as the plan has them.

use configs_plan::{Bundle, GuestPlan, MAX_VIRTIO, VirtioDevice, VirtioPlan};
use hypervisor_arch::fault;
use hypervisor_arch::memory::{Arena, GuestRam};
use hypervisor_arch::reach::Reach;
use spin::Once;
use spin::mutex::TicketMutex;
use stage2_addr::Ipa;
use vcpu::machine::Machine;
use vcpu::virtio::SLOTS;
use vcpu_board::RAM_BASE;
use virtio::blk::{Blk, ID_BYTES, Job, Shape};
use virtio::console::Console;
use virtio::mmio::{Offer, Transport};

use super::disks::{AnyDisk, Disks};
use super::terminal::Mux;
use super::{Any, Devices, Inner, PART_JOBS, Slot, hardware};

/// The largest queue of a disk.
const QUEUE_MAX: u16 = 256;

/// What devices take of EL2's arena, at most.
pub fn arena_bytes(bundle: &Bundle<'_>) -> u64 {
    let mut bytes = hardware::arena_bytes(bundle);
    for guest in bundle.plan().guests() {
        bytes += size_of::<Devices>() as u64 + 64;
        for one in guest.virtio() {
            bytes += size_of::<Slot>() as u64 + 64 + device_bytes(&one.device);
        }
    }
    bytes
}

fn device_bytes(device: &VirtioDevice) -> u64 {
    let bytes = match device {
        VirtioDevice::Console => size_of::<Console<Mux>>(),
        VirtioDevice::Block { .. } => {
            size_of::<Blk<'_, AnyDisk>>() + PART_JOBS * size_of::<Job>() + 64
        }
        VirtioDevice::Net { .. }
        | VirtioDevice::Entropy
        | VirtioDevice::Balloon
        | VirtioDevice::Vsock { .. } => 0,
    };
    bytes as u64 + 64
}

/// The virtio devices of a machine.
pub fn build(
    arena: &mut Arena,
    disks: &Disks,
    guest: &GuestPlan<'_, 'static>,
    ram: &GuestRam,
) -> &'static Devices {
    match (Builder { arena, disks }).devices(guest, ram) {
        Some(devices) => devices,
        None => fault::refuse(format_args!(
            "guest {}: EL2's arena is too small for its virtio devices",
            guest.name()
        )),
    }
}

/// What devices are made from.
struct Builder<'a> {
    arena: &'a mut Arena,
    disks: &'a Disks,
}

impl Builder<'_> {
    fn devices(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        ram: &GuestRam,
    ) -> Option<&'static Devices> {
        let plans: arrayvec::ArrayVec<VirtioPlan, MAX_VIRTIO> = guest.virtio().collect();
        let machine: &'static Once<&'static Machine> = self.arena.alloc(Once::new())?;
        let mut index = [u8::MAX; SLOTS];
        let mut console = None;
        let mut made = arrayvec::ArrayVec::<Slot, MAX_VIRTIO>::new();
        for plan in &plans {
            let number = usize::try_from(plan.slot).ok()?;
            *index.get_mut(number)? = u8::try_from(made.len()).ok()?;
            if matches!(plan.device, VirtioDevice::Console) {
                console = Some(number);
            }
            let device = self.device(guest, plan, machine)?;
            let transport = Transport::new(Offer::ALL);
            let inner = TicketMutex::new(Inner { transport, device });
            made.push(Slot { number, inner });
        }
        let mut made = made.into_iter();
        let nothing = || fault::refuse(format_args!("a virtio device was not made"));
        let slots = self
            .arena
            .alloc_slice(plans.len(), |_| made.next().unwrap_or_else(nothing))?;
        let devices = Devices {
            memory: Reach::guest(ram, Ipa::new(RAM_BASE)),
            slots,
            index,
            console,
            pending: 0.into(),
            machine,
        };
        self.arena.alloc(devices).map(|devices| &*devices)
    }

    fn device(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        plan: &VirtioPlan,
        machine: &'static Once<&'static Machine>,
    ) -> Option<&'static mut Any> {
        Some(match &plan.device {
            VirtioDevice::Console => {
                let console = self.arena.alloc(Console::new())?;
                console.add(Mux::new(guest.name(), machine));
                console
            }
            VirtioDevice::Block { disk, is_readonly } => {
                self.block(guest, plan.slot, *disk, *is_readonly)?
            }
            VirtioDevice::Net { .. }
            | VirtioDevice::Entropy
            | VirtioDevice::Balloon
            | VirtioDevice::Vsock { .. } => fault::refuse(format_args!(
                "guest {}: no virtio device of kind {} yet",
                guest.name(),
                plan.device.number()
            )),
        })
    }

    /// A block device over a disk, with a queue for each lane.
    fn block(
        &mut self,
        guest: &GuestPlan<'_, 'static>,
        slot: u32,
        number: u32,
        is_readonly: bool,
    ) -> Option<&'static mut Any> {
        let (vm, slot) = (usize::try_from(guest.index()), usize::try_from(slot));
        let disk = self.disks.open(number, is_readonly, vm.ok()?, slot.ok()?)?;
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(self.disks.name(number).bytes()) {
            *to = from;
        }
        let shape = Shape {
            id,
            queues: u16::try_from(guest.lanes().count()).unwrap_or(1),
            queue_max: QUEUE_MAX,
        };
        let jobs = self.arena.alloc_slice(disk.jobs(), |_| Job::new())?;
        Some(self.arena.alloc(Blk::new::<Reach>(disk, shape, jobs))?)
    }
}
