//! Requests that no driver should make.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec;

use proptest::prelude::*;

use super::rig::{
    Bench, DISCARD, GET_ID, IN, IOERR, OK, OUT, PER_QUEUE, UNSUPP, WRITE_ZEROES, header, range,
    store,
};
use crate::blk::{Disk, Facts, Op, Outcome, RamDisk, Request, SECTOR, Status, Token, config};
use crate::chain::Cursor;
use crate::fake::{BASE, Ram};
use crate::memory::GuestMemory;

const LISTS: u64 = config::DISCARD | config::WRITE_ZEROES;

fn bench() -> Bench<RamDisk<&'static Ram>> {
    Bench::boot(RamDisk::new(store(64), 64).expect("fits"), LISTS)
}

/// Nothing on the disk is other than it was.
fn assert_untouched(bench: &mut Bench<RamDisk<&'static Ram>>) {
    for sector in 0..64_u8 {
        let (status, data, _) = bench.request(IN, sector.into(), &[], 512);
        assert_eq!((status, data), (OK, vec![sector + 1; 512]));
    }
}

#[test]
fn vio_24_sectors_beyond_the_end() {
    let mut bench = bench();
    for (sector, bytes) in [
        (64, 512),
        (63, 1024),
        (1 << 32, 512),
        (1 << 55, 512),
        (u64::MAX, 512),
        (u64::MAX, 1024),
        (u64::MAX / 512, 512),
        (u64::MAX - 1, 1024),
    ] {
        let (status, data, written) = bench.request(IN, sector, &[], bytes);
        assert_eq!((status, written), (IOERR, 0), "{sector:#x}");
        assert_eq!(data, vec![0; bytes]);
        let answer = bench.request(OUT, sector, &vec![0xff; bytes], 0);
        assert_eq!(answer, (IOERR, vec![], 1));
    }
    // The end itself is none.
    assert_eq!(bench.request(IN, 64, &[], 0).0, OK);
    assert_eq!(bench.request(IN, 65, &[], 0).0, IOERR);
    assert_untouched(&mut bench);
}

#[test]
fn vio_24_data_that_is_no_sectors() {
    let mut bench = bench();
    for bytes in [1, 2, 511, 513, 1023] {
        assert_eq!(bench.request(IN, 0, &[], bytes).0, IOERR);
        assert_eq!(bench.request(OUT, 0, &vec![0xff; bytes], 0).0, IOERR);
    }
    assert_untouched(&mut bench);
}

#[test]
fn vio_24_types_that_nobody_knows() {
    let mut bench = bench();
    for kind in (0..64).chain([1 << 31, 0x8000_0001, u32::MAX, 0x100, 0x1_0000]) {
        if [IN, OUT, 4, GET_ID, DISCARD, WRITE_ZEROES].contains(&kind) {
            continue;
        }
        let answer = bench.request(kind, 0, &[0xff; 512], 512);
        assert_eq!(answer, (UNSUPP, vec![0; 512], 0));
    }
    assert_untouched(&mut bench);
}

#[test]
fn vio_24_ranges_beyond_the_end_and_flags() {
    let mut bench = bench();
    for (sector, sectors) in [
        (64, 1),
        (63, 2),
        (0, 65),
        (0, u32::MAX),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (1 << 55, 8),
    ] {
        let list = range(sector, sectors, 0);
        assert_eq!(bench.request(DISCARD, 0, &list, 0).0, IOERR);
        assert_eq!(bench.request(WRITE_ZEROES, 0, &list, 0).0, IOERR);
    }
    for flag in 0..32 {
        let list = range(0, 0, 1 << flag);
        assert_eq!(bench.request(DISCARD, 0, &list, 0).0, UNSUPP);
        let expected = if flag == 0 { OK } else { UNSUPP };
        assert_eq!(bench.request(WRITE_ZEROES, 0, &list, 0).0, expected);
    }
    for bytes in [1, 8, 15, 17, 33 * 16] {
        assert_eq!(bench.request(DISCARD, 0, &vec![0; bytes], 0).0, IOERR);
        assert_eq!(bench.request(WRITE_ZEROES, 0, &vec![0; bytes], 0).0, IOERR);
    }
    assert_eq!(bench.request(WRITE_ZEROES, 0, &[0; 32 * 16], 0).0, OK);
    assert_untouched(&mut bench);
}

#[test]
fn vio_24_headers_and_names_that_are_short() {
    let mut bench = bench();
    for bytes in 1..16 {
        let done = bench.ask(&[&header(IN, 0)[..bytes]], &[512, 1]);
        assert_eq!(done.data[512], IOERR);
        assert_eq!(done.data[..512], [0; 512]);
    }
    let done = bench.ask(&[], &[1]);
    assert_eq!(done.data, [IOERR]);
    for room in 0..20 {
        let answer = bench.request(GET_ID, 0, &[], room);
        assert_eq!(answer.0, IOERR);
        assert_eq!(answer.1, vec![0; room]);
    }
    assert_untouched(&mut bench);
}

#[test]
fn vio_24_no_room_for_a_status() {
    for kind in [IN, OUT, 4, GET_ID, DISCARD, 99] {
        let mut bench = bench();
        let (_, notify) = bench.drivers[0]
            .send(&[&header(kind, 0)], &[])
            .expect("room");
        assert!(notify);
        let served = bench.notify(0);
        assert!(served.broken && served.config && !served.used);
        assert!(bench.is_broken());
        assert_eq!(bench.drivers[0].receive(), None);
        // A reset, and all is well.
        bench.start(LISTS);
        assert_untouched(&mut bench);
    }
}

#[test]
fn vio_16_a_header_is_read_once() {
    for (kind, list) in [(IN, false), (DISCARD, true), (WRITE_ZEROES, true)] {
        let mut bench = bench();
        let at = bench.spare();
        bench.ram.poke(at, &header(kind, 2));
        bench.ram.poke(at + 16, &range(2, 1, 0));
        // Whatever is read of it is changed at once, to what would be refused or do harm.
        let reads = Arc::new(AtomicU32::new(0));
        let count = reads.clone();
        bench.ram.set_hook(move |ram, access| {
            // The hook is called before an access: what is changed is what was read before.
            if access.at >= at && access.at < at + 32 && !access.write {
                count.fetch_add(access.len as u32, Ordering::Relaxed);
            } else if count.load(Ordering::Relaxed) != 0 {
                ram.poke(at, &[0xff; 32]);
            }
        });
        let readable = [(at, 16), (at + 16, 16)];
        let readable = if list { &readable[..] } else { &readable[..1] };
        let writable = [(at + 64, 512), (at + 576, 1)];
        let writable = if list { &writable[1..] } else { &writable[..] };
        bench.drivers[0].add(readable, writable).expect("room");
        assert!(bench.drivers[0].expose());
        let _ = bench.notify(0);
        bench.ram.clear_hook();
        let done = bench.drivers[0].receive().expect("an answer");
        assert_eq!(done.data.last(), Some(&OK));
        let bytes = if list { 32 } else { 16 };
        assert_eq!(reads.load(Ordering::Relaxed), bytes);
        if kind == IN {
            assert_eq!(done.data[..512], [3; 512]);
        }
    }
}

/// Counts on what disks are promised: what they are asked for is on them.
struct Judge(Facts);

impl<M: GuestMemory> Disk<M> for Judge {
    fn facts(&self) -> Facts {
        self.0
    }

    fn submit(&mut self, request: &Request, data: Cursor<'_>, _: &M, _: Token) -> Outcome {
        let end = request.sector.checked_add(request.sectors.into());
        assert!(end.expect("no overflow") <= self.0.sectors);
        match request.op {
            Op::Read => {
                assert!(data.remaining() > u64::from(request.sectors) * SECTOR);
                assert!(request.sectors <= self.0.most);
            }
            Op::Write => {
                assert!(!self.0.readonly);
                assert!(data.remaining() >= u64::from(request.sectors) * SECTOR);
                assert!(request.sectors <= self.0.most);
            }
            Op::WriteZeroes { .. } => {
                assert!(self.0.zeroes && !self.0.readonly);
                assert!(request.sectors <= self.0.most);
            }
            Op::Discard => assert!(self.0.discards && !self.0.readonly),
            Op::Flush => assert_eq!((request.sector, request.sectors), (0, 0)),
        }
        Outcome::Done(Status::Ok)
    }
}

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20_u64,
        (0..20_u64).prop_map(|less| u64::MAX - less),
        (0..64_u32, 0..3_u64).prop_map(|(bit, less)| (1_u64 << bit).wrapping_sub(less)),
        any::<u64>(),
    ]
}

/// Bytes of data: those that are sectors or ranges, and any.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..3000_usize,
        (0..6_usize).prop_map(|sectors| sectors * 512),
        (0..33_usize).prop_map(|ranges| ranges * 16),
    ]
}

proptest! {
    /// VIO-25: whatever a driver writes, no disk is asked for a sector that is not on it, so that two of them beside each
    /// other in one store never meet.
    #[test]
    fn vio_25_no_disk_is_asked_for_what_is_not_on_it(
        sectors in edge(),
        most in 1..300_u32,
        flags in any::<[bool; 4]>(),
        requests in prop::collection::vec(
            (prop_oneof![0..16_u32, any::<u32>()], edge(), edge(), edge(), length(), length()),
            1..20
        ),
    ) {
        let sectors = sectors & (u64::MAX / SECTOR);
        let [readonly, volatile, discards, zeroes] = flags;
        let facts = Facts { sectors, readonly, volatile, discards, zeroes, most };
        let mut bench = Bench::boot(Judge(facts), 0);
        for (kind, sector, first, count, given, room) in requests {
            let raw = header(kind, sector);
            let mut data = vec![0; given];
            for chunk in data.chunks_exact_mut(16) {
                chunk.copy_from_slice(&range(first, count as u32, (count >> 32) as u32 & 1));
            }
            let readable = [&raw[..], &data];
            let parts = if data.is_empty() { 1 } else { 2 };
            let (_, _) = bench.drivers[0].send(&readable[..parts], &[room + 1]).expect("room");
            let mut served = bench.notify(0);
            prop_assert!(!served.broken);
            for _ in 0..8 {
                if !served.more {
                    break;
                }
                served = bench.poll();
            }
            if bench.drivers[0].receive().is_none() {
                // It is a long one: a discard of a disk without end. A reset ends it.
                prop_assert!(served.more);
                bench.start(0);
            }
        }
    }

    /// Bytes of any kind as rings: no panic, no access outside of memory, and an end.
    #[test]
    fn rings_of_garbage(
        features in 0..16_u8,
        bytes in prop::collection::vec(any::<u8>(), 1..600),
        at in 0..600_u64,
        notes in 1..8,
    ) {
        let mut bench = bench();
        bench.start(super::requests::ring_features(features));
        let mut seed = bytes.clone();
        seed.rotate_left(bytes.len() / 2);
        bench.ram.poke(BASE + at, &bytes);
        bench.ram.poke(BASE + PER_QUEUE / 2, &seed);
        for _ in 0..notes {
            let mut served = bench.notify(0);
            for _ in 0..1000 {
                if !served.more {
                    break;
                }
                served = bench.poll();
            }
            prop_assert_eq!(served.broken, bench.is_broken());
            if served.broken {
                bench.start(super::requests::ring_features(features));
                bench.ram.poke(BASE + at, &seed);
            }
        }
    }
}
