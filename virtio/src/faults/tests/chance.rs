//! Any faults at any time.

use proptest::prelude::*;

use super::*;

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
