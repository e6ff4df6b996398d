//! Disks that answer later: order, room, and resets meanwhile.

use std::vec;

use super::rig::{Bench, IN, IOERR, OK, OUT, header, store};
use super::slow::Slow;
use crate::blk::{Disk, config};
use crate::fake::Ram;
use crate::features::Features;

fn slow(room: usize, places: usize, features: u64) -> Bench<Slow> {
    let mut bench = Bench::disk(Slow::new(store(256), 256, room), 1, places);
    bench.start(features);
    bench
}

/// Has the disk finish something, and the device look.
fn step(bench: &mut Bench<Slow>) -> bool {
    let finished = bench.device.disk().finish_one();
    let _ = bench.poll();
    finished
}

#[test]
fn many_are_in_flight_and_none_is_lost() {
    for (room, places) in [(1, 1), (1, 4), (3, 8), (16, 4), (16, 16)] {
        let mut bench = slow(room, places, config::FLUSH | Features::INDIRECT_DESC.bits());
        let mut tokens = vec![];
        for sector in 0..12 {
            let raw = header(IN, sector * 20);
            let (token, notify) = bench.drivers[0]
                .send(&[&raw], &[20 * 512, 1])
                .expect("room");
            tokens.push(token);
            if notify {
                let _ = bench.notify(0);
            }
        }
        assert_eq!(bench.device.disk().in_flight(), room.min(places).min(12));
        let mut answers = 0;
        while step(&mut bench) {
            while let Some(done) = bench.drivers[0].receive() {
                let which = tokens
                    .iter()
                    .position(|&one| one == done.token)
                    .expect("sent");
                let first = (which * 20 + 1) as u8;
                assert_eq!(done.written, 20 * 512 + 1);
                assert_eq!((done.data[0], done.data[19 * 512]), (first, first + 19));
                assert_eq!(done.data.last(), Some(&OK));
                answers += 1;
            }
        }
        assert_eq!(answers, 12);
    }
}

#[test]
fn in_order_is_in_order() {
    let mut bench = slow(8, 8, Features::IN_ORDER.bits());
    for sector in 0..5 {
        let raw = header(IN, sector);
        bench.drivers[0].send(&[&raw], &[512, 1]).expect("room");
    }
    let _ = bench.notify(0);
    let mut next = 1;
    while step(&mut bench) {
        while let Some(done) = bench.drivers[0].receive() {
            assert_eq!(done.data[0], next);
            next += 1;
        }
    }
    assert_eq!(next, 6);
}

#[test]
fn what_fails_says_how_far_it_came() {
    let mut bench = slow(8, 8, 0);
    let raw = header(IN, 0);
    bench.drivers[0]
        .send(&[&raw], &[40 * 512, 1])
        .expect("room");
    let _ = bench.notify(0);
    assert!(step(&mut bench));
    assert!(bench.device.disk().finish_one());
    bench.device.disk().fails = true;
    let _ = bench.poll();
    let done = bench.drivers[0].receive().expect("an answer");
    assert_eq!(done.written, 16 * 512);
    assert_eq!(done.data.last(), Some(&IOERR));
}

/// Every access of the device fails the test from now on.
fn forbid<D: Disk<&'static Ram>>(bench: &Bench<D>) {
    bench
        .ram
        .set_hook(|_, access| panic!("the device makes {access:?}"));
}

#[test]
fn vio_19_reset_with_requests_in_flight() {
    // By a reset of the device, of the queue, and by taking the queue away.
    for way in 0..3 {
        let mut bench = slow(8, 8, Features::RING_RESET.bits());
        for sector in 0..2 {
            let raw = header(IN, sector);
            bench.drivers[0]
                .send(&[&raw], &[20 * 512, 1])
                .expect("room");
            let raw = header(OUT, 100);
            bench.drivers[0]
                .send(&[&raw, &[1; 512]], &[1])
                .expect("room");
        }
        let _ = bench.notify(0);
        assert!(bench.device.disk().finish_one());
        assert!(bench.device.disk().finish_one());
        let _ = bench.write(0x30, 0);
        let served = match way {
            0 => bench.write(0x70, 0),
            1 => bench.write(0xc0, 1),
            _ => bench.write(0x44, 0),
        };
        assert_eq!(served.reset, way == 0);
        assert_eq!(bench.read(0x44), 0);
        forbid(&bench);
        while step(&mut bench) {}
        // The same place in memory is used at once, by new requests, and old answers are not theirs.
        bench.ram.clear_hook();
        bench.start(0);
        let raw = header(IN, 50);
        bench.drivers[0].send(&[&raw], &[512, 1]).expect("room");
        let _ = bench.notify(0);
        while step(&mut bench) {}
        let done = bench.drivers[0].receive().expect("an answer");
        assert_eq!((done.data[0], done.data[512]), (51, OK));
        assert_eq!(bench.drivers[0].receive(), None);
    }
}

#[test]
fn vio_19_old_answers_that_come_after_new_requests() {
    let mut bench = slow(16, 4, 0);
    for sector in 0..4 {
        let raw = header(IN, sector);
        bench.drivers[0].send(&[&raw], &[512, 1]).expect("room");
    }
    let _ = bench.notify(0);
    bench.start(0);
    assert_eq!(bench.device.disk().in_flight(), 4);
    for sector in 10..14 {
        let raw = header(IN, sector);
        bench.drivers[0].send(&[&raw], &[512, 1]).expect("room");
    }
    let _ = bench.notify(0);
    assert_eq!(bench.device.disk().in_flight(), 8);
    let mut seen = vec![];
    while step(&mut bench) {
        while let Some(done) = bench.drivers[0].receive() {
            seen.push(done.data[0]);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [11, 12, 13, 14]);
}

#[test]
fn a_call_moves_so_much_and_no_more() {
    use crate::blk::RamDisk;
    let disk = RamDisk::new(store(16384), 16384).expect("fits");
    let mut bench = Bench::boot(disk, 0);
    let raw = header(IN, 0);
    let at = bench.spare();
    bench.ram.poke(at, &raw);
    let data = (at + 4096, 4 << 20);
    let status = (data.0 - 1, 1);
    let token = bench.drivers[0].add(&[(at, 16)], &[data, status]);
    assert!(bench.drivers[0].expose());
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = moved.clone();
    bench.ram.set_hook(move |_, access| {
        count.fetch_add(access.len, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(bench.notify(0).more);
    let mut calls = 1;
    let done = loop {
        assert!(moved.swap(0, std::sync::atomic::Ordering::Relaxed) < 400 << 10);
        if let Some(done) = bench.drivers[0].receive() {
            break done;
        }
        let _ = bench.poll();
        calls += 1;
    };
    assert!((11..30).contains(&calls), "{calls}");
    // Then there is nothing more to do.
    assert!(!bench.poll().more);
    assert!((Some(done.token), done.written) == (token, (4 << 20) + 1));
    for sector in 0..8192 {
        assert_eq!(done.data[sector * 512], (sector as u8).wrapping_add(1));
    }
}

#[test]
fn small_requests_are_bounded_too() {
    let disk = crate::blk::RamDisk::new(store(64), 64).expect("fits");
    let mut bench = Bench::boot(disk, 0);
    // As many flushes as there are entries, again and again, by a driver that never waits.
    let raw = header(4, 0);
    let mut answers = 0;
    for _ in 0..200 {
        while bench.drivers[0].send(&[&raw], &[1]).is_some() {}
        let _ = bench.notify(0);
        while bench.drivers[0].receive().is_some() {
            answers += 1;
        }
    }
    assert_eq!(answers, 200 * 8);
}
