//! Faults where they should be, and nowhere else.

mod chance;
mod device;
mod disk;
mod script;

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::{
    Clock, Dice, Faults, FaultyDevice, FaultyDisk, Kind, Link, MAX_STRIKES, Often, Script, Strike,
};
use crate::blk::tests::rig::{Bench, IN, IOERR, OK, OUT, header, store};
use crate::blk::tests::slow::Slow;
use crate::blk::{Blk, Disk, RamDisk};
use crate::device::{Device, Env, Served};
use crate::fake::{Loan, Ram};
use crate::mmio::Transport;
use crate::rig::Driver;

const HZ: u64 = 1_000_000;

/// A device over a faulty disk, at the level of registers, and its time.
struct Rig<D: 'static> {
    ram: &'static Ram,
    _loan: Loan,
    transport: Transport,
    device: FaultyDevice<'static, Blk<'static, FaultyDisk<'static, D>>>,
    driver: Driver<'static>,
    now: u64,
}

/// Writes down which queues are served, and has more to do so many times.
struct Probe {
    served: Vec<u16>,
    more: u32,
}

impl Probe {
    const fn new(more: u32) -> Self {
        let served = Vec::new();
        Self { served, more }
    }
}

impl Device<&'static Ram> for Probe {
    fn id(&self) -> u32 {
        1
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_max(&self, _: u16) -> u16 {
        8
    }
    fn read_config(&self, _: u64, _: &mut [u8]) {}
    fn start(&mut self, _: u64) {}
    fn open(&mut self, _: u16, _: crate::queue::Queue) {}
    fn close(&mut self, _: u16) {}
    fn reset(&mut self) {}
    fn serve(&mut self, queue: u16, _: &mut Env<'_, &'static Ram>) -> Served {
        self.served.push(queue);
        let more = self.more != 0;
        self.more = self.more.saturating_sub(1);
        Served {
            used: true,
            more,
            ..Served::default()
        }
    }
}

fn clock() -> &'static Clock {
    Box::leak(Box::new(Clock::new()))
}

impl<D: Disk<&'static Ram>> Rig<D> {
    fn new(disk: D, places: usize, faults: Faults) -> Self {
        let clock = clock();
        clock.set(0, HZ);
        let mut bench = Bench::disk(FaultyDisk::new(disk, faults, clock), 1, places);
        // With a write cache: a write is one request of the disk.
        bench.start(1 << 9);
        let Bench {
            ram,
            transport,
            device: blk,
            mut drivers,
            loan,
        } = bench;
        Self {
            ram,
            _loan: loan,
            transport,
            device: FaultyDevice::over_disk(Box::leak(Box::new(blk)), faults, clock),
            driver: drivers.remove(0),
            now: 0,
        }
    }

    fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Transport, &mut dyn Device<&'static Ram>, &mut Env<'_, &'static Ram>) -> R,
    ) -> R {
        let mut env = Env {
            memory: self.ram,
            now: self.now,
            frequency: HZ,
            trace: None,
        };
        act(&mut self.transport, &mut self.device, &mut env)
    }

    fn notify(&mut self) -> Served {
        self.with(|transport, device, env| transport.notify(device, 0, env))
    }

    fn poll(&mut self) -> Served {
        self.with(|transport, device, env| transport.poll(device, env))
    }

    fn read(&mut self, sector: u64, room: usize) -> u16 {
        let raw = header(IN, sector);
        self.driver.send(&[&raw], &[room, 1]).expect("room").0
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u16 {
        let raw = header(OUT, sector);
        self.driver.send(&[&raw, data], &[1]).expect("room").0
    }

    fn due(&self) -> u64 {
        Device::<&'static Ram>::due(&self.device)
    }

    fn disk(&mut self) -> &mut D {
        self.device.inner().disk().inner()
    }
}

fn ram_disk() -> RamDisk<&'static Ram> {
    RamDisk::new(store(64), 64).expect("fits")
}

fn always(set: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::NONE;
    set(&mut faults);
    faults
}

#[test]
fn dice_keep_to_rates() {
    let dice = Dice { seed: 77 };
    let count = |often, kind| {
        (0..100_000)
            .filter(|&nth| dice.hits(often, kind, nth))
            .count()
    };
    assert_eq!(count(Often::NEVER, Kind::Drop), 0);
    assert_eq!(count(Often::ALWAYS, Kind::Drop), 100_000);
    for (rate, least, most) in [(10, 0, 8), (10_000, 900, 1100), (500_000, 49_000, 51_000)] {
        for kind in [Kind::Delay, Kind::Error, Kind::Reset] {
            let hits = count(Often::Rate(rate), kind);
            assert!((least..=most).contains(&hits), "{rate}: {hits}");
        }
    }
    let hits = |often| {
        (0..20)
            .filter(|&nth| dice.hits(often, Kind::Drop, nth))
            .collect::<Vec<_>>()
    };
    assert_eq!(hits(Often::From { nth: 3, every: 0 }), [3]);
    assert_eq!(hits(Often::From { nth: 3, every: 7 }), [3, 10, 17]);
}

#[test]
fn kinds_and_devices_have_chances_of_their_own() {
    let draws = |dice: Dice, kind| {
        (0..64)
            .filter(|&nth| dice.hits(Often::Rate(500_000), kind, nth))
            .collect::<Vec<u64>>()
    };
    let faults = Faults {
        seed: 5,
        ..Faults::NONE
    };
    let (one, other) = (
        Dice {
            seed: faults.of(1).seed,
        },
        Dice {
            seed: faults.of(2).seed,
        },
    );
    assert_eq!(draws(one, Kind::Drop), draws(one, Kind::Drop));
    assert_ne!(draws(one, Kind::Drop), draws(one, Kind::Error));
    assert_ne!(draws(one, Kind::Drop), draws(other, Kind::Drop));
}
