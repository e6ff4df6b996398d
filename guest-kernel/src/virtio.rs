//! The machine's virtio devices, each put through its paces by the driver of the crate `virtio-drivers`.

mod console;
mod disk;
mod net;
mod socket;

use crate::shared::Shared;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel_arch::virtio::{Hal, Slot};
use guest_kernel_arch::{cpu, gic, say, timer};
use guest_kernel_core::check::Failure;
use guest_kernel_core::machine::{MAX_VIRTIO, Machine};
use guest_kernel_core::virtio::random::{self, Choices};
use guest_kernel_core::virtio::transport::Checked;
use guest_kernel_core::virtio::{Kind, Wrong, disk as model};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};

/// The way to a device.
type Way<'t> = Checked<MmioTransport<'t>>;

/// How many interrupts each slot has sent.
static ARRIVED: [AtomicU32; MAX_VIRTIO] = [const { AtomicU32::new(0) }; MAX_VIRTIO];

/// Notes an interrupt, if it is a slot's.
pub fn note(machine: &Machine<'_>, intid: u32) -> bool {
    let slot = machine.virtio.iter().position(|slot| slot.intid == intid);
    let arrived = slot.and_then(|slot| ARRIVED.get(slot));
    arrived.is_some_and(|arrived| {
        arrived.fetch_add(1, Ordering::Release);
        true
    })
}

/// What a device has to do, and by which choices.
struct Task<'s> {
    shared: &'s Shared,
    choices: Choices,
    arrived: &'static AtomicU32,
}

impl Task<'_> {
    /// How many interrupts its slot has sent.
    fn interrupts(&self) -> u32 {
        self.arrived.load(Ordering::Acquire)
    }

    /// Sleeps until the device interrupts, or for so long.
    fn sleep(&self, ms: u64, done: impl Fn() -> bool) {
        let until = timer::after_ms(ms);
        cpu::wait(until, until, done);
    }
}

/// Checks the devices that the command line names.
pub fn check(shared: &Shared, slots: &mut [Slot]) -> Result<(), Failure> {
    for kind in shared.options.virtio.iter() {
        let mut count = 0;
        for (slot, arrived) in slots.iter_mut().zip(&ARRIVED) {
            let wrong = |wrong| Failure::Virtio { kind, wrong };
            let intid = slot.intid();
            let Some(transport) = slot.open().filter(|one| one.device_type() == number(kind))
            else {
                continue;
            };
            if let Err(error) = gic::init_device(intid) {
                say!("virtio: {}: interrupt {intid}: {error}", kind.name());
                return Err(wrong(Wrong::Driver));
            }
            let choices = Choices::new(shared.machine.name);
            let mut task = Task {
                shared,
                choices,
                arrived,
            };
            let transport = Checked::new(transport, !shared.options.unchecked);
            one(kind, transport, &mut task).map_err(wrong)?;
            count += 1;
        }
        if count == 0 {
            let wrong = Wrong::Absent;
            return Err(Failure::Virtio { kind, wrong });
        }
    }
    Ok(())
}

fn number(kind: Kind) -> DeviceType {
    match kind {
        Kind::Blk => DeviceType::Block,
        Kind::Net => DeviceType::Network,
        Kind::Console => DeviceType::Console,
        Kind::Rng => DeviceType::EntropySource,
        Kind::Vsock => DeviceType::Socket,
    }
}

fn one(kind: Kind, transport: Way<'_>, task: &mut Task<'_>) -> Result<(), Wrong> {
    match kind {
        Kind::Blk => disk::check(transport, task)?,
        Kind::Net => net::check(transport, task)?,
        Kind::Console => console::check(transport, task)?,
        Kind::Rng => entropy(transport, task)?,
        // Its driver acknowledges no interrupt, so there may be but one.
        Kind::Vsock => return socket::check(transport, task),
    }
    // An interrupt may still be on its way.
    task.sleep(100, || task.interrupts() > 0);
    match task.interrupts() {
        0 => Err(Wrong::Silent),
        _ => Ok(()),
    }
}

/// Says what a driver said.
fn gave_up(kind: Kind) -> impl Fn(virtio_drivers::Error) -> Wrong {
    move |error| {
        say!("virtio: {}: {error}", kind.name());
        Wrong::Driver
    }
}

fn entropy(transport: Way<'_>, task: &Task<'_>) -> Result<(), Wrong> {
    let gave_up = gave_up(Kind::Rng);
    let mut rng = VirtIORng::<Hal, _>::new(transport).map_err(&gave_up)?;
    let given = random::check(|bytes| {
        let count = rng.request_entropy(bytes).map_err(&gave_up);
        let _ = rng.ack_interrupt();
        count
    })?;
    let interrupts = task.interrupts();
    say!("virtio: rng: {given} bytes, {interrupts} interrupts");
    Ok(())
}
