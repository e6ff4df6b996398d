//! A driver that does nothing wrong.

use proptest::prelude::*;

use super::*;

/// A driver of a queue, and what it sends: block requests, which are judged most closely.
fn run(features: Features, sizes: &[(u16, usize)], table: bool) -> Vec<&'static str> {
    let mut rig = Rig::new(2, 0);
    let all = features | Features::VERSION_1;
    let mut driver = Driver::new(rig.ram, BASE, 0x20_0000, SIZE, all);
    driver.set_indirect(table);
    rig.begin(all.bits());
    rig.load(GENERATION, 0);
    rig.load(CONFIG, SECTORS);
    rig.load(CONFIG + 4, 0);
    rig.load(GENERATION, 0);
    rig.queue(0, &driver.config());
    rig.store(STATUS, 15);
    let mut device = Echo::new(&driver, all, &rig.ram);
    for (batch, sectors) in sizes {
        for number in 0..*batch {
            let write = number % 2 == 1;
            let mut header = [0; 16];
            header[0] = u8::from(write);
            header[8] = u8::try_from(number % 200).unwrap();
            let data = std::vec![0xa5; 512 * sectors];
            let sent = if write {
                driver.send(&[&header, &data], &[1])
            } else {
                driver.send(&[&header], &[512 * sectors, 1])
            };
            if sent.is_none() {
                break;
            }
        }
        let notified = if all.contains(Features::NOTIFICATION_DATA) {
            None
        } else {
            Some(0)
        };
        if let Some(value) = notified {
            rig.store(NOTIFY, value);
        }
        device.serve(&mut rig, 0);
        while driver.receive().is_some() {}
    }
    rig.found()
}

proptest! {
    #[test]
    fn a_driver_without_a_bug_breaks_no_rule(
        packed in any::<bool>(),
        indirect in any::<bool>(),
        event_idx in any::<bool>(),
        in_order in any::<bool>(),
        sizes in proptest::collection::vec((1u16..6, 1usize..4), 1..60),
    ) {
        let mut features = Features::empty();
        features.set(Features::RING_PACKED, packed);
        features.set(Features::INDIRECT_DESC, indirect);
        features.set(Features::EVENT_IDX, event_idx);
        features.set(Features::IN_ORDER, in_order);
        prop_assert_eq!(run(features, &sizes, indirect), Vec::<&str>::new());
    }
}

/// Two thousand chains, around the ring and around the index.
#[test]
fn a_driver_that_goes_on_for_long_breaks_no_rule() {
    for packed in [false, true] {
        let mut features = Features::EVENT_IDX;
        features.set(Features::RING_PACKED, packed);
        let sizes = std::vec![(5, 1); 16_000];
        assert_eq!(run(features, &sizes, false), Vec::<&str>::new());
    }
}

/// Every version of Linux that there is: its balloon tells of the statistics' buffer while it sets the queues up.
#[test]
fn the_balloon_of_linux_may_be_early_with_its_statistics_and_with_nothing_else() {
    for (queue, wanted) in [(2, &[][..]), (1, &["notify-early"])] {
        let mut rig = Rig::new(5, 2);
        rig.begin(Features::VERSION_1.bits() | 2);
        rig.queue(
            queue,
            &QueueConfig {
                size: SIZE,
                descriptors: BASE,
                driver: BASE + 0x1000,
                device: BASE + 0x2000,
            },
        );
        rig.store(NOTIFY, u64::from(queue));
        assert_eq!(rig.found(), wanted, "queue {queue}");
    }
}

/// A device that looks by itself asks for no notifications, and more chains pass than the queue has entries.
#[test]
fn a_driver_that_is_asked_for_no_notifications_breaks_no_rule() {
    for packed in [false, true] {
        let mut rig = Rig::new(2, 0);
        let mut all = Features::VERSION_1;
        all.set(Features::RING_PACKED, packed);
        let mut driver = Driver::new(rig.ram, BASE, 0x20_0000, SIZE, all);
        rig.begin(all.bits());
        rig.queue(0, &driver.config());
        rig.store(STATUS, 15);
        let mut device = Echo::new(&driver, all, &rig.ram);
        for _ in 0..3 * SIZE {
            let sent = driver.send(&[&[0; 16]], &[512, 1]);
            assert!(sent.is_some());
            device.serve(&mut rig, 0);
            assert!(driver.receive().is_some());
        }
        rig.store(NOTIFY, 0);
        assert_eq!(rig.found(), Vec::<&str>::new());
    }
}
