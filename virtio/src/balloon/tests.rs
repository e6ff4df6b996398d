use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::fake::{BASE, Ram};
use crate::features::Features;
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
        let mut balloon = Box::new(Balloon::new(Log::default()));
        let mut drivers = Vec::new();
        for queue in 0..5u16 {
            let at = BASE + 0x10_0000 * u64::from(queue);
            let driver = Driver::new(ram, at, 0x10_0000, 16, features);
            let ring = Queue::new(&driver.config(), QUEUE_MAX, features, &ram).unwrap();
            Device::<&Ram>::open(&mut *balloon, queue, ring);
            drivers.push(driver);
        }
        Self {
            ram,
            balloon,
            drivers,
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
