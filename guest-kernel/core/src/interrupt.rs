//! What an interrupt number means to this kernel.
//!
//! A GICv3 SGI has no source: two CPUs that send the same number to a third before it looks make
//! one interrupt. Here every CPU owns two numbers, one to ping with and one to answer with, so each
//! arrival names its sender and none can hide another.

use crate::MAX_LANES;

const LANES: u32 = 8;
const _: () = assert!(
    MAX_LANES == 8 && 2 * MAX_LANES == 16,
    "two of the 16 SGIs per lane"
);

/// An interrupt, understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interrupt {
    /// This lane asks for an answer.
    Ping(usize),
    /// This lane answers.
    Pong(usize),
    /// The virtual timer.
    Timer,
    /// Nobody asked for this one.
    Unexpected(u32),
}

impl Interrupt {
    /// Reads an interrupt number; `timer` is the timer's.
    #[must_use]
    pub fn from_intid(intid: u32, timer: u32) -> Self {
        let lane = |n| usize::try_from(n).unwrap_or(0);
        match intid {
            n if n < LANES => Self::Ping(lane(n)),
            n if n < 2 * LANES => Self::Pong(lane(n - LANES)),
            n if n == timer => Self::Timer,
            n => Self::Unexpected(n),
        }
    }
}

/// The SGI with which `lane` pings.
#[must_use]
pub fn ping_sgi(lane: usize) -> u32 {
    u32::try_from(lane % MAX_LANES).unwrap_or(0)
}

/// The SGI with which `lane` answers.
#[must_use]
pub fn pong_sgi(lane: usize) -> u32 {
    LANES + ping_sgi(lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sgi_names_its_sender() {
        let mut seen = std::collections::BTreeSet::new();
        for lane in 0..MAX_LANES {
            assert!(seen.insert(ping_sgi(lane)) && seen.insert(pong_sgi(lane)));
            assert_eq!(
                Interrupt::from_intid(ping_sgi(lane), 27),
                Interrupt::Ping(lane)
            );
            assert_eq!(
                Interrupt::from_intid(pong_sgi(lane), 27),
                Interrupt::Pong(lane)
            );
        }
        assert_eq!(seen.len(), 16);
    }

    #[test]
    fn the_rest_is_the_timer_or_unexpected() {
        assert_eq!(Interrupt::from_intid(27, 27), Interrupt::Timer);
        assert_eq!(Interrupt::from_intid(30, 27), Interrupt::Unexpected(30));
    }
}
