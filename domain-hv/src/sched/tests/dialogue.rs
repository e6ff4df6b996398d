//! Lanes that answer each other stand aside, and nobody else can tell.

use super::world::Dice;
use crate::sched::{Decision, Dialogue, Scheduler, Server, Slot};

/// How long a lane stands aside at most.
const ASIDE: u64 = 100;

fn server(budget: u64, period: u64) -> Server {
    Server {
        budget,
        period,
        priority: 0,
    }
}

/// A CPU whose lanes always want it, and two of which talk.
struct World {
    cpu: Scheduler,
    dialogue: Dialogue,
    /// Who stands aside, until when.
    aside: Option<(Slot, u64)>,
    asides: u32,
}

impl World {
    fn come_back(&mut self, slot: Slot, now: u64) {
        if self.aside.take_if(|(one, _)| *one == slot).is_some() {
            self.dialogue.back(slot);
            self.cpu.wake(slot, now);
        }
    }

    fn decide(&mut self, now: u64) -> Decision {
        let decision = self.cpu.decide(now);
        match self.dialogue.must_return(decision.run) {
            Some(slot) => {
                self.come_back(slot, now);
                self.cpu.decide(now)
            }
            None => decision,
        }
    }

    /// `by` sends `to` something.
    fn send(&mut self, by: Slot, to: Slot, now: u64) {
        if self.dialogue.asker(by) != Some(to) {
            return self.dialogue.ask(by, to);
        }
        self.come_back(to, now);
        if self.dialogue.answer(&mut self.cpu, by, to, now) {
            assert!(self.aside.is_none(), "one at a time");
            self.aside = Some((by, now + ASIDE));
            self.asides += 1;
        }
    }

    /// Lets a decision come true, until `end` or something happens.
    fn pass(&mut self, decision: Decision, dice: &mut Dice, now: u64, end: u64) -> u64 {
        let mut next = end.min(now + dice.within(1, 300));
        next = next.min(decision.until.unwrap_or(next)).max(now + 1);
        if let Some((slot, until)) = self.aside {
            next = next.min(until.max(now + 1));
            if until <= next {
                self.cpu.settle(next);
                self.come_back(slot, next);
            }
        }
        next
    }
}

/// Lanes 0 and 1 have all that the third leaves, and talk all the time.
#[test]
fn a_third_lane_has_its_budget_in_every_period_whoever_stands_aside() {
    let mut asides = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let period = dice.within(1024, 8192);
        let third = server(dice.within(1, period / 2), period);
        let mut world = World {
            cpu: Scheduler::new(),
            dialogue: Dialogue::new(),
            aside: None,
            asides: 0,
        };
        let mut talkers = [0; 2].map(|_| {
            let period = dice.within(1024, 8192);
            let server = server(dice.within(1, period / 4), period);
            world.cpu.add(server).unwrap()
        });
        let victim = world.cpu.add(third).unwrap();
        let mut now = 0;
        for slot in talkers.into_iter().chain([victim]) {
            world.cpu.wake(slot, now);
        }
        for nth in 0..60 {
            let before = world.cpu.ran(victim);
            let end = now + third.period;
            while now < end {
                let decision = world.decide(now);
                let run = decision.run.unwrap();
                now = world.pass(decision, &mut dice, now, end);
                if talkers.contains(&run) && !dice.one_in(3) {
                    if talkers[0] != run {
                        talkers.reverse();
                    }
                    world.send(talkers[0], talkers[1], now);
                }
            }
            world.cpu.settle(now);
            let got = world.cpu.ran(victim) - before;
            assert!(got >= third.budget, "{got} of {third:?} in {nth}, {seed}");
        }
        asides += world.asides;
    }
    assert!(asides > 10_000, "{asides}");
}

fn three() -> (Scheduler, [Slot; 3]) {
    let mut cpu = Scheduler::new();
    let slots = [4000, 5000, 6000].map(|period| cpu.add(server(1000, period)).unwrap());
    for slot in slots {
        cpu.wake(slot, 0);
    }
    (cpu, slots)
}

#[test]
fn who_has_answered_leaves_the_cpu_to_who_has_asked() {
    let (mut cpu, [asked, asker, other]) = three();
    cpu.block(other, 0);
    let mut dialogue = Dialogue::new();
    dialogue.ask(asker, asked);
    assert_eq!(dialogue.asker(asked), Some(asker));
    assert_eq!(dialogue.asker(asker), None);
    assert_eq!(cpu.decide(0).run, Some(asked));
    assert!(dialogue.answer(&mut cpu, asked, asker, 100));
    let run = cpu.decide(100).run;
    assert_eq!(run, Some(asker));
    assert_eq!(dialogue.must_return(run), None);
    // On its own account.
    cpu.settle(300);
    assert_eq!([asked, asker].map(|slot| cpu.ran(slot)), [100, 200]);
    // And in its turn.
    assert_eq!(dialogue.asker(asker), Some(asked));
    // As soon as it would not run, it is a lane among others.
    cpu.block(asker, 300);
    let run = cpu.decide(300).run;
    assert_eq!(dialogue.must_return(run), Some(asked));
    assert_eq!(dialogue.must_return(run), None);
}

#[test]
fn nobody_stands_aside_for_one_that_is_not_next() {
    let (mut cpu, [other, asked, asker]) = three();
    cpu.block(other, 0);
    let mut dialogue = Dialogue::new();
    dialogue.ask(asker, asked);
    assert_eq!(cpu.decide(0).run, Some(asked));
    cpu.wake(other, 100);
    assert!(dialogue.answer(&mut cpu, asked, asker, 100));
    assert_eq!(dialogue.must_return(cpu.decide(100).run), Some(asked));
}

#[test]
fn what_one_was_promised_goes_to_no_other() {
    let (mut cpu, [asked, asker, _]) = three();
    cpu.charge_to(asker, 1000);
    assert!(!cpu.has_budget(asker) && cpu.has_budget(asked));
    let mut dialogue = Dialogue::new();
    assert!(!dialogue.answer(&mut cpu, asked, asker, 1000));
    assert!(dialogue.answer(&mut cpu, asker, asked, 1000));
    assert!(dialogue.is_aside(asker));
    dialogue.back(asked);
    assert!(dialogue.is_aside(asker));
    dialogue.back(asker);
    assert!(!dialogue.is_aside(asker));
}

#[test]
fn lanes_that_do_not_want_to_run_do_not_stand_aside() {
    let (mut cpu, [one, two, three]) = three();
    cpu.block(three, 0);
    let mut dialogue = Dialogue::new();
    assert!(!dialogue.answer(&mut cpu, one, three, 10));
    assert!(!dialogue.answer(&mut cpu, three, one, 10));
    assert!(!dialogue.answer(&mut cpu, one, one, 10));
    assert_eq!(cpu.ready(), one.bit() | two.bit());
    assert_eq!(dialogue.must_return(None), None);
}
