//! VIO-18: the device status field, every state and every value.

use super::rig::{Call, Rig};
use crate::device::Served;
use crate::features::Features;
use crate::mmio::{Offer, register};

/// What a driver that has come so far (first column: nothing, ACKNOWLEDGE = 1, DRIVER = 2, FEATURES_OK = 8, DRIVER_OK = 4)
/// reads after it has written the lower four bits 0 to 15 (columns), from 2.1 and 3.1.1: its features are ones that the
/// device can work with. Zero is a reset, whatever else is said in the row.
#[rustfmt::skip]
const FIT: [(u32, [u32; 16]); 8] = [
    //    0   1   2   3   4   5   6   7   8   9  10  11  12  13  14  15
    ( 0, [0,  1,  2,  3,  0,  1,  2,  3,  0,  1, 10, 11,  0,  1, 14, 15]),
    ( 1, [0,  1,  3,  3,  1,  1,  3,  3,  1,  1, 11, 11,  1,  1, 15, 15]),
    ( 2, [0,  3,  2,  3,  2,  3,  2,  3, 10, 11, 10, 11, 14, 15, 14, 15]),
    ( 3, [0,  3,  3,  3,  3,  3,  3,  3, 11, 11, 11, 11, 15, 15, 15, 15]),
    (10, [0, 11, 10, 11, 14, 15, 14, 15, 10, 11, 10, 11, 14, 15, 14, 15]),
    (11, [0, 11, 11, 11, 15, 15, 15, 15, 11, 11, 11, 11, 15, 15, 15, 15]),
    (14, [0, 15, 14, 15, 14, 15, 14, 15, 14, 15, 14, 15, 14, 15, 14, 15]),
    (15, [0, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15]),
];

/// The same of a driver whose features are none that the device can work with; it never gets further than 3.
#[rustfmt::skip]
const UNFIT: [(u32, [u32; 16]); 4] = [
    ( 0, [0,  1,  2,  3,  0,  1,  2,  3,  0,  1,  2,  3,  0,  1,  2,  3]),
    ( 1, [0,  1,  3,  3,  1,  1,  3,  3,  1,  1,  3,  3,  1,  1,  3,  3]),
    ( 2, [0,  3,  2,  3,  2,  3,  2,  3,  2,  3,  2,  3,  2,  3,  2,  3]),
    ( 3, [0,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3,  3]),
];

fn reach(progress: u32, failed: bool, broken: bool, features: u64) -> Rig<super::rig::Nowhere> {
    let mut rig = Rig::new();
    for (step, through) in [(1, 1), (2, 3), (8, 11), (4, 15)] {
        if step == 8 {
            rig.accept(features);
        }
        if progress & step != 0 {
            rig.set_status(progress & through);
        }
    }
    if broken {
        // A queue that is none.
        rig.write(register::QUEUE_READY, 1);
    }
    if failed {
        rig.set_status(progress | 128);
    }
    rig
}

fn check(table: &[(u32, [u32; 16])], features: u64) {
    for &(progress, ref row) in table {
        for ends in 0..4 {
            let (failed, broken) = (ends & 1 != 0, ends & 2 != 0);
            // Without features there is no queue that could break the device.
            if broken && progress & 8 == 0 {
                continue;
            }
            let before = progress | u32::from(failed) << 7 | u32::from(broken) << 6;
            for written in 0..=511 {
                let mut rig = reach(progress, failed, broken, features);
                assert_eq!(rig.status(), before);
                rig.calls();
                let served = rig.set_status(written);
                let expected = if written == 0 {
                    0
                } else if (written | before) & 128 != 0 || broken {
                    before | written & 128
                } else {
                    let to = row[written as usize & 15];
                    if written & 15 == 0 { progress } else { to }
                };
                assert_eq!(rig.status(), expected, "{written:#x} in {before:#x}");
                assert_eq!(served.reset, written == 0);
                let mut calls = std::vec::Vec::new();
                if written == 0 {
                    calls.push(Call::Reset);
                } else if expected & !before & 4 != 0 {
                    calls.push(Call::Start(features));
                }
                assert_eq!(rig.calls(), calls, "{written:#x} in {before:#x}");
            }
        }
    }
}

#[test]
fn vio_18_every_status_and_every_value() {
    check(&FIT, Features::VERSION_1.bits());
    check(&FIT, Features::VERSION_1.bits() | 0x1f);
}

#[test]
fn vio_18_every_status_and_every_value_with_features_that_do_not_fit() {
    check(&UNFIT, 0);
    check(&UNFIT, Features::VERSION_1.bits() | 1 << 7);
}

#[test]
fn vio_18_needs_reset_cannot_be_written() {
    let mut rig = Rig::new();
    for value in [64, 64 | 1, 64 | 3] {
        rig.set_status(value);
        assert_eq!(rig.status(), value & 3);
    }
}

#[test]
fn vio_18_values_without_meaning_are_no_reset() {
    let mut rig = Rig::new();
    rig.drive(0);
    for value in [16, 32, 48, 64, 256, 0x8000_0000, 0xffff_ff00] {
        rig.set_status(value);
        assert_eq!(rig.status(), 15);
    }
}

#[test]
fn vio_18_each_feature_that_is_not_offered_is_refused() {
    let offered = Rig::new().offered();
    for bit in 0..64 {
        let mut rig = Rig::new();
        rig.set_status(3);
        let base = Features::VERSION_1.bits();
        rig.accept(base | 1 << bit | if bit == 4 { 1 << 3 } else { 0 } | 2);
        rig.set_status(11);
        let expected = if offered >> bit & 1 != 0 { 11 } else { 3 };
        assert_eq!(rig.status(), expected, "{bit}");
    }
}

#[test]
fn vio_18_features_behind_the_64th_are_refused() {
    for select in [2, 3, u32::MAX] {
        let mut rig = Rig::new();
        rig.set_status(3);
        rig.accept(Features::VERSION_1.bits());
        rig.write(register::DRIVER_FEATURES_SEL, select);
        rig.write(register::DRIVER_FEATURES, 0);
        assert_eq!(
            rig.read(register::DEVICE_FEATURES),
            rig_low(&mut Rig::new())
        );
        rig.write(register::DRIVER_FEATURES, 1);
        rig.set_status(11);
        assert_eq!(rig.status(), 3);
    }
}

fn rig_low(rig: &mut Rig<super::rig::Nowhere>) -> u32 {
    rig.write(register::DEVICE_FEATURES_SEL, 0);
    rig.read(register::DEVICE_FEATURES)
}

#[test]
fn vio_18_refused_features_may_be_written_again() {
    let mut rig = Rig::new();
    rig.set_status(3);
    rig.accept(1 << 7);
    rig.set_status(11);
    assert_eq!(rig.status(), 3);
    rig.accept(Features::VERSION_1.bits());
    rig.set_status(11);
    assert_eq!(rig.status(), 11);
}

#[test]
fn vio_18_features_do_not_change_once_agreed_on() {
    let mut rig = Rig::new();
    rig.negotiate(2);
    rig.accept(0);
    rig.set_status(15);
    let agreed = Features::VERSION_1.bits() | 2;
    assert_eq!(rig.calls(), [Call::Start(agreed)]);
    rig.accept(u64::MAX);
    assert_eq!(rig.transport.accepted().bits(), agreed);
}

#[test]
fn vio_18_a_feature_without_what_it_needs_is_refused() {
    for (features, fits) in [
        (0b1000, false),
        (0b1010, true),
        (0b1100, true),
        (0b1_0000, false),
        (0b1_0010, false),
        (0b1_1010, true),
        (0b10_0000, true),
    ] {
        let mut rig = Rig::new();
        rig.set_status(3);
        rig.accept(Features::VERSION_1.bits() | features);
        rig.set_status(11);
        assert_eq!(rig.status() == 11, fits, "{features:#b}");
    }
}

#[test]
fn no_feature_is_offered_without_what_it_needs() {
    let own = Features::VERSION_1.bits();
    for (mask, offered) in [
        (0, 0),
        (0b1_1111, 0b1_1111),
        (0b1_1000, 0),
        (0b1_1011, 0b1_1011),
        (0b1_0011, 0b0_0011),
        (0b10_0000, 0),
        (0b110_0000, 0b110_0000),
        (Features::ACCESS_PLATFORM.bits() | 1 << 24, 0),
        (Features::RING_RESET.bits(), Features::RING_RESET.bits()),
    ] {
        let mut rig = Rig::offering(Offer {
            mask: Features::from_bits_retain(mask),
            queue_max: 256,
        });
        assert_eq!(rig.offered(), offered | own, "{mask:#b}");
    }
    assert_eq!(Rig::new().offered(), 0x7f | 1 << 50 | Features::RING.bits());
}

#[test]
fn a_reset_forgets_all_but_the_offer() {
    let mut rig = Rig::new();
    rig.drive(2);
    rig.write(register::QUEUE_SEL, 2);
    let served = rig.set_status(0);
    assert_eq!(
        served,
        Served {
            reset: true,
            ..Served::default()
        }
    );
    assert_eq!(rig.transport.accepted().bits(), 0);
    assert_eq!(rig.read(register::QUEUE_SIZE_MAX), 256);
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.calls().last(), Some(&Call::Reset));
    // It can be driven again, and agrees to the same (2.2.2).
    rig.drive(2);
}
