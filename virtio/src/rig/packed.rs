//! The driver's side of a packed ring: 2.8.21 and 2.8.22, step by step.

use std::collections::HashMap;
use std::vec::Vec;

use super::Element;
use crate::fake::Ram;
use crate::features::Features;
use crate::queue::QueueConfig;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

pub(super) struct Packed<'a> {
    ram: &'a Ram,
    config: QueueConfig,
    event_idx: bool,
    /// Free ids; the last one is taken first.
    ids: Vec<u16>,
    /// Slots of each chain, by id.
    chains: HashMap<u16, u16>,
    free: u16,
    avail: u16,
    avail_wrap: bool,
    used: u16,
    used_wrap: bool,
    /// Slots that were written and not exposed: with their flags, of which the device has not seen the first one's of
    /// each chain.
    hidden: Vec<(u16, u16)>,
    /// Slots that were made available since the device was last thought of, with their wrap counters.
    fresh: Vec<(u16, bool)>,
}

impl<'a> Packed<'a> {
    pub(super) fn new(ram: &'a Ram, config: QueueConfig, features: Features) -> Self {
        Self {
            ram,
            config,
            event_idx: features.contains(Features::EVENT_IDX),
            ids: (0..config.size).collect(),
            chains: HashMap::new(),
            free: config.size,
            avail: 0,
            avail_wrap: true,
            used: 0,
            used_wrap: true,
            hidden: Vec::new(),
            fresh: Vec::new(),
        }
    }

    pub(super) fn token(&self, descriptors: usize) -> Option<u16> {
        if usize::from(self.free) < descriptors {
            return None;
        }
        self.ids.last().copied()
    }

    pub(super) fn add(&mut self, list: &[Element], table: Option<u64>) {
        let id = self.ids.pop().expect("one is free");
        let slots = if let Some(table) = table {
            for (index, one) in list.iter().enumerate() {
                let flags = if one.write { WRITE } else { 0 };
                // Ids in tables are reserved, and ignored.
                self.write(table + 16 * index as u64, *one, 0xDEAD);
                self.ram.poke_u16(table + 16 * index as u64 + 14, flags);
            }
            let whole = Element {
                at: table,
                len: 16 * list.len() as u32,
                write: false,
            };
            self.place(whole, id, INDIRECT, true);
            1
        } else {
            for (index, one) in list.iter().enumerate() {
                let last = index + 1 == list.len();
                let mut flags = if one.write { WRITE } else { 0 };
                if !last {
                    flags |= NEXT;
                }
                // The last one's counts.
                let shown = if last { id } else { 0xDEAD };
                self.place(*one, shown, flags, index == 0);
            }
            list.len() as u16
        };
        self.free -= slots;
        self.chains.insert(id, slots);
    }

    /// Writes one descriptor into the ring. Flags of the first one in a list come when it is exposed.
    fn place(&mut self, one: Element, id: u16, flags: u16, first: bool) {
        let at = self.config.descriptors + 16 * u64::from(self.avail);
        self.write(at, one, id);
        let flags = flags | if self.avail_wrap { AVAIL } else { USED };
        if first {
            self.hidden.push((self.avail, flags));
        } else {
            self.ram.poke_u16(at + 14, flags);
        }
        self.fresh.push((self.avail, self.avail_wrap));
        self.avail += 1;
        if self.avail == self.config.size {
            self.avail = 0;
            self.avail_wrap = !self.avail_wrap;
        }
    }

    fn write(&self, at: u64, one: Element, id: u16) {
        self.ram.poke_u64(at, one.at);
        self.ram.poke_u32(at + 8, one.len);
        self.ram.poke_u16(at + 12, id);
    }

    pub(super) fn expose(&mut self) -> bool {
        // The first one last: the device waits there, and sees all or nothing.
        for (slot, flags) in std::mem::take(&mut self.hidden).into_iter().rev() {
            let at = self.config.descriptors + 16 * u64::from(slot);
            self.ram.poke_u16(at + 14, flags);
        }
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.is_empty() {
            return false;
        }
        let event = self.ram.peek_u32(self.config.device);
        match event >> 16 & 3 {
            0 => true,
            1 => false,
            2 => {
                assert!(self.event_idx, "DESC without EVENT_IDX");
                let slot = event as u16 & 0x7FFF;
                let wrap = event & 0x8000 != 0;
                fresh.contains(&(slot, wrap))
            }
            _ => panic!("a reserved value"),
        }
    }

    pub(super) fn receive(&mut self) -> Option<(u16, u32)> {
        if !self.is_used() {
            return None;
        }
        let at = self.config.descriptors + 16 * u64::from(self.used);
        let id = self.ram.peek_u16(at + 12);
        let flags = self.ram.peek_u16(at + 14);
        let len = self.ram.peek_u32(at + 8);
        let slots = *self.chains.get(&id).expect("the device had it");
        self.used += slots;
        if self.used >= self.config.size {
            self.used -= self.config.size;
            self.used_wrap = !self.used_wrap;
        }
        // The length is reserved unless something was written (2.8.5).
        Some((id, if flags & WRITE != 0 { len } else { 0 }))
    }

    pub(super) fn free(&mut self, token: u16) {
        self.free += self.chains.remove(&token).expect("the device had it");
        self.ids.push(token);
    }

    pub(super) fn mask(&mut self) {
        self.ram.poke_u32(self.config.driver, 1 << 16);
    }

    pub(super) fn sleep(&mut self, chains: u16) -> bool {
        let word = if self.event_idx {
            // A slot of the last chain of them all, if each of them takes one slot: then sooner, never later.
            let mut slot = self.used + (chains - 1).min(self.config.size - 1);
            let mut wrap = self.used_wrap;
            if slot >= self.config.size {
                slot -= self.config.size;
                wrap = !wrap;
            }
            2 << 16 | u32::from(wrap) << 15 | u32::from(slot)
        } else {
            0
        };
        self.ram.poke_u32(self.config.driver, word);
        !self.is_used()
    }

    fn is_used(&self) -> bool {
        let at = self.config.descriptors + 16 * u64::from(self.used);
        let flags = self.ram.peek_u16(at + 14);
        let expected = if self.used_wrap { AVAIL | USED } else { 0 };
        flags & (AVAIL | USED) == expected
    }
}
