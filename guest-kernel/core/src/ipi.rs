//! The interprocessor-interrupt check.
//!
//! All lanes play at once. Each in turn pings every other lane and waits for the answer before the
//! next ping, so at any time a lane owes at most one answer to each peer, and because every SGI
//! names its sender ([`crate::interrupt`]) none may ever be lost or doubled.

use crate::MAX_LANES;
use core::sync::atomic::{AtomicU32, Ordering};

/// Rounds per ordered pair in a full check.
pub const FULL_ROUNDS: u32 = 64;
/// Rounds per ordered pair in a quick check.
pub const QUICK_ROUNDS: u32 = 8;

/// What one lane has received, by sender. Its interrupt handler writes; anyone may read.
#[derive(Default)]
pub struct Mailbox {
    pings: [AtomicU32; MAX_LANES],
    pongs: [AtomicU32; MAX_LANES],
}

impl Mailbox {
    /// An empty mailbox.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pings: [const { AtomicU32::new(0) }; MAX_LANES],
            pongs: [const { AtomicU32::new(0) }; MAX_LANES],
        }
    }

    /// A ping arrived. The handler answers it after this.
    pub fn ping_from(&self, lane: usize) {
        count_up(&self.pings, lane);
    }

    /// An answer arrived.
    pub fn pong_from(&self, lane: usize) {
        count_up(&self.pongs, lane);
    }

    /// Answers received from `lane` so far.
    #[must_use]
    pub fn pongs(&self, lane: usize) -> u32 {
        read(&self.pongs, lane)
    }

    /// Pings received from `lane` so far.
    #[must_use]
    pub fn pings(&self, lane: usize) -> u32 {
        read(&self.pings, lane)
    }
}

fn count_up(counters: &[AtomicU32; MAX_LANES], lane: usize) {
    if let Some(counter) = counters.get(lane) {
        // Release: what the sender's interrupt announced is visible to who reads the count.
        counter.fetch_add(1, Ordering::AcqRel);
    }
}

fn read(counters: &[AtomicU32; MAX_LANES], lane: usize) -> u32 {
    counters
        .get(lane)
        .map_or(0, |counter| counter.load(Ordering::Acquire))
}

/// What the check needs from the hardware, seen from one lane.
pub trait Ipi {
    /// Sends this lane's ping to `lane`.
    fn ping(&self, lane: usize);

    /// Takes interrupts until `done` or until patience ends; says whether it was `done`.
    fn wait_for(&self, done: impl Fn() -> bool) -> bool;
}

/// An answer that never came, or one too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lost {
    /// Who was waiting.
    pub from: usize,
    /// Who should have answered.
    pub to: usize,
    /// How many rounds were to be made.
    pub rounds: u32,
    /// How many answers had come.
    pub answered: u32,
}

/// One lane's part: `rounds` round trips with every other lane.
///
/// # Errors
/// The first peer that did not answer exactly once.
pub fn play(
    ipi: &impl Ipi,
    mailbox: &Mailbox,
    lane: usize,
    lanes: usize,
    rounds: u32,
) -> Result<(), Lost> {
    // Starting with the next lane spreads the load instead of having all ping lane 0 first.
    for peer in (1..lanes).map(|step| (lane + step) % lanes) {
        for round in 0..rounds {
            ipi.ping(peer);
            let arrived = ipi.wait_for(|| mailbox.pongs(peer) > round);
            let answered = mailbox.pongs(peer);
            if !arrived || answered != round + 1 {
                return Err(Lost {
                    from: lane,
                    to: peer,
                    rounds,
                    answered,
                });
            }
        }
    }
    Ok(())
}

/// After all have played: whether `lane` was pinged exactly as often as it should have been.
///
/// # Errors
/// The first sender whose count is off.
pub fn tally(mailbox: &Mailbox, lane: usize, lanes: usize, rounds: u32) -> Result<(), Lost> {
    for peer in (0..lanes).filter(|peer| *peer != lane) {
        let answered = mailbox.pings(peer);
        if answered != rounds {
            return Err(Lost {
                from: peer,
                to: lane,
                rounds,
                answered,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Delivers at once; loses or doubles the delivery with this number.
    struct Wire<'a> {
        boxes: &'a [Mailbox],
        me: usize,
        lose: Option<u32>,
        double: Option<u32>,
        sent: Cell<u32>,
    }

    impl Ipi for Wire<'_> {
        fn ping(&self, lane: usize) {
            let number = self.sent.replace(self.sent.get() + 1);
            if self.lose == Some(number) {
                return;
            }
            for _ in 0..=u32::from(self.double == Some(number)) {
                self.boxes[lane].ping_from(self.me);
                self.boxes[self.me].pong_from(lane);
            }
        }

        fn wait_for(&self, done: impl Fn() -> bool) -> bool {
            done()
        }
    }

    fn run(lose: Option<u32>, double: Option<u32>) -> Result<(), Lost> {
        let boxes: Vec<_> = (0..3).map(|_| Mailbox::new()).collect();
        for me in 0..3 {
            let wire = Wire {
                boxes: &boxes,
                me,
                lose,
                double,
                sent: Cell::new(0),
            };
            play(&wire, &boxes[me], me, 3, 5)?;
        }
        (0..3).try_for_each(|lane| tally(&boxes[lane], lane, 3, 5))
    }

    #[test]
    fn every_pair_answers() {
        assert_eq!(run(None, None), Ok(()));
    }

    #[test]
    fn a_lost_and_a_doubled_interrupt_are_found() {
        assert_eq!(
            run(Some(7), None),
            Err(Lost {
                from: 0,
                to: 2,
                rounds: 5,
                answered: 2
            })
        );
        assert_eq!(
            run(None, Some(1)),
            Err(Lost {
                from: 0,
                to: 1,
                rounds: 5,
                answered: 3
            })
        );
    }

    #[test]
    fn a_ping_that_only_the_tally_sees_is_found() {
        let mailbox = Mailbox::default();
        (0..6).for_each(|_| mailbox.ping_from(1));
        mailbox.ping_from(99);
        assert!(tally(&mailbox, 0, 2, 5).is_err() && tally(&mailbox, 0, 2, 6).is_ok());
        assert_eq!(mailbox.pongs(99), 0);
    }

    #[test]
    fn a_single_lane_has_no_one_to_ping() {
        let boxes = [Mailbox::new()];
        let wire = Wire {
            boxes: &boxes,
            me: 0,
            lose: None,
            double: None,
            sent: Cell::new(0),
        };
        assert_eq!(play(&wire, &boxes[0], 0, 1, 5), Ok(()));
        assert_eq!(wire.sent.get(), 0);
    }
}
