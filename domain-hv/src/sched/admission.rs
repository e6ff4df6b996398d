//! Whether a CPU can keep all its promises: the sum of all `budget / period` is at most one.
//!
//! Judged exactly. A sum of rounded fractions would refuse three lanes of a third each, or promise a CPU more
//! than once; so the sum is kept as one fraction of two long integers, which are as long as the longest sum
//! needs. It is slow and runs when a lane is placed, never after.

use core::fmt;

use super::{MAX_SLOTS, PRIORITIES, Server};

/// The shortest period, in ticks. A CPU that is asked to switch lanes every few ticks does nothing else.
pub const MIN_PERIOD: u64 = 1 << 10;
/// The longest period, in ticks: more than a quarter of an hour where the counter runs at 1 GHz.
pub const MAX_PERIOD: u64 = 1 << 40;

/// Words of a long integer: a product of [`MAX_SLOTS`] periods of at most 41 bits, and its double.
const WORDS: usize = MAX_SLOTS * 41 / 64 + 1;

/// Why a lane is not admitted to a CPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdmissionError {
    /// The CPU carries [`MAX_SLOTS`] lanes already.
    Full,
    /// The period is shorter than [`MIN_PERIOD`] or longer than [`MAX_PERIOD`].
    Period {
        /// What was asked for.
        period: u64,
    },
    /// The budget is nothing, or more than the period.
    Budget {
        /// What was asked for.
        budget: u64,
        /// In each.
        period: u64,
    },
    /// There is no such priority.
    Priority {
        /// What was asked for.
        priority: u8,
    },
    /// With this lane the CPU would have promised more time than there is.
    Overload {
        /// What was asked for.
        budget: u64,
        /// In each.
        period: u64,
    },
}

impl Server {
    /// Whether this promise makes sense on its own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub const fn check(&self) -> Result<(), AdmissionError> {
        let Self {
            budget,
            period,
            priority,
        } = *self;
        if period < MIN_PERIOD || period > MAX_PERIOD {
            return Err(AdmissionError::Period { period });
        }
        if budget == 0 || budget > period {
            return Err(AdmissionError::Budget { budget, period });
        }
        if priority as usize >= PRIORITIES {
            return Err(AdmissionError::Priority { priority });
        }
        Ok(())
    }
}

/// Whether one CPU can promise `server` beside all the `others`, which it has promised already.
///
/// # Errors
/// Why not.
#[inline(never)]
pub fn admit(
    others: &mut dyn Iterator<Item = Server>,
    server: Server,
) -> Result<(), AdmissionError> {
    server.check()?;
    let mut sum = Sum::new();
    let mut lanes = 0usize;
    for other in others {
        other.check()?;
        lanes = lanes.saturating_add(1);
        if lanes >= MAX_SLOTS {
            return Err(AdmissionError::Full);
        }
        sum.add(&other);
    }
    sum.add(&server);
    if sum.at_most_one() {
        Ok(())
    } else {
        Err(AdmissionError::Overload {
            budget: server.budget,
            period: server.period,
        })
    }
}

/// `above / below`.
struct Sum {
    above: Long,
    below: Long,
}

impl Sum {
    fn new() -> Self {
        Self {
            above: Long::of(0),
            below: Long::of(1),
        }
    }

    /// `a/b + q/t = (a·t + q·b) / (b·t)`.
    fn add(&mut self, server: &Server) {
        self.above.multiply(server.period);
        self.above.add_multiple(&self.below, server.budget);
        self.below.multiply(server.period);
    }

    fn at_most_one(&self) -> bool {
        // Most significant word first, as one compares numbers by hand.
        self.above.0.iter().rev().le(self.below.0.iter().rev())
    }
}

/// A long integer, least significant word first.
struct Long([u64; WORDS]);

impl Long {
    fn of(value: u64) -> Self {
        let mut words = [0; WORDS];
        words[0] = value;
        Self(words)
    }

    fn multiply(&mut self, by: u64) {
        let mut carry = 0u64;
        for word in &mut self.0 {
            (*word, carry) = word.carrying(by, carry, 0);
        }
    }

    fn add_multiple(&mut self, other: &Self, by: u64) {
        let mut carry = 0u64;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            (*word, carry) = other.carrying(by, carry, *word);
        }
    }
}

/// One step of a multiplication by hand.
trait Carrying {
    /// `self · by + carry + more`, as its low word and what is carried. It fits two words: `(2⁶⁴ − 1)² + 2·(2⁶⁴ − 1)`
    /// is `2¹²⁸ − 1`.
    fn carrying(&self, by: u64, carry: u64, more: u64) -> (u64, u64);
}

impl Carrying for u64 {
    fn carrying(&self, by: u64, carry: u64, more: u64) -> (u64, u64) {
        let wide = u128::from(*self) * u128::from(by) + u128::from(carry) + u128::from(more);
        let [low, high] = halves(wide);
        (low, high)
    }
}

/// The low and the high word.
fn halves(wide: u128) -> [u64; 2] {
    let low = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(u64::MAX);
    let high = u64::try_from(wide >> 64).unwrap_or(u64::MAX);
    [low, high]
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (text, value) = match *self {
            Self::Full => (
                "the CPU carries as many lanes as it can: ",
                MAX_SLOTS as u64,
            ),
            Self::Period { period } => ("no period has so many ticks: ", period),
            Self::Budget { budget, .. } => ("no budget of its period has so many ticks: ", budget),
            Self::Priority { priority } => ("there is no priority ", u64::from(priority)),
            Self::Overload { budget, .. } => (
                "too much is promised already for so many ticks a period: ",
                budget,
            ),
        };
        write!(f, "{text}{value}")
    }
}
