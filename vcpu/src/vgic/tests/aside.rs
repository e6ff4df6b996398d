//! Lanes that leave and return by the short way, and those that may not.

use super::tools::*;
use super::world::World;
use crate::vgic::{Away, PHYSICAL_TIMER, VIRTUAL_TIMER, lr};

fn leave(world: &World, lane: usize) {
    world.with(lane, |seat, vgic, port| seat.depart(Away::On, vgic, port));
}

fn come_back(world: &World, lane: usize) {
    world.with(lane, |seat, vgic, port| seat.arrive(vgic, port));
}

fn is_aside(world: &World, lane: usize) -> bool {
    world.vgic.state.lock().lanes_at.is_aside(lane)
}

/// The list registers of lane 1 as it leaves and as it is back, another VM's in between.
fn there_and_back(world: &World) -> [[u64; 4]; 2] {
    let lrs = || world.with(1, |_, _, port| port.cpu.lrs.first_chunk().copied().unwrap());
    let before = lrs();
    leave(world, 1);
    assert!(is_aside(world, 1));
    world.with(1, |_, _, port| {
        port.cpu.lrs[..4].fill(u64::MAX);
        port.cpu.enabled = 0;
    });
    come_back(world, 1);
    assert!(!is_aside(world, 1));
    let linked = 1 << VIRTUAL_TIMER | 1 << PHYSICAL_TIMER;
    assert_eq!(world.with(1, |_, _, port| port.cpu.enabled), linked);
    [before, lrs()]
}

#[test]
fn list_registers_return_as_they_were() {
    let world = open(2);
    for sgi in [3, 4] {
        world.sgi(0, sgi << 24 | 2);
    }
    world.settle();
    assert_eq!(world.ack(1), Some(3));
    let [before, after] = there_and_back(&world);
    assert_eq!(before, after);
    let states = before.map(|value| value & lr::STATE);
    assert!(states.contains(&lr::ACTIVE) && states.contains(&lr::PENDING));
    world.eoi(1, 3);
    assert_eq!(take_all(&world, 1), [4]);
}

#[test]
fn an_sgi_that_came_meanwhile_is_in_its_list_register() {
    let world = open(2);
    world.sgi(0, 3 << 24 | 2);
    assert_eq!(take_all(&world, 1), [3]);
    leave(&world, 1);
    world.sgi(0, 3 << 24 | 2);
    world.forget_counts();
    come_back(&world, 1);
    assert!(!world.vgic.has_mail(1));
    assert_eq!(world.ack(1), Some(3));
    // Again while it is active, and one that never came before.
    leave(&world, 1);
    assert!(is_aside(&world, 1));
    world.sgi(0, 3 << 24 | 2);
    come_back(&world, 1);
    leave(&world, 1);
    world.sgi(0, 9 << 24 | 2);
    come_back(&world, 1);
    world.eoi(1, 3);
    let mut taken = take_all(&world, 1);
    taken.sort_unstable();
    assert_eq!(taken, [3, 9]);
}

#[test]
fn siblings_see_and_change_what_is_laid_aside() {
    let world = open(2);
    for sgi in [3, 4] {
        world.sgi(0, sgi << 24 | 2);
    }
    world.settle();
    assert_eq!(world.ack(1), Some(3));
    leave(&world, 1);
    assert!(is_aside(&world, 1));
    assert_eq!(world.read(0, r(1), PRIVATE + SET_PENDING, 4), 1 << 4);
    assert!(!is_aside(&world, 1));
    assert_eq!(world.read(0, r(1), PRIVATE + SET_ACTIVE, 4), 1 << 3);
    world.write(0, r(1), PRIVATE + CLEAR_PENDING, 4, 1 << 4);
    come_back(&world, 1);
    world.eoi(1, 3);
    assert!(take_all(&world, 1).is_empty());
    assert_eq!(world.read(0, r(1), PRIVATE + SET_ACTIVE, 4), 0);
}

#[test]
fn what_depends_on_the_place_takes_the_long_way() {
    type Before = fn(&World);
    let cases: [(&str, Before); 6] = [
        ("a timer fired", |world| {
            world.cpu(1, |cpu| cpu.lines = 1 << VIRTUAL_TIMER);
            world.settle();
        }),
        ("the other timer fired", |world| {
            world.cpu(1, |cpu| cpu.lines = 1 << PHYSICAL_TIMER);
            world.settle();
        }),
        ("a timer fired and was disabled", |world| {
            world.cpu(1, |cpu| cpu.lines = 1 << VIRTUAL_TIMER);
            world.settle();
            world.write(1, r(1), PRIVATE + CLEAR_ENABLE, 4, 1 << VIRTUAL_TIMER);
        }),
        ("an SPI has a list register", |world| {
            world.write(0, D, 0x6108, 8, 1);
            world.line(0, UART, true);
            world.settle();
        }),
        ("there is mail", |world| world.sgi(0, 5 << 24 | 2)),
        ("more is pending than there are list registers", |world| {
            for sgi in 0..6 {
                world.sgi(0, sgi << 24 | 2);
            }
            world.settle();
        }),
    ];
    for (what, before) in cases {
        let world = open(2);
        before(&world);
        leave(&world, 1);
        assert!(!is_aside(&world, 1), "{what}");
        assert_eq!(world.with(1, |_, _, port| port.cpu.physically_active), 0);
    }
}

/// An SPI that any lane may take is not left to one that has gone, and not kept from one that is back.
#[test]
fn one_of_n_follows_the_lanes_that_are_here() {
    const ANY: u64 = 1 << 31;
    let world = open(2);
    world.write(0, D, 0x6108, 8, ANY);
    // It waits in software: nobody may have it yet.
    world.write(0, D, CLEAR_ENABLE + 4, 4, 2);
    world.line(1, UART, true);
    leave(&world, 0);
    assert!(!is_aside(&world, 0));
    world.write(1, D, SET_ENABLE + 4, 4, 2);
    world.settle();
    assert_eq!(world.ack(1), Some(UART));

    // The first lane that is here has been told, and is not the first any more when it looks.
    let world = open(3);
    world.write(0, D, 0x6108, 8, ANY);
    leave(&world, 0);
    assert!(is_aside(&world, 0));
    world.line(2, UART, true);
    assert!(world.vgic.has_mail(1));
    come_back(&world, 0);
    world.settle();
    assert!((0..3).any(|lane| world.ack(lane) == Some(UART)));
}

/// An SGI that became pending while it was active, and had to stay outside because the list registers are full, is one
/// interrupt with the next of its number.
#[test]
fn a_pending_sgi_without_room_and_the_next_one_are_one() {
    let world = World::new(2, 2);
    for lane in 0..2 {
        world.write(lane, r(lane), PRIVATE + SET_ENABLE, 4, u64::from(u32::MAX));
    }
    world.sgi(0, 3 << 24 | 2);
    world.settle();
    assert_eq!(world.ack(1), Some(3));
    world.sgi(0, 3 << 24 | 2);
    world.settle();
    world.cpu(1, |cpu| cpu.lines = 1 << VIRTUAL_TIMER);
    world.settle();
    world.read(1, r(1), PRIVATE + SET_PENDING, 4);
    world.sgi(0, 3 << 24 | 2);
    world.settle();
    world.cpu(1, |cpu| cpu.lines = 0);
    world.eoi(1, 3);
    let mut taken = take_all(&world, 1);
    taken.sort_unstable();
    assert_eq!(taken, [3, VIRTUAL_TIMER]);
}

/// What has reached the list registers of a lane that waits goes away with it, and no mail says so.
#[test]
fn a_lane_that_leaves_is_asked_first_whether_it_still_waits() {
    let would_wake = |world: &World| world.with(1, |seat, _, port| seat.would_wake(port));
    let world = open(2);
    world.sgi(0, 3 << 24 | 2);
    world.settle();
    assert!(would_wake(&world));
    leave(&world, 1);
    assert!(!world.vgic.has_mail(1));
    come_back(&world, 1);
    assert!(would_wake(&world));
    assert_eq!(take_all(&world, 1), [3]);
    // What has not reached them is in the mail.
    world.sgi(0, 3 << 24 | 2);
    leave(&world, 1);
    assert!(world.vgic.has_mail(1));
}
