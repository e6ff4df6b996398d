//! Virtqueues: split (virtio 1.3, 2.7) and packed (2.8).
//!
//! A queue takes chains and gives them back. What it knows of the driver's progress is in it, and not in the guest's
//! memory: a driver that writes where only the device writes confuses itself alone. What only the driver writes is loaded
//! once, judged, and believed as far as it goes.
//!
//! The device gives chains back in any order, unless `IN_ORDER` is agreed: then it is the device's duty to push them in the
//! order in which it popped them, which each device that serves one chain after the other does anyway. Each of them has a
//! used entry of its own, as 2.7.9 and 2.8.8 allow.

mod areas;
mod descriptor;
mod event;
mod flight;
mod packed;
mod split;
#[cfg(test)]
mod tests;

use self::areas::Areas;
use self::packed::Packed;
use self::split::Split;
use crate::chain::{Chain, Segment, Ticket};
use crate::features::Features;
use crate::memory::GuestMemory;

/// What a driver claims of a queue in the transport's registers: nothing of it is proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueConfig {
    /// Entries.
    pub size: u16,
    /// The descriptor area.
    pub descriptors: u64,
    /// The driver area: the available ring, or the driver's event suppression.
    pub driver: u64,
    /// The device area: the used ring, or the device's event suppression.
    pub device: u64,
}

/// A driver has written what no driver may: the device needs a reset (virtio 1.3, 2.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// A queue whose areas are inside the guest's memory, aligned and apart.
pub struct Queue {
    ring: Ring,
    broken: bool,
}

/// A chain of one buffer, inside the guest's memory, that is available.
#[derive(Clone, Copy)]
pub(crate) struct One {
    /// The head's index (split), or the buffer's id (packed).
    head: u16,
    pub segment: Segment,
    pub is_writable: bool,
}

enum Ring {
    Split(Split),
    Packed(Packed),
}

impl Queue {
    /// Judges what a driver claims. `max` is the device's largest size. `None` if it is no queue.
    pub fn new<M: GuestMemory>(
        config: &QueueConfig,
        max: u16,
        features: Features,
        memory: &M,
    ) -> Option<Self> {
        let areas = Areas::judge(config, max, features, memory)?;
        let ring = if features.contains(Features::RING_PACKED) {
            Ring::Packed(Packed::new(areas, features))
        } else {
            Ring::Split(Split::new(areas, features))
        };
        Some(Self {
            ring,
            broken: false,
        })
    }

    /// Takes the next chain; false when there is none.
    ///
    /// # Errors
    /// What the driver has written is no chain. Nothing is taken, now and later.
    pub fn pop<M: GuestMemory>(&mut self, memory: &M, chain: &mut Chain) -> Result<bool, Broken> {
        if self.broken {
            return Err(Broken);
        }
        let popped = match &mut self.ring {
            Ring::Split(ring) => ring.pop(memory, chain),
            Ring::Packed(ring) => pop_packed(ring, memory, chain),
        };
        popped.map_err(|_| self.break_down())
    }

    /// The driver has written nonsense.
    #[cold]
    #[inline(never)]
    fn break_down(&mut self) -> Broken {
        self.broken = true;
        Broken
    }

    /// The next chain, if there is one. It is not taken: whoever does not want it may [`pop`](Self::pop), and has to if the
    /// answer is `None`. Then it is not of one buffer, or something about it is unusual.
    #[inline(always)]
    pub(crate) fn peek<M: GuestMemory>(&mut self, memory: &M) -> Option<Option<One>> {
        if self.broken {
            return None;
        }
        match &mut self.ring {
            Ring::Split(ring) => ring.peek(&{ *memory }),
            Ring::Packed(ring) => ring.peek(memory),
        }
    }

    /// Takes what was peeked last, and gives it back, as [`push`](Self::push) does.
    #[inline(always)]
    pub(crate) fn pass<M: GuestMemory>(&mut self, memory: &M, one: One, written: u32) {
        let passed = match &mut self.ring {
            Ring::Split(ring) => ring.pass(&{ *memory }, one, written),
            Ring::Packed(ring) => ring.pass(memory, one, written),
        };
        if passed.is_err() {
            self.break_down();
        }
    }

    /// Undoes a [`pop`](Self::pop): the chain is the next to be taken again. Only for chains taken since the last push, and
    /// the youngest first: a frame turned out not to fit into what the driver has posted.
    pub fn unpop(&mut self, ticket: Ticket) {
        match &mut self.ring {
            Ring::Split(ring) => ring.unpop(ticket),
            Ring::Packed(ring) => ring.unpop(ticket),
        }
    }

    /// Gives a chain back, into which `written` bytes were written from its first writable byte on. The driver sees it
    /// after [`publish`](Self::publish). What is not the device's to give back changes nothing.
    pub fn push<M: GuestMemory>(&mut self, memory: &M, ticket: Ticket, written: u32) {
        let memory = &{ *memory };
        let pushed = match &mut self.ring {
            Ring::Split(ring) => ring.push(memory, ticket, written),
            Ring::Packed(ring) => ring.push(memory, ticket, written),
        };
        if pushed.is_err() {
            self.break_down();
        }
    }

    /// [`publish`](Self::publish), for where it counts.
    #[inline(always)]
    #[must_use]
    pub(crate) fn publish_here<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let Ring::Split(ring) = &mut self.ring else {
            return self.publish(memory);
        };
        ring.publish(&{ *memory }).unwrap_or_else(|_| {
            self.break_down();
            false
        })
    }

    /// [`listen`](Self::listen), for where it counts.
    #[inline(always)]
    #[must_use]
    pub(crate) fn listen_here<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let Ring::Split(ring) = &mut self.ring else {
            return self.listen(memory);
        };
        ring.listen(&{ *memory }).unwrap_or_else(|_| {
            self.break_down();
            true
        })
    }

    /// Shows the driver what was pushed. Whether it wants an interrupt for that.
    #[must_use]
    #[inline(never)]
    pub fn publish<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let memory = &{ *memory };
        let published = match &mut self.ring {
            Ring::Split(ring) => ring.publish(memory),
            Ring::Packed(ring) => ring.publish(memory),
        };
        published.unwrap_or_else(|_| {
            self.break_down();
            false
        })
    }

    /// Asks the driver for no notifications for now: the device looks by itself.
    pub fn quiet<M: GuestMemory>(&mut self, memory: &M) {
        let done = match &mut self.ring {
            Ring::Split(ring) => ring.quiet(memory),
            Ring::Packed(ring) => ring.quiet(memory),
        };
        self.broken |= done.is_err();
    }

    /// Asks the driver for a notification of the next chain. Whether there is one already, which nobody will tell of, or
    /// the queue is broken, which [`pop`](Self::pop) says.
    #[must_use]
    #[inline(never)]
    pub fn listen<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let memory = &{ *memory };
        let more = match &mut self.ring {
            Ring::Split(ring) => ring.listen(memory),
            Ring::Packed(ring) => ring.listen(memory),
        };
        more.unwrap_or_else(|_| {
            self.break_down();
            true
        })
    }

    /// Whether there was nothing more when it was looked at last: a hint, which a packed ring does not give.
    #[must_use]
    pub const fn seems_empty(&self) -> bool {
        match &self.ring {
            Ring::Split(ring) => ring.seems_empty(),
            Ring::Packed(_) => false,
        }
    }

    /// Whether that will be so once one more is taken.
    #[inline(always)]
    #[must_use]
    pub(crate) fn seems_last<M: GuestMemory>(&self, memory: &M) -> bool {
        match &self.ring {
            Ring::Split(ring) => ring.seems_last(),
            Ring::Packed(ring) => ring.seems_last(memory),
        }
    }

    /// Whether the driver has written nonsense: whoever has the queue open needs a reset.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.broken
    }
}

/// By itself, so that its registers are not saved for split rings too.
#[inline(never)]
fn pop_packed<M: GuestMemory>(
    ring: &mut Packed,
    memory: &M,
    chain: &mut Chain,
) -> Result<bool, Broken> {
    ring.pop(&{ *memory }, chain)
}

const _: () = assert!(size_of::<Queue>() < 256);
