//! Time that nobody reserved: by priority, then fairly.

use std::vec::Vec;

use super::world::{Dice, Habit, World};
use crate::sched::{Decision, Scheduler, Server, Slot};

fn lane(priority: u8) -> Server {
    Server {
        budget: 1000,
        period: 10_000,
        priority,
    }
}

fn run(cpu: &mut Scheduler, mut now: u64, end: u64) {
    while now < end {
        now = cpu.decide(now).until.unwrap().min(end);
    }
    cpu.settle(end);
}

#[test]
fn priority_orders_spare_time_and_breaks_no_guarantee() {
    let mut cpu = Scheduler::new();
    let low = cpu.add(lane(0)).unwrap();
    let high = cpu.add(lane(4)).unwrap();
    let middle = cpu.add(lane(2)).unwrap();
    for slot in [low, high, middle] {
        cpu.wake(slot, 0);
    }
    run(&mut cpu, 0, 1_000_000);
    assert_eq!(cpu.ran(low), 100_000);
    assert_eq!(cpu.ran(middle), 100_000);
    assert_eq!(cpu.ran(high), 800_000);
}

#[test]
fn equals_share_spare_time_equally() {
    for n in 2..20 {
        let mut cpu = Scheduler::new();
        let slots: Vec<_> = (0..n)
            .map(|nth| {
                // Different periods and budgets: what they reserved differs, what they share does not.
                let server = Server {
                    budget: 100 + nth,
                    period: 10_000 + 77 * nth,
                    priority: 1,
                };
                cpu.add(server).unwrap()
            })
            .collect();
        for slot in &slots {
            cpu.wake(*slot, 0);
        }
        let end = 20_000_000;
        run(&mut cpu, 0, end);
        let reserved = |slot: Slot| {
            let Server { budget, period, .. } = cpu.server(slot);
            end / period * budget
        };
        let shared: Vec<u64> = slots
            .iter()
            .map(|slot| cpu.ran(*slot) - reserved(*slot))
            .collect();
        let (least, most) = (shared.iter().min().unwrap(), shared.iter().max().unwrap());
        // Two turns, and a budget that has begun.
        assert!(most - least <= 5000 + 250, "{shared:?}");
    }
}

/// Among n lanes of one priority that always want the CPU or come and go as they like, nobody waits longer than two
/// turns of each other lane, and what is reserved meanwhile.
#[test]
fn nobody_starves() {
    const TURN: u64 = 1024;
    const PATIENCE: u64 = 1 << 20;
    for seed in 0..60u64 {
        let mut dice = Dice(seed);
        let mut world = World::new(seed, 0, false);
        // A budget that is as good as none, so that a wait is a wait for spare time.
        let patient = Server {
            budget: 1,
            period: PATIENCE,
            priority: 3,
        };
        let hasty = Server {
            budget: 40,
            period: 4 * TURN,
            priority: 3,
        };
        let (spinners, others) = (dice.within(1, 8), dice.within(1, 8));
        let slots: Vec<_> = (0..spinners)
            .map(|_| world.add(patient, Habit::Spin).unwrap())
            .collect();
        for _ in 0..others {
            world.add(hasty, Habit::Erratic).unwrap();
        }
        // All spinners are awake after their first period.
        world.run_until(PATIENCE + 1);
        let mut last: Vec<_> = slots
            .iter()
            .map(|slot| (world.cpu.ran(*slot), world.now))
            .collect();
        let spare = 2 * TURN * (spinners + others - 1);
        let bound = spare + others * 40 * (spare / (4 * TURN) + 3);
        for _ in 0..3000 {
            let next = world.now + 256;
            world.run_until(next);
            for (slot, (ran, since)) in slots.iter().zip(&mut last) {
                let now = world.cpu.ran(*slot);
                if now > *ran {
                    (*ran, *since) = (now, world.now);
                }
                assert!(world.now - *since <= bound + 256, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_yield_gives_the_rest_of_a_turn_to_the_lane_that_is_waited_for() {
    let mut cpu = Scheduler::new();
    let waiter = cpu.add(lane(0)).unwrap();
    let third = cpu.add(lane(0)).unwrap();
    let holder = cpu.add(lane(0)).unwrap();
    for slot in [waiter, third, holder] {
        cpu.wake(slot, 0);
    }
    assert_eq!(cpu.decide(0).run, Some(waiter));
    cpu.yield_to(waiter, holder, 100);
    let runs_until = |run, until| Decision {
        run: Some(run),
        until: Some(until),
    };
    // In the waiter's place and on its account.
    assert_eq!(cpu.decide(100), runs_until(holder, 1000));
    // The lock is free; its holder gives the rest back.
    cpu.yield_to(holder, waiter, 300);
    assert_eq!(cpu.decide(300), runs_until(waiter, 1000));
    cpu.yield_to(waiter, holder, 400);
    assert_eq!(cpu.decide(400), runs_until(holder, 1000));
    // The next budget is the third lane's as if nothing had been, and the holder still has its own.
    assert_eq!(cpu.decide(1000), runs_until(third, 2000));
    assert_eq!(cpu.decide(2000), runs_until(holder, 3000));
    assert_eq!(cpu.ran(waiter), 200);
    assert_eq!(cpu.ran(holder), 800);
}

#[test]
fn a_yield_to_nobody_in_particular_is_none() {
    let mut cpu = Scheduler::new();
    let [a, b, asleep] = core::array::from_fn(|_| cpu.add(lane(0)).unwrap());
    cpu.wake(a, 0);
    cpu.wake(b, 0);
    let before = cpu.decide(0);
    cpu.yield_to(a, asleep, 0);
    cpu.yield_to(a, a, 0);
    // It does not run, so it has nothing to give.
    cpu.yield_to(b, a, 0);
    cpu.yield_to(asleep, b, 0);
    assert_eq!(cpu.decide(0), before);
    // The heir sleeps: the donor has its time again.
    cpu.yield_to(a, b, 0);
    assert_eq!(cpu.decide(0).run, Some(b));
    cpu.block(b, 10);
    assert_eq!(cpu.decide(10).run, Some(a));
}

#[test]
fn a_gift_lasts_a_turn_at_most() {
    let mut cpu = Scheduler::new();
    let whole = Server {
        budget: 9000,
        period: 10_000,
        priority: 0,
    };
    let donor = cpu.add(whole).unwrap();
    let heir = cpu.add(lane(0)).unwrap();
    // The heir's deadline comes later.
    cpu.wake(donor, 0);
    cpu.wake(heir, 1);
    assert_eq!(cpu.decide(1).run, Some(donor));
    cpu.yield_to(donor, heir, 1);
    let decision = cpu.decide(1);
    assert_eq!((decision.run, decision.until), (Some(heir), Some(2501)));
    assert_eq!(cpu.decide(2501).run, Some(donor));
}

#[test]
fn a_donor_that_sleeps_has_given_nothing_for_later() {
    let mut cpu = Scheduler::new();
    let [donor, heir] = core::array::from_fn(|_| cpu.add(lane(0)).unwrap());
    cpu.wake(donor, 0);
    cpu.wake(heir, 0);
    assert_eq!(cpu.decide(0).run, Some(donor));
    cpu.yield_to(donor, heir, 0);
    cpu.block(donor, 10);
    assert_eq!(cpu.decide(10).run, Some(heir));
    cpu.wake(donor, 20);
    assert_eq!(cpu.decide(20).run, Some(donor));
}

/// Two lanes wait for a lock that a third holds, and no one knows which holds it.
#[test]
fn lanes_that_yield_around_come_to_the_one_that_holds_the_lock() {
    let mut cpu = Scheduler::new();
    let slots: [Slot; 3] = core::array::from_fn(|_| cpu.add(lane(0)).unwrap());
    for slot in slots {
        cpu.wake(slot, 0);
    }
    let mut now = 0;
    for expected in slots {
        let run = cpu.decide(now).run.unwrap();
        assert_eq!(run, expected);
        now += 10;
        cpu.yield_to(run, run.next(cpu.ready()).unwrap(), now);
    }
    // Nobody else was to run, so the one that gave has its time back.
    assert_eq!(cpu.decide(now).run, Some(slots[0]));
    assert_eq!(cpu.decide(now).until, Some(1000));
}

#[test]
fn a_gift_that_is_passed_on_does_not_grow() {
    let mut cpu = Scheduler::new();
    let most = Server {
        budget: 8000,
        period: 10_000,
        priority: 0,
    };
    let donor = cpu.add(most).unwrap();
    let [a, b] = core::array::from_fn(|_| cpu.add(lane(0)).unwrap());
    cpu.wake(donor, 0);
    cpu.wake(a, 1);
    cpu.wake(b, 1);
    assert_eq!(cpu.decide(1).run, Some(donor));
    cpu.yield_to(donor, a, 1);
    let mut now = 1;
    let mut pair = [a, b];
    while now < 2501 {
        assert_eq!(cpu.decide(now).run, Some(pair[0]));
        now += 100;
        cpu.yield_to(pair[0], pair[1], now);
        pair.reverse();
    }
    assert_eq!(cpu.decide(now).run, Some(donor));
}
