//! A guest with one block device, and its requests.

use std::boxed::Box;
use std::vec::Vec;

use crate::blk::{Blk, Disk, ID_BYTES, Job, Shape};
use crate::fake::Ram;
use crate::rig::Done;
pub use crate::rig::slot::PER_QUEUE;
use crate::rig::slot::Slot;

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

/// A guest with one block device.
pub type Bench<D> = Slot<Blk<'static, D>>;

impl<D: Disk<&'static Ram>> Bench<D> {
    /// A device with so many queues, and places for requests.
    pub fn disk(disk: D, queues: u16, places: usize) -> Self {
        let shape = Shape {
            id: ID,
            queues,
            queue_max: 16,
        };
        Self::new(queues, |_| Blk::new(disk, shape, jobs(places)))
    }

    pub fn boot(disk: D, features: u64) -> Self {
        let mut bench = Self::disk(disk, 1, 4);
        bench.start(features);
        bench
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
}
