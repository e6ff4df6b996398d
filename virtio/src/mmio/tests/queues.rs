//! Queues, from what a driver claims to what a device serves.

use super::rig::{Call, Rig};
use crate::device::Served;
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::mmio::{Offer, register};

type Guest = Rig<&'static Ram>;

const AREAS: [(u64, u64); 3] = [
    (register::QUEUE_DESC_LOW, BASE),
    (register::QUEUE_DRIVER_LOW, BASE + 0x2000),
    (register::QUEUE_DEVICE_LOW, BASE + 0x3000),
];

fn guest(features: u64) -> Guest {
    let mut rig = Rig::with(Offer::ALL, Ram::leaked(1 << 20));
    rig.drive(features);
    rig.calls();
    rig
}

/// Claims what is a queue.
fn claim(rig: &mut Guest, queue: u32, size: u32) {
    rig.write(register::QUEUE_SEL, queue);
    rig.write(register::QUEUE_SIZE, size);
    for (low, at) in AREAS {
        rig.write(low, at as u32);
        rig.write(low + 4, (at >> 32) as u32);
    }
}

fn is_ready(rig: &Guest) -> u32 {
    rig.read(register::QUEUE_READY)
}

#[test]
fn a_queue_is_opened_once() {
    let mut rig = guest(0);
    claim(&mut rig, 0, 256);
    assert_eq!(is_ready(&rig), 0);
    for _ in 0..2 {
        rig.write(register::QUEUE_READY, 1);
        assert_eq!(is_ready(&rig), 1);
    }
    assert_eq!(rig.calls(), [Call::Open(0)]);
    rig.write(register::QUEUE_SEL, 2);
    assert_eq!(is_ready(&rig), 0);
    assert_eq!(rig.status(), 15);
}

#[test]
fn vio_12_ready_is_one_or_zero() {
    let mut rig = guest(0);
    claim(&mut rig, 0, 16);
    for value in [2, 3, 0x100, 0x1_0001, u32::MAX] {
        rig.write(register::QUEUE_READY, value);
        assert_eq!(is_ready(&rig), 0);
    }
    rig.write(register::QUEUE_READY, 1);
    for value in [2, 3, 0x100, 0x1_0000, u32::MAX] {
        rig.write(register::QUEUE_READY, value);
        assert_eq!(is_ready(&rig), 1);
    }
    assert_eq!(rig.calls(), [Call::Open(0)]);
}

#[test]
fn vio_12_no_queue_of_these_sizes() {
    for (queue, size) in [
        (0, 0),
        (0, 3),
        (0, 257),
        (0, 512),
        (0, 0x1_0010),
        (0, 0x8000_0000),
        (0, u32::MAX),
        (2, 16),
    ] {
        let mut rig = guest(0);
        claim(&mut rig, queue, size);
        assert!(rig.write(register::QUEUE_READY, 1).broken, "{size}");
        assert_eq!((is_ready(&rig), rig.status()), (0, 15 | 64));
        assert_eq!(rig.calls(), []);
    }
}

#[test]
fn vio_12_a_ready_queue_does_not_change() {
    let mut rig = guest(0);
    claim(&mut rig, 0, 16);
    rig.write(register::QUEUE_READY, 1);
    // What would be no queue.
    rig.write(register::QUEUE_SIZE, 3);
    for (low, _) in AREAS {
        rig.write(low, 1);
        rig.write(low + 4, u32::MAX);
    }
    rig.write(register::QUEUE_READY, 0);
    assert_eq!(is_ready(&rig), 0);
    rig.write(register::QUEUE_READY, 1);
    assert_eq!(is_ready(&rig), 1);
    assert_eq!(rig.status(), 15);
    assert_eq!(rig.calls(), [Call::Open(0), Call::Close(0), Call::Open(0)]);
}

#[test]
fn vio_13_every_byte_of_the_areas_is_judged() {
    for (low, at) in AREAS {
        for (half, wrong) in [
            (0, at as u32 + 1),
            (4, (at >> 32) as u32 + 1),
            (4, u32::MAX),
        ] {
            let mut rig = guest(0);
            claim(&mut rig, 0, 16);
            rig.write(low + half, wrong);
            assert!(rig.write(register::QUEUE_READY, 1).broken);
        }
    }
}

#[test]
fn no_queue_before_features() {
    let mut rig = Rig::with(Offer::ALL, Ram::leaked(1 << 20));
    for status in [0, 1, 3] {
        rig.set_status(status);
        claim(&mut rig, 0, 16);
        assert_eq!(rig.write(register::QUEUE_READY, 1), Served::default());
        assert_eq!(is_ready(&rig), 0);
    }
    rig.accept(Features::VERSION_1.bits());
    rig.set_status(11);
    rig.write(register::QUEUE_READY, 1);
    assert_eq!(is_ready(&rig), 1);
}

#[test]
fn vio_21_notifications_count_between_driver_ok_and_reset() {
    let mut rig = Rig::with(Offer::ALL, Ram::leaked(1 << 20));
    rig.negotiate(0);
    claim(&mut rig, 0, 16);
    rig.write(register::QUEUE_READY, 1);
    rig.calls();
    rig.write(register::QUEUE_NOTIFY, 0);
    assert_eq!(rig.calls(), []);
    rig.set_status(15);
    rig.calls();
    rig.probe.answer.used = true;
    assert!(rig.write(register::QUEUE_NOTIFY, 0).used);
    for other in [1, 2, 16, 32, 0x1_0000, 1 << 31] {
        assert_eq!(rig.write(register::QUEUE_NOTIFY, other), Served::default());
    }
    assert_eq!(rig.calls(), [Call::Serve(0)]);
    // The driver has given up.
    rig.set_status(15 | 128);
    rig.write(register::QUEUE_NOTIFY, 0);
    assert_eq!(rig.calls(), []);
    rig.set_status(0);
    rig.write(register::QUEUE_NOTIFY, 0);
    assert_eq!(rig.calls(), [Call::Reset]);
    assert_eq!(is_ready(&rig), 0);
}

#[test]
fn notification_data_is_the_number_and_more() {
    let mut rig = guest(Features::NOTIFICATION_DATA.bits());
    claim(&mut rig, 2, 8);
    rig.write(register::QUEUE_READY, 1);
    rig.calls();
    for value in [2, 0x1_0002, 0x8000_0002, 0xffff_0002] {
        rig.write(register::QUEUE_NOTIFY, value);
        assert_eq!(rig.calls(), [Call::Serve(2)]);
    }
    for value in [0, 0x2_0000, 0xffff_ffff, 0xffff_0012] {
        rig.write(register::QUEUE_NOTIFY, value);
    }
    assert_eq!(rig.calls(), []);
    // Not agreed on, it is a number that no queue has.
    let mut rig = guest(0);
    claim(&mut rig, 2, 8);
    rig.write(register::QUEUE_READY, 1);
    rig.calls();
    rig.write(register::QUEUE_NOTIFY, 0x1_0002);
    assert_eq!(rig.calls(), []);
}

#[test]
fn a_queue_is_reset_where_that_is_agreed() {
    let mut rig = guest(0);
    claim(&mut rig, 0, 16);
    rig.write(register::QUEUE_READY, 1);
    rig.write(register::QUEUE_RESET, 1);
    assert_eq!(is_ready(&rig), 1);
    assert_eq!(rig.calls(), [Call::Open(0)]);

    let mut rig = guest(Features::RING_RESET.bits());
    claim(&mut rig, 0, 16);
    rig.write(register::QUEUE_READY, 1);
    for value in [0, 2, u32::MAX] {
        rig.write(register::QUEUE_RESET, value);
        assert_eq!(is_ready(&rig), 1);
    }
    rig.write(register::QUEUE_RESET, 1);
    assert_eq!((is_ready(&rig), rig.read(register::QUEUE_RESET)), (0, 0));
    assert_eq!(rig.calls(), [Call::Open(0), Call::Close(0)]);
    rig.write(register::QUEUE_NOTIFY, 0);
    assert_eq!(rig.calls(), []);
    // It may come back with another size, and what was said of it is forgotten (2.6.1.1).
    claim(&mut rig, 0, 8);
    rig.write(register::QUEUE_READY, 1);
    assert_eq!(is_ready(&rig), 1);
    rig.write(register::QUEUE_RESET, 1);
    assert!(rig.write(register::QUEUE_READY, 1).broken);
}

#[test]
fn queues_with_more_to_do_take_turns() {
    let mut rig = guest(0);
    for queue in [0, 2] {
        claim(&mut rig, queue, 8);
        rig.write(register::QUEUE_READY, 1);
    }
    rig.calls();
    rig.probe.answer.more = true;
    for queue in [0, 2] {
        assert!(rig.write(register::QUEUE_NOTIFY, queue).more);
    }
    rig.calls();
    for _ in 0..4 {
        assert!(rig.poll().more);
    }
    rig.probe.answer.more = false;
    let mut expected: std::vec::Vec<_> = [2, 0, 2, 0].map(Call::Serve).into();
    let polled = rig.calls();
    let served: std::vec::Vec<_> = polled
        .iter()
        .filter(|&call| *call != Call::Poll)
        .cloned()
        .collect();
    if served.first() != expected.first() {
        expected.rotate_left(1);
    }
    assert_eq!(served, expected);
    // What is taken away has nothing to do.
    rig.write(register::QUEUE_SEL, 2);
    rig.write(register::QUEUE_READY, 0);
    rig.calls();
    assert!(!rig.poll().more);
    assert_eq!(rig.calls(), [Call::Serve(0), Call::Poll]);
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.calls(), [Call::Poll]);
}

#[test]
fn a_broken_device_is_not_served() {
    let mut rig = guest(0);
    claim(&mut rig, 0, 8);
    rig.write(register::QUEUE_READY, 1);
    rig.calls();
    rig.probe.answer.broken = true;
    rig.probe.answer.more = true;
    let served = rig.write(register::QUEUE_NOTIFY, 0);
    assert!(served.broken && served.config && !served.more);
    assert_eq!(rig.status(), 15 | 64);
    rig.calls();
    rig.write(register::QUEUE_NOTIFY, 0);
    assert_eq!(rig.poll(), Served::default());
    rig.write(register::QUEUE_SEL, 2);
    rig.write(register::QUEUE_READY, 1);
    assert_eq!(rig.calls(), []);
}
