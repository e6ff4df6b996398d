//! Faults where they should be, and nowhere else.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::{Clock, Dice, Faults, FaultyDevice, FaultyDisk, Kind, Link, Often};
use crate::blk::tests::rig::{Bench, IN, IOERR, OK, OUT, header, store};
use crate::blk::tests::slow::Slow;
use crate::blk::{Blk, Disk, RamDisk};
use crate::device::{Device, Env, Served};
use crate::fake::Ram;
use crate::mmio::Transport;
use crate::rig::Driver;

const HZ: u64 = 1_000_000;

/// A device over a faulty disk, at the level of registers, and its time.
struct Rig<D: 'static> {
    ram: &'static Ram,
    transport: Transport,
    device: FaultyDevice<'static, Blk<'static, FaultyDisk<'static, D>>>,
    driver: Driver<'static>,
    now: u64,
}

fn clock() -> &'static Clock {
    Box::leak(Box::new(Clock::new()))
}

impl<D: Disk<&'static Ram>> Rig<D> {
    fn new(disk: D, places: usize, faults: Faults) -> Self {
        let clock = clock();
        clock.set(0, HZ);
        let mut bench = Bench::new(FaultyDisk::new(disk, faults, clock), 1, places);
        // With a write cache: a write is one request of the disk.
        bench.start(1 << 9);
        let Bench {
            ram,
            transport,
            blk,
            mut drivers,
        } = bench;
        Self {
            ram,
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

#[test]
fn a_request_fails() {
    let mut rig = Rig::new(
        ram_disk(),
        1,
        always(|faults| faults.error = Often::From { nth: 1, every: 0 }),
    );
    rig.write(0, &[0xaa; 512]);
    rig.write(1, &[0xbb; 512]);
    rig.write(2, &[0xcc; 512]);
    assert!(rig.notify().used);
    let answers: Vec<_> = core::iter::from_fn(|| rig.driver.receive())
        .map(|done| done.data[0])
        .collect();
    assert_eq!(answers, [OK, IOERR, OK]);
    rig.read(0, 1536);
    let _ = rig.notify();
    let done = rig.driver.receive().expect("an answer");
    assert_eq!(
        done.data[..1536],
        [[0xaa; 512], [2; 512], [0xcc; 512]].concat()
    );
}

#[test]
fn a_request_does_half() {
    let mut rig = Rig::new(
        ram_disk(),
        1,
        always(|faults| faults.short = Often::From { nth: 0, every: 0 }),
    );
    rig.write(0, &[0xaa; 2048]);
    let _ = rig.notify();
    assert_eq!(rig.driver.receive().expect("an answer").data, [IOERR]);
    rig.read(0, 2048);
    let _ = rig.notify();
    let done = rig.driver.receive().expect("an answer");
    assert_eq!(done.data[..1024], [0xaa; 1024]);
    assert_eq!(done.data[1024..2048], [[3; 512], [4; 512]].concat());
}

#[test]
fn a_request_is_late() {
    for slow in [false, true] {
        let faults = always(|faults| faults.delay = Often::ALWAYS);
        let mut waits = vec![];
        if slow {
            let mut rig = Rig::new(Slow::new(store(64), 64, 8), 8, faults);
            waits.push(late(&mut rig, |rig| {
                rig.disk().finish_one();
            }));
        } else {
            waits.push(late(&mut Rig::new(ram_disk(), 8, faults), |_| {}));
        }
        assert!(
            waits.iter().all(|&wait| wait != 0 && wait <= HZ / 100),
            "{waits:?}"
        );
    }
}

fn late<D: Disk<&'static Ram>>(rig: &mut Rig<D>, finish: impl Fn(&mut Rig<D>)) -> u64 {
    rig.now = 1000;
    rig.read(7, 512);
    assert!(!rig.notify().used);
    finish(rig);
    assert!(!rig.poll().used);
    let due = rig.due();
    rig.now = due - 1;
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.driver.receive(), None);
    assert_eq!(rig.due(), due);
    rig.now = due;
    assert!(rig.poll().used);
    let done = rig.driver.receive().expect("an answer");
    assert_eq!((done.data[0], done.data[512]), (8, OK));
    assert_eq!(rig.due(), u64::MAX);
    due - 1000
}

#[test]
fn a_request_is_overtaken() {
    let faults = always(|faults| faults.reorder = Often::From { nth: 0, every: 2 });
    let mut rig = Rig::new(ram_disk(), 8, faults);
    let tokens: Vec<u16> = (0..4).map(|sector| rig.read(sector, 512)).collect();
    let _ = rig.notify();
    // Those in between are over, and so those before them are due.
    assert_eq!(rig.due(), 0);
    let _ = rig.poll();
    let order: Vec<u16> = core::iter::from_fn(|| rig.driver.receive())
        .map(|done| done.token)
        .collect();
    assert_eq!(order, [tokens[1], tokens[3], tokens[0], tokens[2]]);
    // Nothing comes later: it is over by itself.
    rig.now = 5;
    rig.read(0, 512);
    let _ = rig.notify();
    assert_eq!(rig.due(), 5 + HZ / 100);
    rig.now = rig.due();
    assert!(rig.poll().used);
}

#[test]
fn a_request_is_lost() {
    let faults = always(|faults| faults.drop = Often::From { nth: 1, every: 0 });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    for sector in 0..4 {
        rig.read(sector, 512);
    }
    let _ = rig.notify();
    let seen: Vec<u8> = core::iter::from_fn(|| rig.driver.receive())
        .map(|done| done.data[0])
        .collect();
    assert_eq!(seen, [1, 3, 4]);
    rig.now = u64::MAX / 2;
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.driver.in_flight(), 1);
}

#[test]
fn an_interrupt_is_lost() {
    let faults = always(|faults| faults.interrupt = Often::From { nth: 1, every: 0 });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    for used in [true, false, true] {
        rig.read(0, 512);
        assert_eq!(rig.notify().used, used);
        assert!(rig.driver.receive().is_some());
    }
}

#[test]
fn a_device_needs_a_reset() {
    let faults = always(|faults| faults.reset = Often::From { nth: 1, every: 0 });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    rig.read(0, 512);
    assert!(!rig.notify().broken);
    rig.read(0, 512);
    let served = rig.notify();
    assert!(served.broken && served.config && !served.used);
    assert_eq!(rig.transport.status().bits(), 15 | 64);
    assert_eq!(rig.poll(), Served::default());
}

/// Writes down what happens to a cable.
#[derive(Default)]
struct Cable(std::sync::Mutex<Vec<bool>>);

impl Link for Cable {
    fn set_up(&self, is_up: bool) {
        self.0.lock().expect("nobody panics").push(is_up);
    }
}

/// Writes down when it is served, which takes a cable or does not.
struct Probe(Vec<u16>);

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
        self.0.push(queue);
        Served {
            used: true,
            ..Served::default()
        }
    }
}

#[test]
fn a_link_goes_down_and_up() {
    let faults = always(|faults| {
        faults.link = Often::From { nth: 1, every: 0 };
        faults.drop = Often::From { nth: 2, every: 0 };
    });
    let cable: &'static Cable = Box::leak(Box::default());
    let mut probe = Probe(vec![]);
    let clock = Clock::new();
    let mut device = FaultyDevice::new(&mut probe, faults, &clock, Some(cable));
    let mut env = Env {
        memory: Ram::leaked(16),
        now: 50,
        frequency: HZ,
        trace: None,
    };
    let moves = || core::mem::take(&mut *cable.0.lock().expect("nobody panics"));
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), []);
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), [false]);
    let due = device.due();
    assert!(due > 50 && due <= 50 + HZ / 10);
    env.now = due;
    let _ = device.poll(&mut env);
    assert_eq!(moves(), [true]);
    assert_eq!(device.due(), u64::MAX);
    // What is lost is sent with the cable out, which nobody else sees.
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), [false, true]);
    let _ = device.serve(1, &mut env);
    assert_eq!(moves(), []);
    assert_eq!(probe.0, [1, 1, 1, 1]);
}

#[test]
fn a_notification_is_served_late() {
    let faults = always(|faults| faults.delay = Often::From { nth: 0, every: 0 });
    let mut probe = Probe(vec![]);
    let clock = Clock::new();
    let mut device = FaultyDevice::new(&mut probe, faults, &clock, None);
    let mut env = Env {
        memory: Ram::leaked(16),
        now: 50,
        frequency: HZ,
        trace: None,
    };
    assert_eq!(device.serve(2, &mut env), Served::default());
    let due = device.due();
    assert!(due > 50 && due <= 50 + HZ / 100);
    assert_eq!(device.poll(&mut env), Served::default());
    assert!(device.serve(1, &mut env).used);
    env.now = due;
    assert!(device.poll(&mut env).used);
    assert_eq!(device.poll(&mut env), Served::default());
    assert_eq!(probe.0, [1, 2]);
}

fn often() -> impl Strategy<Value = Often> {
    prop_oneof![Just(Often::NEVER), (0..400_000_u32).prop_map(Often::Rate)]
}

fn faults() -> impl Strategy<Value = Faults> {
    (any::<u64>(), often(), often(), often(), often(), often()).prop_map(
        |(seed, delay, short, error, drop, reorder)| Faults {
            seed,
            delay,
            short,
            error,
            drop,
            reorder,
            ..Faults::NONE
        },
    )
}

/// Writes each of 64 sectors a few times, sixteen kinds of data at a time, and reads all of them at the end. What was
/// answered, and in which order.
fn exercise<D: Disk<&'static Ram>>(
    rig: &mut Rig<D>,
    sectors: &[u8],
    mut finish: impl FnMut(&mut Rig<D>),
) -> Vec<(u16, u8)> {
    let mut log = vec![];
    let mut known: Vec<Vec<u8>> = (1..=64).map(|fill| vec![fill]).collect();
    for (fill, &sector) in (100_u8..).zip(sectors) {
        let sector = usize::from(sector % 32) * 2;
        let Some((token, _)) = rig
            .driver
            .send(&[&header(OUT, sector as u64), &[fill; 1024]], &[1])
        else {
            break;
        };
        let _ = rig.notify();
        let answer = wait(rig, token, &mut finish);
        log.push((token, answer.unwrap_or(0xff)));
        for one in [sector, sector + 1] {
            match answer {
                Some(OK) => known[one] = vec![fill],
                // What is in flight, or was cut off, is there or is not.
                _ => known[one].push(fill),
            }
        }
    }
    for (sector, known) in known.iter().enumerate() {
        let bytes = &rig.disk_bytes(sector);
        assert!(
            known
                .iter()
                .any(|&fill| bytes.iter().all(|&byte| byte == fill)),
            "{sector}"
        );
    }
    log
}

fn wait<D: Disk<&'static Ram>>(
    rig: &mut Rig<D>,
    token: u16,
    finish: &mut impl FnMut(&mut Rig<D>),
) -> Option<u8> {
    for _ in 0..4 {
        while let Some(done) = rig.driver.receive() {
            if done.token == token {
                return done.data.last().copied();
            }
        }
        finish(rig);
        let _ = rig.poll();
        let due = rig.due();
        if due != u64::MAX {
            rig.now = rig.now.max(due);
        }
        let _ = rig.poll();
    }
    None
}

trait Bytes {
    fn disk_bytes(&mut self, sector: usize) -> Vec<u8>;
}

impl<D: Disk<&'static Ram>> Bytes for Rig<D> {
    fn disk_bytes(&mut self, sector: usize) -> Vec<u8> {
        // Past all faults.
        let ram = self.ram;
        let at = crate::fake::BASE + (3 << 20);
        let segments = [crate::chain::Segment {
            at: stage2_addr::Ipa::new(at),
            len: 512,
        }];
        let request = crate::blk::Request {
            op: crate::blk::Op::Read,
            sector: sector as u64,
            sectors: 1,
        };
        let token = crate::blk::Token(0);
        let data = crate::chain::Cursor::new(&segments);
        let outcome = self.disk().submit(&request, data, &ram, token);
        assert_eq!(outcome, crate::blk::Outcome::Done(crate::blk::Status::Ok));
        ram.peek(at, 512)
    }
}

proptest! {
    /// What a disk says it has written is there, whatever goes wrong, and the same seed does the same again.
    #[test]
    fn what_is_written_is_written(
        faults in faults(),
        sectors in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let once = exercise(&mut Rig::new(ram_disk(), 32, faults), &sectors, |_| {});
        let again = exercise(&mut Rig::new(ram_disk(), 32, faults), &sectors, |_| {});
        prop_assert_eq!(once, again);
    }

    /// The same over a disk that is late by itself: each request is answered or lost, and none twice.
    #[test]
    fn each_request_is_answered_once(
        mut faults in faults(),
        loses in any::<bool>(),
        sectors in prop::collection::vec(0..60_u64, 1..60),
    ) {
        if !loses {
            faults.drop = Often::NEVER;
        }
        let mut rig = Rig::new(Slow::new(store(64), 64, 5), 32, faults);
        let mut answers = 0;
        let mut sent = 0;
        for &sector in &sectors {
            let raw = header(IN, sector);
            if rig.driver.send(&[&raw], &[2048, 1]).is_some() {
                sent += 1;
            }
            let _ = rig.notify();
            rig.now += sector * 50;
            rig.disk().finish_one();
            let _ = rig.poll();
            while let Some(done) = rig.driver.receive() {
                answers += 1;
                if done.data[2048] == OK {
                    prop_assert!(done.data[0] != 0 && done.written == 2049);
                } else {
                    prop_assert_eq!(done.data[2048], IOERR);
                }
            }
        }
        for _ in 0..200 {
            rig.disk().finish_one();
            rig.now += HZ;
            let _ = rig.poll();
            while rig.driver.receive().is_some() {
                answers += 1;
            }
        }
        prop_assert!(answers <= sent);
        if !loses {
            prop_assert_eq!(answers, sent);
        }
    }
}
