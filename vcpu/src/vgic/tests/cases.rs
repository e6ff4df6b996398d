//! The attack catalogue's GIC cases, by id.

use super::tools::*;
use crate::vgic::port::{HCR_EN, HCR_LRENPIE, HCR_NPIE, HCR_TDIR};
use crate::vgic::{Away, PHYSICAL_TIMER, VIRTUAL_TIMER};

#[test]
fn gic_03_routes_to_nobody_are_kept_and_one_of_n_chooses_a_running_lane() {
    let world = open(2);
    for nobody in [2u64, 8, 0xff, 1 << 8, 1 << 16, 1 << 32] {
        world.write(0, D, 0x6100, 8, nobody);
        assert_eq!(world.read(0, D, 0x6100, 8), nobody);
        world.write(1, D, SET_PENDING + 4, 4, 1);
        assert!(take_all(&world, 0).is_empty() && take_all(&world, 1).is_empty());
        assert_eq!(world.read(1, D, SET_PENDING + 4, 4), 1, "kept");
        world.write(0, D, 0x6100, 8, 1);
        assert_eq!(take_all(&world, 1), [32]);
    }
    world.write(0, D, 0x6100, 8, u64::MAX);
    assert_eq!(
        world.read(0, D, 0x6100, 8),
        0xff_80ff_ffff,
        "reserved bits stay zero"
    );
    world.write(0, D, SET_PENDING + 4, 4, 1);
    assert_eq!(take_all(&world, 0), [32], "IRM = 1");
    world.with(0, |lane, vgic, port| lane.depart(Away::On, vgic, port));
    world.write(1, D, SET_PENDING + 4, 4, 1);
    assert_eq!(
        take_all(&world, 1),
        [32],
        "IRM = 1 with the first lane away"
    );
}

#[test]
fn gic_05_a_lane_reaches_its_siblings_redistributor_and_no_other() {
    let world = open(2);
    world.write(0, r(1), PRIVATE + SET_PENDING, 4, 1 << 20);
    assert_eq!(world.read(0, r(1), PRIVATE + SET_PENDING, 4), 1 << 20);
    assert_eq!(take_all(&world, 1), [20]);
    assert!(take_all(&world, 0).is_empty());
    assert!(world.try_read(0, r(2), 0, 4).is_err());
    assert!(world.try_write(0, r(7), 0x14, 4, 0).is_err());
}

#[test]
fn gic_06_sgis_reach_exactly_the_lanes_they_name() {
    for lanes in 1..=8usize {
        let world = open(lanes);
        for sender in 0..lanes {
            for (value, named) in [
                (0xffffu64, 0xffu32),
                (0b101, 0b101),
                (0x8000, 0),
                (1 << 40, !(1 << sender)),
                (1 << 40 | 0xf << 44 | 0xff << 48, !(1 << sender)),
                (1 << 44 | 0xff, 0),
                (1 << 16 | 0xff, 0),
                (1 << 32 | 0xff, 0),
                (1 << 48 | 0xff, 0),
            ] {
                for sgi in [0u64, 7, 15] {
                    world.sgi(sender, value | sgi << 24);
                    for lane in 0..lanes {
                        let expected: &[u32] = if named >> lane & 1 != 0 {
                            &[u32::try_from(sgi).unwrap()]
                        } else {
                            &[]
                        };
                        assert_eq!(
                            take_all(&world, lane),
                            expected,
                            "{value:#x} from {sender} at {lane}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn gic_07_an_sgi_storm_at_a_deaf_lane_stays_one_interrupt() {
    let world = open(2);
    for _ in 0..100_000 {
        world.sgi(0, 5 << 24 | 2);
    }
    assert!(
        world.cpu(0, |cpu| cpu.sends) <= 1,
        "one kick is enough until the lane looks"
    );
    assert_eq!(take_all(&world, 1), [5]);
}

#[test]
fn gic_08_far_more_interrupts_than_list_registers_come_in_priority_order() {
    let world = open(1);
    for spi in 0..64u64 {
        world.write(0, D, 0x420 + spi, 1, (spi * 7 % 30) << 3);
    }
    for word in 1..3 {
        world.write(0, D, SET_PENDING + 4 * word, 4, u64::from(u32::MAX));
    }
    assert!(world.cpu(0, |cpu| cpu.hcr & HCR_NPIE != 0));
    let before = world.exits.get();
    let taken = take_all(&world, 0);
    assert_eq!(taken.len(), 64);
    let priorities: std::vec::Vec<u32> = taken.iter().map(|intid| (intid - 32) * 7 % 30).collect();
    assert!(priorities.is_sorted(), "{priorities:?}");
    assert!(
        world.exits.get() - before <= 64 + 64,
        "{} exits",
        world.exits.get() - before
    );
    assert_eq!(world.cpu(0, |cpu| cpu.hcr), HCR_EN);
}

#[test]
fn gic_08_deep_nesting_spills_actives_and_ends_them_without_a_list_register() {
    let world = open(1);
    // Twelve interrupts, each preempting the one before.
    for spi in 0..12u64 {
        world.write(0, D, 0x420 + spi, 1, (20 - spi) << 3);
    }
    for spi in 0..12 {
        world.write(0, D, SET_PENDING + 4, 4, 1 << spi);
        world.settle();
        assert_eq!(world.ack(0), Some(32 + spi));
        world.settle();
    }
    assert!(world.cpu(0, |cpu| cpu.hcr & (HCR_LRENPIE | HCR_TDIR)
        == HCR_LRENPIE | HCR_TDIR));
    assert_eq!(world.read(0, D, SET_ACTIVE + 4, 4), 0xfff);
    for spi in (0..12).rev() {
        world.eoi(0, 32 + spi);
        world.settle();
        assert_eq!(world.read(0, D, SET_ACTIVE + 4, 4), (1 << spi) - 1);
    }
    assert_eq!(world.cpu(0, |cpu| cpu.hcr), HCR_EN);
}

#[test]
fn gic_09_ends_of_what_is_not_active_change_nothing() {
    let world = open(1);
    world.write(0, D, SET_PENDING + 4, 4, 1 << 5);
    assert_eq!(world.ack(0), Some(37));
    for bogus in [0, 31, 38, 95, 96, 500, 1020, 1023, 8192] {
        world.dir(0, bogus);
        world.with(0, |lane, vgic, port| {
            lane.write_dir(vgic, u64::from(bogus), port)
        });
        world.settle();
    }
    assert_eq!(world.read(0, D, SET_ACTIVE + 4, 4), 1 << 5);
    world.eoi(0, 37);
    world.eoi(0, 37);
    world.eoi(0, 37);
    world.settle();
    assert_eq!(world.read(0, D, SET_ACTIVE + 4, 4), 0);
    world.cpu(0, |cpu| cpu.set_guest_control(0xf0, true, true, true));
    for bogus in [27, 30, 33, 95, 96, 1019] {
        world.dir(0, bogus);
        world.with(0, |lane, vgic, port| {
            lane.write_dir(vgic, u64::from(bogus), port)
        });
        world.settle();
    }
    world.write(0, D, SET_PENDING + 4, 4, 1);
    assert_eq!(take_all(&world, 0), [32]);
}

#[test]
fn gic_10_a_reset_between_priority_drop_and_deactivation_frees_the_physical_timer() {
    for timer in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
        let world = open(1);
        world.cpu(0, |cpu| {
            cpu.set_guest_control(0xf0, true, true, true);
            cpu.lines = 1 << timer;
        });
        world.settle();
        assert_eq!(world.ack(0), Some(timer));
        world.eoi(0, timer);
        world.settle();
        assert_eq!(world.cpu(0, |cpu| cpu.physically_active), 1 << timer);
        world.cpu(0, |cpu| cpu.lines = 0);
        world.with(0, |lane, vgic, port| lane.reset(vgic, port));
        assert_eq!(
            world.cpu(0, |cpu| (cpu.physically_active, cpu.enabled, cpu.vmcr)),
            (0, 0, 0)
        );
        assert_eq!(world.read(0, r(0), PRIVATE + SET_ACTIVE, 4), 0);
    }
}

#[test]
fn gic_11_changes_to_an_spi_reach_the_list_register_of_another_lane() {
    let world = open(2);
    let bit = 1 << (UART & 31);
    // Disabled while pending in lane 0's list register: retracted, kept, and back when enabled.
    world.write(1, D, SET_PENDING + 4, 4, bit);
    world.settle();
    assert!(world.cpu(0, |cpu| cpu.highest().is_some()));
    world.write(1, D, CLEAR_ENABLE + 4, 4, bit);
    assert_eq!(world.ack(0), None);
    assert_eq!(world.read(1, D, SET_PENDING + 4, 4), bit);
    assert!(
        !world.vgic.fast_isenabler(1, u32::try_from(bit).unwrap()),
        "something pending is enabled: slow path"
    );
    world.write(1, D, SET_ENABLE + 4, 4, bit);
    world.settle();
    // Active, pended again, and the second pending cleared.
    assert_eq!(world.ack(0), Some(UART));
    assert_eq!(
        world.read(1, D, SET_ACTIVE + 4, 4),
        bit,
        "what synchronize_irq reads"
    );
    world.write(1, D, SET_PENDING + 4, 4, bit);
    assert_eq!(world.read(1, D, CLEAR_PENDING + 4, 4), bit);
    world.write(1, D, CLEAR_PENDING + 4, 4, bit);
    world.settle();
    world.eoi(0, UART);
    world.settle();
    assert_eq!(world.ack(0), None);
    // Taken away from lane 0 while pending there.
    world.write(1, D, SET_PENDING + 4, 4, bit);
    world.write(1, D, 0x6108, 8, 1);
    world.settle();
    assert_eq!((world.ack(0), world.ack(1)), (None, Some(UART)));
    // Routed back while active: the owner ends it, the other gets the next one.
    world.write(0, D, 0x6108, 8, 0);
    world.write(0, D, SET_PENDING + 4, 4, bit);
    world.settle();
    assert_eq!(world.ack(0), None);
    world.eoi(1, UART);
    world.settle();
    assert_eq!((world.ack(1), world.ack(0)), (None, Some(UART)));
}

#[test]
fn gic_12_pending_and_active_writes_to_the_timers_leave_no_physical_state() {
    for timer in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
        for offset in [SET_PENDING, CLEAR_PENDING, SET_ACTIVE, CLEAR_ACTIVE] {
            for when in 0..3 {
                for writer in 0..2 {
                    let world = open(2);
                    let fire =
                        |high| world.cpu(0, |cpu| cpu.lines = if high { 1 << timer } else { 0 });
                    fire(when > 0);
                    world.settle();
                    if when == 2 {
                        assert_eq!(world.ack(0), Some(timer));
                    }
                    world.write(writer, r(0), PRIVATE + offset, 4, 1 << timer);
                    fire(false);
                    world.settle();
                    // The guest cleans up: ends what it runs, takes what is left, clears what it set.
                    if when == 2 {
                        world.eoi(0, timer);
                    }
                    take_all(&world, 0);
                    world.write(0, r(0), PRIVATE + CLEAR_ACTIVE, 4, 1 << timer);
                    take_all(&world, 0);
                    let name = (timer, offset, when, writer);
                    assert_eq!(world.cpu(0, |cpu| cpu.physically_active), 0, "{name:?}");
                    fire(true);
                    world.settle();
                    assert_eq!(world.ack(0), Some(timer), "{name:?}");
                    fire(false);
                    world.eoi(0, timer);
                    assert!(take_all(&world, 0).is_empty(), "{name:?}");
                    assert_eq!(world.cpu(0, |cpu| cpu.physically_active), 0, "{name:?}");
                }
            }
        }
    }
}

#[test]
fn gic_13_a_group_that_is_off_does_not_bar_the_others() {
    let world = open(1);
    // Ten interrupts of group 0, most urgent, that the guest does not listen to; one of group 1.
    world.write(0, D, 0x84, 4, 0xffff_fc00);
    for spi in 0..10 {
        world.write(0, D, 0x420 + spi, 1, 0);
    }
    world.write(0, D, SET_PENDING + 4, 4, 0x7ff);
    world.cpu(0, |cpu| cpu.set_guest_control(0xf0, false, true, false));
    assert_eq!(take_all(&world, 0), [42]);
    world.cpu(0, |cpu| cpu.set_guest_control(0xf0, true, true, false));
    assert_eq!(take_all(&world, 0).len(), 10);
    world.cpu(0, |cpu| cpu.set_guest_control(0, true, true, false));
    world.write(0, D, SET_PENDING + 4, 4, 0x7ff);
    assert!(take_all(&world, 0).is_empty(), "masked by ICC_PMR");
}

#[test]
fn gic_15_the_distributor_switched_off_in_flight_delivers_nothing_and_forgets_nothing() {
    let world = open(2);
    world.write(0, D, SET_PENDING + 4, 4, 0b11);
    world.sgi(1, 1 << 24 | 1);
    world.settle();
    let first = world.ack(0).unwrap();
    world.write(1, D, 0, 4, 0);
    world.settle();
    assert_eq!(world.read(0, D, 0, 4), 0x50, "ARE and DS cannot be cleared");
    assert_eq!(world.ack(0), None);
    world.eoi(0, first);
    world.sgi(1, 2 << 24 | 1);
    world.line(1, 40, true);
    world.cpu(0, |cpu| cpu.lines = 1 << 27);
    world.settle();
    assert_eq!(world.ack(0), None);
    assert!(!world.vgic.fast_isenabler(0, 1));
    world.write(1, D, 0, 4, u64::from(u32::MAX));
    assert_eq!(world.read(0, D, 0, 4), 0x53);
    world.line(1, 40, false);
    world.settle();
    world.cpu(0, |cpu| cpu.lines = 0);
    let mut taken = take_all(&world, 0);
    taken.push(first);
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 27, 32, 33]);
}

#[test]
fn gic_20_maintenance_conditions_clear_when_served() {
    let world = open(1);
    for word in 1..3 {
        world.write(0, D, SET_PENDING + 4 * word, 4, u64::from(u32::MAX));
    }
    for _ in 0..1000 {
        // Forged counts and group switches at every turn: one exit each, never an endless row.
        world.cpu(0, |cpu| cpu.hcr |= 0x1f << 27);
        world.cpu(0, |cpu| cpu.vmcr ^= 3);
        let before = world.exits.get();
        world.settle();
        assert!(world.exits.get() - before <= 2);
    }
}

#[test]
fn gic_08_an_interrupt_pending_behind_its_active_self_does_not_overtake() {
    let world = open(1);
    world.cpu(0, |cpu| cpu.set_guest_control(0xf0, true, true, true));
    world.sgi(0, 13 << 24 | 1);
    world.settle();
    assert_eq!(world.ack(0), Some(13));
    // Less urgent than the others now, pending again, and they are more than fit.
    world.write(0, r(0), PRIVATE + 0x400 + 13, 1, 0xa8);
    world.write(0, r(0), PRIVATE + SET_PENDING, 4, 0xffff);
    world.settle();
    world.eoi(0, 13);
    world.dir(0, 13);
    let mut taken = std::vec::Vec::new();
    for _ in 0..16 {
        world.settle();
        let intid = world.ack(0).unwrap();
        world.settle();
        world.eoi(0, intid);
        world.dir(0, intid);
        taken.push(intid);
    }
    assert_eq!(taken.last(), Some(&13));
}

#[test]
fn gic_08_the_interrupt_that_ends_next_keeps_a_list_register() {
    let world = open(1);
    // Edges: a level's end costs an exit anyway.
    world.write(0, D, 0xc08, 4, 0xaaaa_aaaa);
    world.write(0, D, 0xc0c, 4, 0xaaaa_aaaa);
    world.write(0, D, SET_PENDING + 4, 4, u64::from(u32::MAX));
    for _ in 0..32 {
        let intid = world.ack(0).unwrap();
        world.settle();
        let spilled = world.cpu(0, |cpu| cpu.hcr & HCR_LRENPIE != 0);
        assert!(!spilled, "its end would cost an exit");
        world.eoi(0, intid);
        world.settle();
    }
    assert_eq!(world.ack(0), None);
}
