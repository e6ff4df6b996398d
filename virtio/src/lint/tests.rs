//! Every rule catches the bug that is seeded for it, and a driver without one breaks none.
//!
//! The drivers here set a device up register by register, and write rings by hand or by the specification's driver
//! ([`Driver`]); in between, each with one mistake.

mod bugs;
mod packed;
mod ranks;
mod sound;

use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::chain::Chain;
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::Queue;
use crate::rig::Driver;

/// A lint beside a queue that works, and what it has found.
struct Rig {
    ram: &'static Ram,
    lint: Box<Lint>,
    found: Vec<(&'static str, Option<u16>)>,
}

const SECTORS: u64 = 1000;
const SIZE: u16 = 16;

/// The registers by name (virtio 1.3, 4.2.2).
const MAGIC: u64 = 0x0;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SEL: u64 = 0x24;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_SIZE_MAX: u64 = 0x34;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
const GENERATION: u64 = 0xfc;
const CONFIG: u64 = 0x100;

impl Rig {
    fn new(id: u32, own: u64) -> Self {
        let subject = Subject {
            id,
            offered: Features::RING.bits() | own,
            sectors: SECTORS,
        };
        Self {
            ram: Ram::leaked(0x40_0000),
            lint: Box::new(Lint::new(subject)),
            found: Vec::new(),
        }
    }

    fn store(&mut self, offset: u64, value: u64) {
        self.store_as(offset, 4, value);
    }

    fn store_as(&mut self, offset: u64, bytes: u32, value: u64) {
        let found = &mut self.found;
        let mut tell = |one: Finding| found.push((one.rule.id, one.queue));
        self.lint.stored(offset, bytes, value, &self.ram, &mut tell);
    }

    fn load(&mut self, offset: u64, value: u64) {
        self.load_as(offset, 4, value);
    }

    fn load_as(&mut self, offset: u64, bytes: u32, value: u64) {
        let found = &mut self.found;
        let mut tell = |one: Finding| found.push((one.rule.id, one.queue));
        self.lint.loaded(offset, bytes, value, &mut tell);
    }

    fn device(&mut self, event: Event) {
        let found = &mut self.found;
        let mut tell = |one: Finding| found.push((one.rule.id, one.queue));
        self.lint.device(event, &self.ram, &mut tell);
    }

    fn features(&mut self, features: u64) {
        for half in 0..2 {
            self.store(DRIVER_FEATURES_SEL, half);
            self.store(DRIVER_FEATURES, features >> (32 * half) & 0xffff_ffff);
        }
    }

    /// Up to features that are agreed on.
    fn begin(&mut self, features: u64) {
        for status in [0, 1, 3] {
            self.store(STATUS, status);
        }
        self.features(features);
        self.store(STATUS, 11);
        self.load(STATUS, 11);
    }

    fn queue(&mut self, queue: u16, config: &QueueConfig) {
        self.store(QUEUE_SEL, queue.into());
        self.load(QUEUE_READY, 0);
        self.load(QUEUE_SIZE_MAX, 256);
        self.store(QUEUE_SIZE, config.size.into());
        for (offset, at) in [
            (0x80, config.descriptors),
            (0x90, config.driver),
            (0xa0, config.device),
        ] {
            self.store(offset, at & 0xffff_ffff);
            self.store(offset + 4, at >> 32);
        }
        self.store(QUEUE_READY, 1);
    }

    fn found(&self) -> Vec<&'static str> {
        self.found.iter().map(|(id, _)| *id).collect()
    }
}

/// A device that gives back what it takes, at once, as if it had written all of it.
struct Echo {
    queue: Queue,
    chain: Box<Chain>,
}

impl Echo {
    fn new(driver: &Driver<'_>, features: Features, ram: &&'static Ram) -> Self {
        Self {
            queue: Queue::new(&driver.config(), 256, features, ram).unwrap(),
            chain: Box::new(Chain::new()),
        }
    }

    fn serve(&mut self, rig: &mut Rig, number: u16) {
        let ram = rig.ram;
        while self.queue.pop(&ram, &mut self.chain).unwrap() {
            let ticket = self.chain.ticket();
            rig.device(Event::Popped {
                queue: number,
                id: ticket.id,
                readable: self.chain.readable_len(),
                writable: self.chain.writable_len(),
            });
            self.queue.push(&ram, ticket, 0);
            rig.device(Event::Pushed {
                queue: number,
                id: ticket.id,
                written: 0,
            });
        }
        let _ = self.queue.publish(&ram);
        let _ = self.queue.listen(&ram);
    }
}
