//! A CPU with lanes that do things, on the scheduler and in the textbook at once.

use std::vec::Vec;

use super::reference::Textbook;
use crate::sched::{Decision, Scheduler, Server, Slot};

/// SplitMix64: the same numbers for the same seed, for ever.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }
}

/// What a lane does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Habit {
    /// Wants the CPU always, and uses it.
    Spin,
    /// Wants the CPU always, and yields it to anybody.
    Noisy,
    /// Sporadic jobs, at least a period apart and within the budget: its deadlines count.
    Jobs,
    /// Sleeps and works as it likes, and yields to anybody.
    Erratic,
}

impl Habit {
    fn yields(self) -> bool {
        matches!(self, Self::Noisy | Self::Erratic)
    }

    fn sleeps(self) -> bool {
        matches!(self, Self::Jobs | Self::Erratic)
    }
}

#[derive(Clone, Debug)]
struct Task {
    slot: Slot,
    server: Server,
    habit: Habit,
    /// When it wakes, if it sleeps.
    wakes: Option<u64>,
    /// What it still wants to do, if it is awake.
    work: u64,
    woke: u64,
}

/// What there is to say afterwards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    pub jobs: u64,
    pub misses: u64,
    /// How many ticks before its deadline the latest job was done, or after it if negative.
    pub least_slack: Option<i64>,
    pub decisions: u64,
    /// A hash of all decisions and their times.
    pub trace: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.misses += other.misses;
        self.decisions += other.decisions;
        self.least_slack = match (self.least_slack, other.least_slack) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

pub struct World {
    pub cpu: Scheduler,
    pub now: u64,
    pub figures: Figures,
    textbook: Option<Textbook>,
    tasks: Vec<Task>,
    dice: Dice,
    /// For what nobody's behaviour depends on.
    odd: Dice,
    decision: Decision,
    decided: bool,
    /// One decision in so many is superfluous, if any is.
    pub superfluous: Option<u64>,
    /// Whether erratic lanes yield.
    pub yields: bool,
}

impl World {
    pub fn new(seed: u64, start: u64, compared: bool) -> Self {
        Self {
            cpu: Scheduler::new(),
            now: start,
            figures: Figures::default(),
            textbook: compared.then(Textbook::default),
            tasks: Vec::new(),
            dice: Dice(seed),
            odd: Dice(!seed),
            decision: Decision {
                run: None,
                until: None,
            },
            decided: false,
            superfluous: None,
            yields: false,
        }
    }

    /// Adds a lane if it is admitted. It wakes within its first period.
    pub fn add(&mut self, server: Server, habit: Habit) -> Option<Slot> {
        let slot = self.cpu.add(server).ok()?;
        if let Some(textbook) = &mut self.textbook {
            textbook.add(server);
        }
        let wakes = Some(self.now + self.dice.within(0, server.period));
        self.tasks.push(Task {
            slot,
            server,
            habit,
            wakes,
            work: 0,
            woke: 0,
        });
        Some(slot)
    }

    /// When a lane woke that always wants the CPU.
    pub fn wakes(&self, slot: Slot) -> u64 {
        self.tasks[slot.index()].wakes.unwrap()
    }

    /// Random lanes that together have nearly everything, or all of it.
    pub fn populate(&mut self, lanes: u64) {
        let harmonic = self.dice.one_in(3);
        let base = self.dice.within(1024, 2048) & !63;
        for nth in 1..=lanes {
            let period = if harmonic {
                base << self.dice.within(0, 3)
            } else {
                self.dice.within(1024, 16384)
            };
            let most = if nth == lanes {
                period
            } else {
                (2 * period / lanes).clamp(1, period)
            };
            let priority = u8::try_from(self.dice.within(0, 2)).unwrap();
            let habit = match self.dice.within(0, 9) {
                0 => Habit::Spin,
                1 => Habit::Noisy,
                2 | 3 => Habit::Erratic,
                _ => Habit::Jobs,
            };
            let mut budget = self.dice.within(1, most);
            if nth == lanes {
                // All that is left, by halving: admission is asked on the way.
                (budget, _) = self.most_admitted(period);
            }
            if budget > 0 {
                let server = Server {
                    budget,
                    period,
                    priority,
                };
                self.add(server, habit);
            }
        }
    }

    fn most_admitted(&self, period: u64) -> (u64, u64) {
        let others = || self.tasks.iter().map(|task| task.server);
        let (mut fits, mut exceeds) = (0, period + 1);
        while exceeds - fits > 1 {
            let budget = fits.midpoint(exceeds);
            let server = Server {
                budget,
                period,
                priority: 0,
            };
            if crate::sched::admission::admit(&mut others(), server).is_ok() {
                fits = budget;
            } else {
                exceeds = budget;
            }
        }
        (fits, exceeds)
    }

    /// Lets time go by.
    pub fn run_until(&mut self, end: u64) {
        while self.now < end {
            let acted = self.act();
            let due = self.decision.until.is_some_and(|until| until <= self.now);
            let extra = self.superfluous.is_some_and(|n| self.odd.one_in(n));
            if acted || due || !self.decided {
                self.decide();
            } else if extra {
                let before = self.decision;
                self.decide();
                assert_eq!(before.run, self.decision.run, "a superfluous call is none");
            }
            let next = self.next(end);
            self.pass_to(next);
        }
        self.cpu.settle(self.now);
    }

    /// Lanes that are done sleep, those whose time has come wake, and some yield.
    fn act(&mut self) -> bool {
        let mut acted = false;
        for index in 0..self.tasks.len() {
            let task = &self.tasks[index];
            if task.wakes.is_none() && task.work == 0 {
                self.sleep(index);
                acted = true;
            }
        }
        for index in 0..self.tasks.len() {
            if self.tasks[index].wakes == Some(self.now) {
                self.wake(index);
                acted = true;
            }
        }
        if self.yields && self.odd.one_in(3) {
            acted |= self.yields();
        }
        acted
    }

    fn yields(&mut self) -> bool {
        let Some(from) = self.decision.run else {
            return false;
        };
        let task = &self.tasks[from.index()];
        if !task.habit.yields() || task.wakes.is_some() {
            return false;
        }
        let to = usize::try_from(self.odd.roll()).unwrap() % self.tasks.len();
        let to = self.tasks[to].slot;
        self.cpu.yield_to(from, to, self.now);
        if let Some(textbook) = &mut self.textbook {
            textbook.yield_to(from.index(), to.index());
        }
        true
    }

    fn sleep(&mut self, index: usize) {
        let now = self.now;
        let task = &mut self.tasks[index];
        let Server { period, .. } = task.server;
        let wakes = match task.habit {
            Habit::Jobs => {
                let deadline = task.woke + period;
                let slack = i64::try_from(deadline).unwrap() - i64::try_from(now).unwrap();
                let least = self.figures.least_slack;
                self.figures.least_slack = Some(least.map_or(slack, |least| least.min(slack)));
                self.figures.jobs += 1;
                self.figures.misses += u64::from(slack < 0);
                let pause = if self.dice.one_in(2) {
                    0
                } else {
                    self.dice.within(0, period)
                };
                now.max(deadline + pause)
            }
            Habit::Spin | Habit::Noisy | Habit::Erratic => now + self.dice.within(0, 2 * period),
        };
        // What is to wake now has gone by already in this round.
        task.wakes = Some(wakes.max(now + 1));
        let slot = task.slot;
        self.cpu.block(slot, now);
        if let Some(textbook) = &mut self.textbook {
            textbook.block(index);
        }
    }

    fn wake(&mut self, index: usize) {
        let now = self.now;
        let task = &mut self.tasks[index];
        let Server { budget, period, .. } = task.server;
        task.wakes = None;
        task.woke = now;
        task.work = match task.habit {
            Habit::Spin | Habit::Noisy => u64::MAX,
            Habit::Jobs if self.dice.one_in(2) => budget,
            Habit::Jobs => self.dice.within(1, budget),
            Habit::Erratic => self.dice.within(1, period),
        };
        self.cpu.wake(task.slot, now);
        if let Some(textbook) = &mut self.textbook {
            textbook.wake(index, now);
        }
    }

    fn decide(&mut self) {
        self.decided = true;
        self.decision = self.cpu.decide(self.now);
        let figures = &mut self.figures;
        figures.decisions += 1;
        let who = self.decision.run.map_or(64, Slot::index) as u64;
        for word in [self.now, who, self.decision.until.unwrap_or(0)] {
            figures.trace = (figures.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
        let until = self.decision.until;
        let ready = |slot: Slot| self.cpu.is_ready(slot);
        assert!(self.decision.run.is_none_or(ready), "who runs is ready");
        assert!(
            until.is_none_or(|until| until > self.now),
            "no busy waiting"
        );
        let alone = self.cpu.ready().count_ones() < 2;
        assert_eq!(until.is_none(), alone, "no tick where nobody competes");
        if let (Some(textbook), Some(until)) = (&mut self.textbook, until) {
            textbook.who(self.now);
            let quiet = textbook.quiet(self.now);
            assert_eq!(until - self.now, quiet, "a tick when there is cause");
        }
    }

    /// When something happens next.
    fn next(&mut self, end: u64) -> u64 {
        let mut next = self.decision.until.map_or(end, |until| until.min(end));
        for task in &self.tasks {
            next = next.min(task.wakes.unwrap_or(next));
        }
        if let Some(running) = self.decision.run {
            next = next.min(self.now.saturating_add(self.tasks[running.index()].work));
        }
        if (self.superfluous.is_some() || self.yields) && next > self.now + 1 {
            // An odd moment for somebody to do something odd.
            next = next.min(self.now + self.odd.within(1, 4096));
        }
        next
    }

    /// Time goes by; the textbook must agree about who has it at every moment.
    fn pass_to(&mut self, next: u64) {
        let run = self.decision.run.map(Slot::index);
        if let Some(textbook) = &mut self.textbook {
            let mut t = self.now;
            while t < next {
                assert_eq!(textbook.who(t), run, "who runs at {t}");
                let step = textbook.quiet(t).min(next - t);
                textbook.pass(step);
                t += step;
            }
        }
        if let Some(running) = run {
            let task = &mut self.tasks[running];
            if task.habit.sleeps() {
                task.work -= next - self.now;
            }
        }
        self.now = next;
    }
}
