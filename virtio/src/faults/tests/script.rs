//! Faults where a script has them, and nowhere else.

use proptest::prelude::*;

use super::*;

fn script(strikes: &[(Kind, u64, u64)]) -> Faults {
    let mut faults = Faults::NONE;
    for &(kind, first, count) in strikes {
        assert!(faults.script.add(Strike { kind, first, count }));
    }
    faults
}

fn statuses<D: Disk<&'static Ram>>(rig: &mut Rig<D>) -> Vec<u8> {
    core::iter::from_fn(|| rig.driver.receive())
        .map(|done| *done.data.last().expect("a status"))
        .collect()
}

#[test]
fn a_script_has_room_for_so_many() {
    let mut script = Script::NONE;
    let strike = Strike {
        kind: Kind::Error,
        first: u64::MAX,
        count: u64::MAX,
    };
    for _ in 0..MAX_STRIKES {
        assert!(script.add(strike));
    }
    assert!(!script.add(strike));
    assert!(script.hits(Kind::Error, u64::MAX));
    assert!(!script.hits(Kind::Error, u64::MAX - 1));
    assert!(!script.hits(Kind::Drop, u64::MAX));
    assert!(script.has(Kind::Error) && !script.has(Kind::Drop));
}

#[test]
fn exactly_those_requests_have_faults() {
    let faults = script(&[(Kind::Error, 2, 2), (Kind::Drop, 5, 1), (Kind::Short, 6, 1)]);
    let mut rig = Rig::new(ram_disk(), 8, faults);
    let mut seen = vec![];
    for sector in 0..8 {
        rig.read(sector, 1024);
        let _ = rig.notify();
        seen.extend(statuses(&mut rig));
    }
    assert_eq!(seen, [OK, OK, IOERR, IOERR, OK, IOERR, OK]);
    assert_eq!(rig.driver.in_flight(), 1);
}

/// Requests are counted as the driver has made them, and not as the disk gets them.
#[test]
fn a_large_request_is_one() {
    for first in 0..3 {
        let mut disk = Slow::new(store(64), 64, 8);
        disk.facts.most = 1;
        let mut rig = Rig::new(disk, 8, script(&[(Kind::Error, first, 1)]));
        for sector in [0, 8, 16] {
            rig.read(sector, 2048);
        }
        let _ = rig.notify();
        for _ in 0..12 {
            rig.disk().finish_one();
            let _ = rig.poll();
        }
        let failed: Vec<u64> = core::iter::from_fn(|| rig.driver.receive())
            .filter(|done| *done.data.last().expect("a status") == IOERR)
            .map(|done| done.token.into())
            .collect();
        assert_eq!(rig.driver.in_flight(), 0);
        assert_eq!(failed.len(), 1, "request {first}: {failed:?}");
    }
}

#[test]
fn a_busy_disk_is_asked_again_with_the_same_luck() {
    let disk = Slow::new(store(64), 64, 1);
    let mut rig = Rig::new(disk, 8, script(&[(Kind::Error, 2, 1)]));
    for sector in 0..4 {
        rig.read(sector, 512);
        let _ = rig.notify();
    }
    let mut seen = vec![];
    for _ in 0..8 {
        rig.disk().finish_one();
        let _ = rig.poll();
        seen.extend(
            core::iter::from_fn(|| rig.driver.receive()).map(|done| (done.token, done.data[512])),
        );
    }
    seen.sort_unstable();
    assert_eq!(
        seen.iter().map(|one| one.1).collect::<Vec<_>>(),
        [OK, OK, IOERR, OK]
    );
}

#[test]
fn exactly_those_interrupts_and_notifications_do() {
    let faults = script(&[(Kind::Interrupt, 1, 2), (Kind::Reset, 4, 1)]);
    let mut rig = Rig::new(ram_disk(), 2, faults);
    for used in [true, false, false, true] {
        rig.read(0, 512);
        assert_eq!(rig.notify().used, used);
        assert!(rig.driver.receive().is_some());
    }
    rig.read(0, 512);
    assert!(rig.notify().broken);
}

/// That a queue is served again because there was more to do is no notification.
#[test]
fn going_on_is_no_notification() {
    let faults = script(&[(Kind::Reset, 2, 1)]);
    let mut inner = Probe::new(3);
    let clock = Clock::new();
    let mut device = FaultyDevice::new(&mut inner, faults, &clock, None);
    let mut env = Env {
        memory: Ram::leaked(16),
        now: 50,
        frequency: HZ,
        trace: None,
    };
    for more in [true, true, true, false] {
        let served = device.serve(1, &mut env);
        assert!(!served.broken && served.more == more);
    }
    assert!(!device.serve(0, &mut env).broken);
    assert!(device.serve(0, &mut env).broken);
    assert!(!device.serve(0, &mut env).broken);
    assert_eq!(inner.served, [1, 1, 1, 1, 0, 0]);
}

proptest! {
    /// Any script against a list of what it says.
    #[test]
    fn scripts_do_what_they_say(
        strikes in prop::collection::vec((0..3_usize, 0..40_u64, 0..5_u64), 0..MAX_STRIKES),
    ) {
        let kinds = [Kind::Error, Kind::Drop, Kind::Short];
        let named: Vec<_> = strikes.iter().map(|&(kind, first, count)| (kinds[kind], first, count)).collect();
        let faults = script(&named);
        for nth in 0..50 {
            for (which, kind) in kinds.into_iter().enumerate() {
                let said = strikes.iter().any(|one| one.0 == which && (one.1..one.1 + one.2).contains(&nth));
                prop_assert_eq!(faults.hit(kind, nth), said);
            }
        }
    }
}
