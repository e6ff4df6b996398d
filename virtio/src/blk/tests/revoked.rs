//! Memory that is not the guest's, or is not any more: VIO-07. (A life that ends with requests in flight is a reset: VIO-19.)

use std::vec;

use super::rig::{Bench, ID, IN, IOERR, OK, OUT, header, jobs, store};
use super::slow::Slow;
use crate::blk::{Blk, Disk, RamDisk, Shape};
use crate::fake::Ram;
use crate::rig::away::{self, FORMATS, Range};

const SECTORS: usize = 4;
const STATUS: usize = 2;

/// What a request takes: header, data, status; and the areas of the queue.
fn parts<D: Disk<&'static Ram>>(bench: &Bench<D>) -> [Range; 6] {
    let at = bench.spare();
    let [descriptors, driver, device] = bench.drivers[0].areas();
    let data = (at + 0x1000, 512 * SECTORS as u64);
    [
        (at, 16),
        data,
        (at + 0x3000, 1),
        descriptors,
        driver,
        device,
    ]
}

/// A request that is made available, nobody told of it.
fn send<D: Disk<&'static Ram>>(bench: &mut Bench<D>, kind: u32, parts: &[Range; 6]) {
    let [raw, data, status, ..] = parts.map(|(at, len)| (at, len as u32));
    bench.ram.poke(raw.0, &header(kind, 8));
    bench.ram.poke(status.0, &[0xAA]);
    let (reads, writes) = match kind {
        IN => (vec![raw], vec![data, status]),
        _ => (vec![raw, data], vec![status]),
    };
    bench.drivers[0].add(&reads, &writes).expect("room");
    let _ = bench.drivers[0].expose();
}

/// What a driver must be able to rely on afterwards: the request has ended as one can, or not at all; and after a reset the
/// device touches nothing.
fn judge<D: Disk<&'static Ram>>(bench: &mut Bench<D>, parts: &[Range; 6], gone: usize) {
    if gone != STATUS {
        let status = bench.ram.peek(parts[STATUS].0, 1)[0];
        assert!(matches!(status, OK | IOERR | 0xAA), "{status}");
    }
    let _ = bench.write(0x70, 0);
    assert_eq!(bench.read(0x70), 0);
    away::forbid(&[bench.ram]);
    for _ in 0..4 {
        let _ = bench.poll();
        let _ = bench.notify(0);
    }
}

fn all() -> impl Iterator<Item = (u64, u32, usize)> {
    let kinds = FORMATS
        .into_iter()
        .flat_map(|format| [IN, OUT].map(|kind| (format.bits(), kind)));
    kinds.flat_map(|(format, kind)| (0..6).map(move |gone| (format, kind, gone)))
}

#[test]
fn vio_07_memory_goes_while_the_disk_has_a_request() {
    for (format, kind, gone) in all() {
        let mut bench = Bench::disk(Slow::new(store(64), 64, 8), 1, 4);
        bench.start(format);
        let parts = parts(&bench);
        send(&mut bench, kind, &parts);
        let _ = bench.notify(0);
        assert_eq!(bench.device.disk().in_flight(), 1);
        let writable = bench.drivers[0].writable();
        bench.ram.set_hook(move |_, access| {
            assert!(away::is_allowed(access, &writable), "{access:?}");
        });
        bench.ram.take_away(parts[gone].0, parts[gone].1);
        while bench.device.disk().finish_one() {
            let _ = bench.poll();
        }
        // Of what is not there nothing is said to be well, and who cannot be told so needs a reset. What is used of a ring
        // that is not there is shown to nobody.
        if gone == 1 && kind == IN {
            assert_eq!(bench.ram.peek(parts[STATUS].0, 1), [IOERR]);
        }
        assert!(bench.is_broken() || gone != STATUS);
        judge(&mut bench, &parts, gone);
    }
}

/// By another lane of the guest, or by whoever takes it from all of them.
#[test]
fn vio_07_memory_goes_between_any_two_accesses() {
    for (format, kind, gone) in all() {
        away::between_any_two_accesses(|thief| {
            let mut bench = Bench::disk(RamDisk::new(store(64), 64).expect("fits"), 1, 4);
            bench.start(format);
            let parts = parts(&bench);
            send(&mut bench, kind, &parts);
            let memory = (bench.ram, bench.drivers[0].writable());
            thief.watch(&[memory], bench.ram, parts[gone]);
            for _ in 0..4 {
                let _ = bench.notify(0);
                let _ = bench.poll();
            }
            assert!(
                bench.is_broken() || gone < 3 || !thief.was_missed(),
                "{format} {kind} {gone}"
            );
            judge(&mut bench, &parts, gone);
        });
    }
}

#[test]
fn vio_07_nothing_lies_in_what_is_another_ones() {
    let make = |_| {
        let disk = RamDisk::new(store(64), 64).expect("fits");
        let shape = Shape {
            id: ID,
            queues: 2,
            queue_max: 16,
        };
        Blk::new(disk, shape, jobs(4))
    };
    away::no_ring_lies_elsewhere(2, make);
    away::no_buffer_lies_elsewhere(2, 1, make);
}
