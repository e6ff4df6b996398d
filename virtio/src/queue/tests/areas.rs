//! What is a queue, and what is none: VIO-12, VIO-13, VIO-06.

use super::{RING, queue};
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::{Queue, QueueConfig};

const PAGE: usize = 0x1000;

fn is_queue(ram: &Ram, config: QueueConfig, max: u16, features: Features) -> bool {
    Queue::new(&config, max, features, &ram).is_some()
}

#[test]
fn vio_12_sizes() {
    let ram = Ram::new(0x10_0000);
    for size in 0..=u16::MAX {
        let far = QueueConfig {
            size,
            descriptors: BASE,
            driver: BASE + 0x4_0000,
            device: BASE + 0x8_0000,
        };
        for max in [1, 2, 64, 256] {
            let small = (1..=max).contains(&size);
            let split = small && size.is_power_of_two();
            assert_eq!(is_queue(&ram, far, max, Features::empty()), split);
            let packed = is_queue(&ram, far, max, Features::RING_PACKED);
            assert_eq!(packed, small, "{size} of {max}");
        }
        // A device that offers more than there can be.
        assert!(!is_queue(&ram, far, u16::MAX, Features::RING_PACKED) || size <= 256);
    }
}

#[test]
fn vio_12_ready_without_addresses() {
    let ram = Ram::new(16 * PAGE);
    let none = QueueConfig {
        descriptors: 0,
        driver: 0,
        device: 0,
        ..RING
    };
    assert!(!is_queue(&ram, none, 256, Features::empty()));
    assert!(!is_queue(&ram, none, 256, Features::RING_PACKED));
}

/// One of the three addresses, changed.
fn moved(area: usize, to: u64) -> QueueConfig {
    let mut config = RING;
    match area {
        0 => config.descriptors = to,
        1 => config.driver = to,
        _ => config.device = to,
    }
    config
}

#[test]
fn vio_13_alignment() {
    let ram = Ram::new(16 * PAGE);
    for (features, aligns) in [
        (Features::empty(), [16, 2, 4]),
        (Features::RING_PACKED, [16, 4, 4]),
    ] {
        for (area, align) in aligns.into_iter().enumerate() {
            for offset in 0..64 {
                let config = moved(area, BASE + 0x8000 + offset);
                let aligned = offset.is_multiple_of(align);
                assert_eq!(
                    is_queue(&ram, config, 256, features),
                    aligned,
                    "{area} {offset}"
                );
            }
        }
    }
}

#[test]
fn vio_13_outside_ram() {
    let ram = Ram::with_hole(16 * PAGE, PAGE, 16 * PAGE);
    let hole = BASE + 16 * PAGE as u64;
    let end = hole + 17 * PAGE as u64;
    // Split: 128, 20 and 68 bytes. Packed: 128, 4 and 4.
    for (features, sizes) in [
        (Features::empty(), [128, 20, 68]),
        (Features::RING_PACKED, [128, 4, 4]),
    ] {
        for (area, size) in sizes.into_iter().enumerate() {
            let good = |at| is_queue(&ram, moved(area, at), 256, features);
            for edge in [hole, end] {
                let last = (edge - size) & !15;
                assert!(good(last), "{area} at {last:#x}");
                // The next place may have room for less than 16 bytes more.
                assert_eq!(good(last + 16), last + 16 + size <= edge, "{area}");
                assert!(!good(edge));
            }
            assert!(!good(hole + 0x800));
            assert!(good(hole + PAGE as u64));
            for at in [0, 16, 0x0A00_0000, 0x0800_0000, BASE - 16, end + 16] {
                assert!(!good(at), "{area} at {at:#x}");
            }
            for at in [u64::MAX - 15, u64::MAX - 63, u64::MAX - 127, 1 << 63] {
                assert!(!good(at), "{area} at {at:#x}");
            }
        }
    }
}

#[test]
fn vio_13_areas_overlap() {
    let ram = Ram::new(16 * PAGE);
    for (features, sizes) in [
        (Features::empty(), [128_u64, 20, 68]),
        (Features::EVENT_IDX, [128, 22, 70]),
        (Features::RING_PACKED, [128, 4, 4]),
    ] {
        let places = [RING.descriptors, RING.driver, RING.device];
        for (area, own) in sizes.into_iter().enumerate() {
            for (other, (&size, &place)) in sizes.iter().zip(&places).enumerate() {
                if area == other {
                    continue;
                }
                // Places around the other's, as far as they are in RAM.
                for at in (place.saturating_sub(256).max(BASE)..place + 256).step_by(16) {
                    let apart = at + own <= place || place + size <= at;
                    let third = (0..3).find(|one| *one != area && *one != other);
                    let third = third.expect("one is left");
                    let beside = at + own <= places[third] || places[third] + sizes[third] <= at;
                    let good = is_queue(&ram, moved(area, at), 256, features);
                    assert_eq!(good, apart && beside, "{area} at {at:#x}, {other}");
                }
            }
        }
    }
}

#[test]
fn vio_06_rings_in_devices() {
    let ram = Ram::new(16 * PAGE);
    // GIC, PL011, a virtio slot, flash.
    for at in [0x0800_0000, 0x0900_0000, 0x0A00_0000, 0x0A00_3E00, 0] {
        for area in 0..3 {
            assert!(!is_queue(&ram, moved(area, at), 256, Features::empty()));
            assert!(!is_queue(&ram, moved(area, at), 256, Features::RING_PACKED));
        }
    }
}

#[test]
fn a_new_queue_writes_nothing() {
    let ram = Ram::new(16 * PAGE);
    ram.poke(BASE, &[0xA5; 16 * PAGE]);
    let split = queue(&ram, RING, Features::EVENT_IDX);
    let packed = queue(&ram, RING, Features::RING_PACKED);
    assert!(!split.is_broken() && !packed.is_broken());
    assert!(ram.peek(BASE, 16 * PAGE).iter().all(|byte| *byte == 0xA5));
}
