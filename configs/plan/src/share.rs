//! How much of a CPU a lane has, and whether what several lanes were promised fits on one CPU.
//!
//! Shared lanes are served as constant-bandwidth servers under EDF: each is guaranteed a budget of
//! microseconds in every period of microseconds. On one CPU that is schedulable exactly when the fractions
//! budget/period add up to at most 1 (Liu and Layland 1973, theorem 7; Abeni and Buttazzo 1998, theorem 1),
//! so they are added without rounding.

use core::fmt;

/// The shortest period of a shared lane, in microseconds.
pub const MIN_PERIOD_US: u32 = 1_000;
/// The longest period of a shared lane, in microseconds.
pub const MAX_PERIOD_US: u32 = 1_000_000;
/// The highest priority of a shared lane. The lowest is 0.
pub const MAX_PRIORITY: u8 = 4;
/// Shares at most on one CPU: what all guests of a plan can have.
const MAX_SHARES: usize = crate::MAX_GUESTS * crate::MAX_LANES;

/// How much of its CPU a lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it, and nobody else is there.
    Dedicated,
    /// A part, beside others.
    Shared {
        /// The microseconds it is guaranteed in every period: more than 0, at most `period_us`.
        budget_us: u32,
        /// The period, in microseconds: [`MIN_PERIOD_US`] to [`MAX_PERIOD_US`].
        period_us: u32,
        /// Who comes first when time is spare: 0 to [`MAX_PRIORITY`], the highest first.
        priority: u8,
    },
}

impl Share {
    /// Whether each number is in its range.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        match self {
            Self::Dedicated => true,
            Self::Shared {
                budget_us,
                period_us,
                priority,
            } => {
                budget_us > 0
                    && budget_us <= period_us
                    && period_us >= MIN_PERIOD_US
                    && period_us <= MAX_PERIOD_US
                    && priority <= MAX_PRIORITY
            }
        }
    }

    /// Budget and period; a dedicated lane has all of any period.
    const fn fraction(self) -> (u32, u32) {
        match self {
            Self::Dedicated => (1, 1),
            Self::Shared {
                budget_us,
                period_us,
                ..
            } => (budget_us, period_us),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dedicated => write!(f, "a whole CPU"),
            Self::Shared {
                budget_us,
                period_us,
                priority,
            } => write!(f, "{budget_us} of {period_us} us at priority {priority}"),
        }
    }
}

/// Whether lanes with these shares fit on one CPU: all numbers valid, and the fractions at most 1 in all, exactly.
/// A dedicated lane fits only alone.
#[must_use]
pub fn fit(shares: impl Iterator<Item = Share>) -> bool {
    let mut sum = Sum::ZERO;
    for (nth, share) in shares.enumerate() {
        // More than a plan can have would not fit into the sum's words.
        if nth >= MAX_SHARES || !share.is_valid() {
            return false;
        }
        sum.add(share);
    }
    sum.is_at_most_one()
}

/// Words of a [`Sum`]. A period has 20 bits, so 64 of them multiplied have at most 1280, which are 40 words; the
/// numerator is at most 64 times that.
const WORDS: usize = 41;

/// A sum of fractions that is never rounded: numerator and denominator in words of 32 bits, the lowest first.
///
/// Periods are free, so no integer of the machine holds their common multiple. Rounding would either refuse three
/// thirds or accept a little more than everything.
pub(crate) struct Sum {
    over: [u32; WORDS],
    under: [u32; WORDS],
}

impl Sum {
    pub(crate) const ZERO: Self = {
        let mut under = [0; WORDS];
        under[0] = 1;
        Self {
            over: [0; WORDS],
            under,
        }
    };

    /// Adds a valid share, of [`MAX_SHARES`] at most: n/d + b/p = (n·p + d·b) / (d·p).
    pub(crate) fn add(&mut self, share: Share) {
        let (budget, period) = share.fraction();
        let (mut over_carry, mut under_carry) = (0u64, 0u64);
        for (over, under) in self.over.iter_mut().zip(&mut self.under) {
            let (n, d) = (u64::from(*over), u64::from(*under));
            // Each factor on the right has 20 bits, so no sum leaves 64.
            over_carry = over_carry
                .saturating_add(n.saturating_mul(u64::from(period)))
                .saturating_add(d.saturating_mul(u64::from(budget)));
            under_carry = under_carry.saturating_add(d.saturating_mul(u64::from(period)));
            (*over, over_carry) = low_and_rest(over_carry);
            (*under, under_carry) = low_and_rest(under_carry);
        }
    }

    pub(crate) fn is_at_most_one(&self) -> bool {
        self.over.iter().rev().le(self.under.iter().rev())
    }
}

/// The lowest 32 bits, and what is above them.
fn low_and_rest(n: u64) -> (u32, u64) {
    let low = u32::try_from(n & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (low, n >> 32)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn shared(budget_us: u32, period_us: u32) -> Share {
        Share::Shared {
            budget_us,
            period_us,
            priority: 2,
        }
    }

    fn fits(fractions: &[(u32, u32)]) -> bool {
        fit(fractions.iter().map(|(b, p)| shared(*b, *p)))
    }

    #[test]
    fn sums_are_exact() {
        assert!(fits(&[]));
        assert!(fits(&[(10_000, 10_000)]));
        assert!(fits(&[(1_000, 3_000), (1_111, 3_333), (333_333, 999_999)]));
        assert!(!fits(&[(1_000, 3_000), (1_112, 3_333), (333_333, 999_999)]));
        // 1/1009 + 1008/1009, the second at an unrelated scale: exactly one.
        assert!(fits(&[(991, 991 * 1_009), (1_008, 1_009)]));
        assert!(!fits(&[(992, 991 * 1_009), (1_008, 1_009)]));
    }

    #[test]
    fn a_dedicated_lane_fits_only_alone() {
        assert!(fit([Share::Dedicated].into_iter()));
        assert!(!fit([Share::Dedicated, shared(1, 1_000_000)].into_iter()));
        assert!(!fit([Share::Dedicated; 2].into_iter()));
    }

    #[test]
    fn sixty_four_long_periods_do_not_overflow() {
        // Different periods near the longest: the denominator has all its 1280 bits.
        let mut all: Vec<_> = (0..64).map(|n| (15_000, 999_999 - n)).collect();
        assert!(fits(&all));
        all[0].0 = 999_999;
        assert!(!fits(&all));
        assert!(fits(&[(15_625, 1_000_000); 64]), "64 times 1/64");
        assert!(!fits(&[(1, 1_000_000); 65]), "more than a plan has");
    }

    #[test]
    fn each_number_has_its_range() {
        for (budget_us, period_us, priority, valid) in [
            (1, 1_000, 0, true),
            (1_000, 1_000, 4, true),
            (0, 1_000, 2, false),
            (1_001, 1_000, 2, false),
            (1, 999, 2, false),
            (1, 1_000_001, 2, false),
            (1, 1_000_000, 5, false),
            (u32::MAX, u32::MAX, 0, false),
        ] {
            let share = Share::Shared {
                budget_us,
                period_us,
                priority,
            };
            assert_eq!(share.is_valid(), valid, "{share}");
            assert_eq!(fit([share].into_iter()), valid, "{share}");
        }
    }

    proptest! {
        /// Against 128 bits, which hold the common multiple of few periods.
        #[test]
        fn sums_are_those_of_wide_integers(
            fractions in prop::collection::vec((1u32..=1_000_000, 1_000u32..=1_000_000), 1..6),
            scale in 1u32..8,
        ) {
            let fractions: Vec<_> = fractions.iter().map(|(b, p)| ((b / scale).clamp(1, *p), *p)).collect();
            let under: u128 = fractions.iter().map(|(_, p)| u128::from(*p)).product();
            let over: u128 = fractions.iter().map(|(b, p)| under / u128::from(*p) * u128::from(*b)).sum();
            prop_assert_eq!(fits(&fractions), over <= under);
        }
    }
}
