//! Every offset, every width, and what must not be there.

use super::rig::{Call, Rig};
use crate::device::Served;
use crate::mmio::{Offer, register};

/// Offset, value after power-on; all others are zero (4.2.2, table 4.1).
const READABLE: [(u64, u32); 10] = [
    (0x000, 0x7472_6976),
    (0x004, 2),
    (0x008, 42),
    (0x00c, 0x0056_4458),
    (0x010, 0x3000_007f),
    (0x034, 256),
    (0x0b0, u32::MAX),
    (0x0b4, u32::MAX),
    (0x0b8, u32::MAX),
    (0x0bc, u32::MAX),
];

#[test]
fn vio_23_every_offset_and_width_is_read() {
    let rig = Rig::new();
    for offset in 0..0x100 {
        for bytes in 0..=16 {
            let expected = READABLE
                .iter()
                .find(|&&(at, _)| at == offset && bytes == 4)
                .map_or(0, |&(_, value)| value);
            assert_eq!(
                rig.load(offset, bytes),
                expected.into(),
                "{offset:#x} {bytes}"
            );
        }
    }
}

#[test]
fn vio_23_no_store_to_what_cannot_be_written_does_anything() {
    let writable = [
        0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xc0,
    ];
    for value in [0, 1, 2, u64::MAX, 1 << 32] {
        let mut rig = Rig::new();
        rig.drive(0);
        rig.calls();
        let before: std::vec::Vec<_> = (0..0x100).map(|at| rig.read(at)).collect();
        for offset in 0..0x100 {
            for bytes in 0..=16 {
                if bytes == 4 && writable.contains(&offset) {
                    continue;
                }
                assert_eq!(rig.store(offset, bytes, value), Served::default());
            }
        }
        let after: std::vec::Vec<_> = (0..0x100).map(|at| rig.read(at)).collect();
        assert_eq!(before, after);
        assert_eq!(rig.calls(), []);
    }
}

#[test]
fn vio_22_every_width_of_the_configuration_space() {
    let mut rig = Rig::new();
    for offset in 0..0x100_u64 {
        for bytes in 0..=8 {
            let mut expected = [0; 8];
            for (at, byte) in expected[..bytes].iter_mut().enumerate() {
                let at = offset + at as u64;
                *byte = if at < 12 { 0xc0 + at as u8 } else { 0 };
            }
            assert_eq!(
                rig.load(0x100 + offset, bytes),
                u64::from_le_bytes(expected)
            );
        }
        assert_eq!(rig.load(0x100 + offset, 9), 0);
    }
    // Far behind its end, and with a size that no access has.
    assert_eq!(rig.load(u64::MAX, 8), 0);
    assert_eq!(rig.load(u64::MAX, usize::MAX), 0);

    // Before features are agreed on it is read only (3.1.1).
    rig.set_status(3);
    rig.store(0x104, 2, 0x1234);
    assert_eq!(rig.calls(), []);
    rig.set_status(0);
    rig.negotiate(0);
    rig.calls();
    rig.store(0x104, 2, 0xff_1234);
    rig.store(0x10b, 1, 0x1234);
    rig.store(0x104, 16, 1);
    assert_eq!(
        rig.calls(),
        [
            Call::WriteConfig(4, [0x34, 0x12].to_vec()),
            Call::WriteConfig(11, [0x34].to_vec())
        ]
    );
}

#[test]
fn vio_22_the_generation_changes_with_the_configuration() {
    let mut rig = Rig::new();
    rig.drive(0);
    let before = rig.read(register::CONFIG_GENERATION);
    rig.poll();
    assert_eq!(rig.read(register::CONFIG_GENERATION), before);
    rig.probe.answer.config = true;
    assert!(rig.poll().config);
    assert_eq!(rig.read(register::CONFIG_GENERATION), before + 1);
    assert!(rig.store(0x100, 4, 1).config);
    assert_eq!(rig.read(register::CONFIG_GENERATION), before + 2);
    // Also over a reset: a driver that reads across one must see it.
    rig.set_status(0);
    assert_eq!(rig.read(register::CONFIG_GENERATION), before + 2);
}

#[test]
fn nobody_is_told_of_the_configuration_before_driver_ok() {
    let mut rig = Rig::new();
    rig.negotiate(0);
    rig.probe.answer.config = true;
    assert!(!rig.store(0x100, 4, 1).config);
    assert_eq!(rig.read(register::CONFIG_GENERATION), 1);
}

#[test]
fn vio_14_queues_that_do_not_exist() {
    let mut rig = Rig::new();
    rig.drive(crate::Features::RING_RESET.bits());
    rig.calls();
    for select in [1, 3, 15, 16, 17, 255, 0xffff, 0x1_0000, 0x1_0002, u32::MAX] {
        rig.write(register::QUEUE_SEL, select);
        assert_eq!(rig.read(register::QUEUE_SIZE_MAX), 0);
        for offset in [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x44, 0xc0] {
            for value in [1, 8, u32::MAX, 0] {
                assert_eq!(rig.write(offset, value), Served::default());
                assert_eq!(rig.read(register::QUEUE_READY), 0);
            }
        }
    }
    assert_eq!(rig.calls(), []);
    assert_eq!(rig.status(), 15);
    rig.write(register::QUEUE_SEL, 2);
    assert_eq!(rig.read(register::QUEUE_SIZE_MAX), 8);
}

#[test]
fn the_offer_bounds_the_sizes_of_queues() {
    let mut rig = Rig::offering(Offer {
        queue_max: 64,
        ..Offer::ALL
    });
    assert_eq!(rig.read(register::QUEUE_SIZE_MAX), 64);
    rig.write(register::QUEUE_SEL, 2);
    assert_eq!(rig.read(register::QUEUE_SIZE_MAX), 8);
}

#[test]
fn vio_21_notifications_of_what_is_not_ready() {
    let mut rig = Rig::new();
    let all = [0, 1, 2, 15, 16, 31, 32, 33, 0xffff, 0x1_0000, u32::MAX];
    for value in all {
        assert_eq!(rig.write(register::QUEUE_NOTIFY, value), Served::default());
    }
    rig.drive(0);
    rig.calls();
    for value in all {
        assert_eq!(rig.write(register::QUEUE_NOTIFY, value), Served::default());
    }
    rig.set_status(0);
    for value in all {
        assert_eq!(rig.write(register::QUEUE_NOTIFY, value), Served::default());
    }
    assert_eq!(rig.calls(), [Call::Reset]);
}

#[test]
fn vio_12_a_queue_that_is_none_needs_a_reset() {
    let mut rig = Rig::new();
    rig.drive(0);
    let served = rig.write(register::QUEUE_READY, 1);
    assert_eq!(
        served,
        Served {
            config: true,
            broken: true,
            ..Served::default()
        }
    );
    assert_eq!(rig.status(), 15 | 64);
    assert_eq!(rig.read(register::QUEUE_READY), 0);
    // Nothing more is told of it, and nothing is done.
    rig.calls();
    assert_eq!(rig.write(register::QUEUE_READY, 1), Served::default());
    assert_eq!(rig.poll(), Served::default());
    assert_eq!(rig.calls(), []);
}

#[test]
fn a_device_that_somebody_else_finds_broken_needs_a_reset() {
    let mut rig = Rig::new();
    rig.drive(0);
    rig.probe.broken = true;
    let served = rig.poll();
    assert!(served.broken && served.config);
    assert_eq!(rig.status(), 15 | 64);
}
