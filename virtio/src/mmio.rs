//! virtio-mmio, version 2: the registers between a driver and its device (virtio 1.3, 4.2).
//!
//! The transport is strict where the specification is. What a driver must not do has no effect, or, where it cannot be
//! gone on from, the device needs a reset. It stands under its slot's lock, holds only claims of the driver, and lets the
//! device see nothing but proven queues, in an order that a device can rely on: `open` after features are agreed on,
//! `serve` and `poll` after `start`, nothing after `reset`.
//!
//! `InterruptStatus` and `InterruptACK` are not here: they read as zero and do nothing. Whoever has the word that both are
//! about answers them without a lock, sets the bits that [`Served`] asks for, and clears them all on [`Served::reset`].

pub(crate) mod register;
mod status;
#[cfg(test)]
mod tests;

pub use status::Status;

use crate::balloon::{Refusal, Standing, Wish};
use crate::device::{Device, Env, MAX_QUEUES, Served};
use crate::features::Features;
use crate::memory::GuestMemory;
use crate::queue::{Queue, QueueConfig};

/// What of a device is offered to its driver.
#[derive(Clone, Copy)]
pub struct Offer {
    /// The features among which the device's own and the transport's are offered. `VERSION_1` always is.
    pub mask: Features,
    /// The largest size of any queue: a power of two, or more than any device has.
    pub queue_max: u16,
}

impl Offer {
    /// All that there is.
    pub const ALL: Self = Self {
        mask: Features::all(),
        queue_max: u16::MAX,
    };
}

/// Features that belong to devices (2.2): the others are the transport's to offer.
const OWN: u64 = !0x0003_ffff_ff00_0000;

/// A queue of which the driver has said nothing.
const UNCLAIMED: QueueConfig = QueueConfig {
    size: 0,
    descriptors: 0,
    driver: 0,
    device: 0,
};

/// The registers of one slot.
pub struct Transport {
    offer: Offer,
    status: Status,
    /// Queues that the device has, one bit each.
    ready: u16,
    /// Those of them whose notifications count: all while the device works, and otherwise none.
    armed: u16,
    /// Those that had more to do.
    again: u16,
    /// The last of them that was served.
    turn: u16,
    /// The part of a notification that is the queue's number.
    notify_mask: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    /// The driver has accepted a feature above all that can be offered.
    foreign: bool,
    queue_sel: u32,
    generation: u32,
    claims: [QueueConfig; MAX_QUEUES],
}

impl Transport {
    /// The registers as after power-on.
    #[must_use]
    pub const fn new(offer: Offer) -> Self {
        Self {
            offer,
            status: Status::empty(),
            ready: 0,
            armed: 0,
            again: 0,
            turn: 0,
            notify_mask: u32::MAX,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            foreign: false,
            queue_sel: 0,
            generation: 0,
            claims: [UNCLAIMED; MAX_QUEUES],
        }
    }

    /// The device status field.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// What the driver has accepted, so far.
    #[must_use]
    pub const fn accepted(&self) -> Features {
        Features::from_bits_retain(self.driver_features)
    }

    /// A load. Registers are 32 bits wide and aligned (4.2.2.2): any other load of them is zero.
    pub fn read<M: GuestMemory>(&self, device: &dyn Device<M>, offset: u64, bytes: usize) -> u64 {
        if let Some(inside) = offset.checked_sub(register::CONFIG) {
            let mut raw = [0; 8];
            if let Some(wanted) = raw.get_mut(..bytes) {
                device.read_config(inside, wanted);
            }
            return u64::from_le_bytes(raw);
        }
        if bytes != 4 {
            return 0;
        }
        u64::from(self.register(device, offset))
    }

    fn register<M: GuestMemory>(&self, device: &dyn Device<M>, offset: u64) -> u32 {
        match offset {
            register::MAGIC_VALUE => register::MAGIC,
            register::VERSION => 2,
            register::DEVICE_ID => device.id(),
            register::VENDOR_ID => register::VENDOR,
            register::DEVICE_FEATURES => half(self.offered(device), self.device_features_sel),
            register::QUEUE_SIZE_MAX => self.selected(device).map_or(0, |(_, max)| u32::from(max)),
            register::QUEUE_READY => self
                .selected(device)
                .map_or(0, |(queue, _)| u32::from(self.ready >> queue & 1)),
            register::STATUS => self.status.bits(),
            // No region of shared memory exists: its length is all ones (4.2.2.1).
            register::SHM_LEN_LOW
            | register::SHM_LEN_HIGH
            | register::SHM_BASE_LOW
            | register::SHM_BASE_HIGH => u32::MAX,
            register::CONFIG_GENERATION => self.generation,
            // Among them QueueReset: a reset is over when the store that asked for it is.
            _ => 0,
        }
    }

    /// A store. Registers are 32 bits wide and aligned (4.2.2.2): any other store to them does nothing.
    pub fn write<M: GuestMemory>(
        &mut self,
        device: &mut dyn Device<M>,
        offset: u64,
        bytes: usize,
        value: u64,
        env: &mut Env<'_, M>,
    ) -> Served {
        if let Some(inside) = offset.checked_sub(register::CONFIG) {
            return self.write_config(device, inside, bytes, value, env);
        }
        let Ok(value) = u32::try_from(value & 0xffff_ffff) else {
            return Served::default();
        };
        if bytes != 4 {
            return Served::default();
        }
        match offset {
            register::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            register::DRIVER_FEATURES => self.accept(value),
            register::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            register::QUEUE_SEL => self.queue_sel = value,
            register::QUEUE_READY if value == 1 => return self.enable(device, env),
            register::QUEUE_READY if value == 0 => self.disable(device),
            register::QUEUE_NOTIFY => return self.notify(device, value, env),
            register::STATUS => return self.write_status(device, value),
            register::QUEUE_RESET if value == 1 => self.reset_queue(device),
            _ => self.claim(device, offset, value),
        }
        Served::default()
    }

    /// A store to `QueueNotify`.
    pub fn notify<M: GuestMemory>(
        &mut self,
        device: &mut dyn Device<M>,
        value: u32,
        env: &mut Env<'_, M>,
    ) -> Served {
        let queue = value & self.notify_mask;
        if u32::from(self.armed).checked_shr(queue).unwrap_or(0) & 1 == 0 {
            return Served::default();
        }
        let Ok(queue) = u16::try_from(queue) else {
            return Served::default();
        };
        let served = device.serve(queue, env);
        if served.broken | served.config | served.more {
            return self.settle_queue(queue, served);
        }
        served
    }

    /// Something may have happened outside, or a queue had more to do.
    pub fn poll<M: GuestMemory>(
        &mut self,
        device: &mut dyn Device<M>,
        env: &mut Env<'_, M>,
    ) -> Served {
        if !self.status.is_live() {
            return Served::default();
        }
        let mut served = Served {
            broken: device.is_broken(),
            ..Served::default()
        };
        // One queue each time: what a call may cost does not grow with their number.
        if let Some(queue) = self.next().filter(|_| !served.broken) {
            let one = device.serve(queue, env);
            served = served.and(self.settle_queue(queue, one));
        }
        if !served.broken {
            served = served.and(device.poll(env));
        }
        served.more |= self.again != 0;
        self.settle(served)
    }

    /// Does what its operator wants of a balloon for a guest with so much memory, and says how it is then.
    ///
    /// # Errors
    /// It is none, or the guest cannot be asked for that; nothing was done.
    pub fn balloon<M: GuestMemory>(
        &mut self,
        device: &mut dyn Device<M>,
        wish: Wish,
        memory: u64,
        env: &mut Env<'_, M>,
    ) -> Result<(Served, Standing), Refusal> {
        let is_driven = self.status.is_live();
        let wish = wish.judged(memory, is_driven)?;
        let (served, mut standing) = device.balloon(wish, env).ok_or(Refusal::NoBalloon)?;
        standing.is_driven = is_driven;
        Ok((self.settle(served), standing))
    }

    /// When the device wants to be polled at the latest: never, while it is not driven.
    pub fn due<M: GuestMemory>(&self, device: &dyn Device<M>) -> u64 {
        if self.status.is_live() {
            device.due()
        } else {
            u64::MAX
        }
    }

    /// All as after power-on, as the driver's writing zero to the status does it; a machine that begins anew needs it too.
    pub fn reset<M: GuestMemory>(&mut self, device: &mut dyn Device<M>) -> Served {
        device.reset();
        let generation = self.generation;
        *self = Self::new(self.offer);
        self.generation = generation;
        Served {
            reset: true,
            ..Served::default()
        }
    }

    /// What the driver may accept.
    pub fn offered<M: GuestMemory>(&self, device: &dyn Device<M>) -> u64 {
        let own = device.features() & OWN;
        let mut offered = (own | Features::RING.bits()) & self.offer.mask.bits();
        offered |= Features::VERSION_1.bits();
        let rules = device.dependencies();
        // What is taken away may be what another one needs, so as often as there are rules.
        for _ in rules {
            for rule in rules {
                if !rule.is_kept(offered) {
                    offered &= !rule.feature;
                }
            }
        }
        offered
    }

    /// Whether the device can work with what the driver has accepted (2.2.2).
    fn fits<M: GuestMemory>(&self, device: &dyn Device<M>) -> bool {
        let rules = device.dependencies();
        !self.foreign
            && self.driver_features & !self.offered(device) == 0
            && self.accepted().contains(Features::VERSION_1)
            && rules
                .iter()
                .all(|rule| rule.offer_only || rule.is_kept(self.driver_features))
    }

    /// The driver accepts 32 features, as long as they are not agreed on.
    fn accept(&mut self, value: u32) {
        if self.status.contains(Status::FEATURES_OK) {
            return;
        }
        let value = u64::from(value);
        match self.driver_features_sel {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            _ => self.foreign |= value != 0,
        }
    }

    fn write_status<M: GuestMemory>(&mut self, device: &mut dyn Device<M>, value: u32) -> Served {
        if value == 0 {
            return self.reset(device);
        }
        let written = Status::from_bits_truncate(value);
        let now = self.status.advance(written, self.fits(device));
        let new = now.difference(self.status);
        self.status = now;
        if new.contains(Status::FEATURES_OK)
            && self.accepted().contains(Features::NOTIFICATION_DATA)
        {
            // The rest of the word is where the driver stands in the ring, which the ring itself says (4.2.3.3).
            self.notify_mask = 0xffff;
        }
        if new.contains(Status::DRIVER_OK) {
            device.start(self.driver_features);
        }
        self.arm();
        Served::default()
    }

    /// The queue of `QueueSel`, and its largest size.
    fn selected<M: GuestMemory>(&self, device: &dyn Device<M>) -> Option<(u16, u16)> {
        let queue = u16::try_from(self.queue_sel).ok()?;
        if usize::from(queue) >= MAX_QUEUES {
            return None;
        }
        let max = device.queue_max(queue).min(self.offer.queue_max);
        (max != 0).then_some((queue, max))
    }

    /// What the driver says of a queue that is not ready.
    fn claim<M: GuestMemory>(&mut self, device: &dyn Device<M>, offset: u64, value: u32) {
        let Some((queue, _)) = self.selected(device) else {
            return;
        };
        if self.ready >> queue & 1 != 0 {
            return;
        }
        let Some(claim) = self.claims.get_mut(usize::from(queue)) else {
            return;
        };
        match offset {
            // What is no size must not become one.
            register::QUEUE_SIZE => claim.size = u16::try_from(value).unwrap_or(u16::MAX),
            register::QUEUE_DESC_LOW => set_low(&mut claim.descriptors, value),
            register::QUEUE_DESC_HIGH => set_high(&mut claim.descriptors, value),
            register::QUEUE_DRIVER_LOW => set_low(&mut claim.driver, value),
            register::QUEUE_DRIVER_HIGH => set_high(&mut claim.driver, value),
            register::QUEUE_DEVICE_LOW => set_low(&mut claim.device, value),
            register::QUEUE_DEVICE_HIGH => set_high(&mut claim.device, value),
            _ => {}
        }
    }

    fn enable<M: GuestMemory>(
        &mut self,
        device: &mut dyn Device<M>,
        env: &mut Env<'_, M>,
    ) -> Served {
        let Some((queue, max)) = self.selected(device) else {
            return Served::default();
        };
        if !self.status.takes_queues() || self.ready >> queue & 1 != 0 {
            return Served::default();
        }
        let ring = self
            .claims
            .get(usize::from(queue))
            .and_then(|claim| Queue::new(claim, max, self.accepted(), &env.memory));
        let Some(ring) = ring else {
            return self.settle(Served {
                broken: true,
                ..Served::default()
            });
        };
        device.open(queue, ring);
        self.ready |= 1 << queue;
        self.arm();
        Served::default()
    }

    /// The selected queue is not touched any more.
    fn disable<M: GuestMemory>(&mut self, device: &mut dyn Device<M>) {
        let Some((queue, _)) = self.selected(device) else {
            return;
        };
        if self.ready >> queue & 1 != 0 {
            device.close(queue);
            self.ready &= !(1 << queue);
            self.again &= !(1 << queue);
            self.arm();
        }
    }

    /// The selected queue becomes as it was after power-on (2.6.1).
    fn reset_queue<M: GuestMemory>(&mut self, device: &mut dyn Device<M>) {
        let agreed = self.status.contains(Status::FEATURES_OK)
            && self.accepted().contains(Features::RING_RESET);
        let Some((queue, _)) = self.selected(device).filter(|_| agreed) else {
            return;
        };
        self.disable(device);
        if let Some(claim) = self.claims.get_mut(usize::from(queue)) {
            *claim = UNCLAIMED;
        }
    }

    fn write_config<M: GuestMemory>(
        &mut self,
        device: &mut dyn Device<M>,
        offset: u64,
        bytes: usize,
        value: u64,
        env: &mut Env<'_, M>,
    ) -> Served {
        let raw = value.to_le_bytes();
        let Some(written) = raw.get(..bytes) else {
            return Served::default();
        };
        // Before that the driver may only read (3.1.1, step 4).
        if !self.status.takes_queues() {
            return Served::default();
        }
        let served = device.write_config(offset, written, env);
        self.settle(served)
    }

    /// Takes the queue that has more to do and whose turn it is: the next one above the last.
    fn next(&mut self) -> Option<u16> {
        let behind = self.again & !(u16::MAX >> (15 - self.turn));
        let from = if behind == 0 { self.again } else { behind };
        if from == 0 {
            return None;
        }
        self.turn = u16::try_from(from.trailing_zeros()).ok()?;
        self.again &= !(1 << self.turn);
        Some(self.turn)
    }

    fn settle_queue(&mut self, queue: u16, served: Served) -> Served {
        if served.more {
            self.again |= 1 << queue;
        }
        self.settle(served)
    }

    /// What a device says of itself becomes what the driver can see.
    fn settle(&mut self, mut served: Served) -> Served {
        if served.config {
            self.generation = self.generation.wrapping_add(1);
        }
        if served.broken {
            self.status |= Status::NEEDS_RESET;
            served.config = true;
            served.more = false;
            self.again = 0;
            self.arm();
        }
        // Before DRIVER_OK nobody listens (2.1.2).
        served.config &= self.status.contains(Status::DRIVER_OK);
        served
    }

    fn arm(&mut self) {
        self.armed = if self.status.is_live() { self.ready } else { 0 };
    }
}

/// One half of a field that is read through a 32-bit window; there is nothing behind both.
fn half(value: u64, select: u32) -> u32 {
    let shifted = match select {
        0 => value,
        1 => value >> 32,
        _ => 0,
    };
    u32::try_from(shifted & 0xffff_ffff).unwrap_or(0)
}

fn set_low(field: &mut u64, value: u32) {
    *field = *field & !0xffff_ffff | u64::from(value);
}

fn set_high(field: &mut u64, value: u32) {
    *field = *field & 0xffff_ffff | u64::from(value) << 32;
}
