use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::mmio::{Offer, Transport, register};
use crate::rig::Driver;

/// What was forgotten.
#[derive(Default)]
struct Log(Vec<(u64, u64)>);

impl Forget for Log {
    fn forget(&mut self, at: Ipa, len: u64) {
        self.0.push((at.raw(), len));
    }
}

const RAM: usize = 0x100_0000;

struct Rig {
    ram: &'static Ram,
    balloon: Box<Balloon<Log>>,
    drivers: Vec<Driver<'static>>,
}

impl Rig {
    fn new() -> Self {
        let features = Features::VERSION_1;
        let ram = Ram::leaked(RAM);
        let mut drivers = Vec::new();
        for queue in 0..5u16 {
            let at = BASE + 0x10_0000 * u64::from(queue);
            drivers.push(Driver::new(ram, at, 0x10_0000, 16, features));
        }
        let mut rig = Self {
            ram,
            balloon: Box::new(Balloon::new(Log::default())),
            drivers,
        };
        rig.open();
        rig
    }

    fn open(&mut self) {
        for (queue, driver) in (0..).zip(&self.drivers) {
            let features = Features::VERSION_1;
            let ring = Queue::new(&driver.config(), QUEUE_MAX, features, &self.ram).unwrap();
            Device::<&Ram>::open(&mut *self.balloon, queue, ring);
        }
    }

    fn serve(&mut self, queue: u16) -> Served {
        let mut env = Env {
            memory: self.ram,
            now: 0,
            frequency: 1,
            trace: None,
        };
        self.balloon.serve(queue, &mut env)
    }

    /// How many calls it takes until there is no more to do.
    fn finish(&mut self, queue: u16) -> usize {
        for calls in 1..1000 {
            if !self.serve(queue).more {
                return calls;
            }
        }
        panic!("it never ends");
    }

    fn inflate(&mut self, pages: &[u32]) -> usize {
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        self.drivers[0].send(&[&bytes], &[]).unwrap();
        let calls = self.finish(0);
        assert_eq!(self.drivers[0].receive().unwrap().written, 0);
        calls
    }
}

fn page(number: u64) -> u32 {
    u32::try_from(BASE / PAGE + number).unwrap()
}

#[test]
fn pages_that_are_given_up_are_forgotten() {
    let mut rig = Rig::new();
    rig.inflate(&[page(3), page(4), page(900)]);
    let at = |number: u64| (BASE + number * PAGE, PAGE);
    assert_eq!(rig.balloon.forget.0, [at(3), at(4), at(900)]);
}

/// A guest cannot have EL2 touch what is not its own, nor work without end (a device that looped over pages which it could
/// not give back was a denial of service elsewhere).
#[test]
fn vio_30_pages_of_nobody_are_left_alone_and_many_take_many_calls() {
    let mut rig = Rig::new();
    rig.inflate(&[0, page(RAM as u64 / PAGE), u32::MAX]);
    assert!(rig.balloon.forget.0.is_empty());
    let many = std::vec![page(1); 4096];
    let calls = rig.inflate(&many);
    assert_eq!(rig.balloon.forget.0.len(), 4096);
    assert!(calls >= 4096 * 4096 / (256 << 10), "{calls}");
}

#[test]
fn reported_ranges_are_forgotten_by_whole_pages_wherever_the_queue_is_counted() {
    for queue in [REPORT, REPORT_COUNTED] {
        let mut rig = Rig::new();
        let at = BASE + 0x80_0000;
        let driver = &mut rig.drivers[usize::from(queue)];
        driver
            .add(
                &[],
                &[(at, 0x3000), (at + 0x4800, 0x1000), (at + 0x8000, 0x100)],
            )
            .unwrap();
        driver.expose();
        rig.finish(queue);
        let done: u64 = rig.balloon.forget.0.iter().map(|(_, len)| len).sum();
        assert_eq!(done, 0x3000);
        assert!(
            rig.balloon
                .forget
                .0
                .iter()
                .all(|(start, len)| (start | len) % PAGE == 0)
        );
    }
}

#[test]
fn two_queues_take_turns() {
    let mut rig = Rig::new();
    let many: Vec<u8> = std::vec![page(1); 4096]
        .iter()
        .flat_map(|page| page.to_le_bytes())
        .collect();
    rig.drivers[0].send(&[&many], &[]).unwrap();
    assert!(rig.serve(0).more);
    rig.drivers[1].send(&[&many], &[]).unwrap();
    assert!(rig.serve(1).more);
    rig.finish(0);
    rig.finish(1);
    assert!(rig.drivers[0].receive().is_some() && rig.drivers[1].receive().is_some());
}

#[test]
fn what_the_guest_says_of_its_memory_is_kept_and_asked_for_again() {
    let mut rig = Rig::new();
    let one = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()[..]].concat();
    let bytes = [one(4, 77), one(5, 99), one(99, 1), one(9, 3)].concat();
    rig.drivers[2].send(&[&bytes], &[]).unwrap();
    assert_eq!(rig.serve(2), Served::NOTHING);
    let values = rig.balloon.statistics();
    assert_eq!(
        (values[4], values[5], values[9], values[0]),
        (Some(77), Some(99), Some(3), None)
    );
    assert!(rig.drivers[2].receive().is_none());
    let mut env = Env {
        memory: rig.ram,
        now: 0,
        frequency: 1,
        trace: None,
    };
    let _ = rig.balloon.ask_statistics(&mut env);
    assert!(rig.drivers[2].receive().is_some());
}

#[test]
fn the_driver_is_told_how_many_pages_are_wanted() {
    let mut rig = Rig::new();
    assert!(rig.balloon.ask(256).config && !rig.balloon.ask(256).config);
    let mut config = [0; 8];
    Device::<&Ram>::read_config(&*rig.balloon, 0, &mut config);
    assert_eq!(config, [0, 1, 0, 0, 0, 0, 0, 0]);
    let mut env = Env {
        memory: rig.ram,
        now: 0,
        frequency: 1,
        trace: None,
    };
    let _ = rig.balloon.write_config(4, &[16, 0, 0, 0], &mut env);
    let _ = rig.balloon.write_config(0, &[16, 0, 0, 0], &mut env);
    assert_eq!(rig.balloon.pages(), (256, 16));
}

/// What it is asked for and what came of it, by the transport as an operator's command does it.
struct Wired {
    rig: Rig,
    transport: Transport,
}

const MEMORY: u64 = 256 << 20;

impl Wired {
    fn new() -> Self {
        Self {
            rig: Rig::new(),
            transport: Transport::new(Offer::ALL),
        }
    }

    fn store(&mut self, offset: u64, value: u64) -> Served {
        let mut env = env(self.rig.ram, 0);
        self.transport
            .write(&mut *self.rig.balloon, offset, 4, value, &mut env)
    }

    fn load(&self, offset: u64) -> u64 {
        self.transport.read::<&Ram>(&*self.rig.balloon, offset, 4)
    }

    fn begin(&mut self) {
        for status in [0, 1, 3] {
            let _ = self.store(register::STATUS, status);
        }
        let _ = self.store(register::DRIVER_FEATURES_SEL, 1);
        let _ = self.store(register::DRIVER_FEATURES, 1);
        for status in [11, 15] {
            let _ = self.store(register::STATUS, status);
        }
        self.rig.open();
    }

    fn wish(&mut self, wish: Wish, now: u64) -> Result<(Served, Standing), Refusal> {
        let mut env = env(self.rig.ram, now);
        self.transport
            .balloon(&mut *self.rig.balloon, wish, MEMORY, &mut env)
    }
}

fn env(ram: &'static Ram, now: u64) -> Env<'static, &'static Ram> {
    Env {
        memory: ram,
        now,
        frequency: 1,
        trace: None,
    }
}

fn of(bytes: u64) -> Wish {
    Wish::bytes(bytes, MEMORY).unwrap()
}

#[test]
fn what_is_asked_outlives_a_reset_and_a_life_and_is_told_once() {
    let mut wired = Wired::new();
    assert_eq!(wired.wish(of(32 << 20), 0), Err(Refusal::NoDriver));
    assert_eq!(wired.load(register::CONFIG), 0);
    // Nothing at all may be wanted of nobody, who is not told.
    let (served, standing) = wired.wish(of(0), 0).unwrap();
    assert!(!served.config && !standing.is_driven);
    wired.begin();
    let generation = wired.load(register::CONFIG_GENERATION);
    let (served, standing) = wired.wish(of(32 << 20), 0).unwrap();
    assert!(served.config && standing.is_driven);
    assert_eq!(standing.asked, 8192);
    assert_eq!(wired.load(register::CONFIG_GENERATION), generation + 1);
    assert!(!wired.wish(of(32 << 20), 0).unwrap().0.config);
    let _ = wired.store(register::CONFIG + 4, 77);
    assert_eq!(wired.wish(Wish::NOTHING, 0).unwrap().1.given, 77);

    let _ = wired.transport.reset::<&Ram>(&mut *wired.rig.balloon);
    Device::<&Ram>::renew(&mut *wired.rig.balloon);
    let (_, standing) = wired.wish(Wish::NOTHING, 0).unwrap();
    assert_eq!((standing.asked, standing.given), (8192, 0));
    wired.begin();
    assert_eq!(wired.load(register::CONFIG), 8192);
    assert!(wired.wish(of(0), 0).unwrap().0.config);
    assert_eq!(wired.load(register::CONFIG), 0);
}

#[test]
fn more_than_the_guest_has_is_not_asked_for() {
    let mut wired = Wired::new();
    wired.begin();
    assert!(wired.wish(of(MEMORY), 0).is_ok());
    let too_large = |bytes| Refusal::TooLarge {
        bytes,
        memory: MEMORY,
    };
    let more = MEMORY + PAGE;
    assert_eq!(wired.wish(of(more), 0), Err(too_large(more)));
    assert_eq!(wired.wish(Wish::NOTHING, 0).unwrap().1.asked, 65_536);
    let huge = PAGE << 32;
    assert_eq!(Wish::bytes(huge, MEMORY), Err(too_large(huge)));
    // A device that is none says so, and does nothing.
    let mut rng = crate::rng::Rng::new(Silence, 16);
    let mut env = env(wired.rig.ram, 0);
    let refused = wired.transport.balloon(&mut rng, of(0), MEMORY, &mut env);
    assert_eq!(refused, Err(Refusal::NoBalloon));
}

/// No random numbers.
struct Silence;

impl crate::rng::Entropy for Silence {
    fn fill(&mut self, _: &mut [u8]) {}
}

/// Its queues are nobody's before the driver is ready and after it has broken the device.
#[test]
fn statistics_are_wanted_of_a_driver_that_works_only() {
    let mut wired = Wired::new();
    wired.begin();
    let one = [&5u16.to_le_bytes()[..], &99u64.to_le_bytes()[..]].concat();
    wired.rig.drivers[2].send(&[&one], &[]).unwrap();
    let mut env = env(wired.rig.ram, 7);
    assert_eq!(wired.rig.balloon.serve(2, &mut env), Served::NOTHING);
    let (_, standing) = wired.wish(Wish::NOTHING, 8).unwrap();
    assert_eq!((standing.told, standing.values[5]), (Some(7), Some(99)));
    assert!(wired.rig.drivers[2].receive().is_none());
    // Stopped: the chain stays.
    let transport = core::mem::replace(&mut wired.transport, Transport::new(Offer::ALL));
    let (served, standing) = wired.wish(Wish::STATISTICS, 9).unwrap();
    assert!(!served.used && !standing.is_driven);
    assert!(wired.rig.drivers[2].receive().is_none());
    wired.transport = transport;
    assert!(wired.wish(Wish::STATISTICS, 10).is_ok());
    assert!(wired.rig.drivers[2].receive().is_some());
    // It was given back: there is nothing to give back again.
    assert!(!wired.wish(Wish::STATISTICS, 11).unwrap().0.used);
    // What is not said again is not known any more.
    wired.rig.drivers[2].send(&[&[4, 0]], &[]).unwrap();
    assert_eq!(wired.rig.serve(2), Served::NOTHING);
    let (_, standing) = wired.wish(Wish::NOTHING, 12).unwrap();
    assert_eq!((standing.told, standing.values), (Some(0), [None; TAGS]));
}

/// Linux makes its first chain available before it is ready, and its notification is nobody's (2.1.2).
#[test]
fn first_figures_that_nobody_was_told_of_are_given_back_for_new_ones() {
    let mut wired = Wired::new();
    wired.begin();
    let one = |value: u64| [&5u16.to_le_bytes()[..], &value.to_le_bytes()[..]].concat();
    wired.rig.drivers[2].send(&[&one(1)], &[]).unwrap();
    let (served, standing) = wired.wish(Wish::STATISTICS, 7).unwrap();
    assert!(served.used);
    assert_eq!((standing.told, standing.values[5]), (None, Some(1)));
    assert!(wired.rig.drivers[2].receive().is_some());
    wired.rig.drivers[2].send(&[&one(2)], &[]).unwrap();
    let mut later = env(wired.rig.ram, 8);
    assert_eq!(wired.rig.balloon.serve(2, &mut later), Served::NOTHING);
    let (_, standing) = wired.wish(Wish::NOTHING, 9).unwrap();
    assert_eq!((standing.told, standing.values[5]), (Some(8), Some(2)));
    // Nonsense there breaks the device, as it does when it is told of.
    wired.rig.drivers[2].send(&[&one(3)], &[]).unwrap();
    assert!(wired.wish(Wish::STATISTICS, 10).unwrap().0.used);
    let available = wired.rig.drivers[2].config().driver + 2;
    let far = u16::MAX.to_le_bytes();
    GuestMemory::write(&wired.rig.ram, Ipa::new(available), &far).unwrap();
    let (served, _) = wired.wish(Wish::STATISTICS, 11).unwrap();
    assert!(served.broken && served.config);
    assert!(!wired.wish(Wish::STATISTICS, 12).unwrap().1.is_driven);
}

/// Whoever wraps a balloon hands wishes on, and may lose the interrupt of used buffers, as of any others.
#[test]
fn a_balloon_with_faults_is_a_balloon() {
    let mut rig = Rig::new();
    let clock = crate::faults::Clock::new();
    let mut faults = crate::faults::Faults::NONE;
    faults.interrupt = crate::faults::Often::ALWAYS;
    let bytes = [0; 10];
    rig.drivers[2].send(&[&bytes], &[]).unwrap();
    assert_eq!(rig.serve(2), Served::NOTHING);
    let mut faulty = crate::faults::FaultyDevice::new(&mut *rig.balloon, faults, &clock, None);
    let mut env = env(rig.ram, 0);
    let wish = Wish {
        pages: Some(3),
        statistics: true,
    };
    let (served, standing) = Device::balloon(&mut faulty, wish, &mut env).unwrap();
    assert!(served.config && !served.used);
    assert_eq!(standing.asked, 3);
    assert!(rig.drivers[2].receive().is_some());
}

const QUIET: Standing = Standing {
    asked: 8192,
    given: 8192,
    values: [None; TAGS],
    told: None,
    is_driven: true,
};

#[test]
fn a_balloon_is_described_in_words() {
    let pages = |standing: Standing| standing.pages(MEMORY).to_string();
    assert_eq!(pages(QUIET), "asked for 32 MiB, given 32 MiB of 256 MiB");
    let given = |given| Standing { given, ..QUIET };
    assert_eq!(
        pages(given(384)),
        "asked for 32 MiB, given 1.5 MiB of 256 MiB"
    );
    assert_eq!(pages(given(3)), "asked for 32 MiB, given 12 KiB of 256 MiB");
    // Whatever a guest says.
    assert_eq!(
        pages(given(u32::MAX)),
        "asked for 32 MiB, given 16777215.9 MiB of 256 MiB, if it is to be believed"
    );
    let alone = Standing {
        is_driven: false,
        ..QUIET
    };
    assert_eq!(pages(alone), "asked for 32 MiB, no driver at work");
}

#[test]
fn what_a_guest_says_of_its_memory_is_said_in_words() {
    let said = |values| {
        let standing = Standing { values, ..QUIET };
        [standing.memory().to_string(), standing.paging().to_string()]
    };
    assert_eq!(said([None; TAGS]), ["it does not say"; 2]);
    let mib = |count: u64| Some(count << 20);
    let all = [
        Some(0),
        mib(1),
        Some(12),
        Some(3422),
        mib(120),
        Some(236_932 << 10),
        mib(150),
        mib(34),
        Some(4),
        Some(5),
    ];
    let words = [
        "total 231.3 MiB, free 120 MiB, available 150 MiB, caches 34 MiB",
        "swapped in 0 MiB, swapped out 1 MiB, 12 major faults, 3422 minor faults, 4 huge pages, 5 huge pages not had",
    ];
    assert_eq!(said(all), words);
    let mut one = [None; TAGS];
    one[4] = Some(u64::MAX);
    assert_eq!(said(one), ["free 17592186044415.9 MiB", "it does not say"]);
}

#[test]
fn a_refusal_says_what_to_do() {
    for (refusal, words) in [
        (
            Refusal::NoBalloon,
            "it has no balloon; give it one with `balloon = true` in the machine file",
        ),
        (
            Refusal::TooLarge {
                bytes: 300 << 20,
                memory: MEMORY,
            },
            "300 MiB is more than it has, which is 256 MiB; ask for less",
        ),
        (
            Refusal::NoDriver,
            "no driver works its balloon now; ask again when its kernel has one (Linux: virtio_balloon)",
        ),
    ] {
        assert_eq!(refusal.to_string(), words);
    }
}
