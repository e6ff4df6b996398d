//! Which lane goes on which CPU.
//!
//! Dedicated lanes take the lowest CPUs that nobody names. Lanes with a budget come next, the largest first, each on
//! the CPU with the fewest lanes of its own guest and then the least promised (worst fit); last those without a
//! budget, each where it gets most. Ties go to the CPU with fewer lanes, then to the lower one, and lanes that are
//! equal keep the order of the file: the same file gives the same places.
//!
//! Worst fit can miss a place that there is, as any quick rule can. So where it fails, first fit is tried too, and
//! both again on fewer CPUs: what fits on a machine also fits on every larger one.

use std::cmp::Reverse;

use configs_plan::MAX_CPUS;

/// All of a CPU, in percent.
pub(crate) const WHOLE: u32 = 100;

/// A lane that wants a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    /// Whose it is: the guest's place in the file.
    pub(crate) guest: usize,
    /// The CPU the file names.
    pub(crate) cpu: Option<u32>,
    /// How much of it.
    pub(crate) part: Part,
}

/// How much of a CPU a lane wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it, and nobody else there.
    Dedicated,
    /// A budget, in percent.
    Budget(u32),
    /// An equal part of what budgets leave, but at least one percent.
    Rest,
}

/// Why there is no placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The lane that found no CPU.
    pub(crate) lane: usize,
    /// Where those before it had gone, CPU by CPU.
    pub(crate) cpus: Vec<Cpu>,
}

/// What is on a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// The lanes, by their place among the wants.
    pub(crate) lanes: Vec<usize>,
    /// Whether one of them has it to itself.
    pub(crate) is_dedicated: bool,
    /// Percent promised by budgets.
    pub(crate) promised: u32,
    /// Lanes without a budget.
    pub(crate) rest: u32,
}

impl Cpu {
    /// Percent that can still be promised: each lane without a budget keeps one.
    pub(crate) fn room(&self) -> u32 {
        if self.is_dedicated {
            return 0;
        }
        WHOLE.saturating_sub(self.promised.saturating_add(self.rest))
    }

    fn takes(&self, part: Part) -> bool {
        match part {
            Part::Dedicated => self.lanes.is_empty(),
            Part::Budget(percent) => self.room() >= percent,
            Part::Rest => self.room() >= 1,
        }
    }

    fn add(&mut self, lane: usize, part: Part) {
        self.lanes.push(lane);
        match part {
            Part::Dedicated => self.is_dedicated = true,
            Part::Budget(percent) => self.promised = self.promised.saturating_add(percent),
            Part::Rest => self.rest = self.rest.saturating_add(1),
        }
    }

    /// What one more lane without a budget would get, in millionths of the CPU.
    fn rest_with_one_more(&self) -> u32 {
        let left = WHOLE.saturating_sub(self.promised).saturating_mul(10_000);
        left.checked_div(self.rest.saturating_add(1)).unwrap_or(0)
    }
}

/// Finds every lane a CPU below `cpus`: for each lane which, and what is on each.
pub(crate) fn on(wants: &[Want], cpus: u32) -> Result<(Vec<u32>, Vec<Cpu>), Failure> {
    let failure = match with(wants, cpus, Rule::Spread) {
        Ok(placed) => return Ok(placed),
        Err(failure) => failure,
    };
    (1..=cpus)
        .rev()
        .find_map(|fewer| quickly(wants, fewer))
        .ok_or(failure)
}

/// The smallest machine, of at least `at_least` CPUs, on which all lanes have a place.
pub(crate) fn smallest(wants: &[Want], at_least: u32) -> Option<u32> {
    (at_least..=MAX_CPUS).find(|cpus| quickly(wants, *cpus).is_some())
}

fn quickly(wants: &[Want], cpus: u32) -> Option<(Vec<u32>, Vec<Cpu>)> {
    let spread = with(wants, cpus, Rule::Spread);
    spread.or_else(|_| with(wants, cpus, Rule::Pack)).ok()
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Lanes of a guest apart, and all of them where there is most room.
    Spread,
    /// Each on the first CPU that takes it.
    Pack,
}

fn with(wants: &[Want], cpus: u32, rule: Rule) -> Result<(Vec<u32>, Vec<Cpu>), Failure> {
    let count = usize::try_from(cpus).unwrap_or(0);
    let mut state = vec![Cpu::default(); count];
    let mut places = vec![0; wants.len()];
    let mut order: Vec<(usize, &Want)> = wants.iter().enumerate().collect();
    // The sort is stable: equal lanes stay in the order of the file.
    order.sort_by_key(|(_, want)| match (want.cpu, want.part) {
        (Some(_), _) => (0, Reverse(0)),
        (None, Part::Dedicated) => (1, Reverse(0)),
        (None, Part::Budget(percent)) => (2, Reverse(percent)),
        (None, Part::Rest) => (3, Reverse(0)),
    });
    for (lane, want) in order {
        let own = |cpu: &Cpu| {
            let is_own = |lane: &&usize| wants.get(**lane).is_some_and(|w| w.guest == want.guest);
            cpu.lanes.iter().filter(is_own).count()
        };
        let there = (0u32..).zip(&state).filter(|(nth, cpu)| {
            want.cpu.is_none_or(|named| named == *nth) && cpu.takes(want.part)
        });
        let best = match (rule, want.part) {
            (_, Part::Dedicated) | (Rule::Pack, _) => there.map(|(nth, _)| nth).next(),
            (Rule::Spread, Part::Budget(_)) => there
                .min_by_key(|(nth, cpu)| (own(cpu), Reverse(cpu.room()), cpu.lanes.len(), *nth))
                .map(|(nth, _)| nth),
            (Rule::Spread, Part::Rest) => there
                .min_by_key(|(nth, cpu)| {
                    let most = Reverse(cpu.rest_with_one_more());
                    (own(cpu), most, cpu.lanes.len(), *nth)
                })
                .map(|(nth, _)| nth),
        };
        let found = best.and_then(|nth| Some((nth, state.get_mut(usize::try_from(nth).ok()?)?)));
        let Some((nth, cpu)) = found else {
            return Err(Failure { lane, cpus: state });
        };
        cpu.add(lane, want.part);
        if let Some(place) = places.get_mut(lane) {
            *place = nth;
        }
    }
    Ok((places, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn want(guest: usize, part: Part) -> Want {
        let cpu = None;
        Want { guest, cpu, part }
    }

    fn places(wants: &[Want], cpus: u32) -> Option<Vec<u32>> {
        on(wants, cpus).ok().map(|(places, _)| places)
    }

    #[test]
    fn lanes_of_a_guest_are_apart_and_the_least_promised_cpu_is_next() {
        use Part::{Budget, Dedicated, Rest};
        let two = [want(0, Rest), want(0, Rest), want(1, Rest)];
        assert_eq!(places(&two, 2), Some(vec![0, 1, 0]));
        assert_eq!(places(&two, 3), Some(vec![0, 1, 2]));
        assert_eq!(places(&two, 1), Some(vec![0, 0, 0]));
        // Dedicated lanes first and lowest; then budgets, the largest first; then the rest, each where it gets most.
        let mixed = [
            want(0, Rest),
            want(1, Budget(20)),
            want(2, Budget(60)),
            want(3, Dedicated),
            want(4, Rest),
        ];
        assert_eq!(places(&mixed, 3), Some(vec![2, 2, 1, 0, 1]));
        assert_eq!(places(&mixed, 2), Some(vec![1, 1, 1, 0, 1]));
        assert_eq!(places(&mixed, 1), None);
    }

    #[test]
    fn what_fits_only_tightly_is_found() {
        let budgets = |list: &[u32]| -> Vec<Want> {
            let each = list.iter().enumerate();
            each.map(|(guest, percent)| want(guest, Part::Budget(*percent)))
                .collect()
        };
        // Worst fit puts 40 beside 50.
        assert_eq!(
            places(&budgets(&[50, 50, 40, 30, 30]), 2),
            Some(vec![0, 0, 1, 1, 1])
        );
        assert_eq!(places(&budgets(&[100, 1]), 1), None);
        assert_eq!(smallest(&budgets(&[51; 5]), 1), Some(5));
        assert_eq!(smallest(&budgets(&[50; 5]), 1), Some(3));
        assert_eq!(smallest(&budgets(&[1]), 4), Some(4));
        let named = Want {
            cpu: Some(MAX_CPUS),
            ..want(0, Part::Rest)
        };
        assert_eq!(smallest(&[named], 1), None);
    }

    fn any_want() -> impl Strategy<Value = Want> {
        let part = prop_oneof![
            2 => Just(Part::Dedicated),
            5 => (1u32..=100).prop_map(Part::Budget),
            5 => (1u32..=30).prop_map(Part::Budget),
            5 => Just(Part::Rest),
        ];
        (0usize..8, prop::option::weighted(0.1, 0u32..8), part)
            .prop_map(|(guest, cpu, part)| Want { guest, cpu, part })
    }

    /// The rules, said once more: counted over the places alone.
    fn holds(wants: &[Want], places: &[u32], cpus: u32) -> bool {
        let least = |part: Part| match part {
            Part::Dedicated => 100,
            Part::Budget(percent) => percent,
            Part::Rest => 1,
        };
        let on_each = (0..cpus).all(|cpu| {
            let here: Vec<Part> = wants
                .iter()
                .zip(places)
                .filter(|(_, place)| **place == cpu)
                .map(|(want, _)| want.part)
                .collect();
            let alone = !here.contains(&Part::Dedicated) || here.len() == 1;
            alone && here.iter().map(|part| least(*part)).sum::<u32>() <= 100
        });
        let named = wants.iter().zip(places);
        on_each
            && wants.len() == places.len()
            && places.iter().all(|cpu| *cpu < cpus)
            && named
                .into_iter()
                .all(|(want, place)| want.cpu.is_none_or(|cpu| cpu == *place))
    }

    /// Whether any placement at all keeps the rules, by trying every one.
    fn exists(wants: &[Want], cpus: u32, places: &mut Vec<u32>) -> bool {
        if places.len() == wants.len() {
            return true;
        }
        (0..cpus).any(|cpu| {
            places.push(cpu);
            let begun = wants.get(..places.len()).unwrap_or_default();
            let good = holds(begun, places, cpus) && exists(wants, cpus, places);
            places.pop();
            good
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        /// No CPU is ever promised more than once, and the same wants have the same places.
        #[test]
        fn every_placement_keeps_the_rules(
            wants in prop::collection::vec(any_want(), 1..24),
            cpus in 1u32..12,
        ) {
            match on(&wants, cpus) {
                Ok((places, state)) => {
                    prop_assert!(holds(&wants, &places, cpus), "{:?}", places);
                    prop_assert_eq!(state.iter().map(|cpu| cpu.lanes.len()).sum::<usize>(), wants.len());
                    prop_assert_eq!(on(&wants, cpus).map(|(places, _)| places), Ok(places));
                    // What fits on a machine also fits on a larger one.
                    prop_assert!(on(&wants, cpus + 1).is_ok());
                    prop_assert!(smallest(&wants, 1).is_some_and(|least| least <= cpus));
                }
                Err(failure) => prop_assert!(failure.lane < wants.len()),
            }
        }

        /// Against every placement there is: of few lanes none is refused that has a place.
        #[test]
        fn few_lanes_are_refused_only_if_nothing_fits(
            wants in prop::collection::vec(any_want(), 1..5),
            cpus in 1u32..4,
        ) {
            let found = on(&wants, cpus).is_ok();
            prop_assert_eq!(found, exists(&wants, cpus, &mut Vec::new()), "{:?}", wants);
        }
    }
}
