//! Packed rings: virtio 1.3, 2.8.
//!
//! A slot is the driver's or the device's by two flags and a counter that changes at each round. The counters are the
//! device's own, and so is the number of slots it has: however the flags in memory read, it never takes more slots than
//! the ring has before it gave some back.

use stage2_addr::Ipa;

use super::areas::{Areas, within};
use super::descriptor::{AVAIL, Descriptor, INDIRECT, NEXT, USED, WRITE};
use super::event::passed;
use super::flight::Flight;
use super::{Broken, One};
use crate::chain::{Chain, Ticket};
use crate::features::Features;
use crate::memory::GuestMemory;

/// Offsets in a descriptor.
const LEN: u64 = 8;
const ID: u64 = 12;
const FLAGS: u64 = 14;

/// Flags of an event suppression structure (2.8.14), as it reads in one word.
const ENABLE: u32 = 0;
const DISABLE: u32 = 1 << 16;
const DESC: u32 = 2 << 16;
const MASK: u32 = 3 << 16;

/// A place in the ring, and whose turn it is there.
#[derive(Clone, Copy)]
struct Place {
    slot: u16,
    wrap: bool,
}

impl Place {
    /// Where both sides begin (2.8.1).
    const FIRST: Self = Self {
        slot: 0,
        wrap: true,
    };

    /// So many slots later, at most a whole round.
    #[inline]
    fn after(self, slots: u16, size: u16) -> Self {
        let slot = self.slot + slots;
        if slot < size {
            Self { slot, ..self }
        } else {
            Self {
                slot: slot - size,
                wrap: !self.wrap,
            }
        }
    }

    /// So many slots earlier, at most a whole round.
    #[inline]
    fn before(self, slots: u16, size: u16) -> Self {
        if let Some(slot) = self.slot.checked_sub(slots) {
            Self { slot, ..self }
        } else {
            Self {
                slot: self.slot + size - slots,
                wrap: !self.wrap,
            }
        }
    }

    /// As event suppression names it.
    #[inline]
    fn word(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }
}

pub(super) struct Packed {
    areas: Areas,
    flight: Flight,
    indirect: bool,
    event_idx: bool,
    /// Notifications are disabled.
    quiet: bool,
    /// Where the next chain begins.
    next: Place,
    /// Where the next used descriptor goes.
    used: Place,
    /// Slots whose chains the device has.
    busy: u16,
    /// Slots given back since `publish`.
    since: u16,
    /// The first used descriptor since then: its slot, and the flags it still lacks. The driver waits there, and sees
    /// none of those behind it before.
    first: Option<(u16, u16)>,
}

impl Packed {
    pub(super) const fn new(areas: Areas, features: Features) -> Self {
        Self {
            areas,
            flight: Flight::new(),
            indirect: features.contains(Features::INDIRECT_DESC),
            event_idx: features.contains(Features::EVENT_IDX),
            quiet: false,
            next: Place::FIRST,
            used: Place::FIRST,
            busy: 0,
            since: 0,
            first: None,
        }
    }

    #[inline]
    pub(super) fn pop<M: GuestMemory>(
        &mut self,
        memory: &M,
        chain: &mut Chain,
    ) -> Result<bool, Broken> {
        let Some(flags) = self.available(memory, self.next)? else {
            return Ok(false);
        };
        // The rest of it is read after the flags that promise it.
        memory.acquire();
        chain.begin(0);
        let (slots, id) = self.walk(memory, flags, chain)?;
        self.flight.take(id)?;
        chain.id = id;
        chain.slots = slots;
        self.busy += slots;
        self.next = self.next.after(slots, self.areas.size);
        Ok(true)
    }

    /// The next chain, if there is one; `None` if that is not one buffer as it should be.
    #[inline(never)]
    pub(super) fn peek<M: GuestMemory>(&self, memory: &M) -> Option<Option<One>> {
        let Some(flags) = self.available(memory, self.next).ok()? else {
            return Some(None);
        };
        memory.acquire();
        let at = self.areas.descriptor(self.next.slot);
        let Descriptor { segment, link, .. } = Descriptor::packed(memory, at).ok()?;
        let is_one = flags & (NEXT | INDIRECT) == 0 && self.busy < self.areas.size;
        let is_there = segment.len != 0 && memory.contains(segment.at, u64::from(segment.len));
        let one = One {
            head: link,
            segment,
            is_writable: flags & WRITE != 0,
        };
        (is_one && is_there && !self.flight.has(link)).then_some(Some(one))
    }

    /// Takes the next chain and gives it back.
    #[inline(never)]
    pub(super) fn pass<M: GuestMemory>(
        &mut self,
        memory: &M,
        one: One,
        written: u32,
    ) -> Result<(), Broken> {
        self.next = self.next.after(1, self.areas.size);
        self.use_up(memory, one.head, written)?;
        self.turn(1);
        Ok(())
    }

    /// Whether nothing is available behind the next chain, if that is of one descriptor: a hint.
    #[inline(never)]
    pub(super) fn seems_last<M: GuestMemory>(&self, memory: &M) -> bool {
        let place = self.next.after(1, self.areas.size);
        matches!(self.available(memory, place), Ok(None))
    }

    pub(super) fn unpop(&mut self, ticket: Ticket) {
        if self.flight.give(ticket.id) {
            self.busy = self.busy.saturating_sub(ticket.slots);
            self.next = self.next.before(ticket.slots, self.areas.size);
        }
    }

    /// The flags of the descriptor at a place, if it is available (2.8.1).
    #[inline]
    fn available<M: GuestMemory>(&self, memory: &M, place: Place) -> Result<Option<u16>, Broken> {
        let at = within(self.areas.descriptor(place.slot), FLAGS);
        let flags = memory.load_u16(at).ok_or(Broken)?;
        let expected = if place.wrap { AVAIL } else { USED };
        Ok((flags & (AVAIL | USED) == expected).then_some(flags))
    }

    /// Follows a chain, whose first descriptor has these flags. How many slots it takes, and its id.
    #[inline]
    fn walk<M: GuestMemory>(
        &self,
        memory: &M,
        flags: u16,
        chain: &mut Chain,
    ) -> Result<(u16, u16), Broken> {
        let free = self.areas.size - self.busy;
        let mut place = self.next;
        let mut slots = 0;
        loop {
            if slots == free {
                return Err(Broken);
            }
            let mut descriptor = Descriptor::packed(memory, self.areas.descriptor(place.slot))?;
            if slots == 0 {
                // Those were judged; what is there now may be something else.
                descriptor.flags = flags;
            }
            slots += 1;
            place = place.after(1, self.areas.size);
            if descriptor.has(INDIRECT) {
                // Not without the feature, and not in a list (2.8.19).
                if !self.indirect || slots != 1 || descriptor.has(NEXT) {
                    return Err(Broken);
                }
                self.table(memory, &descriptor, chain)?;
            } else {
                chain.add(memory, descriptor.segment, descriptor.has(WRITE))?;
            }
            if !descriptor.has(NEXT) {
                chain.end()?;
                return Ok((slots, descriptor.link));
            }
        }
    }

    /// Takes all of a table's descriptors, one after the other (2.8.7).
    fn table<M: GuestMemory>(
        &self,
        memory: &M,
        descriptor: &Descriptor,
        chain: &mut Chain,
    ) -> Result<(), Broken> {
        let entries = descriptor.table(memory)?;
        if entries > u32::from(self.areas.longest) {
            return Err(Broken);
        }
        for index in 0..entries {
            let at = within(descriptor.segment.at, 16 * u64::from(index));
            // Flags other than this one are ignored, and so is the id.
            let one = Descriptor::packed(memory, at)?;
            chain.add(memory, one.segment, one.has(WRITE))?;
        }
        Ok(())
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
        self.use_up(memory, ticket.id, written)?;
        self.busy = self.busy.saturating_sub(ticket.slots);
        self.turn(ticket.slots);
        Ok(())
    }

    /// So many slots have been given back.
    #[inline(always)]
    fn turn(&mut self, slots: u16) {
        self.since = self.since.saturating_add(slots);
        self.used = self.used.after(slots, self.areas.size);
    }

    /// Writes the next used descriptor. The first one since the driver was shown some lacks its flags.
    #[inline(always)]
    fn use_up<M: GuestMemory>(&mut self, memory: &M, id: u16, written: u32) -> Result<(), Broken> {
        let at = self.areas.descriptor(self.used.slot);
        memory.store_u32(within(at, LEN), written).ok_or(Broken)?;
        memory.store_u16(within(at, ID), id).ok_or(Broken)?;
        let mut flags = if self.used.wrap { AVAIL | USED } else { 0 };
        if written != 0 {
            flags |= WRITE;
        }
        if self.first.is_some() {
            memory.store_u16(within(at, FLAGS), flags).ok_or(Broken)?;
        } else {
            self.first = Some((self.used.slot, flags));
        }
        Ok(())
    }

    #[inline]
    pub(super) fn publish<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Broken> {
        let Some((slot, flags)) = self.first.take() else {
            return Ok(false);
        };
        let since = core::mem::take(&mut self.since);
        let at = within(self.areas.descriptor(slot), FLAGS);
        memory.release();
        memory.store_u16(at, flags).ok_or(Broken)?;
        // The driver writes what it waits for and then looks at the descriptor once more; here it is the other way round,
        // so that one of the two sees the other.
        memory.fence();
        let asked = memory.load_u32(self.areas.driver).ok_or(Broken)?;
        Ok(match asked & MASK {
            DISABLE => false,
            DESC if self.event_idx => self.reached(asked, since),
            _ => true,
        })
    }

    /// Whether the last so many slots contain the one that the driver waits for.
    #[inline]
    fn reached(&self, asked: u32, since: u16) -> bool {
        let [low, high, ..] = asked.to_le_bytes();
        let event = u16::from_le_bytes([low, high & 0x7F]);
        let wrap = high & 0x80 != 0;
        // In the round before, or in the one to come: that is as far away.
        let event = if wrap == self.used.wrap {
            event
        } else {
            event.wrapping_sub(self.areas.size)
        };
        passed(event, self.used.slot, self.used.slot.wrapping_sub(since))
    }

    #[inline]
    pub(super) fn quiet<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Broken> {
        if !self.quiet {
            self.quiet = true;
            self.ask(memory, DISABLE)?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn listen<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Broken> {
        if self.event_idx {
            self.ask(memory, DESC | u32::from(self.next.word()))?;
            // As in `publish`, with the parts exchanged.
            memory.fence();
        } else if self.quiet {
            self.ask(memory, ENABLE)?;
            memory.fence();
        }
        self.quiet = false;
        Ok(self.available(memory, self.next)?.is_some())
    }

    /// Writes the device's event suppression structure.
    #[inline]
    fn ask<M: GuestMemory>(&self, memory: &M, word: u32) -> Result<(), Broken> {
        let at: Ipa = self.areas.device;
        memory.store_u32(at, word).ok_or(Broken)
    }
}
