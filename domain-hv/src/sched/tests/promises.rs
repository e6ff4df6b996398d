//! What a lane was promised it gets, in every single period, whatever the others do.

use super::world::{Dice, Habit, World};
use crate::sched::{MAX_SLOTS, Scheduler, Server};

fn server(budget: u64, period: u64, priority: u8) -> Server {
    Server {
        budget,
        period,
        priority,
    }
}

/// The lane in question has the lowest priority, never sleeps and never yields; the others have the rest of the CPU,
/// down to the last tick, higher priorities, and yield to each other and to it.
#[test]
fn a_lane_that_always_wants_the_cpu_has_its_budget_in_every_period() {
    for seed in 0..200u64 {
        let mut dice = Dice(seed);
        let mut world = World::new(seed, seed << 33, true);
        world.yields = !seed.is_multiple_of(3);
        let period = dice.within(1024, 8192);
        let budget = dice.within(1, period);
        let victim = world.add(server(budget, period, 0), Habit::Spin).unwrap();
        world.populate(dice.within(1, 6));
        let mut now = world.wakes(victim);
        world.run_until(now);
        for nth in 0..200 {
            let before = world.cpu.ran(victim);
            now += period;
            world.run_until(now);
            let got = world.cpu.ran(victim) - before;
            assert!(
                got >= budget,
                "{got} of {budget} in period {nth} of seed {seed}"
            );
        }
    }
}

/// The burner has every advantage but admission: priority, a short period, and it never sleeps.
#[test]
fn a_neighbour_that_burns_every_cycle_leaves_the_other_its_share() {
    for percent in [1, 10, 30, 50, 90, 99] {
        let mut world = World::new(percent, 0, true);
        let worker = world
            .add(server(percent * 1000, 100_000, 0), Habit::Spin)
            .unwrap();
        let burner = world
            .add(server((100 - percent) * 100, 10_000, 4), Habit::Spin)
            .unwrap();
        world.run_until(100_000);
        let before = world.cpu.ran(worker);
        world.run_until(10_100_000);
        let got = world.cpu.ran(worker) - before;
        let promised = percent * 100_000;
        assert!(
            got.abs_diff(promised) * 100 <= promised,
            "{got} of {promised}"
        );
        // What nobody reserved is nothing: both have exactly theirs, and the CPU was never idle.
        assert_eq!(world.cpu.ran(burner) + world.cpu.ran(worker), {
            let idle_at_first = world.cpu.idle();
            10_100_000 - idle_at_first
        });
    }
}

/// The interrupt that ends a turn is always late. Who profits pays it back, so that nobody else pays.
#[test]
fn late_timers_cost_nobody_but_the_late() {
    let mut cpu = Scheduler::new();
    let late = cpu.add(server(3000, 10_000, 4)).unwrap();
    let punctual = cpu.add(server(7000, 10_000, 0)).unwrap();
    cpu.wake(late, 0);
    cpu.wake(punctual, 0);
    let mut now = 0;
    while now < 10_000_000 {
        let decision = cpu.decide(now);
        now = decision.until.unwrap();
        if decision.run == Some(late) {
            now += 200;
        }
    }
    cpu.settle(now);
    let got = cpu.ran(punctual);
    assert!(got.abs_diff(7_000_000) < 10_000, "{got} of 7000000");
}

/// A lane alone runs without a tick; the moment another wakes, the newcomer's guarantee holds.
#[test]
fn a_lane_that_was_alone_for_long_has_no_claim_and_no_debt() {
    for alone in (0..40_000).step_by(77) {
        let mut cpu = Scheduler::new();
        let first = cpu.add(server(4000, 10_000, 4)).unwrap();
        let second = cpu.add(server(6000, 10_000, 0)).unwrap();
        cpu.wake(first, 5);
        assert_eq!(cpu.decide(5).until, None);
        let mut now = 5 + alone;
        cpu.wake(second, now);
        let end = now + 10_000;
        let before = cpu.ran(first);
        while now < end {
            now = cpu.decide(now).until.unwrap().min(end);
        }
        cpu.settle(now);
        assert!(cpu.ran(second) >= 6000, "{} after {alone}", cpu.ran(second));
        // In a window that is not its own a server has at least its budget less what it had just before.
        assert!(cpu.ran(first) - before <= 4000);
    }
}

/// A wake-up from elsewhere is noted before the CPU comes to decide. What the lane that was alone has used of the time
/// between is nobody's loss.
#[test]
fn a_lane_that_was_alone_owes_nothing_for_the_way_to_the_decision() {
    let mut cpu = Scheduler::new();
    let first = cpu.add(server(4000, 10_000, 0)).unwrap();
    let second = cpu.add(server(5000, 10_000, 0)).unwrap();
    cpu.wake(first, 0);
    assert_eq!(cpu.decide(0).run, Some(first));
    cpu.wake(second, 6000);
    assert_eq!(cpu.decide(9000).run, Some(second));
    // Refilled at 10000 in full, and due at 20000; the other is due at 16000.
    let mut now = 9000;
    while now < 20_000 {
        now = cpu.decide(now).until.unwrap();
    }
    cpu.settle(now);
    assert!(cpu.ran(first) >= 9000 + 4000, "{}", cpu.ran(first));
}

#[test]
fn same_inputs_same_decisions() {
    let run = |seed| {
        let mut world = World::new(seed, 0, false);
        world.yields = true;
        world.populate(8);
        world.run_until(2_000_000);
        world.figures
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed).trace, run(seed + 1).trace);
    }
}

/// Who asks too often, or reads the accounts in between, changes nothing.
#[test]
fn superfluous_calls_change_nothing() {
    let run = |seed, superfluous| {
        let mut world = World::new(seed, 0, false);
        world.superfluous = superfluous;
        world.populate(1 + seed % 9);
        let mut ran = [0; MAX_SLOTS * 8];
        let mut place = ran.iter_mut();
        for part in 1..=8 {
            world.run_until(part * 100_000);
            for slot in crate::sched::Slot::each(u64::MAX) {
                *place.next().unwrap() = world.cpu.ran(slot);
            }
        }
        (world.figures.jobs, world.figures.least_slack, ran)
    };
    for seed in 0..60 {
        assert_eq!(run(seed, None), run(seed, Some(1)));
    }
}

/// Everything equal: the lower slot first, by budget and by turns.
#[test]
fn ties_go_to_the_lower_slot() {
    let mut cpu = Scheduler::new();
    let slots: [_; 4] = core::array::from_fn(|_| cpu.add(server(1000, 8000, 2)).unwrap());
    for slot in slots.iter().rev() {
        cpu.wake(*slot, 0);
    }
    let mut now = 0;
    // Four budgets of 1000, then half of the period in turns of 2000.
    for (slot, length) in [
        (0, 1000),
        (1, 1000),
        (2, 1000),
        (3, 1000),
        (0, 2000),
        (1, 2000),
    ] {
        let decision = cpu.decide(now);
        assert_eq!(decision.run, Some(slots[slot]));
        now += length;
        assert_eq!(decision.until, Some(now));
    }
}

/// A sleeper whose every wake-up makes the CPU switch to it and back, which takes longer than what it does in between.
/// Who pays for the switches decides whether the other one has its budget.
#[test]
fn who_causes_switches_pays_for_them() {
    const SWITCH: u64 = 30;
    let run = |sleeper_pays: bool| {
        let mut cpu = Scheduler::new();
        let worker = cpu.add(server(3_000, 10_000, 2)).unwrap();
        let sleeper = cpu.add(server(1_400, 2_000, 2)).unwrap();
        let (mut now, mut worked) = (0, 0);
        cpu.wake(worker, now);
        while now < 1_000_000 {
            cpu.wake(sleeper, now);
            let (mut decision, began) = (cpu.decide(now), now);
            if decision.run == Some(sleeper) {
                // There, ten ticks of its own, and back.
                now += SWITCH + 10;
                cpu.block(sleeper, now);
                decision = cpu.decide(now);
                now += SWITCH;
                if sleeper_pays {
                    cpu.charge_to(sleeper, now);
                    decision = cpu.decide(now);
                }
            }
            let end = (began + 90).max(now + 1);
            let end = decision
                .until
                .map_or(end, |until| until.clamp(now + 1, end));
            if decision.run == Some(worker) {
                worked += end - now;
            }
            now = end;
        }
        worked
    };
    assert!(run(true) >= 300_000, "{}", run(true));
    assert!(
        run(false) < 300_000,
        "the test shows nothing: {}",
        run(false)
    );
}

/// What a lane is charged beyond its budget comes off the next one, if it kept somebody waiting.
#[test]
fn a_charge_beyond_the_budget_is_a_debt() {
    let mut cpu = Scheduler::new();
    let worker = cpu.add(server(1_000, 2_000, 2)).unwrap();
    let sleeper = cpu.add(server(200, 2_000, 2)).unwrap();
    cpu.wake(sleeper, 0);
    cpu.wake(worker, 0);
    cpu.block(sleeper, 0);
    assert_eq!(cpu.decide(0).run, Some(worker));
    cpu.charge_to(sleeper, 250);
    assert!(!cpu.has_budget(sleeper));
    assert_eq!(cpu.ran(worker), 0, "that was not its time");
    cpu.wake(sleeper, 250);
    // Nothing before its deadline, and then what the debt leaves.
    assert_eq!(cpu.decide(250).run, Some(worker));
    cpu.decide(1_250);
    assert!(!cpu.has_budget(sleeper));
    let next = cpu.decide(2_000);
    assert!(cpu.has_budget(sleeper));
    assert!(next.run.is_some());
    // 200 less 50.
    cpu.block(worker, 2_000);
    cpu.block(sleeper, 2_000);
    cpu.charge_to(sleeper, 2_149);
    assert!(cpu.has_budget(sleeper));
    cpu.charge_to(sleeper, 2_150);
    assert!(!cpu.has_budget(sleeper));
}
