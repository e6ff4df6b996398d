//! The block device: virtio 1.3, 5.2.
//!
//! A request's header is copied once and judged; its data moves straight between the guest's buffers and the disk, which
//! is a port ([`Disk`]); the status byte comes last. Requests are cut into slices that a disk can do at once, so that a
//! call costs no more than a bound, however much a driver asks for: what is left is done when the device is polled.
//!
//! A disk that answers at once needs one [`Job`], whose chain is used again and again. One that answers later has as many
//! as shall be in flight.

mod config;
mod disk;
mod engine;
mod job;
mod ram;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

pub use disk::{Disk, Facts, Op, Outcome, Request, SECTOR, Status, Token};
pub use job::{ID_BYTES, Job};
pub use ram::{RamDisk, ReadOnly};
pub use snapshot::{BLOCK, Snapshot};

use self::config::Config;
use self::engine::BUDGET;
use crate::device::{Dependency, Device, Env, MAX_QUEUES, Served};
use crate::features::Features;
use crate::memory::GuestMemory;
use crate::queue::Queue;

/// The most jobs of a device; those above are not used.
pub const MAX_JOBS: usize = 32;

/// How a block device shows itself.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Its name, padded with zeroes.
    pub id: [u8; ID_BYTES],
    /// How many queues it has; at least one.
    pub queues: u16,
    /// Their largest size: a power of two, at most 256, and no larger than the transport offers.
    pub queue_max: u16,
}

/// A block device over a disk.
pub struct Blk<'a, D> {
    disk: D,
    facts: Facts,
    shape: Shape,
    jobs: &'a mut [Job],
    rings: [Option<Queue>; MAX_QUEUES],
    features: u64,
    writeback: bool,
    /// A write is over only when it cannot be lost any more, which takes a flush.
    writethrough: bool,
    /// Jobs in use, those among them that have something to do, and those that the disk has, one bit each.
    taken: u32,
    ready: u32,
    flying: u32,
    /// Jobs that may be used.
    usable: u32,
    /// Queues that are to be looked at, and those with something pushed that is not published.
    pending: u16,
    pushed: u16,
    turn: u16,
    tokens: u32,
}

impl<'a, D> Blk<'a, D> {
    /// A device over a disk, with places for as many requests as it shall have begun at once: at least one.
    pub fn new<M: GuestMemory>(disk: D, shape: Shape, jobs: &'a mut [Job]) -> Self
    where
        D: Disk<M>,
    {
        let facts = disk.facts();
        Self {
            facts,
            writeback: facts.volatile,
            disk,
            shape,
            jobs,
            rings: [const { None }; MAX_QUEUES],
            features: 0,
            writethrough: false,
            taken: 0,
            ready: 0,
            flying: 0,
            usable: 0,
            pending: 0,
            pushed: 0,
            turn: 0,
            tokens: 0,
        }
    }

    /// As 5.2.6.2 has it.
    fn settle_cache(&mut self) {
        let agreed = |feature| self.features & feature != 0;
        let wants = if agreed(config::CONFIG_WCE) {
            !self.writeback
        } else {
            !agreed(config::FLUSH)
        };
        // Of a disk that has no cache nothing is lost anyway.
        self.writethrough = wants && self.facts.volatile;
    }

    /// The disk.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }
}

impl<M: GuestMemory, D: Disk<M>> Device<M> for Blk<'_, D> {
    fn id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        config::features(&self.facts, self.shape.queues)
    }

    fn dependencies(&self) -> &'static [Dependency] {
        config::DEPENDENCIES
    }

    fn queue_max(&self, queue: u16) -> u16 {
        if queue < self.shape.queues.max(1) {
            self.shape.queue_max
        } else {
            0
        }
    }

    fn read_config(&self, offset: u64, into: &mut [u8]) {
        let config = Config {
            sectors: self.facts.sectors,
            // Header and status take a buffer each.
            seg_max: u32::from(self.shape.queue_max.saturating_sub(2).max(1)),
            writeback: self.writeback,
            queues: self.shape.queues.max(1),
        };
        config.read(offset, into);
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8], _: &mut Env<'_, M>) -> Served {
        // The one field that a driver may write, and only if it was agreed on (5.2.4).
        if offset == config::WRITEBACK
            && self.features & config::CONFIG_WCE != 0
            && let Some(&value) = bytes.first()
        {
            self.writeback = value & 1 != 0;
            self.settle_cache();
        }
        Served::default()
    }

    fn renew(&mut self) {
        self.disk.renew();
    }

    fn start(&mut self, features: u64) {
        self.features = features;
        if features & config::FLUSH == 0 {
            // A driver that cannot flush gets a cache that needs it not (5.2.5.2).
            self.writeback = false;
        }
        self.settle_cache();
        let places = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        let ordered = Features::from_bits_retain(features).contains(Features::IN_ORDER);
        self.usable = match if ordered { places.min(1) } else { places } {
            places @ 0..32 => (1 << places) - 1,
            _ => u32::MAX,
        };
    }

    fn open(&mut self, queue: u16, new: Queue) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            *ring = Some(new);
        }
    }

    fn close(&mut self, queue: u16) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            *ring = None;
        }
        self.pending &= !(1 << (queue & 15));
        self.pushed &= !(1 << (queue & 15));
        self.forget(|of| of == queue);
    }

    fn reset(&mut self) {
        for ring in &mut self.rings {
            *ring = None;
        }
        self.pending = 0;
        self.pushed = 0;
        self.features = 0;
        self.usable = 0;
        self.writeback = self.facts.volatile;
        self.forget(|_| true);
    }

    fn serve(&mut self, queue: u16, env: &mut Env<'_, M>) -> Served {
        self.pending |= 1 << (queue & 15);
        self.pump(Some(queue), env, &mut { BUDGET })
    }

    fn poll(&mut self, env: &mut Env<'_, M>) -> Served {
        let mut budget = BUDGET;
        let mut landed = Served::default();
        loop {
            if budget == 0 {
                landed.more = true;
                break;
            }
            let Some(token) = self.disk.finished() else {
                break;
            };
            landed.broken |= self.land(token, env, &mut budget).is_err();
        }
        landed.and(self.pump(None, env, &mut budget))
    }
}
