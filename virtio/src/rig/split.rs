//! The driver's side of a split ring: 2.7.13 and 2.7.14, step by step.

use std::collections::HashMap;
use std::vec::Vec;

use super::Element;
use crate::fake::Ram;
use crate::features::Features;
use crate::queue::QueueConfig;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

pub(super) struct Split<'a> {
    ram: &'a Ram,
    config: QueueConfig,
    event_idx: bool,
    /// Free descriptors; the last one is taken first. With `IN_ORDER` the order is that of the table.
    free: Vec<u16>,
    in_order: bool,
    /// Descriptors of each chain, by head.
    chains: HashMap<u16, Vec<u16>>,
    /// The available index with what was added, and as the device knows it.
    added: u16,
    exposed: u16,
    /// The used index up to which chains were received.
    received: u16,
}

impl<'a> Split<'a> {
    pub(super) fn new(ram: &'a Ram, config: QueueConfig, features: Features) -> Self {
        Self {
            ram,
            config,
            event_idx: features.contains(Features::EVENT_IDX),
            free: (0..config.size).rev().collect(),
            in_order: features.contains(Features::IN_ORDER),
            chains: HashMap::new(),
            added: 0,
            exposed: 0,
            received: 0,
        }
    }

    pub(super) fn token(&self, descriptors: usize) -> Option<u16> {
        if self.free.len() < descriptors {
            return None;
        }
        self.free.last().copied()
    }

    pub(super) fn add(&mut self, list: &[Element], table: Option<u64>) {
        let head = if let Some(table) = table {
            for (index, one) in (0..).zip(list) {
                let last = usize::from(index) + 1 == list.len();
                self.write(table, index, *one, (!last).then_some(index + 1));
            }
            let index = self.free.pop().expect("one is free");
            let at = self.config.descriptors + 16 * u64::from(index);
            self.ram.poke_u64(at, table);
            self.ram.poke_u32(at + 8, 16 * list.len() as u32);
            self.ram.poke_u16(at + 12, INDIRECT);
            self.chains.insert(index, std::vec![index]);
            index
        } else {
            let taken = self.free.split_off(self.free.len() - list.len());
            let taken: Vec<u16> = taken.into_iter().rev().collect();
            for (place, one) in list.iter().enumerate() {
                let next = taken.get(place + 1).copied();
                self.write(self.config.descriptors, taken[place], *one, next);
            }
            let head = taken[0];
            self.chains.insert(head, taken);
            head
        };
        let slot = u64::from(self.added % self.config.size);
        self.ram.poke_u16(self.config.driver + 4 + 2 * slot, head);
        self.added = self.added.wrapping_add(1);
    }

    fn write(&self, table: u64, index: u16, one: Element, next: Option<u16>) {
        let at = table + 16 * u64::from(index);
        let mut flags = if one.write { WRITE } else { 0 };
        if next.is_some() {
            flags |= NEXT;
        }
        self.ram.poke_u64(at, one.at);
        self.ram.poke_u32(at + 8, one.len);
        self.ram.poke_u16(at + 12, flags);
        self.ram.poke_u16(at + 14, next.unwrap_or(0xDEAD));
    }

    pub(super) fn expose(&mut self) -> bool {
        let (old, new) = (self.exposed, self.added);
        self.exposed = new;
        self.ram.poke_u16(self.config.driver + 2, new);
        if old == new {
            return false;
        }
        if self.event_idx {
            let at = self.config.device + 4 + 8 * u64::from(self.config.size);
            let event = self.ram.peek_u16(at);
            // One of the entries is the one that the device waits for.
            (0..new.wrapping_sub(old)).any(|step| old.wrapping_add(step) == event)
        } else {
            self.ram.peek_u16(self.config.device) & 1 == 0
        }
    }

    pub(super) fn receive(&mut self) -> Option<(u16, u32)> {
        if self.received == self.used() {
            return None;
        }
        let slot = u64::from(self.received % self.config.size);
        let at = self.config.device + 4 + 8 * slot;
        self.received = self.received.wrapping_add(1);
        let id = u16::try_from(self.ram.peek_u32(at)).expect("a head");
        Some((id, self.ram.peek_u32(at + 4)))
    }

    pub(super) fn free(&mut self, token: u16) {
        let chain = self.chains.remove(&token).expect("the device had it");
        if self.in_order {
            // They are behind all that are free.
            for index in chain {
                self.free.insert(0, index);
            }
        } else {
            self.free.extend(chain);
        }
    }

    pub(super) fn mask(&mut self) {
        if !self.event_idx {
            self.ram.poke_u16(self.config.driver, 1);
        }
    }

    pub(super) fn sleep(&mut self, chains: u16) -> bool {
        if self.event_idx {
            let at = self.config.driver + 4 + 2 * u64::from(self.config.size);
            let event = self.received.wrapping_add(chains - 1);
            self.ram.poke_u16(at, event);
            self.used().wrapping_sub(self.received) < chains
        } else {
            self.ram.poke_u16(self.config.driver, 0);
            self.used() == self.received
        }
    }

    fn used(&self) -> u16 {
        self.ram.peek_u16(self.config.device + 2)
    }
}
