//! The short paths against the slow path: the same world after both, or untouched where the short path declines.

use proptest::prelude::*;

use super::world::World;
use crate::vgic::{Frame, SgiRegister, VIRTUAL_TIMER, lr};

/// What a guest can tell about a lane: pending, active and enable bits, how urgent the next interrupt is, and physical
/// state.
fn visible(world: &World, lane: usize) -> (u64, u64, u64, [u64; 4], u32) {
    let frame = Frame::Redistributor(lane);
    let next = world.cpu(lane, |cpu| {
        cpu.highest()
            .map(|index| u32::from(lr::priority(cpu.lrs[index])))
    });
    (
        world.read(lane, frame, 0x1_0200, 4),
        world.read(lane, frame, 0x1_0300, 4),
        world.read(lane, frame, 0x1_0100, 4),
        [4, 8, 0x104, 0x108].map(|offset| {
            world.read(
                lane,
                Frame::Distributor,
                offset + if offset < 0x100 { 0x200 } else { 0 },
                4,
            )
        }),
        next.unwrap_or(1023) + (world.cpu(lane, |cpu| cpu.physically_active) << 10),
    )
}

/// A world with some history, the same for the same seed.
fn world(seed: &[(u8, u8)], enable: u32, registers: usize) -> World {
    let world = World::new(2, registers);
    for lane in 0..2 {
        world.write(
            lane,
            Frame::Redistributor(lane),
            0x1_0100,
            4,
            u64::from(enable),
        );
        world.write(lane, Frame::Redistributor(lane), 0x1_0410, 4, 0x1020_3040);
    }
    world.write(0, Frame::Distributor, 0x104, 4, 0xff);
    for (kind, number) in seed {
        let sgi = u64::from(number & 15);
        let lane = usize::from(number >> 7);
        match kind % 5 {
            0 => world.sgi(lane, sgi << 24 | 1 << (number >> 6 & 1)),
            1 => world.write(0, Frame::Distributor, 0x204, 4, 1 << sgi),
            2 => _ = world.ack(lane),
            3 => world.eoi(lane, u32::from(number & 31)),
            _ => _ = world.settle(),
        }
    }
    world.settle();
    world.forget_counts();
    world
}

/// An SGI sent. True when the short path has answered.
fn send(hot: &World, slow: &World, value: u64) -> bool {
    slow.with(0, |lane, vgic, port| {
        lane.send_sgi(vgic, SgiRegister::Sgi1r, value, port);
    });
    hot.with(0, |lane, vgic, port| {
        let before = port.cpu.clone();
        let done = lane.fast_sgi1r(vgic, value, port);
        assert!(done || *port.cpu == before);
        done
    })
}

/// A kick with up to two SGIs received.
fn receive(hot: &World, slow: &World, number: u8) {
    for world in [hot, slow] {
        world.sgi(1, u64::from(number & 15) << 24 | 1);
        world.sgi(1, u64::from(number >> 4) << 24 | 1);
    }
    slow.serve(0);
    if !hot.with(0, |lane, vgic, port| lane.fast_kick(vgic, port)) {
        hot.serve(0);
    }
}

/// The virtual timer fired, where it can have: enabled and not active before.
fn fire(hot: &World, slow: &World, enable: u32) -> bool {
    for world in [hot, slow] {
        world.cpu(0, |cpu| cpu.physically_active |= 1 << VIRTUAL_TIMER);
    }
    if enable >> VIRTUAL_TIMER & 1 == 0 {
        return false;
    }
    slow.with(0, |lane, vgic, port| {
        lane.ppi_fired(vgic, VIRTUAL_TIMER, port);
    });
    hot.with(0, |lane, _, port| {
        let before = port.cpu.clone();
        let done = lane.fast_timer(port);
        assert!(done || *port.cpu == before);
        done
    })
}

/// A write of `GICD_ISENABLER<word>`. True when there is such a register for SPIs.
fn enable_spis(hot: &World, slow: &World, word: usize, bits: u32) -> bool {
    let exists = (1..3).contains(&word);
    let write = |world: &World| {
        let offset = 0x100 + 4 * word as u64;
        world.write(0, Frame::Distributor, offset, 4, u64::from(bits));
    };
    let done = hot.vgic.fast_isenabler(word, bits);
    assert!(!done || exists);
    if exists {
        write(slow);
        if !done {
            write(hot);
        }
    }
    exists
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(20_000), ..ProptestConfig::default() })]

    #[test]
    fn short_paths_do_what_the_slow_path_does_or_nothing(
        seed in prop::collection::vec(any::<(u8, u8)>(), 0..24),
        enable in prop_oneof![Just(u32::MAX), Just(0xffff_00ff), any::<u32>()],
        registers in prop::sample::select(std::vec![2usize, 4, 16]),
        what in 0u8..4,
        number in any::<u8>(),
        odd in prop_oneof![8 => Just(0u64), 1 => any::<u64>()],
    ) {
        let (hot, slow) = (world(&seed, enable, registers), world(&seed, enable, registers));
        let done = match what {
            0 => send(&hot, &slow, u64::from(number & 15) << 24 | u64::from(number >> 6) | odd),
            1 => {
                receive(&hot, &slow, number);
                true
            }
            2 => fire(&hot, &slow, enable),
            _ => enable_spis(&hot, &slow, usize::from(number & 3), u32::from(number) << (number >> 5)),
        };
        if done {
            // Kicks still under way arrive on both.
            hot.settle();
            slow.settle();
            for lane in 0..2 {
                prop_assert_eq!(visible(&hot, lane), visible(&slow, lane));
            }
        }
    }
}

#[test]
fn an_sgi_keeps_its_list_register_and_a_live_one_gets_pending_added() {
    let world = world(&[], u32::MAX, 4);
    let pending = |value: u64| value & lr::STATE;
    world.sgi(0, 1 << 24 | 1);
    let first = world.cpu(0, |cpu| cpu.lrs[1]);
    assert_eq!((lr::intid(first), pending(first)), (1, lr::PENDING));
    assert_eq!(world.ack(0), Some(1));
    world.sgi(0, 1 << 24 | 1);
    assert_eq!(
        world.cpu(0, |cpu| pending(cpu.lrs[1])),
        lr::STATE,
        "pending and active"
    );
    world.eoi(0, 1);
    assert_eq!(world.ack(0), Some(1));
    world.eoi(0, 1);
    // Finished ones give way when all are taken.
    for sgi in 2..12u64 {
        world.sgi(0, sgi << 24 | 1);
        assert_eq!(world.ack(0), Some(u32::try_from(sgi).unwrap()));
        world.eoi(0, u32::try_from(sgi).unwrap());
    }
    assert_eq!(world.exits.get(), 0, "all by the short path");
}

#[test]
fn the_timer_uses_its_own_list_register_without_the_slow_path() {
    let world = world(&[], u32::MAX, 4);
    for _ in 0..10 {
        world.cpu(0, |cpu| cpu.lines = 1 << VIRTUAL_TIMER);
        assert_eq!(world.settle(), [(0, VIRTUAL_TIMER)]);
        assert_eq!(world.ack(0), Some(VIRTUAL_TIMER));
        world.cpu(0, |cpu| cpu.lines = 0);
        world.eoi(0, VIRTUAL_TIMER);
        assert_eq!(world.cpu(0, |cpu| cpu.physically_active), 0);
    }
    assert_eq!(world.exits.get(), 0);
}
