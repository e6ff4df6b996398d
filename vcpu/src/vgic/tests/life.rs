//! The turns of single interrupts: levels, edges, software activation, lanes that leave and return.

use super::tools::*;
use super::world::World;
use crate::vgic::{Away, PHYSICAL_TIMER, SgiRegister, VIRTUAL_TIMER, lr};

#[test]
fn sgi_registers_reach_only_their_group() {
    let world = open(2);
    world.write(1, r(1), PRIVATE + 0x80, 4, !(1 << 3));
    let send = |register, sgi: u64| {
        world.with(0, |lane, vgic, port| {
            lane.send_sgi(vgic, register, sgi << 24 | 2, port)
        });
        take_all(&world, 1)
    };
    assert_eq!(send(SgiRegister::Sgi0r, 3), [3]);
    assert_eq!(send(SgiRegister::Asgi1r, 3), [3]);
    assert!(send(SgiRegister::Sgi1r, 3).is_empty());
    assert_eq!(send(SgiRegister::Sgi1r, 4), [4]);
    assert!(send(SgiRegister::Sgi0r, 4).is_empty());
}

#[test]
fn a_reset_releases_what_the_lane_had_taken() {
    let world = open(2);
    world.write(0, D, SET_PENDING + 4, 4, 0b11);
    assert_eq!(world.ack(0), Some(32));
    world.with(0, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    world.with(0, |lane, vgic, port| lane.reset(vgic, port));
    assert_eq!(world.read(1, D, SET_ACTIVE + 4, 4), 0);
    assert_eq!(
        world.read(1, D, SET_PENDING + 4, 4),
        0b10,
        "an SPI that nobody took stays pending"
    );
    world.with(0, |lane, vgic, port| lane.arrive(vgic, port));
    world.cpu(0, |cpu| cpu.set_guest_control(0xf0, true, true, false));
    assert_eq!(take_all(&world, 0), [33]);
}

#[test]
fn a_level_comes_again_while_the_line_is_high_and_is_retracted_when_it_drops() {
    let world = open(2);
    world.line(1, UART, true);
    world.line(1, UART, true);
    for _ in 0..3 {
        world.settle();
        assert_eq!(world.ack(0), Some(UART));
        assert_eq!(world.ack(0), None);
        world.eoi(0, UART);
    }
    world.settle();
    assert!(world.cpu(0, |cpu| cpu.highest().is_some()));
    world.line(1, UART, false);
    assert_eq!(world.ack(0), None);
    assert_eq!(world.read(0, D, SET_PENDING + 4, 4), 0);
    // Pended by software too: survives the fall of the line.
    world.line(1, UART, true);
    world.write(0, D, SET_PENDING + 4, 4, 2);
    world.line(0, UART, false);
    assert_eq!(take_all(&world, 0), [UART]);
    // Lines that do not exist.
    for intid in [0, 27, 31, 96, u32::MAX] {
        world.line(0, intid, true);
    }
    assert!(take_all(&world, 0).is_empty());
}

#[test]
fn an_edge_counts_once_even_while_active() {
    let world = open(1);
    world.write(0, D, 0xc08, 4, 0b10 << 2);
    world.line(0, UART, true);
    world.settle();
    assert_eq!(world.ack(0), Some(UART));
    world.line(0, UART, false);
    world.line(0, UART, true);
    world.line(0, UART, false);
    world.settle();
    world.eoi(0, UART);
    assert_eq!(take_all(&world, 0), [UART]);
}

#[test]
fn software_activation_holds_an_interrupt_back() {
    let world = open(2);
    world.write(0, D, SET_ACTIVE + 4, 4, 2);
    world.write(1, r(0), PRIVATE + SET_ACTIVE, 4, 1 << 4 | 1 << 27);
    world.line(0, UART, true);
    world.sgi(1, 4 << 24 | 1);
    world.cpu(0, |cpu| cpu.lines = 1 << 27);
    world.settle();
    assert_eq!(world.ack(0), None);
    assert_eq!(world.read(1, D, CLEAR_ACTIVE + 4, 4), 2);
    assert_eq!(
        world.read(1, r(0), PRIVATE + CLEAR_ACTIVE, 4),
        1 << 4 | 1 << 27
    );
    world.write(1, D, CLEAR_ACTIVE + 4, 4, 2);
    world.write(1, r(0), PRIVATE + CLEAR_ACTIVE, 4, 1 << 4 | 1 << 27);
    world.settle();
    world.line(0, UART, false);
    world.line(0, UART, true);
    world.settle();
    let mut taken = std::vec::Vec::new();
    for _ in 0..3 {
        let intid = world.ack(0).unwrap();
        world.cpu(0, |cpu| cpu.lines = 0);
        if intid == UART {
            world.line(0, UART, false);
        }
        world.eoi(0, intid);
        world.settle();
        taken.push(intid);
    }
    taken.sort_unstable();
    assert_eq!(taken, [4, 27, UART]);
    assert_eq!(world.cpu(0, |cpu| cpu.physically_active), 0);
    // Activated with nobody to own it: the writer does.
    world.write(1, D, 0x6108, 8, 77);
    world.write(1, D, SET_ACTIVE + 4, 4, 2);
    assert_eq!(world.read(0, D, SET_ACTIVE + 4, 4), 2);
    world.write(0, D, CLEAR_ACTIVE + 4, 4, 2);
    assert_eq!(world.read(1, D, SET_ACTIVE + 4, 4), 0);
}

#[test]
fn spis_wait_for_a_lane_that_is_away() {
    let world = open(2);
    world.write(0, D, 0x6108, 8, 1);
    world.with(1, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    world.line(0, UART, true);
    world.sgi(0, 3 << 24 | 2);
    world.settle();
    assert_eq!(
        world.read(0, r(1), PRIVATE + SET_PENDING, 4),
        1 << 3,
        "an SGI in the mailbox is pending"
    );
    world.with(1, |lane, vgic, port| lane.arrive(vgic, port));
    world.settle();
    let mut taken = [world.ack(1).unwrap(), 0];
    world.eoi(1, taken[0]);
    world.line(0, UART, false);
    world.settle();
    taken[1] = world.ack(1).unwrap_or(UART);
    taken.sort_unstable();
    assert_eq!(taken, [3, UART]);
}

#[test]
fn list_registers_carry_priority_group_and_link() {
    let value = lr::template(27, 0xa0, true) | lr::linked(27);
    assert_eq!(
        (lr::intid(value), lr::priority(value), lr::physical(value)),
        (27, 0xa0, 27)
    );
    assert_eq!(value & (lr::HW | lr::GROUP1), lr::HW | lr::GROUP1);
}

#[test]
fn a_timer_left_pending_by_a_lane_that_moves_comes_back_only_with_its_line() {
    for timer in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
        let world = open(1);
        let fire = |high| world.cpu(0, |cpu| cpu.lines = if high { 1 << timer } else { 0 });
        fire(true);
        world.settle();
        world.with(0, |lane, vgic, port| lane.depart(Away::On, vgic, port));
        fire(false);
        world.with(0, |lane, vgic, port| lane.arrive(vgic, port));
        world.settle();
        assert_eq!(world.ack(0), None);
        fire(true);
        world.settle();
        assert_eq!(world.ack(0), Some(timer));
        // Active while it moves: the guest ends it later, without a physical interrupt behind it.
        world.with(0, |lane, vgic, port| lane.depart(Away::On, vgic, port));
        assert_eq!(world.cpu(0, |cpu| cpu.physically_active), 0);
        fire(false);
        world.with(0, |lane, vgic, port| lane.arrive(vgic, port));
        assert_eq!(world.read(0, r(0), PRIVATE + SET_ACTIVE, 4), 1 << timer);
        world.eoi(0, timer);
        assert!(take_all(&world, 0).is_empty());
    }
}

#[test]
fn a_lane_that_is_away_but_on_is_called_for_what_arrives() {
    for (away, called) in [(Away::On, true), (Away::Off, false)] {
        let world = open(2);
        world.write(0, D, 0x6108, 8, 1);
        world.with(1, |lane, vgic, port| lane.depart(away, vgic, port));
        assert!(!world.vgic.has_mail(1));
        let before = world.cpu(0, |cpu| cpu.sends);
        world.line(0, UART, true);
        assert_eq!(world.vgic.has_mail(1), called, "{away:?}");
        let sent = world.cpu(0, |cpu| cpu.sends) - before;
        assert_eq!(sent, usize::from(called), "{away:?}");
    }
}

/// Mail that nobody has answered yet is taken by a lane that leaves, by its CPU and by a sibling that asks: each time
/// word of it stays.
#[test]
fn what_came_before_a_lane_left_is_still_word_for_it() {
    let world = open(2);
    let depart = || world.with(1, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    let arrive = || world.with(1, |lane, vgic, port| lane.arrive(vgic, port));
    world.sgi(0, 3 << 24 | 2);
    depart();
    assert!(world.vgic.has_mail(1), "it came while the lane was leaving");
    arrive();
    assert!(!world.vgic.has_mail(1));
    assert_eq!(take_all(&world, 1), [3]);

    depart();
    assert!(!world.vgic.has_mail(1));
    world.sgi(0, 4 << 24 | 2);
    assert_eq!(world.read(0, r(1), PRIVATE + SET_PENDING, 4), 1 << 4);
    assert!(world.vgic.has_mail(1), "a sibling has looked at it");
    world.line(1, UART, true);
    assert!(world.vgic.has_mail(1), "its own CPU has touched a device");
    arrive();
    world.line(1, UART, false);
    assert_eq!(take_all(&world, 1), [4]);

    // What would not end its wait is no word: priorities masked, and both groups off.
    let vmcr = world.cpu(1, |cpu| cpu.vmcr);
    for masked in [vmcr & !0xff00_0000, vmcr & !3] {
        world.cpu(1, |cpu| cpu.vmcr = masked);
        world.sgi(0, 3 << 24 | 2);
        depart();
        assert!(!world.vgic.has_mail(1), "{masked:#x}");
        arrive();
        world.cpu(1, |cpu| cpu.vmcr = vmcr);
        assert_eq!(take_all(&world, 1), [3]);
    }
}

type Change = fn(&World);

/// What a sibling does to a lane that waits away from its CPU, register by register; whether that calls it; what was
/// done before, and what is done.
const OPENED: [(&str, bool, Change, Change); 10] = [
    (
        "an SGI set pending",
        true,
        |_| (),
        |world| world.write(0, r(1), PRIVATE + SET_PENDING, 4, 1 << 5),
    ),
    (
        "a pending one enabled",
        true,
        |world| {
            world.write(0, r(1), PRIVATE + CLEAR_ENABLE, 4, 1 << 5);
            world.write(0, r(1), PRIVATE + SET_PENDING, 4, 1 << 5);
        },
        |world| world.write(0, r(1), PRIVATE + SET_ENABLE, 4, 1 << 5),
    ),
    (
        "its group forwarded",
        true,
        |world| {
            world.write(0, D, 0, 4, 2);
            world.write(0, r(1), PRIVATE + 0x80, 4, !(1 << 5));
            world.write(0, r(1), PRIVATE + SET_PENDING, 4, 1 << 5);
        },
        |world| world.write(0, r(1), PRIVATE + 0x80, 4, u64::from(u32::MAX)),
    ),
    (
        "the distributor on, with an SGI pending",
        true,
        |world| {
            world.write(0, D, 0, 4, 0);
            world.write(0, r(1), PRIVATE + SET_PENDING, 4, 1 << 5);
        },
        |world| world.write(0, D, 0, 4, 3),
    ),
    (
        "the distributor on, with an SPI pending",
        true,
        |world| {
            world.write(0, r(1), PRIVATE + CLEAR_ENABLE, 4, u64::from(u32::MAX));
            world.write(0, D, 0, 4, 0);
            world.write(0, D, SET_PENDING + 4, 4, 1 << 1);
        },
        |world| world.write(0, D, 0, 4, 3),
    ),
    (
        "a timer enabled",
        true,
        |world| world.write(0, r(1), PRIVATE + CLEAR_ENABLE, 4, 1 << VIRTUAL_TIMER),
        |world| world.write(0, r(1), PRIVATE + SET_ENABLE, 4, 1 << VIRTUAL_TIMER),
    ),
    (
        "a timer's group forwarded",
        true,
        |world| world.write(0, D, 0, 4, 0),
        |world| world.write(0, D, 0, 4, 2),
    ),
    (
        "an idle SGI enabled",
        false,
        |world| world.write(0, r(1), PRIVATE + CLEAR_ENABLE, 4, 1 << 5),
        |world| world.write(0, r(1), PRIVATE + SET_ENABLE, 4, 1 << 5),
    ),
    (
        "a disabled one set pending",
        false,
        |world| world.write(0, r(1), PRIVATE + CLEAR_ENABLE, 4, 1 << 5),
        |world| world.write(0, r(1), PRIVATE + SET_PENDING, 4, 1 << 5),
    ),
    (
        "a timer that is on enabled again",
        false,
        |_| (),
        |world| world.write(0, r(1), PRIVATE + SET_ENABLE, 4, 1 << VIRTUAL_TIMER),
    ),
];

/// A lane that is away is called when something became deliverable, or when a timer that EL2 did not watch may now fire.
#[test]
fn a_sibling_that_opens_an_interrupt_of_a_lane_that_is_away_calls_it() {
    for (what, called, before, change) in OPENED {
        for away in [Away::On, Away::Off] {
            let world = open(2);
            world.write(0, D, 0x6108, 8, 1);
            world.with(1, |lane, vgic, port| lane.depart(away, vgic, port));
            before(&world);
            assert!(!world.vgic.has_mail(1), "{what}: called too early");
            world.forget_counts();
            change(&world);
            let called = called && away == Away::On;
            assert_eq!(world.vgic.has_mail(1), called, "{what}, {away:?}");
            let kicks = world.cpu(0, |cpu| cpu.sends);
            assert_eq!(kicks, usize::from(called), "{what}, {away:?}");
        }
    }
}

/// Which timers EL2 has to watch for a lane that leaves, whose sibling has just changed that.
#[test]
fn a_lane_that_leaves_knows_what_a_sibling_has_just_opened() {
    for (register, opens) in [(SET_ENABLE, true), (CLEAR_ENABLE, false)] {
        let world = open(2);
        let other = if opens { CLEAR_ENABLE } else { SET_ENABLE };
        world.write(1, r(1), PRIVATE + other, 4, 1 << VIRTUAL_TIMER);
        // The lane gives up its list registers while it waits for the lock to leave: it does not refill any more.
        world.write(0, r(1), PRIVATE + register, 4, 1 << VIRTUAL_TIMER);
        world.with(1, |lane, vgic, port| lane.depart(Away::On, vgic, port));
        let knows = world.with(1, |lane, _, _| lane.is_open(VIRTUAL_TIMER));
        assert_eq!(knows, opens);
    }
}

/// A sibling that begins first may set up the registers of a lane that has not looked yet.
#[test]
fn a_lane_renewed_late_keeps_what_a_sibling_has_set_and_sent() {
    let world = open(2);
    for lane in 0..2 {
        world.with(lane, |seat, vgic, port| seat.depart(Away::Off, vgic, port));
    }
    world.vgic.reset();
    let begin = |lane| {
        world.with(lane, |seat, vgic, port| {
            seat.renew();
            assert!(!seat.is_open(VIRTUAL_TIMER));
            seat.arrive(vgic, port);
        });
        world.cpu(lane, |cpu| cpu.set_guest_control(0xf0, true, true, false));
    };
    begin(0);
    world.write(0, D, 0, 4, 3);
    world.write(0, r(1), PRIVATE + SET_ENABLE, 4, 1 << 3);
    world.sgi(0, 3 << 24 | 2);
    begin(1);
    assert_eq!(take_all(&world, 1), [3]);
}

/// A device whose interrupt goes to the lane that tends it, which waits away from its CPU.
#[test]
fn a_lane_that_is_away_has_word_of_its_own_device() {
    let world = open(1);
    world.with(0, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    world.line(0, UART, true);
    assert!(world.vgic.has_mail(0));
    world.with(0, |lane, vgic, port| lane.arrive(vgic, port));
    assert_eq!(world.ack(0), Some(UART));
}

#[test]
fn one_of_n_goes_to_a_lane_that_is_away_when_none_is_here() {
    const ANY: u64 = 1 << 31;
    let world = open(2);
    world.write(0, D, 0x6108, 8, ANY);
    world.with(0, |lane, vgic, port| lane.depart(Away::Off, vgic, port));
    world.with(1, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    world.line(0, UART, true);
    assert!(world.vgic.has_mail(1));
}

#[test]
fn a_wait_ends_only_for_what_the_guest_would_take() {
    let world = open(1);
    let wakes = || world.with(0, |lane, _, port| lane.would_wake(port));
    assert!(!wakes());
    world.sgi(0, 3 << 24 | 1);
    assert!(wakes());
    let vmcr = world.cpu(0, |cpu| cpu.vmcr);
    world.cpu(0, |cpu| cpu.vmcr = vmcr & !0xff00_0000);
    assert!(!wakes(), "everything is masked by priority");
    world.cpu(0, |cpu| cpu.vmcr = vmcr & !3);
    assert!(!wakes(), "both groups are off");
    world.cpu(0, |cpu| cpu.vmcr = vmcr);
    assert_eq!(world.ack(0), Some(3));
    assert!(!wakes(), "it is active, not pending");
    world.eoi(0, 3);
}

#[test]
fn a_controller_that_is_reset_knows_nothing_of_its_last_life() {
    let world = open(2);
    world.write(0, D, 0x6108, 8, 1);
    world.sgi(0, 3 << 24 | 2);
    for lane in 0..2 {
        world.with(lane, |seat, vgic, port| seat.depart(Away::Off, vgic, port));
    }
    world.vgic.reset();
    for lane in 0..2 {
        world.with(lane, |seat, vgic, port| {
            seat.reset(vgic, port);
            seat.arrive(vgic, port);
        });
    }
    world.settle();
    assert_eq!(world.read(0, D, 0, 4) & 3, 0, "the distributor is off");
    assert_eq!(world.read(0, D, 0x6108, 8), 0);
    assert_eq!(world.read(0, r(1), PRIVATE + SET_PENDING, 4), 0);
    assert_eq!(world.ack(1), None);
}
