//! Edges that a lane has laid aside with the rest of its list registers.

use super::pulse::{BIT, D, SPI, edge, fast, takes};
use super::world::World;
use crate::vgic::{Away, Frame};

/// Lane 0 leaves its CPU, something happens, and it is back. Whether both by the short way.
fn away(world: &World, meanwhile: impl FnOnce()) -> bool {
    world.with(0, |lane, vgic, port| {
        lane.depart(Away::On, vgic, port);
        port.cpu.lrs.fill(0);
    });
    let left = world.vgic.state.lock().lanes_at.is_aside(0);
    meanwhile();
    let stayed = world.vgic.state.lock().lanes_at.is_aside(0);
    world.with(0, |lane, vgic, port| {
        let hcr = port.cpu.hcr;
        lane.arrive(vgic, port);
        assert_ne!(port.cpu.hcr, hcr);
        left && stayed && lane.plain
    })
}

#[test]
fn an_edge_is_laid_aside_with_its_lane_and_posted_to_it_there() {
    let world = edge(2);
    assert_eq!(fast(&world, 0, SPI, 1), 1);
    let exits = world.exits.get();
    for _ in 0..5 {
        assert!(away(&world, || ()));
        assert_eq!(world.ack(0), None);
        assert!(away(&world, || world.post(1, SPI)));
        world.settle();
        takes(&world, 0, 1);
        // Pending, and active, it is laid aside as well.
        world.pulse(0, BIT);
        assert!(away(&world, || ()));
        assert_eq!(world.ack(0), Some(SPI));
        assert!(away(&world, || world.post(1, SPI)));
        world.eoi(0, SPI);
        takes(&world, 0, 1);
    }
    assert_eq!(fast(&world, 0, SPI, 1), 1);
    assert_eq!(world.exits.get(), exits);
}

#[test]
fn who_wants_an_edge_that_is_laid_aside_gets_it() {
    for active in [false, true] {
        let world = edge(2);
        assert_eq!(fast(&world, 0, SPI, 1), 1);
        if active {
            world.pulse(0, BIT);
            assert_eq!(world.ack(0), Some(SPI));
        }
        away(&world, || {
            assert_eq!(world.read(1, D, 0x304, 4), BIT * u64::from(active));
            // Routed to another lane meanwhile, which takes what comes then.
            world.write(1, D, 0x6000 + 8 * u64::from(SPI), 8, 1);
            world.pulse(1, BIT);
            world.settle();
            let now = (!active).then_some(SPI);
            assert_eq!(world.ack(1), now);
            if !active {
                world.eoi(1, SPI);
            }
        });
        world.settle();
        if active {
            world.eoi(0, SPI);
            world.settle();
            takes(&world, 1, 1);
        }
        assert_eq!((world.ack(0), world.ack(1)), (None, None));
        world.pulse(1, BIT);
        world.settle();
        takes(&world, 1, 1);
    }
}

#[test]
fn an_sgi_that_comes_with_it_comes_too() {
    let world = edge(2);
    world.write(0, Frame::Redistributor(0), 0x1_0100, 4, 0xffff);
    for sgi_first in [false, true] {
        // Both have list registers.
        assert_eq!(fast(&world, 0, SPI, 1), 1);
        world.sgi(1, 3 << 24 | 1);
        world.settle();
        assert_eq!(world.ack(0), Some(3));
        world.eoi(0, 3);
        away(&world, || {
            if sgi_first {
                world.sgi(1, 3 << 24 | 1);
            }
            world.post(1, SPI);
            world.sgi(1, 3 << 24 | 1);
        });
        world.settle();
        for intid in [3, SPI] {
            assert_eq!(world.ack(0), Some(intid));
            world.eoi(0, intid);
        }
        assert_eq!(world.ack(0), None);
    }
}
