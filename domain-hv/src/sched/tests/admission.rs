//! Admission is exact, at any length of the sum.

use std::vec::Vec;

use proptest::prelude::*;

use crate::sched::admission::admit;
use crate::sched::{AdmissionError, MAX_PERIOD, MAX_SLOTS, MIN_PERIOD, Scheduler, Server};

fn server(budget: u64, period: u64) -> Server {
    Server {
        budget,
        period,
        priority: 0,
    }
}

fn allowed(others: impl IntoIterator<Item = Server>, server: Server) -> Result<(), AdmissionError> {
    admit(&mut others.into_iter(), server)
}

#[test]
fn what_makes_no_sense_is_refused_and_says_why() {
    let mut cpu = Scheduler::new();
    let mut refuse = |budget, period, priority| {
        cpu.add(Server {
            budget,
            period,
            priority,
        })
        .unwrap_err()
    };
    assert_eq!(refuse(1, 0, 0), AdmissionError::Period { period: 0 });
    for period in [MIN_PERIOD - 1, MAX_PERIOD + 1, u64::MAX] {
        assert_eq!(refuse(1, period, 0), AdmissionError::Period { period });
    }
    let period = MIN_PERIOD;
    for budget in [0, period + 1, u64::MAX] {
        assert_eq!(
            refuse(budget, period, 0),
            AdmissionError::Budget { budget, period }
        );
    }
    assert_eq!(
        refuse(1, period, 5),
        AdmissionError::Priority { priority: 5 }
    );
    assert_eq!(cpu.lanes(), 0);
}

#[test]
fn as_many_as_there_are_slots() {
    let mut cpu = Scheduler::new();
    for index in 0..MAX_SLOTS {
        assert_eq!(cpu.add(server(1, MAX_PERIOD)).unwrap().index(), index);
    }
    assert_eq!(cpu.add(server(1, MAX_PERIOD)), Err(AdmissionError::Full));
    let least = server(1, MAX_PERIOD);
    assert_eq!(
        allowed([least; MAX_SLOTS], least),
        Err(AdmissionError::Full)
    );
    assert_eq!(allowed([least; MAX_SLOTS - 1], least), Ok(()));
}

#[test]
fn thirds_fit_three_times_and_not_one_tick_more() {
    for period in [1026, 3_000_000, MAX_PERIOD - MAX_PERIOD % 3] {
        let third = server(period / 3, period);
        assert!(allowed([third; 2], third).is_ok());
        let more = server(period / 3 + 1, period);
        assert!(matches!(
            allowed([third; 2], more),
            Err(AdmissionError::Overload { .. })
        ));
        // Not even the smallest thing there is.
        assert!(allowed([third; 3], server(1, MAX_PERIOD)).is_err());
    }
}

/// The longest sums there are. With periods that share no factor their denominators multiply to 2560 bits.
#[test]
fn long_sums_are_exact() {
    let all = [server(MAX_PERIOD / 64, MAX_PERIOD); MAX_SLOTS - 1];
    assert!(allowed(all, server(MAX_PERIOD / 64, MAX_PERIOD)).is_ok());
    assert!(allowed(all, server(MAX_PERIOD / 64 + 1, MAX_PERIOD)).is_err());

    // 1/2 + 1/4 + ... + 1/2^30 + 1/2^30, in periods that are as long as can be.
    let halves = (1..=30u32).map(|power| server(MAX_PERIOD >> power, MAX_PERIOD));
    assert!(allowed(halves.clone(), server(MAX_PERIOD >> 30, MAX_PERIOD)).is_ok());
    assert!(allowed(halves, server((MAX_PERIOD >> 30) + 1, MAX_PERIOD)).is_err());

    // (p - 1) / p and 1 / p + 1, for neighbours: 1 - 1/p + 1/(p + 1) < 1 < 1 - 1/(p + 1) + 1/p.
    let p = MAX_PERIOD - 1;
    assert!(allowed([server(p - 1, p)], server(1, p + 1)).is_ok());
    assert!(allowed([server(p, p + 1)], server(1, p)).is_err());

    let odd: Vec<_> = (0..63)
        .map(|nth| server(MAX_PERIOD / 64, MAX_PERIOD - 1 - 2 * nth))
        .collect();
    assert!(allowed(odd.iter().copied(), server(MAX_PERIOD / 64, MAX_PERIOD)).is_err());
    assert!(
        allowed(
            odd.iter().copied(),
            server(MAX_PERIOD / 64 - 4096, MAX_PERIOD)
        )
        .is_ok()
    );
}

proptest! {
    /// Fractions whose common denominator a machine integer holds.
    #[test]
    fn as_by_hand(lanes in prop::collection::vec((0usize..1000, 1u64..4000), 1..40)) {
        const COMMON: u64 = 11_531_520;
        // Divisors come in pairs.
        let small = (1..3396u64).filter(|divisor| COMMON.is_multiple_of(*divisor));
        let periods: Vec<u64> = small.map(|divisor| COMMON / divisor).collect();
        let mut cpu = Scheduler::new();
        let mut parts = 0;
        for (period, budget) in lanes {
            let period = periods[period % periods.len()];
            let budget = budget.min(period);
            let more = budget * (COMMON / period);
            let fits = parts + more <= COMMON;
            prop_assert_eq!(cpu.add(server(budget, period)).is_ok(), fits);
            if fits {
                parts += more;
            }
            // Exactly the rest fits.
            let rest = server(COMMON - parts, COMMON);
            let others = || crate::sched::Slot::each((1u64 << cpu.lanes()) - 1).map(|slot| cpu.server(slot));
            if rest.budget > 0 {
                prop_assert!(allowed(others(), rest).is_ok());
                if rest.budget < COMMON {
                    prop_assert!(allowed(others(), server(rest.budget + 1, COMMON)).is_err());
                }
            }
        }
    }
}
