//! Memory that is not the guest's, or is not any more: VIO-07. There are no pages yet that machines share; what can be
//! checked is that a device finds each address in its guest's memory at the moment when it uses it, whatever it was before.
//! (A life that ends with requests in flight is a reset: VIO-19.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec;
use std::vec::Vec;

use super::rig::{Bench, IN, IOERR, OK, OUT, header, store};
use super::slow::Slow;
use crate::blk::{Disk, RamDisk};
use crate::fake::{Access, BASE, Ram};
use crate::features::Features;

const SECTORS: usize = 4;
const STATUS: usize = 2;

/// A range of memory: where, and how long.
type Range = (u64, u64);

/// What a request takes: header, data, status; descriptors, what the driver writes, what the device writes.
fn areas<D: Disk<&'static Ram>>(bench: &Bench<D>, packed: bool) -> [Range; 6] {
    let at = bench.spare();
    let config = bench.drivers[0].config();
    let (driver, device) = if packed { (4, 4) } else { (38, 134) };
    [
        (at, 16),
        (at + 0x1000, 512 * SECTORS as u64),
        (at + 0x3000, 1),
        (config.descriptors, 256),
        (config.driver, driver),
        (config.device, device),
    ]
}

/// A request that is made available, nobody told of it. Writes are forbidden but to data, status and the device's areas.
fn send<D: Disk<&'static Ram>>(bench: &mut Bench<D>, kind: u32, areas: &[Range; 6]) {
    let [raw, data, status, ..] = areas.map(|(at, len)| (at, len as u32));
    bench.ram.poke(raw.0, &header(kind, 8));
    bench.ram.poke(status.0, &[0xAA]);
    let (reads, writes) = match kind {
        IN => (vec![raw], vec![data, status]),
        _ => (vec![raw, data], vec![status]),
    };
    bench.drivers[0].add(&reads, &writes).expect("room");
    let _ = bench.drivers[0].expose();
}

/// Whether the device may do that.
fn is_allowed(access: Access, areas: &[Range; 6], packed: bool) -> bool {
    let [_, data, status, descriptors, _, device] = *areas;
    let end = access.at + access.len as u64;
    let inside = |(at, len): Range| at <= access.at && end <= at + len;
    let ring = packed && inside(descriptors);
    !access.write || ring || [data, status, device].into_iter().any(inside)
}

/// What a driver must be able to rely on afterwards: the request has ended as one can, or not at all; and after a reset the
/// device touches nothing.
fn judge<D: Disk<&'static Ram>>(bench: &mut Bench<D>, areas: &[Range; 6], gone: usize) {
    if gone != STATUS {
        let status = bench.ram.peek(areas[STATUS].0, 1)[0];
        assert!(matches!(status, OK | IOERR | 0xAA), "{status}");
    }
    let _ = bench.write(0x70, 0);
    assert_eq!(bench.read(0x70), 0);
    bench
        .ram
        .set_hook(|_, access| panic!("the device makes {access:?}"));
    for _ in 0..4 {
        let _ = bench.poll();
        let _ = bench.notify(0);
    }
}

fn all() -> impl Iterator<Item = (bool, u32, usize)> {
    let kinds = [false, true]
        .into_iter()
        .flat_map(|packed| [(packed, IN), (packed, OUT)]);
    kinds.flat_map(|(packed, kind)| (0..6).map(move |gone| (packed, kind, gone)))
}

const fn features(packed: bool) -> u64 {
    if packed {
        Features::RING_PACKED.bits()
    } else {
        0
    }
}

#[test]
fn vio_07_memory_goes_while_the_disk_has_a_request() {
    for (packed, kind, gone) in all() {
        let mut bench = Bench::new(Slow::new(store(64), 64, 8), 1, 4);
        bench.start(features(packed));
        let areas = areas(&bench, packed);
        send(&mut bench, kind, &areas);
        let _ = bench.notify(0);
        assert_eq!(bench.blk.disk().in_flight(), 1);
        bench.ram.set_hook(move |_, access| {
            assert!(is_allowed(access, &areas, packed), "{access:?}");
        });
        bench.ram.take_away(areas[gone].0, areas[gone].1);
        while bench.blk.disk().finish_one() {
            let _ = bench.poll();
        }
        // Of what is not there nothing is said to be well, and who cannot be told so needs a reset. What is used of a ring
        // that is not there is shown to nobody.
        if gone == 1 && kind == IN {
            assert_eq!(bench.ram.peek(areas[STATUS].0, 1), [IOERR]);
        }
        assert!(bench.is_broken() || gone != STATUS);
        judge(&mut bench, &areas, gone);
    }
}

/// By another lane of the guest, or by whoever takes it from all of them.
#[test]
fn vio_07_memory_goes_between_any_two_accesses() {
    for (packed, kind, gone) in all() {
        let mut most = usize::MAX;
        for moment in 0.. {
            let mut bench = Bench::new(RamDisk::new(store(64), 64).expect("fits"), 1, 4);
            bench.start(features(packed));
            let areas = areas(&bench, packed);
            send(&mut bench, kind, &areas);
            let count = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&count);
            bench.ram.set_hook(move |ram, access| {
                assert!(is_allowed(access, &areas, packed), "{access:?}");
                if counter.fetch_add(1, Ordering::Relaxed) == moment {
                    ram.take_away(areas[gone].0, areas[gone].1);
                }
            });
            let _ = bench.notify(0);
            for _ in 0..4 {
                let _ = bench.poll();
            }
            let accesses = count.load(Ordering::Relaxed);
            assert!(accesses < 100, "{accesses} accesses");
            judge(&mut bench, &areas, gone);
            most = most.min(accesses);
            if moment >= accesses {
                break;
            }
        }
        assert!(most >= 1);
    }
}

/// Another guest's memory, EL2's, and devices are nothing that a queue can be in: nobody's bytes are looked at.
#[test]
fn vio_07_rings_in_what_is_another_ones() {
    let mut places: Vec<u64> = vec![0, 0x0800_0000, 0x0900_0000, 0x0A00_0000];
    places.extend([BASE - 0x1000, BASE + (1 << 30), 1 << 40, u64::MAX - 0xFFF]);
    for (packed, area, at) in [false, true]
        .into_iter()
        .flat_map(|packed| [0x80, 0x90, 0xa0].map(|area| (packed, area)))
        .flat_map(|(packed, area)| places.iter().map(move |at| (packed, area, *at)))
    {
        let mut bench = Bench::new(RamDisk::new(store(64), 64).expect("fits"), 1, 4);
        bench.start(features(packed) | Features::RING_RESET.bits());
        let _ = bench.write(0x30, 0);
        let _ = bench.write(0x44, 0);
        let _ = bench.write(area, at as u32);
        let _ = bench.write(area + 4, (at >> 32) as u32);
        bench
            .ram
            .set_hook(|_, access| panic!("the device makes {access:?}"));
        let served = bench.write(0x44, 1);
        assert!(served.broken && bench.is_broken(), "{area:#x} at {at:#x}");
        assert_eq!(bench.read(0x44), 0);
        let _ = bench.notify(0);
        let _ = bench.poll();
    }
}
