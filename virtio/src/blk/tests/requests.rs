//! What the device does when all is well.

use std::vec;
use std::vec::Vec;

use super::rig::{
    Bench, DISCARD, FLUSH, GET_ID, ID, IN, IOERR, OK, OUT, UNSUPP, WRITE_ZEROES, header, range,
    store,
};
use super::slow::Slow;
use crate::blk::{BLOCK, Blk, RamDisk, ReadOnly, Snapshot, config};
use crate::device::Device;
use crate::fake::Ram;
use crate::features::Features;

fn ram_disk(sectors: usize) -> RamDisk<&'static Ram> {
    RamDisk::new(store(sectors), sectors as u64).expect("as large as its memory")
}

/// Any of the features of rings.
pub fn ring_features(choice: u8) -> u64 {
    let bits = [
        Features::INDIRECT_DESC,
        Features::EVENT_IDX,
        Features::RING_PACKED,
        Features::IN_ORDER,
    ];
    (0..4)
        .filter(|bit| choice >> bit & 1 != 0)
        .map(|bit| bits[bit].bits())
        .sum()
}

#[test]
fn reads_and_writes_in_every_format() {
    for choice in 0..16 {
        let mut bench = Bench::boot(ram_disk(64), ring_features(choice));
        let (status, data, written) = bench.request(IN, 3, &[], 1024);
        assert_eq!((status, written), (OK, 1025));
        assert_eq!(data, [[4; 512], [5; 512]].concat());
        assert_eq!(bench.request(OUT, 4, &[0xab; 512], 0), (OK, vec![], 1));
        let (_, data, _) = bench.request(IN, 3, &[], 1536);
        assert_eq!(data, [[4; 512], [0xab; 512], [6; 512]].concat());
        assert_eq!(bench.request(FLUSH, 0, &[], 0), (OK, vec![], 1));
        let (status, data, written) = bench.request(GET_ID, 0, &[], 20);
        assert_eq!((status, &data[..], written), (OK, &ID[..], 21));
    }
}

#[test]
fn buffers_lie_as_the_driver_likes() {
    let mut bench = Bench::boot(ram_disk(64), 0);
    // Header in pieces, data with it, status at the end of the data: 2.7.4.2.
    let raw = header(OUT, 9);
    let mut rest = raw[5..].to_vec();
    rest.extend([0x77; 700]);
    let done = bench.ask(&[&raw[..1], &raw[1..5], &rest, &[0x78; 324]], &[1]);
    assert_eq!(done.data, [OK]);
    let raw = header(IN, 9);
    let done = bench.ask(&[&raw[..9], &raw[9..]], &[1, 510, 514]);
    assert_eq!(done.written, 1025);
    let mut expected = vec![0x77; 700];
    expected.extend([0x78; 324]);
    expected.push(OK);
    assert_eq!(done.data, expected);
}

#[test]
fn a_name_may_have_more_room_than_it_needs() {
    let mut bench = Bench::boot(ram_disk(1), 0);
    let (status, data, written) = bench.request(GET_ID, 0, &[], 100);
    assert_eq!((status, &data[..20], written), (OK, &ID[..], 20));
}

#[test]
fn zeroes_and_discards() {
    let mut bench = Bench::boot(ram_disk(64), config::DISCARD | config::WRITE_ZEROES);
    let list = [range(1, 2, 0), range(60, 4, 1)].concat();
    assert_eq!(bench.request(WRITE_ZEROES, 0, &list, 0), (OK, vec![], 1));
    assert_eq!(bench.request(DISCARD, 0, &list, 0), (UNSUPP, vec![], 1));
    assert_eq!(bench.request(DISCARD, 0, &list[..16], 0).0, OK);
    let (_, data, _) = bench.request(IN, 0, &[], 4 * 512);
    assert_eq!(data, [[1; 512], [0; 512], [0; 512], [4; 512]].concat());
    assert_eq!(bench.request(IN, 60, &[], 2048).1, [0; 2048]);
}

#[test]
fn a_request_of_no_bytes() {
    let mut bench = Bench::boot(ram_disk(4), 0);
    assert_eq!(bench.request(IN, 4, &[], 0), (OK, vec![], 1));
    assert_eq!(bench.request(OUT, 0, &[], 0), (OK, vec![], 1));
    assert_eq!(bench.request(WRITE_ZEROES, 0, &[], 0), (OK, vec![], 1));
}

#[test]
fn a_disk_that_nobody_writes() {
    let image = Vec::leak((0..4096_u32).map(|at| (at / 512) as u8).collect::<Vec<_>>());
    let mut bench = Bench::boot(ReadOnly::new(&image[..4000]), config::RO);
    assert_eq!(bench.read(0x100), 7);
    assert_eq!(bench.request(IN, 6, &[], 512), (OK, vec![6; 512], 513));
    assert_eq!(bench.request(IN, 7, &[], 512), (IOERR, vec![0; 512], 0));
    assert_eq!(bench.request(OUT, 0, &[1; 512], 0), (IOERR, vec![], 1));
    assert_eq!(bench.request(FLUSH, 0, &[], 0).0, OK);
    for kind in [DISCARD, WRITE_ZEROES] {
        let answer = bench.request(kind, 0, &range(0, 1, 0), 0);
        assert_eq!(answer.0, UNSUPP);
    }
    // Nor if the driver has not noticed.
    let mut bench = Bench::boot(ReadOnly::new(image), 0);
    assert_eq!(bench.request(OUT, 0, &[1; 512], 0).0, IOERR);
}

#[test]
fn features_and_configuration() {
    let mut bench = Bench::disk(ram_disk(24), 3, 1);
    let all = |device: &Blk<'_, RamDisk<&'static Ram>>| Device::<&'static Ram>::features(device);
    let offered = all(&bench.device);
    assert_eq!(
        offered,
        1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14
    );
    bench.start(offered);
    // 5.2.4, as a driver reads it.
    let fields: Vec<u32> = (0..15).map(|at| bench.read(0x100 + 4 * at)).collect();
    assert_eq!(
        fields,
        [
            24,
            0,
            0,
            14,
            0,
            512,
            3 | 8 << 16,
            0,
            3 << 16,
            u32::MAX,
            32,
            8,
            u32::MAX,
            32,
            1
        ]
    );
    assert_eq!(bench.read(0x13c), 0);
    for queue in 0..3 {
        let _ = bench.write(0x30, queue);
        assert_eq!(bench.read(0x34), 16);
    }
    assert_eq!(all(&Bench::disk(ram_disk(24), 1, 1).device) & config::MQ, 0);
}

#[test]
fn the_write_cache_is_as_agreed() {
    const WCE: u64 = config::CONFIG_WCE;
    // Features, what is written to the field, whether a write is flushed, what the field reads as then.
    for (features, set, flushed, reads) in [
        (0, None, true, 0),
        (config::FLUSH, None, false, 1),
        (config::FLUSH, Some(0), false, 1),
        (config::FLUSH | WCE, None, false, 1),
        (config::FLUSH | WCE, Some(0), true, 0),
        (config::FLUSH | WCE, Some(1), false, 1),
        (WCE, None, true, 0),
        (WCE, Some(1), false, 1),
    ] {
        let mut bench = Bench::disk(Slow::new(store(64), 64, 8), 1, 2);
        bench.start(features);
        if let Some(value) = set {
            let _ = bench.write(0x120, value);
        }
        assert_eq!(bench.read(0x120) & 0xff, reads);
        let raw = header(OUT, 1);
        bench.drivers[0]
            .send(&[&raw, &[7; 512]], &[1])
            .expect("room");
        let _ = bench.notify(0);
        while bench.drivers[0].in_flight() != 0 {
            assert!(bench.device.disk().finish_one());
            let _ = bench.poll();
            bench.drivers[0].receive();
        }
        assert_eq!(
            bench.device.disk().flushes,
            u32::from(flushed),
            "{features:#x} {set:?}"
        );
        let _ = bench.write(0x70, 0);
        assert_eq!(bench.read(0x120) & 0xff, 1);
    }
}

#[test]
fn a_snapshot_has_a_map_of_its_own() {
    let base: &[u8] = Vec::leak(vec![9; 5 * 512]);
    let overlay = store(16);
    let fits = |sectors, room, map: usize| {
        Snapshot::new(base, sectors, overlay, room, Vec::leak(vec![7; map])).is_some()
    };
    assert!(fits(24, 2, 3));
    assert!(!fits(25, 2, 3));
    assert!(!fits(24, 3, 3));
    assert!(!fits(u64::MAX, 2, 3));
    assert_eq!(BLOCK, 4096);
}

#[test]
fn a_snapshot_forgets_and_fills_up() {
    let base: &[u8] = Vec::leak(vec![9; 64 * 512]);
    let overlay = store(16);
    let disk = Snapshot::new(base, 64, overlay, 2, Vec::leak(vec![0; 8])).expect("fits");
    let mut bench = Bench::boot(disk, config::DISCARD | config::WRITE_ZEROES);
    assert_eq!(bench.request(OUT, 0, &[1; 512], 0).0, OK);
    assert_eq!(bench.request(OUT, 63, &[2; 512], 0).0, OK);
    // Those that have a place may be written, and no others.
    assert_eq!(bench.request(OUT, 7, &[3; 512], 0).0, OK);
    assert_eq!(bench.request(OUT, 8, &[4; 512], 0).0, IOERR);
    assert_eq!(bench.request(IN, 8, &[], 512).1, [9; 512]);
    // What is given up is room.
    assert_eq!(bench.request(DISCARD, 0, &range(56, 8, 0), 0).0, OK);
    assert_eq!(bench.request(OUT, 8, &[4; 512], 0).0, OK);
    assert_eq!(
        bench.request(IN, 8, &[], 1024).1,
        [[4; 512], [9; 512]].concat()
    );
    // Zeroes need none, if they are whole blocks.
    assert_eq!(bench.request(WRITE_ZEROES, 0, &range(16, 40, 0), 0).0, OK);
    assert_eq!(bench.request(WRITE_ZEROES, 0, &range(0, 8, 1), 0).0, OK);
    assert_eq!(bench.request(IN, 0, &[], 512).1, [0; 512]);
    assert_eq!(bench.request(OUT, 24, &[5; 512], 0).0, OK);
    assert_eq!(
        bench.request(IN, 23, &[], 1536).1,
        [[0; 512], [5; 512], [0; 512]].concat()
    );
    let _ = bench.write(0x70, 0);
    bench.device.disk().forget();
    bench.start(0);
    for sector in 0..64 {
        assert_eq!(bench.request(IN, sector, &[], 512).1, [9; 512]);
    }
    assert_eq!(bench.request(OUT, 0, &[1; 512], 0).0, OK);
    assert_eq!(
        bench.request(IN, 0, &[], 1024).1,
        [[1; 512], [9; 512]].concat()
    );
}

#[test]
fn no_queue_is_forgotten() {
    for places in [1, 4] {
        let mut bench = Bench::disk(ram_disk(64), 3, places);
        bench.start(config::MQ);
        let raw = header(IN, 5);
        for queue in [2, 0, 1] {
            for _ in 0..5 {
                bench.drivers[queue].send(&[&raw], &[512, 1]).expect("room");
            }
        }
        for queue in 0..3 {
            assert!(bench.notify(queue).used);
        }
        for driver in &mut bench.drivers {
            for _ in 0..5 {
                assert_eq!(driver.receive().expect("an answer").data[..512], [6; 512]);
            }
        }
    }
}
