//! The lint: it watches a driver, and says what it does against the specification.
//!
//! It knows nothing of the device that it stands beside, and keeps its own account of what the driver has written: a
//! mistake that both made would not be found otherwise. It never writes memory, and what it costs is bounded for each call.
//! A finding is reported once for each rule and queue.

mod content;
mod packed;
mod registers;
mod rules;
mod split;
#[cfg(test)]
mod tests;
mod walk;

use crate::device::{Event, MAX_QUEUES};
use crate::memory::GuestMemory;
use crate::queue::QueueConfig;
use rules::Broken;
pub use rules::{RULES, Rank, Rule};
use walk::Flight;

/// Something that a driver did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it was.
    pub rule: &'static Rule,
    /// At which queue, if at one.
    pub queue: Option<u16>,
    /// At which descriptor (split: its index; packed: the buffer's id), if at one.
    pub descriptor: Option<u16>,
}

/// What the device is, as far as the rules depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The device's number (virtio 1.3, 5).
    pub id: u32,
    /// What it offers.
    pub offered: u64,
    /// Sectors of a disk.
    pub sectors: u64,
}

/// A queue as the driver has set it up, and how far it has come.
pub(crate) struct Watch {
    claim: QueueConfig,
    ready: bool,
    /// Split: the available index; packed: the next descriptor.
    next: u16,
    /// Packed: the driver's wrap counter.
    wrap: bool,
    /// Split: the used index as the device has written it.
    used: u16,
    /// IN_ORDER: the next descriptor of the table.
    expected: u16,
    flights: Flight,
}

impl Watch {
    const NEW: Self = Self {
        claim: QueueConfig {
            size: 0,
            descriptors: 0,
            driver: 0,
            device: 0,
        },
        ready: false,
        next: 0,
        wrap: true,
        used: 0,
        expected: 0,
        flights: Flight::EMPTY,
    };
}

/// The lint of one device. It is large.
pub struct Lint {
    subject: Subject,
    status: u32,
    was_reset: bool,
    /// FEATURES_OK was written, and the status not read since.
    unread: bool,
    /// The status was read after FEATURES_OK, and did not have it.
    refused: bool,
    features: u64,
    features_sel: u32,
    queue_sel: u32,
    /// The selected queue's QueueSizeMax, once the driver has read it.
    largest: [u16; MAX_QUEUES],
    /// Halves of a wide field that were read since ConfigGeneration was.
    halves: u8,
    queues: [Watch; MAX_QUEUES],
    /// For each rule, at which queues it was broken; the last bit: at none.
    seen: [u32; RULES.len()],
    count: u64,
}

/// The bit in [`Lint::seen`] for what is at no queue.
const NO_QUEUE: u32 = 1 << MAX_QUEUES;

/// Where findings go while a call lasts.
pub(crate) struct Report<'a> {
    seen: &'a mut [u32; RULES.len()],
    count: &'a mut u64,
    queue: Option<u16>,
    tell: &'a mut dyn FnMut(Finding),
}

impl Report<'_> {
    /// A rule was broken.
    fn broken(&mut self, rule: Broken) {
        self.found(rule, None);
    }

    /// A rule was broken at a descriptor.
    fn at(&mut self, rule: Broken, descriptor: u16) {
        self.found(rule, Some(descriptor));
    }

    fn found(&mut self, rule: Broken, descriptor: Option<u16>) {
        *self.count += 1;
        let number = rule as usize;
        let bit = self
            .queue
            .map_or(NO_QUEUE, |queue| 1 << (u32::from(queue) % 16));
        let (Some(seen), Some(rule)) = (self.seen.get_mut(number), RULES.get(number)) else {
            return;
        };
        if *seen & bit == 0 {
            *seen |= bit;
            (self.tell)(Finding {
                rule,
                queue: self.queue,
                descriptor,
            });
        }
    }
}

impl Lint {
    /// A lint that has seen nothing.
    #[must_use]
    pub const fn new(subject: Subject) -> Self {
        Self {
            subject,
            status: 0,
            was_reset: false,
            unread: false,
            refused: false,
            features: 0,
            features_sel: 0,
            queue_sel: 0,
            largest: [0; MAX_QUEUES],
            halves: 0,
            queues: [const { Watch::NEW }; MAX_QUEUES],
            seen: [0; RULES.len()],
            count: 0,
        }
    }

    /// How often a rule was broken, reported or not.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    fn forget(&mut self) {
        self.status = 0;
        self.unread = false;
        self.refused = false;
        self.features = 0;
        self.features_sel = 0;
        self.queue_sel = 0;
        self.halves = 0;
        for watch in &mut self.queues {
            watch.forget();
        }
    }

    /// The driver has loaded from a register, and got `value`.
    pub fn loaded(&mut self, offset: u64, bytes: u32, value: u64, tell: &mut dyn FnMut(Finding)) {
        self.register_loaded(offset, bytes, value, tell);
    }

    /// The driver has stored to a register; to be called before the device is told of it.
    pub fn stored<M: GuestMemory>(
        &mut self,
        offset: u64,
        bytes: u32,
        value: u64,
        memory: &M,
        tell: &mut dyn FnMut(Finding),
    ) {
        self.register_stored(offset, bytes, value, memory, tell);
    }

    /// The device has taken a chain or is about to show that it has used one.
    pub fn device<M: GuestMemory>(
        &mut self,
        event: Event,
        memory: &M,
        tell: &mut dyn FnMut(Finding),
    ) {
        let (Event::Popped { queue, id, .. } | Event::Pushed { queue, id, .. }) = event;
        let packed = self.is_packed();
        let content = self.content(queue);
        let features = crate::Features::from_bits_retain(self.features);
        let Some(watch) = self.queues.get_mut(usize::from(queue)) else {
            return;
        };
        let mut report = Report {
            seen: &mut self.seen,
            count: &mut self.count,
            queue: Some(queue),
            tell,
        };
        if let Event::Popped { .. } = event {
            // Nobody has told of this one: the device has looked by itself.
            if content.is_traced() && !watch.flights.has(id) {
                let _ = if packed {
                    packed::look(watch, features, &content, memory, &mut report)
                } else {
                    split::look(watch, features, &content, memory, &mut report)
                };
            }
            return;
        }
        watch.used = watch.used.wrapping_add(1);
        if packed {
            watch.flights.land(id);
        } else {
            split::pushed(watch, id, memory, &mut report);
        }
    }

    pub(crate) const fn is_packed(&self) -> bool {
        self.features & crate::Features::RING_PACKED.bits() != 0
    }
}

impl Watch {
    fn forget(&mut self) {
        self.claim = Self::NEW.claim;
        self.ready = false;
        self.start();
    }

    /// A queue begins.
    fn start(&mut self) {
        self.next = 0;
        self.wrap = true;
        self.used = 0;
        self.expected = 0;
        self.flights.clear();
    }
}
