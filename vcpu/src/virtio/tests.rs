use core::sync::atomic::{AtomicU64, Ordering};
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;
use std::{boxed::Box, format};

use super::*;
use crate::exit::Exit;
use crate::rig::{Path, World, machine};
use crate::serve::Task;
use crate::vgic::{Frame, lr};
use vcpu_board::{VIRTIO_BASE, VIRTIO_STRIDE};

/// Slots that remember what they were asked, and answer with what they were told to.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<String>>,
    answer: AtomicU64,
}

impl Recorder {
    fn note(&self, what: String) -> u64 {
        self.seen.lock().unwrap().push(what);
        self.answer.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<String> {
        core::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn low(answer: u64) -> u32 {
    u32::try_from(answer).unwrap()
}

impl Slots for Recorder {
    fn read(&self, slot: usize, offset: u64, bytes: u32) -> u64 {
        self.note(format!("read {slot} {offset:#x} {bytes}"))
    }
    fn write(&self, slot: usize, offset: u64, bytes: u32, value: u64) -> u32 {
        low(self.note(format!("write {slot} {offset:#x} {bytes} {value:#x}")))
    }
    fn notify(&self, slot: usize, value: u32) -> u32 {
        low(self.note(format!("notify {slot} {value:#x}")))
    }
}

/// A machine with a recorder in its slots.
fn recorded() -> (Machine, &'static Recorder) {
    let slots: &'static Recorder = Box::leak(Box::default());
    let mut machine = machine(2);
    machine.set_virtio(slots);
    (machine, slots)
}

/// A load or store of X3 by lane 0, by the path that answers it; X3 then.
fn access(world: &World<'_>, slot: u64, offset: u64, sas: u64, store: Option<u64>) -> u64 {
    let ipa = VIRTIO_BASE + slot * VIRTIO_STRIDE + offset;
    let write = u64::from(store.is_some()) << 6;
    world.with(0, |vcpu, port| {
        vcpu.context.x[3] = store.unwrap_or(0x5555);
        port.cpu.esr = 0x24 << 26 | 1 << 25 | 1 << 24 | sas << 22 | 3 << 16 | 1 << 15 | write | 7;
        port.cpu.far = ipa & 0xfff;
        port.cpu.hpfar = ipa >> 12 << 4;
    });
    if let Some(task) = world.exit(0, Exit::Sync, Path::Hot) {
        assert_eq!(task, Task::Enter);
    }
    world.with(0, |vcpu, _| vcpu.context.x[3])
}

/// All SPIs on, for lane 0.
fn listening(machine: &Machine) -> World<'_> {
    let world = World::new(machine, 4);
    world.write(0, Frame::Distributor, 0, 4, 3);
    world.write(0, Frame::Distributor, 0x104, 4, 0xffff_ffff);
    world.write(0, Frame::Distributor, 0x108, 4, 0xffff_ffff);
    for lane in 0..2 {
        world.cpu(lane, |cpu| {
            cpu.gic.set_guest_control(0xf8, true, true, false)
        });
    }
    world.settle(Path::Hot);
    world
}

/// The guest takes and ends what is pending.
fn taken(world: &World<'_>) -> Vec<u32> {
    world.settle(Path::Hot);
    let mut taken = Vec::new();
    while let Some(intid) = world.take(0) {
        world.cpu(0, |cpu| cpu.gic.end(intid));
        taken.push(intid);
        world.settle(Path::Hot);
    }
    taken
}

#[test]
fn vio_23_every_register_width_and_slot_goes_to_the_slots_but_for_the_interrupts() {
    let (machine, slots) = recorded();
    let world = listening(&machine);
    for slot in [0, 7, 8, 31] {
        for offset in (0..0x200).step_by(4) {
            for (sas, bytes) in [(0, 1), (1, 2), (2, 4), (3, 8)] {
                if offset % bytes != 0 {
                    continue;
                }
                slots.answer.store(0x1234, Ordering::Relaxed);
                let read = access(&world, slot, offset, sas, None);
                let asked = slots.take();
                if (offset, bytes) == (0x60, 4) {
                    assert_eq!((read, asked.len()), (0, 0));
                } else {
                    let mask = u64::MAX >> (64 - 8 * bytes);
                    assert_eq!(read, 0x1234 & mask);
                    assert_eq!(asked, [format!("read {slot} {offset:#x} {bytes}")]);
                }
                slots.answer.store(0, Ordering::Relaxed);
                access(&world, slot, offset, sas, Some(0x0102_0304_0506_0708));
                let asked = slots.take();
                let value = 0x0102_0304_0506_0708_u64 & u64::MAX >> (64 - 8 * bytes);
                match (offset, bytes) {
                    (0x64, 4) => assert!(asked.is_empty()),
                    (0x50, 4) => assert_eq!(asked, [format!("notify {slot} {value:#x}")]),
                    _ => assert_eq!(
                        asked,
                        [format!("write {slot} {offset:#x} {bytes} {value:#x}")]
                    ),
                }
            }
        }
    }
    assert!(taken(&world).is_empty());
}

#[test]
fn a_store_interrupts_the_slots_that_it_says() {
    let (machine, slots) = recorded();
    let world = listening(&machine);
    for offset in [0x50, 0x70, 0x100] {
        for (answer, intids) in [
            (1, &[48][..]),
            (1 << 31, &[79]),
            (1 << 15 | 1 << 16, &[63, 64]),
            (0, &[]),
        ] {
            slots.answer.store(answer, Ordering::Relaxed);
            access(&world, 3, offset, 2, Some(1));
            let mut taken = taken(&world);
            taken.sort_unstable();
            assert_eq!(taken, intids);
        }
    }
}

#[test]
fn an_interrupt_is_raised_when_the_status_rises_and_when_an_acknowledgement_leaves_something() {
    let (machine, _) = recorded();
    let world = listening(&machine);
    let raise = |raised: u32| world.with(0, |vcpu, port| super::raise(vcpu, raised, port));
    let status = |slot| access(&world, slot, 0x60, 2, None);
    for slot in 0..32_usize {
        let bit = 1 << slot;
        let number = slot as u64;
        let intid = 48 + slot_number(slot);
        assert_eq!(machine.pend_virtio(slot, 0), 0);
        assert_eq!(machine.pend_virtio(slot, 1), bit);
        assert_eq!(machine.pend_virtio(slot, 1), 0, "it is high");
        raise(bit);
        assert_eq!(taken(&world), [intid]);
        assert_eq!(status(number), 1);
        assert_eq!(machine.pend_virtio(slot, 2), 0, "it is high");
        assert_eq!(status(number), 3);
        access(&world, number, 0x64, 2, Some(1));
        assert_eq!(taken(&world), [intid], "something is left");
        access(&world, number, 0x64, 2, Some(1));
        assert!(taken(&world).is_empty(), "nothing was acknowledged");
        access(&world, number, 0x64, 2, Some(0xffff_fffe));
        assert!(taken(&world).is_empty());
        assert_eq!(status(number), 0);
        assert_eq!(machine.pend_virtio(slot, 2), bit, "it rises again");
        machine.virtio_status(slot).store(0, Ordering::Relaxed);
    }
}

#[test]
fn what_is_posted_from_another_cpu_comes_once() {
    let (machine, _) = recorded();
    let world = listening(&machine);
    for slot in [0, 15, 16, 31] {
        world.with(1, |_, port| {
            machine.post_virtio(slot, 1, port);
            machine.post_virtio(slot, 1, port);
        });
        assert_eq!(taken(&world), [48 + slot_number(slot)]);
        world.with(1, |_, port| machine.post_virtio(slot, 3, port));
        assert!(taken(&world).is_empty(), "it is high");
        access(&world, slot as u64, 0x64, 2, Some(3));
        assert!(taken(&world).is_empty());
    }
}

#[test]
fn reset_devices_interrupt_nobody() {
    let (machine, _) = recorded();
    for slot in 0..SLOTS {
        let _ = machine.pend_virtio(slot, 3);
    }
    machine.reset_devices();
    for slot in 0..SLOTS {
        assert_eq!(machine.virtio_status(slot).load(Ordering::Relaxed), 0);
    }
}

#[test]
fn vio_21_empty_slots_take_any_notification_and_say_nothing() {
    let machine = machine(2);
    let world = listening(&machine);
    for slot in 0..32 {
        for value in [0, 1, 0xffff, u64::MAX] {
            access(&world, slot, 0x50, 2, Some(value));
            access(&world, slot, 0x64, 2, Some(value));
            access(&world, slot, 0x70, 2, Some(value));
        }
        assert_eq!(access(&world, slot, 0x60, 2, None), 0);
        assert_eq!(access(&world, slot, 0, 2, None), 0x7472_6976);
    }
    assert!(taken(&world).is_empty());
    assert_eq!(world.next(0), None);
    let lrs = world.cpu(0, |cpu| cpu.gic.lrs);
    assert!(lrs.iter().all(|value| value & lr::STATE == 0));
}
