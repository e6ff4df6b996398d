//! A textbook: EDF over hard constant-bandwidth servers, spare time in turns, donations. Written for reading: it knows
//! no bits, no laziness and no cache, looks at every lane every time, and attends to every deadline when it comes.

use std::vec::Vec;

use crate::sched::Server;

#[derive(Clone, Debug)]
struct Lane {
    server: Server,
    ready: bool,
    q: u64,
    d: u64,
    spare: u64,
}

/// What pays for the time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Means {
    Budget,
    Unwanted,
    Turn,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    payer: usize,
    runner: usize,
    means: Means,
}

#[derive(Clone, Debug, Default)]
pub struct Textbook {
    lanes: Vec<Lane>,
    turn: (usize, u64),
    floors: [u64; 5],
    gift: Option<(usize, usize, u64)>,
    choice: Option<Choice>,
}

impl Textbook {
    pub fn add(&mut self, server: Server) {
        self.lanes.push(Lane {
            server,
            ready: false,
            q: 0,
            d: 0,
            spare: 0,
        });
    }

    fn turn_length(&self) -> u64 {
        let periods = self.lanes.iter().map(|lane| lane.server.period);
        periods.min().unwrap() / 4
    }

    pub fn wake(&mut self, lane: usize, t: u64) {
        let lane = &mut self.lanes[lane];
        assert!(!lane.ready);
        lane.ready = true;
        let Server { budget, period, .. } = lane.server;
        let keep = lane.d > t
            && u128::from(lane.q) * u128::from(period)
                <= u128::from(lane.d - t) * u128::from(budget);
        if !keep {
            lane.q = budget;
            lane.d = t + period;
        }
    }

    pub fn block(&mut self, lane: usize) {
        assert!(self.lanes[lane].ready);
        self.lanes[lane].ready = false;
        if let Some((donor, heir, _)) = self.gift
            && (donor == lane || heir == lane)
        {
            self.gift = None;
        }
    }

    pub fn yield_to(&mut self, from: usize, to: usize) {
        let Some(choice) = self.choice else { return };
        if choice.runner == from && self.lanes[to].ready && from != to {
            let left = match self.gift {
                Some((donor, heir, left)) if (donor, heir) == (choice.payer, from) => left,
                _ if choice.payer != from => return,
                _ => self.turn_length(),
            };
            self.gift = Some((choice.payer, to, left)).filter(|_| choice.payer != to);
        }
    }

    /// Who runs at `t`. To be asked after every event.
    pub fn who(&mut self, t: u64) -> Option<usize> {
        for lane in &mut self.lanes {
            if lane.ready && lane.q == 0 && lane.d <= t {
                assert_eq!(lane.d, t, "no deadline is overlooked");
                lane.q = lane.server.budget;
                lane.d += lane.server.period;
            }
            assert!(
                !lane.ready || lane.q <= lane.d - t,
                "no budget is beyond reach"
            );
        }
        self.choice = self.choose();
        self.choice.map(|choice| choice.runner)
    }

    fn choose(&mut self) -> Option<Choice> {
        let ready = |index: &usize| self.lanes[*index].ready;
        let ready: Vec<usize> = (0..self.lanes.len()).filter(ready).collect();
        let funded = ready.iter().filter(|index| self.lanes[**index].q > 0);
        let earliest = funded.min_by_key(|index| (self.lanes[**index].d, **index));
        let (payer, means) = match earliest {
            Some(payer) => (*payer, Means::Budget),
            None => self.choose_spare(&ready)?,
        };
        let runner = match self.gift {
            Some((donor, heir, _)) if donor == payer => heir,
            _ => payer,
        };
        Some(Choice {
            payer,
            runner,
            means,
        })
    }

    fn choose_spare(&mut self, ready: &[usize]) -> Option<(usize, Means)> {
        let highest = ready
            .iter()
            .map(|index| self.lanes[*index].server.priority)
            .max()?;
        let rivals: Vec<usize> = ready
            .iter()
            .copied()
            .filter(|index| self.lanes[*index].server.priority == highest)
            .collect();
        if let [only] = rivals[..] {
            return Some((only, Means::Unwanted));
        }
        let (holder, left) = self.turn;
        if left > 0 && rivals.contains(&holder) {
            return Some((holder, Means::Turn));
        }
        let floor = &mut self.floors[usize::from(highest)];
        for rival in &rivals {
            // What it missed while it was away is gone.
            let lane = &mut self.lanes[*rival];
            lane.spare = lane.spare.max(*floor);
        }
        let next = rivals
            .into_iter()
            .min_by_key(|index| (self.lanes[*index].spare, *index))?;
        *floor = self.lanes[next].spare;
        self.turn = (next, self.turn_length());
        Some((next, Means::Turn))
    }

    /// For how long the choice stands if nothing happens from outside.
    pub fn quiet(&self, t: u64) -> u64 {
        let throttled = self.lanes.iter().filter(|lane| lane.ready && lane.q == 0);
        let mut quiet = throttled.map(|lane| lane.d - t).min().unwrap_or(u64::MAX);
        if let Some(Choice { payer, means, .. }) = self.choice {
            match means {
                Means::Budget => quiet = quiet.min(self.lanes[payer].q),
                Means::Turn => quiet = quiet.min(self.turn.1),
                Means::Unwanted => {}
            }
            if let Some((donor, _, left)) = self.gift
                && donor == payer
            {
                quiet = quiet.min(left);
            }
        }
        quiet
    }

    /// Time goes by, not more than is quiet.
    pub fn pass(&mut self, ticks: u64) {
        let Some(Choice { payer, means, .. }) = self.choice else {
            return;
        };
        let mut over = false;
        match means {
            Means::Budget => {
                self.lanes[payer].q -= ticks;
                over = self.lanes[payer].q == 0;
            }
            Means::Turn => {
                self.lanes[payer].spare += ticks;
                self.turn.1 -= ticks;
                over = self.turn.1 == 0;
            }
            Means::Unwanted => {}
        }
        if let Some((donor, _, left)) = &mut self.gift
            && *donor == payer
        {
            *left -= ticks;
            if over || *left == 0 {
                self.gift = None;
            }
        }
    }
}
