//! A guest with one device, down to the registers.

use std::vec::Vec;

use super::Driver;
use crate::device::{Device, Env, Served};
use crate::fake::{BASE, Loan, Ram};
use crate::features::Features;
use crate::mmio::{Offer, Transport};

/// Memory of each queue.
pub const PER_QUEUE: u64 = 2 << 20;
/// Memory that no queue has.
const SPARE: u64 = 5 << 20;
/// Entries of each queue.
const SIZE: u16 = 16;

/// A device in its slot, and a driver of each of its queues.
pub struct Slot<D> {
    pub ram: &'static Ram,
    pub loan: Loan,
    pub transport: Transport,
    pub device: D,
    pub drivers: Vec<Driver<'static>>,
}

impl<D: Device<&'static Ram>> Slot<D> {
    /// A device in a memory that has room for so many queues. No driver has begun.
    pub fn new(queues: u16, make: impl FnOnce(&'static Ram) -> D) -> Self {
        let loan = Loan::new((PER_QUEUE * u64::from(queues) + SPARE) as usize);
        let ram = loan.ram();
        Self {
            ram,
            loan,
            transport: Transport::new(Offer::ALL),
            device: make(ram),
            drivers: Vec::new(),
        }
    }

    pub fn env(&self) -> Env<'static, &'static Ram> {
        Env {
            memory: self.ram,
            now: 0,
            frequency: 1,
            trace: None,
        }
    }

    pub fn read(&self, offset: u64) -> u32 {
        self.transport.read::<&'static Ram>(&self.device, offset, 4) as u32
    }

    pub fn write(&mut self, offset: u64, value: u32) -> Served {
        let mut env = self.env();
        self.transport
            .write(&mut self.device, offset, 4, value.into(), &mut env)
    }

    /// Memory that no queue has.
    pub fn spare(&self) -> u64 {
        BASE + PER_QUEUE * self.drivers.len() as u64
    }

    /// All of initialisation (3.1.1).
    pub fn start(&mut self, features: u64) {
        let features = features | Features::VERSION_1.bits();
        for status in [0, 1, 3] {
            let _ = self.write(0x70, status);
        }
        for half in [0, 1] {
            let _ = self.write(0x24, half);
            let _ = self.write(0x20, (features >> (32 * half)) as u32);
        }
        let _ = self.write(0x70, 11);
        assert_eq!(self.read(0x70), 11, "{features:#x}");
        self.drivers.clear();
        for queue in 0.. {
            let _ = self.write(0x30, queue);
            if self.read(0x34) == 0 {
                break;
            }
            self.set_up(queue, features);
        }
        let _ = self.write(0x70, 15);
    }

    /// Makes the selected queue ready.
    fn set_up(&mut self, queue: u32, features: u64) {
        let at = BASE + PER_QUEUE * u64::from(queue);
        let features = Features::from_bits_retain(features);
        let driver = Driver::new(self.ram, at, PER_QUEUE, SIZE, features);
        let config = driver.config();
        let _ = self.write(0x38, config.size.into());
        for (low, address) in [
            (0x80, config.descriptors),
            (0x90, config.driver),
            (0xa0, config.device),
        ] {
            let _ = self.write(low, address as u32);
            let _ = self.write(low + 4, (address >> 32) as u32);
        }
        let _ = self.write(0x44, 1);
        assert_eq!(self.read(0x44), 1);
        self.drivers.push(driver);
    }

    pub fn notify(&mut self, queue: u32) -> Served {
        self.write(0x50, queue)
    }

    pub fn poll(&mut self) -> Served {
        let mut env = self.env();
        self.transport.poll(&mut self.device, &mut env)
    }

    pub fn is_broken(&self) -> bool {
        self.read(0x70) & 64 != 0
    }
}
