//! Random requests against a disk that is an array.

use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::requests::ring_features;
use super::rig::{Bench, DISCARD, FLUSH, IN, OK, OUT, WRITE_ZEROES, header, range, store};
use super::slow::Slow;
use crate::blk::{Disk, RamDisk, Snapshot, config};
use crate::fake::Ram;
use crate::rig::Done;

/// Requests that are under way at the same time keep to regions of their own.
const REGION: u64 = 48;
const REGIONS: u64 = 4;
const SECTORS: u64 = REGION * REGIONS + 5;

#[derive(Clone, Debug)]
enum Act {
    Read {
        sector: u64,
        sectors: u64,
        split: Vec<usize>,
    },
    Write {
        sector: u64,
        sectors: u64,
        split: Vec<usize>,
        fill: u8,
    },
    Zero(Vec<(u64, u64, bool)>),
    Discard(Vec<(u64, u64)>),
    Flush,
}

fn span() -> impl Strategy<Value = (u64, u64)> {
    (0..REGION).prop_flat_map(|sector| (Just(sector), 0..=REGION - sector))
}

fn act() -> impl Strategy<Value = Act> {
    let split = || prop::collection::vec(1..3000_usize, 0..5);
    prop_oneof![
        4 => (span(), split()).prop_map(|((sector, sectors), split)| Act::Read { sector, sectors, split }),
        4 => (span(), split(), any::<u8>()).prop_map(|((sector, sectors), split, fill)| Act::Write {
            sector, sectors, split, fill
        }),
        1 => prop::collection::vec((span(), any::<bool>()), 0..3).prop_map(|list| Act::Zero(
            list.into_iter().map(|((sector, sectors), unmap)| (sector, sectors, unmap)).collect()
        )),
        1 => prop::collection::vec(span(), 0..3).prop_map(Act::Discard),
        1 => Just(Act::Flush),
    ]
}

/// Bytes in pieces of these sizes, the last of which is the rest.
fn pieces(mut bytes: usize, split: &[usize]) -> Vec<usize> {
    let mut sizes = vec![];
    for &size in split {
        if size >= bytes {
            break;
        }
        sizes.push(size);
        bytes -= size;
    }
    sizes.push(bytes);
    sizes
}

/// The array; a sector that was discarded holds anything.
struct Naive(Vec<Option<[u8; 512]>>);

impl Naive {
    fn set(&mut self, sector: u64, sectors: u64, to: impl Fn(u64) -> Option<[u8; 512]>) {
        for one in sector..sector + sectors {
            self.0[one as usize] = to(one - sector);
        }
    }
}

/// Each sector of a write is told apart.
fn pattern(fill: u8, sector: u64) -> [u8; 512] {
    let mut bytes = [fill; 512];
    bytes[0] = sector as u8;
    bytes[511] = !fill;
    bytes
}

fn send<D: Disk<&'static Ram>>(bench: &mut Bench<D>, base: u64, act: &Act) -> Option<(u16, bool)> {
    let (mut raw, mut readable, mut writable) = (vec![], vec![], vec![]);
    match act {
        Act::Read {
            sector,
            sectors,
            split,
        } => {
            raw.extend(header(IN, base + sector));
            readable.push(16);
            writable = pieces(*sectors as usize * 512 + 1, split);
        }
        Act::Write {
            sector,
            sectors,
            split,
            fill,
        } => {
            raw.extend(header(OUT, base + sector));
            for one in 0..*sectors {
                raw.extend(pattern(*fill, one));
            }
            readable = pieces(raw.len(), split);
            writable.push(1);
        }
        Act::Zero(list) => {
            raw.extend(header(WRITE_ZEROES, 0));
            for &(sector, sectors, unmap) in list {
                raw.extend(range(base + sector, sectors as u32, unmap.into()));
            }
            readable.push(raw.len());
            writable.push(1);
        }
        Act::Discard(list) => {
            raw.extend(header(DISCARD, 0));
            for &(sector, sectors) in list {
                raw.extend(range(base + sector, sectors as u32, 0));
            }
            readable.push(raw.len());
            writable.push(1);
        }
        Act::Flush => {
            raw.extend(header(FLUSH, 0));
            readable.push(16);
            writable.push(1);
        }
    }
    let mut rest = &raw[..];
    let mut parts = vec![];
    for size in readable {
        let (now, later) = rest.split_at(size);
        parts.push(now);
        rest = later;
    }
    bench.drivers[0].send(&parts, &writable)
}

fn check(naive: &mut Naive, base: u64, act: &Act, done: &Done) {
    assert_eq!(done.data.last(), Some(&OK), "{act:?}");
    assert_eq!(done.written as usize, done.data.len(), "{act:?}");
    match act {
        Act::Read {
            sector, sectors, ..
        } => {
            let first = (base + sector) as usize;
            for (one, data) in (first..first + *sectors as usize).zip(done.data.chunks(512)) {
                if let Some(expected) = naive.0[one] {
                    assert_eq!(data, expected, "sector {one}");
                }
                // What was seen once stays.
                naive.0[one] = Some(data.try_into().expect("a sector"));
            }
        }
        Act::Write {
            sector,
            sectors,
            fill,
            ..
        } => {
            naive.set(base + sector, *sectors, |one| Some(pattern(*fill, one)));
        }
        Act::Zero(list) => {
            for &(sector, sectors, _) in list {
                naive.set(base + sector, sectors, |_| Some([0; 512]));
            }
        }
        Act::Discard(list) => {
            for &(sector, sectors) in list {
                naive.set(base + sector, sectors, |_| None);
            }
        }
        Act::Flush => {}
    }
}

fn run<D: Disk<&'static Ram>>(
    mut bench: Bench<D>,
    features: u8,
    rounds: &[Vec<Act>],
    mut advance: impl FnMut(&mut D),
) {
    let lists = config::DISCARD | config::WRITE_ZEROES;
    bench.start(
        ring_features(features) | lists | if features & 16 != 0 { config::FLUSH } else { 0 },
    );
    let mut naive = Naive(
        (0..SECTORS)
            .map(|sector| Some([(sector as u8).wrapping_add(1); 512]))
            .collect(),
    );
    for round in rounds {
        let mut sent = HashMap::new();
        for (base, act) in (0..REGIONS).map(|region| region * REGION).zip(round) {
            // A chain without a table may not fit beside the others.
            let Some((token, notify)) = send(&mut bench, base, act) else {
                break;
            };
            sent.insert(token, (base, act));
            if notify {
                let _ = bench.notify(0);
            }
        }
        for _ in 0..10_000 {
            while let Some(done) = bench.drivers[0].receive() {
                let (base, act) = sent.remove(&done.token).expect("it was sent");
                check(&mut naive, base, act, &done);
            }
            if sent.is_empty() {
                break;
            }
            advance(bench.device.disk());
            assert!(!bench.poll().broken);
        }
        assert!(sent.is_empty(), "answers are missing");
    }
}

fn rounds() -> impl Strategy<Value = Vec<Vec<Act>>> {
    prop::collection::vec(prop::collection::vec(act(), 1..=REGIONS as usize), 1..12)
}

proptest! {
    #[test]
    fn memory_is_a_disk(features in 0..32_u8, places in 1..4_usize, rounds in rounds()) {
        let disk = RamDisk::new(store(SECTORS as usize), SECTORS).expect("fits");
        run(Bench::disk(disk, 1, places), features, &rounds, |_| {});
    }

    #[test]
    fn a_snapshot_is_a_disk(
        features in 0..32_u8,
        rounds in rounds(),
    ) {
        // The image is shorter than the disk, and ends in the middle of a block.
        let image: Vec<u8> = (0..SECTORS).flat_map(|sector| [(sector as u8).wrapping_add(1); 512]).collect();
        let blocks = SECTORS.div_ceil(8) as usize;
        let mut overlay = store(blocks * 8);
        overlay.poke(0, &vec![0xee; blocks * 4096]);
        let disk = Snapshot::new(
            Vec::leak(image),
            SECTORS,
            core::mem::replace(&mut overlay, store(1)),
            blocks as u32,
            Vec::leak(vec![1; blocks]),
        );
        run(Bench::disk(disk.expect("fits"), 1, 1), features, &rounds, |_| {});
    }

    #[test]
    fn a_slow_disk_is_a_disk(
        features in 0..32_u8,
        room in 1..5_usize,
        places in 1..6_usize,
        seed in any::<u64>(),
        rounds in rounds(),
    ) {
        let mut disk = Slow::new(store(SECTORS as usize), SECTORS, room);
        disk.seed = seed;
        let mut count = seed;
        run(Bench::disk(disk, 1, places), features, &rounds, |disk| {
            // Now none is over, now several.
            count = count.wrapping_mul(25_214_903_917).wrapping_add(11);
            for _ in 0..(count >> 40) % 3 {
                disk.finish_one();
            }
        });
    }
}
