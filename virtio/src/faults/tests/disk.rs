//! Disks that fail.

use super::*;

#[test]
fn a_request_fails() {
    let mut rig = Rig::new(
        ram_disk(),
        1,
        always(|faults| faults.error = Often::From { nth: 1, every: 0 }),
    );
    rig.write(0, &[0xaa; 512]);
    rig.write(1, &[0xbb; 512]);
    rig.write(2, &[0xcc; 512]);
    assert!(rig.notify().used);
    let answers: Vec<_> = core::iter::from_fn(|| rig.driver.receive())
        .map(|done| done.data[0])
        .collect();
    assert_eq!(answers, [OK, IOERR, OK]);
    rig.read(0, 1536);
    let _ = rig.notify();
    let done = rig.driver.receive().expect("an answer");
    assert_eq!(
        done.data[..1536],
        [[0xaa; 512], [2; 512], [0xcc; 512]].concat()
    );
}

#[test]
fn a_request_does_half() {
    let mut rig = Rig::new(
        ram_disk(),
        1,
        always(|faults| faults.short = Often::From { nth: 0, every: 0 }),
    );
    rig.write(0, &[0xaa; 2048]);
    let _ = rig.notify();
    assert_eq!(rig.driver.receive().expect("an answer").data, [IOERR]);
    rig.read(0, 2048);
    let _ = rig.notify();
    let done = rig.driver.receive().expect("an answer");
    assert_eq!(done.data[..1024], [0xaa; 1024]);
    assert_eq!(done.data[1024..2048], [[3; 512], [4; 512]].concat());
}

#[test]
fn a_request_is_late() {
    for slow in [false, true] {
        let faults = always(|faults| faults.delay = Often::ALWAYS);
        let mut waits = vec![];
        if slow {
            let mut rig = Rig::new(Slow::new(store(64), 64, 8), 8, faults);
            waits.push(late(&mut rig, |rig| {
                rig.disk().finish_one();
            }));
        } else {
            waits.push(late(&mut Rig::new(ram_disk(), 8, faults), |_| {}));
        }
        assert!(
            waits.iter().all(|&wait| wait != 0 && wait <= HZ / 100),
            "{waits:?}"
        );
    }
}

fn late<D: Disk<&'static Ram>>(rig: &mut Rig<D>, finish: impl Fn(&mut Rig<D>)) -> u64 {
    rig.now = 1000;
    rig.read(7, 512);
    assert!(!rig.notify().used);
    finish(rig);
    assert!(!rig.poll().used);
    let due = rig.due();
    rig.now = due - 1;
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.driver.receive(), None);
    assert_eq!(rig.due(), due);
    rig.now = due;
    assert!(rig.poll().used);
    let done = rig.driver.receive().expect("an answer");
    assert_eq!((done.data[0], done.data[512]), (8, OK));
    assert_eq!(rig.due(), u64::MAX);
    due - 1000
}

#[test]
fn a_request_is_overtaken() {
    let faults = always(|faults| faults.reorder = Often::From { nth: 0, every: 2 });
    let mut rig = Rig::new(ram_disk(), 8, faults);
    let tokens: Vec<u16> = (0..4).map(|sector| rig.read(sector, 512)).collect();
    let _ = rig.notify();
    // Those in between are over, and so those before them are due.
    assert_eq!(rig.due(), 0);
    let _ = rig.poll();
    let order: Vec<u16> = core::iter::from_fn(|| rig.driver.receive())
        .map(|done| done.token)
        .collect();
    assert_eq!(order, [tokens[1], tokens[3], tokens[0], tokens[2]]);
    // Nothing comes later: it is over by itself.
    rig.now = 5;
    rig.read(0, 512);
    let _ = rig.notify();
    assert_eq!(rig.due(), 5 + HZ / 100);
    rig.now = rig.due();
    assert!(rig.poll().used);
}

#[test]
fn a_request_is_lost() {
    let faults = always(|faults| faults.drop = Often::From { nth: 1, every: 0 });
    let mut rig = Rig::new(ram_disk(), 2, faults);
    for sector in 0..4 {
        rig.read(sector, 512);
    }
    let _ = rig.notify();
    let seen: Vec<u8> = core::iter::from_fn(|| rig.driver.receive())
        .map(|done| done.data[0])
        .collect();
    assert_eq!(seen, [1, 3, 4]);
    rig.now = u64::MAX / 2;
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.driver.in_flight(), 1);
}
