//! Pulses: one pending interrupt each, for the lane that it is routed to, wherever that is and whoever sends it.

use super::world::World;
use crate::vgic::{Away, Frame};

const D: Frame = Frame::Distributor;
const SPI: u32 = 50;
const BIT: u64 = 1 << (SPI - 32);

/// `lanes` lanes, and the SPI on, routed to the last of them.
fn world(lanes: usize) -> World {
    let world = World::new(lanes, 4);
    world.write(0, D, 0x104, 4, BIT);
    world.write(0, D, 0x6000 + 8 * u64::from(SPI), 8, lanes as u64 - 1);
    world.settle();
    world
}

fn takes(world: &World, lane: usize, times: usize) {
    for _ in 0..times {
        assert_eq!(world.ack(lane), Some(SPI));
        world.eoi(lane, SPI);
        world.settle();
    }
    assert_eq!(world.ack(lane), None);
}

#[test]
fn a_pulse_is_one_interrupt_whatever_the_trigger_and_whoever_sends_it() {
    for lanes in 1..=3 {
        for trigger in [0, u64::MAX] {
            for sender in 0..lanes {
                for posted in [false, true] {
                    let world = world(lanes);
                    world.write(0, D, 0xc0c, 4, trigger & 0xffff_ffff);
                    let send = || {
                        if posted {
                            world.post(sender, SPI);
                        } else {
                            world.pulse(sender, BIT);
                        }
                    };
                    // Two before the guest looks are one.
                    send();
                    send();
                    world.settle();
                    assert_eq!(world.read(0, D, 0x204, 4), BIT);
                    takes(&world, lanes - 1, 1);
                    // One more while it is active is another one.
                    send();
                    world.settle();
                    assert_eq!(world.ack(lanes - 1), Some(SPI));
                    send();
                    send();
                    world.settle();
                    assert_eq!(world.ack(lanes - 1), None);
                    world.eoi(lanes - 1, SPI);
                    world.settle();
                    takes(&world, lanes - 1, 1);
                }
            }
        }
    }
}

#[test]
fn a_pulse_of_what_is_off_waits_until_it_is_on_and_can_be_taken_back() {
    for posted in [false, true] {
        for taken_back in [false, true] {
            let world = world(2);
            world.write(0, D, 0x184, 4, BIT);
            if posted {
                world.post(0, SPI);
            } else {
                world.pulse(0, BIT);
            }
            world.settle();
            assert_eq!(world.ack(1), None);
            if taken_back {
                world.write(0, D, 0x284, 4, BIT);
            }
            if !world.vgic.fast_isenabler(1, u32::try_from(BIT).unwrap()) {
                world.write(0, D, 0x104, 4, BIT);
            }
            world.settle();
            takes(&world, 1, usize::from(!taken_back));
        }
    }
}

#[test]
fn a_lane_that_is_away_is_called_for_what_is_posted() {
    for asleep in [false, true] {
        let world = world(2);
        world.with(1, |lane, vgic, port| {
            vgic.set_kick(1, if asleep { 2 } else { 0 });
            lane.depart(Away::On, vgic, port);
        });
        world.forget_counts();
        world.post(0, SPI);
        world.post(0, SPI);
        let sends = world.cpu(0, |cpu| cpu.sends);
        assert_eq!(sends, usize::from(asleep), "one call");
        assert!(world.vgic.has_mail(1));
        assert!(!world.vgic.has_mail(0), "the other lane has none");
        world.with(1, |lane, vgic, port| {
            vgic.set_kick(1, 2);
            lane.arrive(vgic, port);
        });
        world.settle();
        takes(&world, 1, 1);
    }
}

#[test]
fn what_is_posted_for_a_lane_that_is_off_comes_when_it_is_on_or_where_it_is_routed_then() {
    for rerouted in [false, true] {
        let world = world(2);
        world.with(1, |lane, vgic, port| {
            vgic.set_kick(1, 0);
            lane.depart(Away::Off, vgic, port);
        });
        world.post(0, SPI);
        world.settle();
        assert_eq!(world.ack(0), None);
        if rerouted {
            world.write(0, D, 0x6000 + 8 * u64::from(SPI), 8, 0);
            world.settle();
            takes(&world, 0, 1);
        } else {
            world.with(1, |lane, vgic, port| {
                vgic.set_kick(1, 2);
                lane.arrive(vgic, port);
                lane.reset(vgic, port);
            });
            world.cpu(1, |cpu| cpu.set_guest_control(0xf0, true, true, false));
            world.serve(1);
            world.settle();
            takes(&world, 1, 1);
        }
    }
}

#[test]
fn what_may_go_to_any_lane_goes_to_one_that_is_there() {
    let world = world(3);
    world.write(0, D, 0x6000 + 8 * u64::from(SPI), 8, 1 << 31);
    for lane in [0, 1] {
        world.with(lane, |lane, vgic, port| {
            vgic.set_kick(lane.id(), 0);
            lane.depart(Away::Off, vgic, port);
        });
    }
    world.post(2, SPI);
    world.settle();
    takes(&world, 2, 1);
}

#[test]
fn a_reset_forgets_what_was_posted_and_where_it_went() {
    let world = world(2);
    world.post(0, SPI);
    for lane in [0, 1] {
        world.with(lane, |lane, vgic, port| lane.depart(Away::Off, vgic, port));
    }
    world.post(0, SPI);
    world.vgic.reset();
    assert!(!world.vgic.has_posted());
    world.post(0, SPI);
    assert!(world.vgic.has_mail(0), "as after power-on");
    assert!(!world.vgic.has_mail(1));
}

#[test]
fn what_does_not_exist_is_not_posted() {
    let world = world(1);
    for intid in [0, 15, 27, 31, 96, 1023, u32::MAX] {
        world.post(0, intid);
    }
    assert!(!world.vgic.has_posted() && !world.vgic.has_mail(0));
}

#[test]
fn what_is_posted_while_another_lane_has_it_active_comes_after_that() {
    let world = world(2);
    world.pulse(0, BIT);
    world.settle();
    assert_eq!(world.ack(1), Some(SPI));
    world.write(0, D, 0x6000 + 8 * u64::from(SPI), 8, 0);
    world.settle();
    for _ in 0..3 {
        world.post(0, SPI);
        world.settle();
        assert_eq!((world.ack(0), world.ack(1)), (None, None));
        assert!(!world.vgic.has_posted(), "the other lane has taken it");
    }
    world.eoi(1, SPI);
    world.settle();
    takes(&world, 0, 1);
}
