//! Pulses: one pending interrupt each, for the lane that it is routed to, wherever that is and whoever sends it.

use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

use super::world::World;
use crate::vgic::{Away, Frame, lr};

pub(super) const D: Frame = Frame::Distributor;
pub(super) const SPI: u32 = 50;
pub(super) const BIT: u64 = 1 << (SPI - 32);

/// `lanes` lanes, and the SPI on, routed to the last of them.
fn world(lanes: usize) -> World {
    let world = World::new(lanes, 4);
    world.write(0, D, 0x104, 4, BIT);
    world.write(0, D, 0x6000 + 8 * u64::from(SPI), 8, lanes as u64 - 1);
    world.settle();
    world
}

pub(super) fn takes(world: &World, lane: usize, times: usize) {
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

/// A lane's device pulses and its guest takes and ends it: how many of so many were answered by the short path.
pub(super) fn fast(world: &World, lane: usize, intid: u32, times: u64) -> u64 {
    let before = world.pulsed_fast.get();
    for _ in 0..times {
        world.pulse(lane, 1 << (intid - 32));
        world.settle();
        assert_eq!(world.ack(lane), Some(intid));
        world.eoi(lane, intid);
        world.settle();
    }
    world.pulsed_fast.get() - before
}

/// The SPI is an edge, as a virtio device's node says, and lane 0's.
pub(super) fn edge(lanes: usize) -> World {
    let world = world(lanes);
    world.write(0, D, 0xc0c, 4, 0xffff_ffff);
    world.write(0, D, 0x6000 + 8 * u64::from(SPI), 8, 0);
    world.settle();
    world
}

#[test]
fn an_edge_of_the_lane_s_own_keeps_its_list_register() {
    let world = edge(2);
    assert_eq!(fast(&world, 0, SPI, 20), 20);
    let held = world.cpu(0, |cpu| lr::intid(cpu.lrs[1]));
    assert_eq!(held, SPI);
    // While it is active, it becomes pending there once more.
    world.pulse(0, BIT);
    assert_eq!(world.ack(0), Some(SPI));
    world.pulse(0, BIT);
    world.pulse(0, BIT);
    assert_eq!(world.cpu(0, |cpu| cpu.lrs[1] & lr::STATE), lr::STATE);
    world.eoi(0, SPI);
    takes(&world, 0, 1);
}

#[test]
fn more_edges_than_list_registers_take_turns_on_the_short_path() {
    let world = edge(1);
    world.write(0, D, 0x104, 4, 0xffff_0000);
    for _ in 0..3 {
        for intid in 48..56 {
            assert_eq!(fast(&world, 0, intid, 2), 2, "{intid}");
        }
        for sgi in 0..3u64 {
            world.write(0, Frame::Redistributor(0), 0x1_0100, 4, 0xffff);
            world.sgi(0, sgi << 24 | 1);
            assert_eq!(world.ack(0).map(u64::from), Some(sgi));
            world.eoi(0, u32::try_from(sgi).unwrap());
        }
    }
}

#[test]
fn the_short_path_declines_what_is_not_the_lane_s_edge() {
    let cases: [(u64, u32, u64); 7] = [
        // Another lane's; anybody's; nobody's.
        (0x6000 + 8 * SPI as u64, 8, 1),
        (0x6000 + 8 * SPI as u64, 8, 1 << 31),
        (0x6000 + 8 * SPI as u64, 8, 77),
        // Level; off; its group off; active by software.
        (0xc0c, 4, 0),
        (0x184, 4, BIT),
        (0, 4, 1),
        (0x304, 4, BIT),
    ];
    for (offset, bytes, value) in cases {
        for seated in [false, true] {
            let world = edge(2);
            if seated {
                assert_eq!(fast(&world, 0, SPI, 1), 1);
            }
            world.write(1, D, offset, bytes, value);
            world.settle();
            world.pulse(0, BIT);
            // What is active in the lane's list register is pending there besides.
            let fast = u64::from(seated) + u64::from(seated && offset == 0x304);
            assert_eq!(world.pulsed_fast.get(), fast, "{offset:#x}");
        }
    }
}

#[test]
fn what_is_posted_for_a_lane_that_runs_takes_the_short_path() {
    let world = edge(2);
    for _ in 0..10 {
        world.post(1, SPI);
        world.settle();
        takes(&world, 0, 1);
    }
    assert_eq!(world.exits.get(), 1, "but for the routing's");
}

/// What may happen between pulses.
#[derive(Clone, Copy, Debug)]
enum Act {
    Pulse(u64),
    Post(usize),
    Sgi(u64),
    Take,
    End,
    Write(u64, u32, u64),
    Leave,
    Serve,
}

/// SPIs of both words, of which the third is a level.
const SPIS: [u32; 4] = [48, 49, 50, 64];

fn act() -> impl Strategy<Value = Act> {
    let spi = || (0usize..4).prop_map(|which| u64::from(SPIS[which]));
    prop_oneof![
        10 => (1u64..16).prop_map(|which| {
            let chosen = (0..4).filter(|bit| which >> bit & 1 != 0);
            Act::Pulse(chosen.fold(0, |all, bit| all | 1 << (SPIS[bit] - 32)))
        }),
        10 => (0usize..4).prop_map(Act::Post),
        4 => (0u64..4, 1u64..4).prop_map(|(sgi, to)| Act::Sgi(sgi << 24 | to)),
        14 => Just(Act::Take),
        12 => Just(Act::End),
        1 => (spi(), 0u64..4).prop_map(|(spi, to)| Act::Write(0x6000 + 8 * spi, 8, to)),
        // Two priorities each, and no two of them equal: which of equals comes first is the list registers' business.
        1 => (0usize..4, 0u64..2).prop_map(|(which, urgent)| {
            let priority = 0x40 + 8 * which as u64 - 0x20 * urgent;
            Act::Write(0x400 + u64::from(SPIS[which]), 1, priority)
        }),
        1 => (0usize..2, prop::sample::select(std::vec![0x104u64, 0x184, 0x204, 0x284]), any::<u64>())
            .prop_map(|(word, offset, bits)| Act::Write(offset + 4 * word as u64, 4, bits & [0x7_0000, 1][word])),
        1 => Just(Act::Leave),
        1 => Just(Act::Serve),
    ]
}

/// Two worlds with the same past.
struct Twins {
    fast: World,
    slow: World,
    running: [std::vec::Vec<u32>; 2],
}

impl Twins {
    fn new(registers: usize) -> Self {
        let new = || {
            let world = World::new(2, registers);
            for lane in 0..2 {
                let frame = Frame::Redistributor(lane);
                world.write(lane, frame, 0x1_0100, 4, 0xffff);
                world.write(lane, frame, 0x1_0400, 4, 0xb8b0_a8a0);
            }
            world.write(0, D, 0x104, 4, 0x7_0000);
            world.write(0, D, 0x108, 4, 1);
            world.write(0, D, 0xc0c, 4, 0xa);
            world.write(0, D, 0xc10, 4, 0xa);
            for (at, spi) in SPIS.into_iter().enumerate() {
                world.write(0, D, 0x400 + u64::from(spi), 1, 0x40 + 8 * at as u64);
                world.write(0, D, 0x6000 + 8 * u64::from(spi), 8, u64::from(at == 1));
            }
            world.settle();
            world
        };
        let (fast, slow) = (new(), new());
        slow.slow.set(true);
        Self {
            fast,
            slow,
            running: Default::default(),
        }
    }

    fn act(&mut self, lane: usize, act: Act) {
        let taken = [&self.fast, &self.slow].map(|world| {
            match act {
                Act::Pulse(spis) => world.pulse(lane, spis),
                Act::Post(which) => world.post(lane, SPIS[which]),
                Act::Sgi(value) => world.sgi(lane, value),
                Act::Take => return world.ack(lane),
                Act::End => {
                    if let Some(intid) = self.running[lane].last() {
                        world.eoi(lane, *intid);
                    }
                }
                Act::Write(offset, bytes, value) => world.write(lane, D, offset, bytes, value),
                Act::Leave => world.with(lane, |lane, vgic, port| {
                    lane.depart(Away::On, vgic, port);
                    port.cpu.lrs.fill(0);
                    lane.arrive(vgic, port);
                }),
                Act::Serve => world.serve(lane),
            }
            None
        });
        assert_eq!(taken[0], taken[1]);
        if let Act::Take = act {
            self.running[lane].extend(taken[0]);
        } else if let Act::End = act {
            self.running[lane].pop();
        }
        self.fast.settle();
        self.slow.settle();
        self.compare();
    }

    fn compare(&self) {
        let mut spis = [[0; 4]; 2];
        for lane in 0..2 {
            let seen = [&self.fast, &self.slow].map(|world| {
                let next = world.cpu(lane, |cpu| Some(lr::intid(cpu.lrs[cpu.highest()?])));
                (world.interrupts(lane), next)
            });
            let private = |at: usize| (seen[at].0.pending[0], seen[at].0.active[0], seen[at].1);
            assert_eq!(private(0), private(1), "lane {lane}");
            for (all, (seen, _)) in spis.iter_mut().zip(seen) {
                let [_, low, high] = seen.pending;
                let [_, low_active, high_active] = seen.active;
                for (all, seen) in all.iter_mut().zip([low, high, low_active, high_active]) {
                    *all |= seen;
                }
            }
        }
        assert_eq!(spis[0], spis[1], "SPIs");
    }
}

#[test]
fn pulses_by_the_short_path_are_those_of_the_slow_path() {
    let (pulsed, fast) = (AtomicU64::new(0), AtomicU64::new(0));
    let config = ProptestConfig {
        cases: super::cases(4000),
        ..ProptestConfig::default()
    };
    let registers = prop::sample::select(std::vec![3usize, 4, 4, 16]);
    let acts = prop::collection::vec((0usize..2, act()), 0..80);
    proptest!(config, |(registers in registers, acts in acts)| {
        let mut twins = Twins::new(registers);
        for (lane, act) in acts {
            twins.act(lane, act);
            if let Act::Pulse(spis) = act {
                pulsed.fetch_add(u64::from(spis.count_ones()), Ordering::Relaxed);
            }
        }
        fast.fetch_add(twins.fast.pulsed_fast.get(), Ordering::Relaxed);
    });
    let [pulsed, fast] = [pulsed, fast].map(AtomicU64::into_inner);
    std::println!("pulses: {pulsed}, {fast} by the short path");
    assert!(fast * 10 > pulsed, "{fast} of {pulsed}");
}
