//! A guest with one block device, down to the registers.

use std::boxed::Box;
use std::vec::Vec;

use crate::blk::{Blk, Disk, ID_BYTES, Job, Shape};
use crate::device::{Env, Served};
use crate::fake::{BASE, Loan, Ram};
use crate::features::Features;
use crate::mmio::{Offer, Transport};
use crate::rig::{Done, Driver};

pub const ID: [u8; ID_BYTES] = *b"a disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

pub const OK: u8 = 0;
pub const IOERR: u8 = 1;
pub const UNSUPP: u8 = 2;

/// Memory of each queue.
pub const PER_QUEUE: u64 = 2 << 20;

pub fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut raw = [0xee; 16];
    raw[..4].copy_from_slice(&kind.to_le_bytes());
    raw[8..].copy_from_slice(&sector.to_le_bytes());
    raw
}

pub fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&sector.to_le_bytes());
    raw[8..12].copy_from_slice(&sectors.to_le_bytes());
    raw[12..].copy_from_slice(&flags.to_le_bytes());
    raw
}

/// A disk in memory of so many sectors, each byte of which is the low byte of its sector's number, plus one.
pub fn store(sectors: usize) -> &'static Ram {
    let ram: &'static Ram = Box::leak(Box::new(Ram::with(&[(0, sectors * 512)])));
    for sector in 0..sectors {
        ram.poke(sector as u64 * 512, &[(sector as u8).wrapping_add(1); 512]);
    }
    ram
}

/// So many places for requests.
pub fn jobs(count: usize) -> &'static mut [Job] {
    let jobs: Vec<Job> = (0..count).map(|_| Job::new()).collect();
    Vec::leak(jobs)
}

pub struct Bench<D> {
    pub ram: &'static Ram,
    pub loan: Loan,
    pub transport: Transport,
    pub blk: Blk<'static, D>,
    pub drivers: Vec<Driver<'static>>,
}

impl<D: Disk<&'static Ram>> Bench<D> {
    /// A device with so many queues of 16, and memory for them.
    pub fn new(disk: D, queues: u16, places: usize) -> Self {
        let bytes = PER_QUEUE * u64::from(queues) + (5 << 20);
        let shape = Shape {
            id: ID,
            queues,
            queue_max: 16,
        };
        let loan = Loan::new(bytes as usize);
        Self {
            ram: loan.ram(),
            loan,
            transport: Transport::new(Offer::ALL),
            blk: Blk::new(disk, shape, jobs(places)),
            drivers: Vec::new(),
        }
    }

    pub fn boot(disk: D, features: u64) -> Self {
        let mut bench = Self::new(disk, 1, 4);
        bench.start(features);
        bench
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
        self.transport.read::<&'static Ram>(&self.blk, offset, 4) as u32
    }

    pub fn write(&mut self, offset: u64, value: u32) -> Served {
        let mut env = self.env();
        self.transport
            .write(&mut self.blk, offset, 4, value.into(), &mut env)
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
        let driver = Driver::new(self.ram, at, PER_QUEUE, 16, features);
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
        self.transport.poll(&mut self.blk, &mut env)
    }

    /// One request, from notification to answer.
    pub fn ask(&mut self, readable: &[&[u8]], writable: &[usize]) -> Done {
        let (token, notify) = self.drivers[0].send(readable, writable).expect("room");
        assert!(notify);
        let mut served = self.notify(0);
        for _ in 0..100_000 {
            assert!(!served.broken);
            if let Some(done) = self.drivers[0].receive() {
                assert_eq!(done.token, token);
                return done;
            }
            served = self.poll();
        }
        panic!("no answer");
    }

    /// One request; its status, what it read, and the length that the device says.
    pub fn request(
        &mut self,
        kind: u32,
        sector: u64,
        data: &[u8],
        room: usize,
    ) -> (u8, Vec<u8>, u32) {
        let header = header(kind, sector);
        let readable: Vec<&[u8]> = [&header[..], data]
            .into_iter()
            .filter(|one| !one.is_empty())
            .collect();
        let writable: Vec<usize> = [room, 1].into_iter().filter(|&one| one != 0).collect();
        let mut done = self.ask(&readable, &writable);
        let status = done.data.pop().expect("a status");
        (status, done.data, done.written)
    }

    pub fn is_broken(&self) -> bool {
        self.read(0x70) & 64 != 0
    }
}
