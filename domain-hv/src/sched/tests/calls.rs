//! Any call, at any time, in any order.

use std::vec::Vec;

use proptest::prelude::*;

use super::world::Dice;
use crate::sched::{MAX_PERIOD, MAX_SLOTS, MIN_PERIOD, Scheduler, Server, Slot};

/// A clock that mostly goes on, sometimes stands still or goes back, and sometimes reads nonsense.
fn next_time(dice: &mut Dice, now: u64) -> u64 {
    match dice.within(0, 20) {
        0 => now.saturating_sub(dice.within(0, 5000)),
        1 => now,
        2 if dice.one_in(50) => u64::MAX - dice.within(0, 3),
        3 if dice.one_in(50) => dice.roll(),
        _ => now.saturating_add(dice.within(0, 2000)),
    }
}

#[test]
fn no_call_is_refused_an_answer_whatever_the_clock_says() {
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let mut cpu = Scheduler::new();
        let mut now = if dice.one_in(2) { dice.roll() } else { 0 };
        for _ in 0..dice.within(0, 6) {
            let period = if dice.one_in(8) {
                MAX_PERIOD
            } else {
                dice.within(MIN_PERIOD, 9000)
            };
            let _ = cpu.add(Server {
                budget: dice.within(1, period / 2),
                period,
                priority: u8::try_from(dice.within(0, 4)).unwrap(),
            });
        }
        for _ in 0..300 {
            now = next_time(&mut dice, now);
            let slot = Slot::new(usize::try_from(dice.within(0, 7)).unwrap()).unwrap();
            let other = Slot::new(usize::try_from(dice.within(0, 63)).unwrap()).unwrap();
            match dice.within(0, 5) {
                0 | 1 => cpu.wake(slot, now),
                2 => cpu.block(slot, now),
                3 => cpu.yield_to(slot, if dice.one_in(2) { other } else { slot }, now),
                4 => drop(cpu.settle(now)),
                _ => {
                    let decision = cpu.decide(now);
                    let time = cpu.settle(now);
                    assert!(decision.run.is_none_or(|slot| cpu.is_ready(slot)));
                    assert_eq!(decision.run.is_none(), cpu.ready() == 0);
                    assert!(
                        decision
                            .until
                            .is_none_or(|until| until > time || time == u64::MAX)
                    );
                    assert!(decision.until.is_none() || cpu.ready().count_ones() > 1);
                }
            }
            assert_eq!(
                cpu.ready() >> cpu.lanes(),
                0,
                "nobody runs who was not admitted"
            );
        }
    }
}

/// Two schedulers with the same lanes.
fn twins(dice: &mut Dice) -> [Scheduler; 2] {
    let mut twins = [Scheduler::new(), Scheduler::new()];
    for _ in 0..dice.within(1, 5) {
        let period = dice.within(MIN_PERIOD, 9000);
        let server = Server {
            budget: dice.within(1, period / 2),
            period,
            priority: u8::try_from(dice.within(0, 2)).unwrap(),
        };
        for cpu in &mut twins {
            let _ = cpu.add(server);
        }
    }
    twins
}

fn assert_alike([one, other]: &mut [Scheduler; 2], now: u64) {
    assert_eq!(one.decide(now), other.decide(now));
    for slot in (0..MAX_SLOTS).filter_map(Slot::new) {
        assert_eq!(one.ran(slot), other.ran(slot));
        let account = |cpu: &Scheduler| {
            let account = cpu.account(slot);
            let kept = (account.left, account.deadline, account.debt, account.spare);
            (kept, cpu.has_budget(slot), cpu.is_ready(slot))
        };
        assert_eq!(account(one), account(other), "{slot:?}");
    }
}

#[test]
fn a_wake_by_interrupt_is_a_charge_and_a_wake() {
    for seed in 0..2000 {
        let mut dice = Dice(seed);
        let mut cpus = twins(&mut dice);
        let mut now = dice.within(0, 9000);
        for _ in 0..200 {
            now = next_time(&mut dice, now);
            let slot = Slot::new(usize::try_from(dice.within(0, 5)).unwrap()).unwrap();
            let other = Slot::new(usize::try_from(dice.within(0, 5)).unwrap()).unwrap();
            let came = now.saturating_sub(dice.within(0, 300));
            let [one, twin] = &mut cpus;
            match dice.within(0, 3) {
                0 | 1 => {
                    one.wake_by_interrupt(slot, came, now);
                    twin.settle(came);
                    twin.charge_to(slot, now);
                    twin.wake(slot, now);
                }
                2 => [one, twin]
                    .map(|cpu| cpu.block(slot, now))
                    .into_iter()
                    .collect(),
                _ => [one, twin]
                    .map(|cpu| cpu.yield_to(slot, other, now))
                    .into_iter()
                    .collect(),
            }
            assert_alike(&mut cpus, now);
        }
    }
}

/// Who charges a switch to the lane that left need not decide again: not later than that decision would end, and as soon
/// as it would be another one, the time that is known is over.
#[test]
fn a_decision_that_is_put_off_ends_when_a_new_one_would() {
    let mut later = 0;
    for seed in 0..4000 {
        let mut dice = Dice(seed);
        let [mut cpu, mut twin] = twins(&mut dice);
        let mut now = dice.within(0, 9000);
        for _ in 0..100 {
            now += dice.within(0, 2000);
            let slot = Slot::new(usize::try_from(dice.within(0, 4)).unwrap()).unwrap();
            let payer = Slot::new(usize::try_from(dice.within(0, 4)).unwrap()).unwrap();
            let wakes = !dice.one_in(3);
            let switch = dice.within(0, 200);
            for cpu in [&mut cpu, &mut twin] {
                if wakes {
                    cpu.wake(slot, now);
                } else {
                    cpu.block(slot, now);
                }
            }
            let decision = cpu.decide(now);
            assert_eq!(twin.decide(now), decision);
            let then = now + switch;
            if decision.run.is_none_or(|run| run == payer) || cpu.is_put_off(payer) {
                continue;
            }
            cpu.charge_to(payer, then);
            twin.charge_to(payer, then);
            let until = cpu.put_off(decision.until.unwrap_or(u64::MAX), switch);
            let again = twin.decide(then);
            if until > then {
                assert_eq!(again.run, decision.run);
                assert_eq!(until, again.until.unwrap_or(u64::MAX));
                later += u32::from(decision.until.is_some_and(|before| before < until));
            }
            now = then;
            assert_eq!(cpu.decide(now), again);
        }
    }
    assert!(later > 1000, "{later}");
}

#[test]
fn slots_and_their_bits() {
    assert_eq!(Slot::new(MAX_SLOTS), None);
    assert_eq!(Slot::new(usize::MAX), None);
    for index in 0..MAX_SLOTS {
        let slot = Slot::new(index).unwrap();
        assert_eq!(slot.index(), index);
        assert_eq!(slot.bit(), 1 << index);
    }
    let slots: Vec<_> = Slot::each(0x8000_0000_0000_0005).map(Slot::index).collect();
    assert_eq!(slots, [0, 2, 63]);
    assert_eq!(Slot::each(0).count(), 0);
}

#[test]
fn the_next_slot_goes_around() {
    let slot = |index| Slot::new(index).unwrap();
    let among = 0x8000_0000_0000_0015;
    for (from, to) in [(0, 2), (2, 4), (4, 63), (63, 0), (1, 2), (3, 4), (62, 63)] {
        assert_eq!(slot(from).next(among), Some(slot(to)));
    }
    assert_eq!(slot(5).next(1 << 5), None);
    assert_eq!(slot(63).next(0), None);
}

#[test]
fn the_first_call_says_when_time_begins() {
    let mut cpu = Scheduler::new();
    assert_eq!(cpu.decide(1 << 60).run, None);
    assert_eq!(cpu.idle(), 0);
    cpu.settle((1 << 60) + 5);
    assert_eq!(cpu.idle(), 5);
}

proptest! {
    #[test]
    fn promises_that_fit_in_microseconds_fit_in_ticks(hz in 1_100_000u64..2_000_000_000, lanes in prop::collection::vec((1u32..1_000_000, 1000u32..1_000_000), 1..20)) {
        let mut cpu = Scheduler::new();
        // In units of 2^-64: rounded up, so that what is counted fits surely.
        let mut sum = 0u128;
        for (budget, period) in lanes {
            let share = (u128::from(budget.min(period)) << 64).div_ceil(u128::from(period));
            if sum + share <= 1 << 64 {
                sum += share;
                prop_assert!(cpu.add(Server::from_micros(budget.min(period), period, 0, hz)).is_ok());
            }
        }
    }
}
