//! The SPIs of devices of the machine.

use super::tools::{
    CLEAR_ACTIVE, CLEAR_ENABLE, CLEAR_PENDING, D, PRIVATE, SET_ENABLE, SET_PENDING, r, take_all,
};
use super::world::{Device, GIVEN, World};
use crate::vgic::{Away, lr};

const SPI: u32 = GIVEN[0].0;
const PHYSICAL: u32 = GIVEN[0].1 as u32;
/// Its bit, and the register of its word.
const BIT: u64 = 1 << (SPI & 31);
const WORD: u64 = 4;

/// A world where all interrupts are enabled, and which has devices.
fn open(lanes: usize) -> World {
    let world = World::new(lanes, 4);
    world.give_devices();
    for lane in 0..lanes {
        world.write(lane, r(lane), PRIVATE + SET_ENABLE, 4, u64::from(u32::MAX));
    }
    for word in 1..3 {
        world.write(0, D, SET_ENABLE + 4 * word, 4, u64::from(u32::MAX));
    }
    world.settle();
    world
}

fn device(world: &World) -> Device {
    world.devices[0].get()
}

fn line(world: &World, high: bool) {
    world.device(PHYSICAL, |device| device.line = high);
    world.settle();
}

/// The list register of a lane that holds the SPI.
fn register(world: &World, lane: usize) -> Option<u64> {
    world.cpu(lane, |cpu| {
        let held = |value: &&u64| lr::intid(**value) == SPI && **value & lr::STATE != 0;
        cpu.lrs.iter().find(held).copied()
    })
}

#[test]
fn the_guests_own_end_deactivates_the_machines_interrupt_without_an_exit() {
    let world = open(2);
    line(&world, true);
    let held = register(&world, 0).unwrap();
    assert_eq!(held & lr::HW, lr::HW);
    assert_eq!(lr::physical(held), PHYSICAL);
    assert!(device(&world).active);
    world.forget_counts();
    assert_eq!(world.ack(0), Some(SPI));
    world.device(PHYSICAL, |device| device.line = false);
    world.eoi(0, SPI);
    assert!(!device(&world).active);
    assert_eq!(world.exits.get(), 0);
    // While the line is high it comes again, and only then.
    line(&world, true);
    for _ in 0..3 {
        assert_eq!(world.ack(0), Some(SPI));
        world.eoi(0, SPI);
        world.settle();
    }
    world.device(PHYSICAL, |device| device.line = false);
    assert_eq!(take_all(&world, 0), [SPI]);
    assert!(take_all(&world, 0).is_empty());
}

#[test]
fn it_is_on_in_the_machine_while_the_guest_has_it_on() {
    let world = World::new(1, 4);
    world.give_devices();
    assert!(!device(&world).enabled);
    line(&world, true);
    assert!(!device(&world).active);
    // The hot path knows that this is not its to do.
    let bits = u32::try_from(BIT).unwrap();
    assert!(!world.vgic.fast_isenabler(1, bits));
    world.write(0, D, SET_ENABLE + WORD, 4, BIT);
    assert!(device(&world).enabled);
    assert!(world.vgic.fast_isenabler(1, bits), "it is on already");
    world.settle();
    assert_eq!(world.ack(0), Some(SPI));
    world.device(PHYSICAL, |device| device.line = false);
    world.eoi(0, SPI);
    world.write(0, D, CLEAR_ENABLE + WORD, 4, BIT);
    assert!(!device(&world).enabled);
    world.vgic.reset();
    assert!(
        !world.vgic.fast_isenabler(1, bits),
        "another life, and it is off"
    );
}

#[test]
fn gic_09_10_11_whatever_the_guest_does_to_it_the_machines_is_not_left_active() {
    let at = |offset| offset + WORD;
    // Cleared while pending.
    let world = open(2);
    line(&world, true);
    world.device(PHYSICAL, |device| device.line = false);
    world.write(1, D, at(CLEAR_PENDING), 4, BIT);
    assert!(!device(&world).active);
    assert!(take_all(&world, 0).is_empty());
    // Deactivated by another lane while active.
    line(&world, true);
    assert_eq!(world.ack(0), Some(SPI));
    world.device(PHYSICAL, |device| device.line = false);
    world.write(1, D, at(CLEAR_ACTIVE), 4, BIT);
    assert!(!device(&world).active);
    world.eoi(0, SPI);
    world.settle();
    // Set pending while active: it comes twice, and the machine's is let go once.
    line(&world, true);
    assert_eq!(world.ack(0), Some(SPI));
    world.device(PHYSICAL, |device| device.line = false);
    world.write(0, D, at(SET_PENDING), 4, BIT);
    world.check();
    world.eoi(0, SPI);
    assert_eq!(take_all(&world, 0), [SPI]);
    assert!(!device(&world).active);
    // Taken by a lane that is reset.
    line(&world, true);
    assert_eq!(world.ack(0), Some(SPI));
    world.device(PHYSICAL, |device| device.line = false);
    world.with(0, |lane, vgic, port| lane.depart(Away::Off, vgic, port));
    assert!(device(&world).active, "its lane has it");
    world.with(0, |lane, vgic, port| lane.reset(vgic, port));
    assert!(!device(&world).active);
}

#[test]
fn it_goes_with_its_lane() {
    let world = open(2);
    // SPI 10 to lane 1, which is away; what comes for it waits, and is taken when it is back.
    world.write(0, D, 0x6100 + 8 * u64::from(SPI - 32), 8, 1);
    world.with(1, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    line(&world, true);
    assert!(device(&world).active);
    assert_eq!(world.ack(0), None);
    world.with(1, |lane, vgic, port| lane.arrive(vgic, port));
    assert_eq!(world.ack(1), Some(SPI));
    // Away again in the middle of the handler.
    world.with(1, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    assert!(device(&world).active);
    world.with(1, |lane, vgic, port| lane.arrive(vgic, port));
    let held = register(&world, 1).unwrap();
    assert_eq!(held & (lr::HW | lr::STATE), lr::HW | lr::ACTIVE);
    world.device(PHYSICAL, |device| device.line = false);
    world.eoi(1, SPI);
    world.settle();
    assert!(!device(&world).active);
    // Now to lane 0, whose CPU takes it while lane 1 does not yet know that its own has ended.
    world.write(0, D, 0x6100 + 8 * u64::from(SPI - 32), 8, 0);
    line(&world, true);
    assert_eq!(world.ack(0), Some(SPI));
    world.device(PHYSICAL, |device| device.line = false);
    world.eoi(0, SPI);
    world.write(1, D, 0x6100 + 8 * u64::from(SPI - 32), 8, 1);
    line(&world, true);
    assert_eq!(world.ack(1), Some(SPI));
}
