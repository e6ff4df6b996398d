//! Requests for random bytes, modest and not.

use super::{Entropy, MOST, Rng};
use crate::device::{Device, Env, Served};
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::Queue;
use crate::rig::Driver;

/// Counts, from 1 on, and never says 0.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, into: &mut [u8]) {
        for byte in into {
            self.0 += 1;
            *byte = u8::try_from(self.0 % 255).expect("small") + 1;
        }
    }
}

struct Bench {
    ram: &'static Ram,
    rng: Rng<Counter>,
    driver: Driver<'static>,
}

const LARGE: u64 = 8 << 20;

impl Bench {
    fn new(features: Features) -> Self {
        let ram = Ram::leaked((1 << 20) + usize::try_from(LARGE).expect("small"));
        let driver = Driver::new(ram, BASE, 1 << 20, 16, features);
        let mut rng = Rng::new(Counter(0), 16);
        let queue = Queue::new(&driver.config(), 16, features, &ram).expect("a queue");
        Device::<&'static Ram>::open(&mut rng, 0, queue);
        Self { ram, rng, driver }
    }

    fn serve(&mut self) -> Served {
        let mut env = Env {
            memory: self.ram,
            now: 0,
            frequency: 1,
            trace: None,
        };
        self.rng.serve(0, &mut env)
    }
}

#[test]
fn all_of_a_modest_request_is_random() {
    for features in [
        Features::empty(),
        Features::RING_PACKED | Features::EVENT_IDX,
    ] {
        let mut bench = Bench::new(features);
        bench.driver.send(&[], &[10, 54, 1]).expect("room");
        let served = bench.serve();
        assert!(served.used && !served.more && !served.broken);
        let done = bench.driver.receive().expect("an answer");
        assert_eq!(done.written, 65);
        assert!(done.data.iter().all(|&byte| byte != 0));
        assert!(done.data.windows(2).all(|two| two[0] != two[1]));
    }
}

#[test]
fn vio_30_no_request_is_too_large() {
    let mut bench = Bench::new(Features::empty());
    // The same 8 MiB in every one of sixteen buffers.
    let at = BASE + (1 << 20);
    let buffer = (at, u32::try_from(LARGE).expect("small"));
    bench.driver.add(&[], &[buffer; 16]).expect("room");
    bench.driver.expose();
    let _ = bench.serve();
    let done = bench.driver.receive().expect("an answer");
    assert_eq!(usize::try_from(done.written), Ok(MOST));
    assert!(
        done.data[MOST..usize::try_from(LARGE).expect("small")]
            .iter()
            .all(|&byte| byte == 0)
    );
}

#[test]
fn vio_30_many_requests_are_served_piece_by_piece() {
    let mut bench = Bench::new(Features::empty());
    let mut given = 0;
    while bench.driver.send(&[], &[2000]).is_some() {}
    let mut calls = 0;
    loop {
        let before = bench.rng.source.0;
        let served = bench.serve();
        calls += 1;
        assert!(bench.rng.source.0 - before <= MOST as u64);
        while let Some(done) = bench.driver.receive() {
            assert!(done.written != 0);
            given += 1;
        }
        if !served.more {
            break;
        }
    }
    assert_eq!(given, 16);
    assert!(calls > 4);
}

#[test]
fn vio_30_nothing_to_fill_is_nonsense() {
    let mut bench = Bench::new(Features::empty());
    bench.driver.send(&[b"what is this"], &[]).expect("room");
    assert!(bench.serve().broken);
    // Bytes to read beside room are nobody's concern (5.4.6.1 forbids them to the driver).
    let mut bench = Bench::new(Features::empty());
    bench.driver.send(&[b"please"], &[4]).expect("room");
    assert!(!bench.serve().broken);
    assert_eq!(bench.driver.receive().expect("an answer").written, 4);
}

#[test]
fn a_reset_closes_the_queue() {
    let mut bench = Bench::new(Features::empty());
    bench.driver.send(&[], &[10]).expect("room");
    Device::<&'static Ram>::reset(&mut bench.rng);
    assert_eq!(bench.serve(), Served::default());
    assert_eq!(bench.driver.receive(), None);
}
