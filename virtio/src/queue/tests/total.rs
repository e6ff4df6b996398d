//! VIO-05: a chain of more than 2^32 bytes, which takes the same memory more than once (virtio 1.3, 2.7.5.1).

use super::{RING, pop, queue};
use crate::fake::{BASE, Ram};
use crate::features::Features;
use crate::queue::QueueConfig;

const MIB: u32 = 1 << 20;

#[test]
fn vio_05_no_chain_is_longer_than_4_gib() {
    for packed in [false, true] {
        for (more, good) in [(0, true), (1, false)] {
            let ram = Ram::new(17 << 20);
            let config = QueueConfig { size: 256, ..RING };
            let mut features = Features::empty();
            features.set(Features::RING_PACKED, packed);
            for index in 0..256_u16 {
                let at = RING.descriptors + 16 * u64::from(index);
                let last = index == 255;
                let next = u16::from(!last);
                let len = 16 * MIB + if last { more } else { 0 };
                let link = if packed { 0 } else { index + 1 };
                let (first, second) = if packed {
                    (link, next | 0x80)
                } else {
                    (next, link)
                };
                ram.poke_u64(at, BASE + 0x4000);
                ram.poke_u32(at + 8, len);
                ram.poke_u16(at + 12, first);
                ram.poke_u16(at + 14, second);
            }
            if !packed {
                ram.poke_u16(RING.driver + 2, 1);
            }
            let mut queue = queue(&ram, config, features);
            assert_eq!(pop(&mut queue, &ram).is_ok(), good, "{packed} {more}");
        }
    }
}
