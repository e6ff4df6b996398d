//! Memory that is not a guest's, or is not any more: VIO-07. There are no pages that machines share; what can be checked is
//! that a device finds each address in its guest's memory at the moment when it uses it, whatever it was before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

use super::slot::Slot;
use super::{Buffer, Driver};
use crate::device::Device;
use crate::fake::{Access, BASE, Ram};
use crate::features::Features;

/// A range of memory: where, and how long.
pub type Range = (u64, u64);

/// Both formats of a ring.
pub const FORMATS: [Features; 2] = [Features::empty(), Features::RING_PACKED];

/// Where a guest has flash, the interrupt controller, the UART and virtio's slots; where others have RAM; and the end.
const ELSEWHERE: [u64; 8] = [
    0,
    0x0800_0000,
    0x0900_0000,
    0x0A00_0000,
    BASE - 0x1000,
    BASE + (1 << 30),
    1 << 40,
    u64::MAX - 0xFFF,
];

/// Bytes of the buffers that lie elsewhere.
const LEN: u32 = 64;

/// Whether an access has to do with a range.
fn touches(access: Access, (at, len): Range) -> bool {
    access.at < at.saturating_add(len) && at < access.at.saturating_add(access.len as u64)
}

/// Whether all of an access is inside of a range.
fn is_inside(access: Access, (at, len): Range) -> bool {
    at <= access.at && access.at + access.len as u64 <= at + len
}

/// Whether a device may do that, if it may write in these places.
pub fn is_allowed(access: Access, writable: &[Range]) -> bool {
    !access.write || writable.iter().any(|range| is_inside(access, *range))
}

/// From now on devices touch nothing of these memories.
pub fn forbid(rams: &[&Ram]) {
    for ram in rams {
        ram.set_hook(|_, access| panic!("a device makes {access:?}"));
    }
}

/// Takes memory away from a guest before one of the accesses of devices, and watches all of them.
#[derive(Clone)]
pub struct Thief {
    moment: usize,
    accesses: Arc<AtomicUsize>,
    was_missed: Arc<AtomicBool>,
}

impl Thief {
    /// Watches these memories, each of which may be written in some places, and takes something away from one of them.
    pub fn watch(&self, all: &[(&'static Ram, Vec<Range>)], whose: &'static Ram, gone: Range) {
        for (ram, writable) in all {
            let (thief, writable) = (self.clone(), writable.clone());
            ram.set_hook(move |ram, access| {
                assert!(is_allowed(access, &writable), "{access:?}");
                let is_whose = core::ptr::eq(ram, whose);
                let before = thief.accesses.fetch_add(1, Relaxed);
                if before == thief.moment {
                    whose.take_away(gone.0, gone.1);
                }
                if before >= thief.moment && is_whose && touches(access, gone) {
                    thief.was_missed.store(true, Relaxed);
                }
            });
        }
    }

    /// Whether a device has looked for what was there no more.
    pub fn was_missed(&self) -> bool {
        self.was_missed.load(Relaxed)
    }
}

/// Plays the same again and again, so that memory goes before the first access, before the second, and so on; and at last
/// not at all.
pub fn between_any_two_accesses(mut play: impl FnMut(&Thief)) {
    for moment in 0..500 {
        let thief = Thief {
            moment,
            accesses: Arc::default(),
            was_missed: Arc::default(),
        };
        play(&thief);
        let accesses = thief.accesses.load(Relaxed);
        assert_ne!(accesses, 0);
        if accesses <= moment {
            return;
        }
    }
    panic!("it never ends");
}

/// Another guest's memory, EL2's, and devices are nothing that a queue can be in: nobody's bytes are looked at.
pub fn no_ring_lies_elsewhere<D: Device<&'static Ram>>(
    queues: u16,
    make: impl Fn(&'static Ram) -> D,
) {
    for (format, area, at) in FORMATS
        .into_iter()
        .flat_map(|format| [0x80, 0x90, 0xa0].map(|area| (format, area)))
        .flat_map(|(format, area)| ELSEWHERE.map(|at| (format, area, at)))
    {
        for queue in 0..u32::from(queues) {
            let mut slot = Slot::new(queues, &make);
            let own = slot.device.features();
            slot.start(own | (format | Features::RING_RESET).bits());
            assert_eq!(slot.drivers.len(), usize::from(queues));
            let _ = slot.write(0x30, queue);
            let _ = slot.write(0x44, 0);
            let _ = slot.write(area, at as u32);
            let _ = slot.write(area + 4, (at >> 32) as u32);
            forbid(&[slot.ram]);
            let served = slot.write(0x44, 1);
            assert!(served.broken && slot.is_broken(), "{area:#x} at {at:#x}");
            assert_eq!(slot.read(0x44), 0);
            let _ = slot.notify(queue);
            let _ = slot.poll();
        }
    }
}

/// The same, of a buffer: whatever it is for, and whatever chain it is in.
pub fn no_buffer_lies_elsewhere<D: Device<&'static Ram>>(
    queues: u16,
    queue: u32,
    make: impl Fn(&'static Ram) -> D,
) {
    for format in FORMATS {
        elsewhere(
            || {
                let mut slot = Slot::new(queues, &make);
                let own = slot.device.features();
                slot.start(own | format.bits());
                let spare = slot.spare();
                (slot, spare)
            },
            |slot| &mut slot.drivers[queue as usize],
            |slot| {
                let ram = slot.ram;
                ram.set_hook(move |_, access| {
                    let inside = is_inside(access, (BASE, 1 << 30));
                    assert!(inside, "{access:?}");
                });
                let served = slot.notify(queue);
                assert!(served.broken && slot.is_broken());
            },
        );
    }
}

/// Adds each chain with a buffer that lies elsewhere to a queue of something that is made anew each time, together with
/// spare memory for what else it needs, and has it judged.
pub fn elsewhere<W>(
    make: impl Fn() -> (W, u64),
    driver: impl Fn(&mut W) -> &mut Driver<'static>,
    judge: impl Fn(&mut W),
) {
    for at in ELSEWHERE {
        for shape in 0..4 {
            let (mut world, spare) = make();
            let there: &[Buffer] = &[(at, LEN)];
            let behind: &[Buffer] = &[(spare, LEN), (at, LEN)];
            let (readable, writable): (&[Buffer], &[Buffer]) = match shape {
                0 => (there, &[]),
                1 => (&[], there),
                2 => (behind, &[]),
                _ => (&[], behind),
            };
            let driver = driver(&mut world);
            driver.add(readable, writable).expect("room");
            let _ = driver.expose();
            judge(&mut world);
        }
    }
}
