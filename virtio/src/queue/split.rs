//! Split rings: virtio 1.3, 2.7.
//!
//! The device's indices are its own. What the driver writes into the used ring changes nothing here.

use stage2_addr::Ipa;

use super::areas::{Areas, within};
use super::descriptor::{Descriptor, INDIRECT, NEXT, WRITE};
use super::event::passed;
use super::flight::Flight;
use super::{Broken, One};
use crate::chain::{Chain, Ticket};
use crate::features::Features;
use crate::memory::GuestMemory;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

/// Offsets in the available ring and in the used ring.
const FLAGS: u64 = 0;
const INDEX: u64 = 2;
const ENTRIES: u64 = 4;

pub(super) struct Split {
    areas: Areas,
    flight: Flight,
    indirect: bool,
    event_idx: bool,
    /// `NO_NOTIFY` is set.
    quiet: bool,
    /// The next available entry.
    next: u16,
    /// The available index, as it was when it was looked at last.
    seen: u16,
    /// The used index, of which the driver knows up to `published`.
    used: u16,
    published: u16,
}

impl Split {
    pub(super) const fn new(areas: Areas, features: Features) -> Self {
        Self {
            areas,
            flight: Flight::new(),
            indirect: features.contains(Features::INDIRECT_DESC),
            event_idx: features.contains(Features::EVENT_IDX),
            quiet: false,
            next: 0,
            seen: 0,
            used: 0,
            published: 0,
        }
    }

    #[inline]
    pub(super) fn pop<M: GuestMemory>(
        &mut self,
        memory: &M,
        chain: &mut Chain,
    ) -> Result<bool, Broken> {
        let whole = memory;
        let memory = &{ *memory };
        if self.next == self.seen && !self.look(memory)? {
            return Ok(false);
        }
        let head = memory.load_u16(self.available(self.next)).ok_or(Broken)?;
        if head >= self.areas.size {
            return Err(Broken);
        }
        let at = self.descriptor(head);
        let raw = memory.load_pair(at).ok_or(Broken)?;
        let first = Descriptor::of_split(raw);
        if first.has(NEXT | INDIRECT) {
            return self.pop_chain(whole, head, raw, chain);
        }
        chain.only(memory, head, first.segment, first.has(WRITE))?;
        self.take(head)
    }

    /// The next chain, if there is one; `None` if that is not one buffer as it should be.
    #[inline(always)]
    pub(super) fn peek<M: GuestMemory>(&mut self, memory: &M) -> Option<Option<One>> {
        if self.next == self.seen && !self.look(memory).ok()? {
            return Some(None);
        }
        let head = memory.load_u16(self.available(self.next))?;
        if head >= self.areas.size || self.flight.has(head) {
            return None;
        }
        let first = Descriptor::of_split(memory.load_pair(self.descriptor(head))?);
        let segment = first.segment;
        let is_there = segment.len != 0 && memory.contains(segment.at, u64::from(segment.len));
        let one = One {
            head,
            segment,
            is_writable: first.has(WRITE),
        };
        (is_there && !first.has(NEXT | INDIRECT)).then_some(Some(one))
    }

    /// Takes the next chain and gives it back.
    #[inline(always)]
    pub(super) fn pass<M: GuestMemory>(
        &mut self,
        memory: &M,
        one: One,
        written: u32,
    ) -> Result<(), Broken> {
        self.next = self.next.wrapping_add(1);
        self.use_up(memory, one.head, written)
    }

    /// Writes the next entry of the used ring. It need not be there at once: it is shown by the index.
    #[inline(always)]
    fn use_up<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        written: u32,
    ) -> Result<(), Broken> {
        let slot = u64::from(self.used & (self.areas.size - 1));
        let at = within(self.areas.device, ENTRIES + 8 * slot);
        let element = u64::from(head) | u64::from(written) << 32;
        memory.store_u64(at, element).ok_or(Broken)?;
        self.used = self.used.wrapping_add(1);
        Ok(())
    }

    /// Takes a chain that begins with this descriptor. By itself, so that one of a single buffer needs no stack.
    #[inline(never)]
    fn pop_chain<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        first: [u64; 2],
        chain: &mut Chain,
    ) -> Result<bool, Broken> {
        chain.begin(head);
        self.walk(&{ *memory }, Descriptor::of_split(first), chain)?;
        self.take(head)
    }

    /// A chain is the device's from now on.
    #[inline(always)]
    fn take(&mut self, head: u16) -> Result<bool, Broken> {
        self.flight.take(head)?;
        self.next = self.next.wrapping_add(1);
        Ok(true)
    }

    pub(super) fn unpop(&mut self, ticket: Ticket) {
        if self.flight.give(ticket.id) {
            self.next = self.next.wrapping_sub(1);
        }
    }

    /// Looks at the available index. Whether there is something.
    #[inline(always)]
    fn look<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Broken> {
        let index = self.index(memory)?;
        let more = index.wrapping_sub(self.next);
        if more == 0 {
            return Ok(false);
        }
        // Entries are read after the index that promises them.
        memory.acquire();
        if more > self.areas.size {
            return Err(Broken);
        }
        self.seen = index;
        Ok(true)
    }

    /// Where a descriptor is.
    #[inline]
    fn descriptor(&self, index: u16) -> Ipa {
        within(self.areas.descriptors, 16 * u64::from(index))
    }

    /// Follows a chain, behind its first descriptor. It ends: each step adds a buffer, and of these there is a most.
    #[inline(always)]
    fn walk<M: GuestMemory>(
        &self,
        memory: &M,
        first: Descriptor,
        chain: &mut Chain,
    ) -> Result<(), Broken> {
        let mut table = self.areas.descriptors;
        let mut entries = u32::from(self.areas.size);
        let mut most = self.areas.size;
        let mut may_refer = self.indirect;
        let mut descriptor = first;
        loop {
            let index = if descriptor.has(INDIRECT) {
                // Not without the feature, not inside a table, and nothing follows it (2.7.5.3.1). Whether it is "written"
                // is ignored (2.7.5.3.2).
                if !may_refer || descriptor.has(NEXT) {
                    return Err(Broken);
                }
                entries = descriptor.table(memory)?;
                // An index has 16 bits.
                if entries > 1 << 16 {
                    return Err(Broken);
                }
                table = descriptor.segment.at;
                most = self.areas.longest;
                may_refer = false;
                0
            } else {
                chain.add(memory, descriptor.segment, descriptor.has(WRITE))?;
                if !descriptor.has(NEXT) {
                    return chain.end();
                }
                descriptor.link
            };
            if u32::from(index) >= entries || chain.segments.len() >= usize::from(most) {
                return Err(Broken);
            }
            let at = within(table, 16 * u64::from(index));
            descriptor = Descriptor::split(memory, at)?;
        }
    }

    /// Whether nothing was available when it was looked last: a hint.
    #[inline]
    pub(super) const fn seems_empty(&self) -> bool {
        self.next == self.seen
    }

    /// Whether the next one was the last then.
    #[inline(always)]
    pub(super) const fn seems_last(&self) -> bool {
        self.next.wrapping_add(1) == self.seen
    }

    #[inline]
    pub(super) fn push<M: GuestMemory>(
        &mut self,
        memory: &M,
        ticket: Ticket,
        written: u32,
    ) -> Result<(), Broken> {
        if !self.flight.give(ticket.id) {
            return Ok(());
        }
        self.use_up(memory, ticket.id, written)
    }

    #[inline(always)]
    pub(super) fn publish<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Broken> {
        let old = self.published;
        if self.used == old {
            return Ok(false);
        }
        memory.release();
        memory
            .store_u16(within(self.areas.device, INDEX), self.used)
            .ok_or(Broken)?;
        self.published = self.used;
        // The driver writes what it waits for and then looks at the index once more; here it is the other way round, so
        // that one of the two sees the other.
        memory.fence();
        if self.event_idx {
            let event = within(self.areas.driver, self.after_entries(2));
            let event = memory.load_u16(event).ok_or(Broken)?;
            Ok(passed(event, self.used, old))
        } else {
            let flags = memory.load_u16(within(self.areas.driver, FLAGS));
            Ok(flags.ok_or(Broken)? & NO_INTERRUPT == 0)
        }
    }

    /// With `EVENT_IDX` there is nothing to do: the driver has been asked for one entry's notification, and that is behind.
    #[inline]
    pub(super) fn quiet<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Broken> {
        if !self.event_idx && !self.quiet {
            self.quiet = true;
            let flags = within(self.areas.device, FLAGS);
            memory.store_u16(flags, NO_NOTIFY).ok_or(Broken)?;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn listen<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Broken> {
        if self.next != self.seen {
            return Ok(true);
        }
        if self.event_idx {
            let event = within(self.areas.device, self.after_entries(8));
            memory.store_u16(event, self.next).ok_or(Broken)?;
            // As in `publish`, with the parts exchanged.
            memory.fence();
        } else if self.quiet {
            self.quiet = false;
            let flags = within(self.areas.device, FLAGS);
            memory.store_u16(flags, 0).ok_or(Broken)?;
            memory.fence();
        }
        Ok(self.index(memory)? != self.next)
    }

    /// The available index, as it is now.
    #[inline]
    fn index<M: GuestMemory>(&self, memory: &M) -> Result<u16, Broken> {
        let at = within(self.areas.driver, INDEX);
        memory.load_u16(at).ok_or(Broken)
    }

    /// Where an entry of the available ring is.
    #[inline]
    fn available(&self, index: u16) -> Ipa {
        let slot = u64::from(index & (self.areas.size - 1));
        within(self.areas.driver, ENTRIES + 2 * slot)
    }

    /// Where the event index is that follows entries of so many bytes.
    #[inline]
    fn after_entries(&self, bytes: u64) -> u64 {
        ENTRIES + bytes * u64::from(self.areas.size)
    }
}
