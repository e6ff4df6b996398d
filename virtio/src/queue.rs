//! Virtqueues: split (virtio 1.3, 2.7) and packed (2.8).

use stage2_addr::Ipa;

use crate::chain::{Chain, Ticket};
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
    _config: QueueConfig,
    _features: Features,
    _base: Ipa,
}

impl Queue {
    /// Judges what a driver claims. `max` is the device's largest size. `None` if it is no queue.
    pub fn new<M: GuestMemory>(
        config: &QueueConfig,
        max: u16,
        features: Features,
        memory: &M,
    ) -> Option<Self> {
        let _ = (config, max, features, memory);
        None
    }

    /// Takes the next chain; false when there is none.
    ///
    /// # Errors
    /// What the driver has written is no chain. Nothing is taken, now and later.
    pub fn pop<M: GuestMemory>(&mut self, memory: &M, chain: &mut Chain) -> Result<bool, Broken> {
        let _ = (memory, chain);
        Ok(false)
    }

    /// Undoes a [`pop`](Self::pop): the chain is the next to be taken again. Only for chains taken since the last push, and
    /// the youngest first: a frame turned out not to fit into what the driver has posted.
    pub fn unpop(&mut self, ticket: Ticket) {
        let _ = ticket;
    }

    /// Gives a chain back, into which `written` bytes were written from its first writable byte on. The driver sees it
    /// after [`publish`](Self::publish).
    pub fn push<M: GuestMemory>(&mut self, memory: &M, ticket: Ticket, written: u32) {
        let _ = (memory, ticket, written);
    }

    /// Shows the driver what was pushed. Whether it wants an interrupt for that.
    #[must_use]
    pub fn publish<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let _ = memory;
        false
    }

    /// Asks the driver for no notifications for now: the device looks by itself.
    pub fn quiet<M: GuestMemory>(&mut self, memory: &M) {
        let _ = memory;
    }

    /// Asks the driver for a notification of the next chain. Whether there is one already, which nobody will tell of.
    #[must_use]
    pub fn listen<M: GuestMemory>(&mut self, memory: &M) -> bool {
        let _ = memory;
        false
    }
}
