//! Short names for the tests of single cases.

use super::world::World;
use crate::vgic::Frame;

pub(super) const D: Frame = Frame::Distributor;
pub(super) const fn r(lane: usize) -> Frame {
    Frame::Redistributor(lane)
}
pub(super) const SET_ENABLE: u64 = 0x100;
pub(super) const CLEAR_ENABLE: u64 = 0x180;
pub(super) const SET_PENDING: u64 = 0x200;
pub(super) const CLEAR_PENDING: u64 = 0x280;
pub(super) const SET_ACTIVE: u64 = 0x300;
pub(super) const CLEAR_ACTIVE: u64 = 0x380;
pub(super) const PRIVATE: u64 = 0x1_0000;
/// The UART's SPI.
pub(super) const UART: u32 = 33;

/// A world where all interrupts are enabled.
pub(super) fn open(lanes: usize) -> World {
    let world = World::new(lanes, 4);
    for lane in 0..lanes {
        world.write(lane, r(lane), PRIVATE + SET_ENABLE, 4, u64::from(u32::MAX));
    }
    for word in 1..3 {
        world.write(0, D, SET_ENABLE + 4 * word, 4, u64::from(u32::MAX));
    }
    world.settle();
    world.forget_counts();
    world
}

/// The lane takes and ends everything it gets, in order.
pub(super) fn take_all(world: &World, lane: usize) -> std::vec::Vec<u32> {
    let mut taken = std::vec::Vec::new();
    world.settle();
    while let Some(intid) = world.ack(lane) {
        world.settle();
        world.eoi(lane, intid);
        world.settle();
        taken.push(intid);
        assert!(taken.len() < 200, "endless");
    }
    taken
}
