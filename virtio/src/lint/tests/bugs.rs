//! One bug for each rule.

use std::collections::BTreeSet;

use super::*;

type Bug = (&'static str, fn() -> Vec<&'static str>);

fn found(act: impl FnOnce(&mut Rig)) -> Vec<&'static str> {
    let mut rig = Rig::new(2, 0);
    act(&mut rig);
    rig.found()
}

/// A device that is set up, with one split queue, whose rings are written by hand.
struct Hand {
    rig: Rig,
    at: QueueConfig,
    avail: u16,
}

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;
/// Where buffers are.
pub(super) const DATA: u64 = BASE + 0x10_0000;

pub(super) fn layout() -> QueueConfig {
    QueueConfig {
        size: SIZE,
        descriptors: BASE,
        driver: BASE + 0x1000,
        device: BASE + 0x2000,
    }
}

impl Hand {
    fn with(id: u32, own: u64, features: Features) -> Self {
        let mut rig = Rig::new(id, own);
        rig.begin((features | Features::VERSION_1).bits() | own);
        let at = layout();
        rig.queue(0, &at);
        rig.queue(
            1,
            &QueueConfig {
                descriptors: at.descriptors + 0x4000,
                driver: at.driver + 0x4000,
                device: at.device + 0x4000,
                ..at
            },
        );
        rig.store(STATUS, 15);
        assert_eq!(rig.found(), Vec::<&str>::new());
        Self { rig, at, avail: 0 }
    }

    fn new() -> Self {
        Self::with(2, 0, Features::empty())
    }

    fn descriptor(&mut self, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        self.entry(
            self.at.descriptors + 16 * u64::from(index),
            at,
            len,
            flags,
            next,
        );
    }

    fn entry(&mut self, place: u64, at: u64, len: u32, flags: u16, next: u16) {
        self.rig.ram.poke_u64(place, at);
        self.rig.ram.poke_u32(place + 8, len);
        self.rig.ram.poke_u16(place + 12, flags);
        self.rig.ram.poke_u16(place + 14, next);
    }

    fn offer(&mut self, head: u16) {
        let place = self.at.driver + 4 + 2 * u64::from(self.avail % SIZE);
        self.rig.ram.poke_u16(place, head);
        self.avail = self.avail.wrapping_add(1);
        self.rig.ram.poke_u16(self.at.driver + 2, self.avail);
    }

    /// A read of a sector, by descriptors 0 to 2.
    fn request(&mut self, kind: u32, sector: u64, bytes: u32) {
        self.rig.ram.poke_u32(DATA, kind);
        self.rig.ram.poke_u64(DATA + 8, sector);
        let data = if kind == 1 { NEXT } else { NEXT | WRITE };
        self.descriptor(0, DATA, 16, NEXT, 1);
        self.descriptor(1, DATA + 0x1000, bytes, data, 2);
        self.descriptor(2, DATA + 0x8000, 1, WRITE, 0);
        self.offer(0);
    }

    fn notify(mut self) -> Vec<&'static str> {
        self.rig.store(NOTIFY, 0);
        self.rig.found()
    }

    /// Queue 1 is a card's to send by.
    fn frame(own: u64, header: [u8; 12], len: u32) -> Vec<&'static str> {
        let mut hand = Self::with(1, own, Features::empty());
        hand.at = QueueConfig {
            descriptors: hand.at.descriptors + 0x4000,
            driver: hand.at.driver + 0x4000,
            ..hand.at
        };
        hand.rig.ram.poke(DATA, &header);
        hand.descriptor(0, DATA, len, 0, 0);
        hand.offer(0);
        hand.rig.store(NOTIFY, 1);
        hand.rig.found()
    }
}

fn by_hand(act: impl FnOnce(&mut Hand)) -> Vec<&'static str> {
    let mut hand = Hand::new();
    act(&mut hand);
    hand.notify()
}

fn status(values: &'static [u64]) -> Vec<&'static str> {
    found(|rig| {
        rig.store(STATUS, 0);
        rig.features(Features::VERSION_1.bits());
        for value in values {
            rig.store(STATUS, *value);
            rig.load(STATUS, *value);
        }
    })
}

fn queue(change: impl FnOnce(&mut QueueConfig)) -> Vec<&'static str> {
    found(|rig| {
        rig.begin(Features::VERSION_1.bits());
        let mut config = layout();
        change(&mut config);
        rig.queue(0, &config);
    })
}

const REGISTERS: &[Bug] = &[
    ("no-reset", || found(|rig| rig.store(STATUS, 1))),
    ("no-acknowledge", || status(&[2])),
    ("status-cleared", || status(&[1, 3, 2])),
    ("status-reserved", || status(&[1, 1 | 16])),
    ("driver-ok-early", || status(&[1, 3, 7])),
    ("features-unread", || {
        found(|rig| {
            for value in [0, 1, 3] {
                rig.store(STATUS, value);
            }
            rig.features(Features::VERSION_1.bits());
            rig.store(STATUS, 11);
            rig.store(STATUS, 15);
        })
    }),
    // It does not look at what it reads.
    ("features-refused", || {
        found(|rig| {
            for value in [0, 1, 3] {
                rig.store(STATUS, value);
            }
            rig.features(Features::VERSION_1.bits() | 1 << 33);
            rig.store(STATUS, 11);
            rig.load(STATUS, 3);
            rig.store(STATUS, 15);
        })
    }),
    ("features-late", || {
        found(|rig| {
            rig.begin(Features::VERSION_1.bits());
            rig.features(Features::VERSION_1.bits());
        })
    }),
    ("feature-not-offered", || {
        found(|rig| rig.begin(Features::VERSION_1.bits() | 1 << 33))
    }),
    ("no-version-1", || found(|rig| rig.begin(0))),
    ("register-width", || {
        found(|rig| rig.load_as(MAGIC, 1, 0x76))
    }),
    ("register-read-only", || found(|rig| rig.store(MAGIC, 0))),
    ("register-write-only", || found(|rig| rig.load(NOTIFY, 0))),
    ("register-legacy", || found(|rig| rig.store(0x28, 4096))),
    ("register-legacy", || found(|rig| rig.store(0x3c, 4096))),
    // QueuePFN of the legacy interface.
    ("register-reserved", || found(|rig| rig.store(0x40, 1))),
    ("no-such-queue", || {
        found(|rig| {
            rig.begin(Features::VERSION_1.bits());
            rig.store(QUEUE_SEL, 3);
            rig.load(QUEUE_SIZE_MAX, 0);
            rig.store(QUEUE_SIZE, 16);
            rig.store(QUEUE_READY, 1);
        })
    }),
    ("queue-size", || queue(|config| config.size = 12)),
    ("queue-alignment", || {
        queue(|config| config.descriptors += 8)
    }),
    ("queue-outside", || {
        queue(|config| config.device = BASE + 0x3f_fff0)
    }),
    ("queue-overlap", || {
        queue(|config| config.driver = config.descriptors + 0x80)
    }),
    ("queue-changed", || {
        found(|rig| {
            rig.begin(Features::VERSION_1.bits());
            rig.queue(0, &layout());
            rig.store(QUEUE_SIZE, 8);
        })
    }),
    ("queue-late", || {
        found(|rig| {
            rig.begin(Features::VERSION_1.bits());
            rig.store(STATUS, 15);
            rig.queue(0, &layout());
        })
    }),
    ("queue-early", || {
        found(|rig| {
            for value in [0, 1, 3] {
                rig.store(STATUS, value);
            }
            rig.queue(0, &layout());
        })
    }),
    ("notify-early", || {
        found(|rig| {
            rig.begin(Features::VERSION_1.bits());
            rig.queue(0, &layout());
            rig.store(NOTIFY, 0);
        })
    }),
    ("notify-unready", || {
        let mut hand = Hand::new();
        hand.rig.store(NOTIFY, 2);
        hand.rig.found()
    }),
    ("notify-stale", || {
        let mut hand = Hand::with(2, 0, Features::NOTIFICATION_DATA);
        hand.request(0, 0, 512);
        hand.rig.store(NOTIFY, 7 << 16);
        hand.rig.found()
    }),
    ("config-torn", || {
        found(|rig| {
            rig.begin(Features::VERSION_1.bits());
            rig.load(CONFIG, 1);
            rig.load(CONFIG + 4, 0);
            rig.store(STATUS, 15);
        })
    }),
    ("config-early", || {
        found(|rig| {
            rig.store(STATUS, 0);
            rig.store_as(CONFIG + 32, 1, 1);
        })
    }),
];

const RINGS: &[Bug] = &[
    ("avail-flags", || {
        by_hand(|hand| hand.rig.ram.poke_u16(hand.at.driver, 2))
    }),
    ("avail-flags", || {
        let hand = Hand::with(2, 0, Features::EVENT_IDX);
        hand.rig.ram.poke_u16(hand.at.driver, 1);
        hand.notify()
    }),
    ("avail-jump", || {
        by_hand(|hand| hand.rig.ram.poke_u16(hand.at.driver + 2, 17))
    }),
    ("avail-back", || {
        by_hand(|hand| hand.rig.ram.poke_u16(hand.at.driver + 2, 0xffff))
    }),
    ("head-range", || by_hand(|hand| hand.offer(16))),
    ("head-reused", || {
        by_hand(|hand| {
            hand.request(0, 0, 512);
            hand.offer(0);
        })
    }),
    ("not-in-order", || {
        let mut hand = Hand::with(2, 0, Features::IN_ORDER);
        hand.request(0, 0, 512);
        hand.descriptor(5, DATA, 16, NEXT, 6);
        hand.descriptor(6, DATA + 0x1000, 512, NEXT | WRITE, 7);
        hand.descriptor(7, DATA + 0x2000, 1, WRITE, 0);
        hand.offer(5);
        hand.notify()
    }),
    ("next-range", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 16, NEXT, 16);
            hand.offer(0);
        })
    }),
    ("chain-long", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 16, NEXT, 0);
            hand.offer(0);
        })
    }),
    ("chain-order", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 16, NEXT | WRITE, 1);
            hand.descriptor(1, DATA, 16, 0, 0);
            hand.offer(0);
        })
    }),
    ("descriptor-flags", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 16, 8, 0);
            hand.offer(0);
        })
    }),
    ("buffer-outside", || {
        by_hand(|hand| {
            hand.descriptor(0, 0x1000, 16, 0, 0);
            hand.offer(0);
        })
    }),
    ("chain-total", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, u32::MAX, NEXT, 1);
            hand.descriptor(1, DATA, u32::MAX, 0, 0);
            hand.offer(0);
        })
    }),
    ("indirect-unagreed", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 16, INDIRECT, 0);
            hand.offer(0);
        })
    }),
    ("indirect-next", || indirect(INDIRECT | NEXT, 16, WRITE)),
    ("indirect-nested", || indirect(INDIRECT, 16, INDIRECT)),
    ("indirect-length", || indirect(INDIRECT, 24, WRITE)),
    ("torn", || {
        // Another CPU's store arrives between two looks, whichever they are.
        let torn = |look| {
            let mut hand = Hand::new();
            hand.request(0, 0, 512);
            let (mut looks, place) = (0, hand.at.descriptors + 16 + 8);
            hand.rig.ram.set_hook(move |ram, _| {
                looks += 1;
                if looks == look {
                    ram.poke_u32(place, 1024);
                }
            });
            hand.notify()
        };
        let found: BTreeSet<_> = (1..60).flat_map(torn).collect();
        found.into_iter().collect()
    }),
    ("flight-descriptor", || {
        in_flight(|hand| hand.rig.ram.poke_u32(hand.at.descriptors + 24, 1024))
    }),
    ("flight-buffer", || {
        in_flight(|hand| hand.rig.ram.poke_u64(DATA + 8, 99))
    }),
    ("used-written", || {
        by_hand(|hand| hand.rig.ram.poke_u16(hand.at.device + 2, 1))
    }),
];

fn indirect(flags: u16, len: u32, inner: u16) -> Vec<&'static str> {
    let mut hand = Hand::with(2, 0, Features::INDIRECT_DESC);
    hand.descriptor(0, DATA + 0x100, len, flags, 1);
    hand.entry(DATA + 0x100, DATA, 16, inner, 0);
    hand.offer(0);
    hand.notify()
}

fn in_flight(act: impl FnOnce(&mut Hand)) -> Vec<&'static str> {
    let mut hand = Hand::new();
    hand.request(0, 0, 512);
    hand.rig.store(NOTIFY, 0);
    assert_eq!(hand.rig.found(), Vec::<&str>::new());
    act(&mut hand);
    hand.rig.device(Event::Pushed {
        queue: 0,
        id: 0,
        written: 513,
    });
    hand.rig.found()
}

const CONTENTS: &[Bug] = &[
    ("blk-header", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 8, NEXT, 1);
            hand.descriptor(1, DATA, 1, WRITE, 0);
            hand.offer(0);
        })
    }),
    ("blk-status", || {
        by_hand(|hand| {
            hand.descriptor(0, DATA, 16, 0, 0);
            hand.offer(0);
        })
    }),
    // A flush that was not negotiated.
    ("blk-type", || by_hand(|hand| hand.request(4, 0, 512))),
    ("blk-read-only", || {
        let mut hand = Hand::with(2, 1 << 5, Features::empty());
        hand.request(1, 0, 512);
        hand.notify()
    }),
    ("blk-sectors", || by_hand(|hand| hand.request(0, 0, 100))),
    ("blk-range", || {
        by_hand(|hand| hand.request(0, SECTORS, 512))
    }),
    ("net-header", || Hand::frame(0, [0; 12], 4)),
    ("net-checksum", || {
        Hand::frame(0, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100)
    }),
    ("net-segments", || {
        Hand::frame(1, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100)
    }),
    ("net-buffers", || {
        Hand::frame(0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 100)
    }),
    ("net-receive", || {
        let mut hand = Hand::with(1, 0, Features::empty());
        hand.descriptor(0, DATA, 100, WRITE, 0);
        hand.offer(0);
        hand.notify()
    }),
];

#[test]
fn each_seeded_bug_is_caught_by_its_rule_and_by_no_other() {
    let bugs = REGISTERS.iter().chain(RINGS).chain(CONTENTS);
    let mut caught = BTreeSet::new();
    for (rule, bug) in bugs {
        let found = bug();
        assert!(found.contains(rule), "{rule}: {found:?}");
        // A bug may well break a second rule that says the same; a third would be guessing.
        assert!(found.len() <= 2, "{rule}: {found:?}");
        caught.insert(*rule);
    }
    let all: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(caught, all);
}

#[test]
fn a_finding_is_reported_once_for_each_queue_and_counted() {
    let mut rig = Rig::new(2, 0);
    rig.begin(Features::VERSION_1.bits());
    rig.queue(0, &layout());
    for _ in 0..10 {
        rig.store(QUEUE_SIZE, 8);
    }
    assert_eq!(rig.found, [("queue-changed", Some(0))]);
    assert_eq!(rig.lint.count(), 10);
}
