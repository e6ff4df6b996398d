//! How much may pass in a time.

/// What passes in a second, and at once after a pause: a bucket of tokens, kept as the time at which it will be full.
pub(crate) struct Meter {
    /// In a second; 0: any number.
    rate: u64,
    /// At once.
    burst: u64,
    /// Ticks for one, of 2^16.
    cost: u64,
    /// The tick at which all that has passed is paid for.
    due: u64,
    /// A part of a tick besides.
    rest: u64,
}

/// Bits of a tick's parts.
const PARTS: u32 = 16;

/// The time, and how it is counted.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub now: u64,
    pub frequency: u64,
}

impl Clock {
    /// The time in units of four seconds.
    pub fn quads(self) -> u64 {
        (self.now >> 2).checked_div(self.frequency).unwrap_or(0)
    }
}

impl Meter {
    /// One that lets pass `rate` in a second, and `burst` at once. A rate of 0 lets pass everything.
    pub const fn new(rate: u64, burst: u64) -> Self {
        Self {
            rate,
            burst,
            cost: 0,
            due: 0,
            rest: 0,
        }
    }

    /// Whether everything passes.
    #[inline(always)]
    pub const fn is_free(&self) -> bool {
        self.rate == 0
    }

    /// Whether so much may pass now; then it is paid for.
    #[inline(always)]
    pub fn admit(&mut self, count: u32, clock: Clock) -> bool {
        self.rate == 0 || self.pay(count, clock)
    }

    fn pay(&mut self, count: u32, clock: Clock) -> bool {
        if self.cost == 0 {
            self.cost = ((clock.frequency << PARTS) / self.rate).max(1);
        }
        let start = self.due.max(clock.now);
        let price = u64::from(count)
            .saturating_mul(self.cost)
            .saturating_add(self.rest);
        let due = start.saturating_add(price >> PARTS);
        if due - clock.now > self.burst.saturating_mul(self.cost) >> PARTS {
            return false;
        }
        self.due = due;
        self.rest = price & ((1 << PARTS) - 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Meter};

    fn at(now: u64) -> Clock {
        Clock {
            now,
            frequency: 62_500_000,
        }
    }

    #[test]
    fn a_second_lets_pass_what_the_rate_says() {
        for rate in [1_000, 12_500_000, 1_250_000_000_u64] {
            let mut meter = Meter::new(rate, rate / 10);
            let mut passed = 0;
            for step in 0..10_000 {
                let count = u32::try_from(rate / 5_000 + 1).unwrap();
                while meter.admit(count, at(step * 6_250)) {
                    passed += u64::from(count);
                }
            }
            assert!(
                (rate..rate + rate / 8).contains(&passed),
                "{passed} of {rate}"
            );
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_no_more() {
        let mut meter = Meter::new(1000, 100);
        let passed = (0..1000).filter(|_| meter.admit(1, at(5))).count();
        assert_eq!(passed, 100);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut meter = Meter::new(0, 0);
        assert!((0..1000).all(|_| meter.admit(u32::MAX, at(0))));
    }
}
