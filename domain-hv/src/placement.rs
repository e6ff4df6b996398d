//! Which CPU runs which lanes: one that has it to itself, or any number that share it.

use core::fmt;

use crate::identity::LaneId;
use crate::sched::{AdmissionError, Server, admission};

/// CPUs at most that a plan can place lanes on.
pub const MAX_CPUS: usize = 64;
/// Lanes at most in all.
pub const MAX_LANES: usize = 64;

/// How much of its CPU a lane has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// All of it: nobody else is there, and nobody schedules.
    Dedicated,
    /// What its server promises, and some of the time that nobody reserved.
    Shared(Server),
}

/// A lane in its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placed {
    /// Who.
    pub lane: LaneId,
    /// The CPU, by its position in the device tree.
    pub cpu: usize,
    /// How much of it.
    pub share: Share,
}

/// Every lane on its CPU, and no CPU with more promises than time.
#[derive(Debug)]
pub struct Placement {
    // In the order of placing, without gaps: few lanes, asked about at boot and when somebody reads statistics.
    placed: [Option<Placed>; MAX_LANES],
    cpus: usize,
}

/// Why a lane has no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PlacementError {
    /// Which lane.
    pub lane: LaneId,
    /// The CPU it wants, by its position in the device tree.
    pub cpu: u32,
    /// What is wrong with that.
    pub why: NoPlace,
}

/// What is wrong with a lane on a CPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoPlace {
    /// The machine has no such CPU.
    NoSuchCpu,
    /// This lane is there, and at least one of the two wants to be there alone.
    Taken(LaneId),
    /// The lane has a place already.
    Twice,
    /// The CPU cannot promise that beside what it promised before.
    NotAdmitted(AdmissionError),
    /// There are [`MAX_LANES`] lanes already.
    TooMany,
}

impl Placement {
    /// A machine with this many CPUs (those past [`MAX_CPUS`] stay off) and no lane yet.
    #[must_use]
    pub const fn new(cpus: usize) -> Self {
        Self {
            placed: [None; MAX_LANES],
            cpus: if cpus < MAX_CPUS { cpus } else { MAX_CPUS },
        }
    }

    /// Gives a CPU to a lane, or a share of it.
    ///
    /// # Errors
    /// The CPU does not exist, is somebody's alone, or has promised too much; nothing has changed then.
    pub fn place(&mut self, lane: LaneId, cpu: u32, share: Share) -> Result<(), PlacementError> {
        let wrong = |why| PlacementError { lane, cpu, why };
        let place = self.judge(lane, cpu, share).map_err(wrong)?;
        let free = self.placed.iter_mut().find(|placed| placed.is_none());
        *free.ok_or(wrong(NoPlace::TooMany))? = Some(place);
        Ok(())
    }

    fn judge(&self, lane: LaneId, cpu: u32, share: Share) -> Result<Placed, NoPlace> {
        let cpu = usize::try_from(cpu).unwrap_or(usize::MAX);
        if cpu >= self.cpus {
            return Err(NoPlace::NoSuchCpu);
        }
        let mut taken = None;
        for placed in self.all() {
            if placed.lane == lane {
                return Err(NoPlace::Twice);
            }
            let alone = share == Share::Dedicated || placed.share == Share::Dedicated;
            if placed.cpu == cpu && alone {
                taken = taken.or(Some(placed.lane));
            }
        }
        if let Some(by) = taken {
            return Err(NoPlace::Taken(by));
        }
        if let Share::Shared(server) = share {
            admission::admit(&mut self.servers(cpu), server).map_err(NoPlace::NotAdmitted)?;
        }
        Ok(Placed { lane, cpu, share })
    }

    /// The lane that has this CPU to itself.
    #[must_use]
    pub fn dedicated(&self, cpu: usize) -> Option<LaneId> {
        self.lanes(cpu)
            .find(|placed| placed.share == Share::Dedicated)
            .map(|placed| placed.lane)
    }

    /// The lanes of a CPU in the order they were placed, which is the order of their scheduler's slots.
    pub fn lanes(&self, cpu: usize) -> impl Iterator<Item = Placed> {
        self.all().filter(move |placed| placed.cpu == cpu)
    }

    /// Where a lane is.
    #[must_use]
    pub fn of(&self, lane: LaneId) -> Option<Placed> {
        self.all().find(|placed| placed.lane == lane)
    }

    /// Every lane, in the order of CPUs and on each in the order they were placed.
    pub fn iter(&self) -> impl Iterator<Item = Placed> {
        (0..self.cpus).flat_map(|cpu| self.lanes(cpu))
    }

    /// Every CPU that has a lane, in order.
    pub fn cpus(&self) -> impl Iterator<Item = usize> {
        (0..self.cpus).filter(|cpu| self.lanes(*cpu).next().is_some())
    }

    fn servers(&self, cpu: usize) -> impl Iterator<Item = Server> {
        self.lanes(cpu).filter_map(|placed| match placed.share {
            Share::Shared(server) => Some(server),
            Share::Dedicated => None,
        })
    }

    fn all(&self) -> impl Iterator<Item = Placed> {
        self.placed.iter().map_while(|placed| *placed)
    }
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { lane, cpu, why } = self;
        write!(f, "{lane} cannot be on CPU {}: ", u64::from(*cpu))?;
        match why {
            NoPlace::NoSuchCpu => f.write_str("there is no such CPU"),
            NoPlace::Taken(by) => write!(f, "{by} is there"),
            NoPlace::Twice => f.write_str("it is somewhere already"),
            NoPlace::NotAdmitted(error) => error.fmt(f),
            NoPlace::TooMany => f.write_str("there are too many lanes"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::identity::VmId;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::string::ToString;
    use std::vec::Vec;

    const WHOLE: u64 = 12_000;

    fn lane(vm: u16, index: u8) -> LaneId {
        LaneId {
            vm: VmId::new(vm),
            index,
        }
    }

    fn part(budget: u64) -> Share {
        Share::Shared(Server {
            budget,
            period: WHOLE,
            priority: 0,
        })
    }

    #[test]
    fn an_absent_cpu_is_refused_by_name() {
        let mut placement = Placement::new(2);
        let error = placement
            .place(lane(0, 1), 2, Share::Dedicated)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "vm0 lane 1 cannot be on CPU 2: there is no such CPU"
        );
    }

    #[test]
    fn a_taken_cpu_names_both_lanes() {
        for (first, second) in [
            (Share::Dedicated, Share::Dedicated),
            (Share::Dedicated, part(1)),
            (part(1), Share::Dedicated),
        ] {
            let mut placement = Placement::new(2);
            placement.place(lane(0, 0), 1, first).unwrap();
            let error = placement.place(lane(1, 3), 1, second).unwrap_err();
            assert_eq!(
                error.to_string(),
                "vm1 lane 3 cannot be on CPU 1: vm0 lane 0 is there"
            );
        }
    }

    #[test]
    fn a_cpu_promises_what_it_has_and_no_more() {
        let mut placement = Placement::new(1);
        placement.place(lane(0, 0), 0, part(WHOLE / 2)).unwrap();
        let error = placement
            .place(lane(0, 1), 0, part(WHOLE / 2 + 1))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "vm0 lane 1 cannot be on CPU 0: too much is promised already for so many ticks a period: 6001"
        );
        placement.place(lane(0, 1), 0, part(WHOLE / 2)).unwrap();
        let order: Vec<_> = placement.lanes(0).map(|placed| placed.lane).collect();
        assert_eq!(order, [lane(0, 0), lane(0, 1)]);
        assert_eq!(placement.dedicated(0), None);
        assert_eq!(
            placement.place(lane(0, 1), 0, part(1)),
            Err(PlacementError {
                lane: lane(0, 1),
                cpu: 0,
                why: NoPlace::Twice
            })
        );
    }

    #[test]
    fn cpus_past_the_limit_stay_off() {
        let mut placement = Placement::new(1000);
        assert!(placement.place(lane(0, 0), 63, Share::Dedicated).is_ok());
        assert!(placement.place(lane(0, 1), 64, Share::Dedicated).is_err());
        assert!(
            placement
                .place(lane(0, 1), u32::MAX, Share::Dedicated)
                .is_err()
        );
    }

    #[test]
    fn lanes_past_the_limit_are_refused() {
        let mut placement = Placement::new(64);
        for index in 0..MAX_LANES {
            let index = u8::try_from(index).unwrap();
            assert!(
                placement
                    .place(lane(0, index), u32::from(index), Share::Dedicated)
                    .is_ok()
            );
        }
        let mut placement = Placement::new(64);
        for index in 0..64 {
            assert!(placement.place(lane(0, index), 5, part(1)).is_ok());
        }
        assert!(matches!(
            placement.place(lane(1, 0), 5, part(1)),
            Err(PlacementError {
                why: NoPlace::NotAdmitted(_),
                ..
            })
        ));
        assert!(matches!(
            placement.place(lane(1, 0), 6, part(1)),
            Err(PlacementError {
                why: NoPlace::TooMany,
                ..
            })
        ));
    }

    proptest! {
        #[test]
        fn as_a_map_that_never_overwrites(cpus in 0usize..70, wishes in prop::collection::vec((0u16..4, 0u8..8, 0u32..20, 0u64..5), 0..64)) {
            let mut placement = Placement::new(cpus);
            // By CPU the lanes and how many quarters of it each has; 0 quarters stands for dedicated.
            let mut model: BTreeMap<usize, Vec<(LaneId, u64)>> = BTreeMap::new();
            for (vm, index, cpu, quarters) in wishes {
                let lane = lane(vm, index);
                let share = if quarters == 0 { Share::Dedicated } else { part(quarters * WHOLE / 4) };
                let ours = placement.place(lane, cpu, share);
                let place = cpu as usize;
                let twice = model.values().flatten().any(|(other, _)| *other == lane);
                let there = model.get(&place).cloned().unwrap_or_default();
                let alone = quarters == 0 && !there.is_empty() || there.iter().any(|(_, other)| *other == 0);
                let sum: u64 = there.iter().map(|(_, other)| other).sum();
                if place >= cpus || twice || alone || sum + quarters > 4 {
                    prop_assert!(ours.is_err());
                } else {
                    prop_assert!(ours.is_ok());
                    model.entry(place).or_default().push((lane, quarters));
                }
            }
            let expected = model.iter().flat_map(|(&cpu, lanes)| lanes.iter().map(move |(lane, _)| (cpu, *lane)));
            prop_assert!(placement.iter().map(|placed| (placed.cpu, placed.lane)).eq(expected));
            prop_assert!(placement.cpus().eq(model.keys().copied()));
            for placed in placement.iter() {
                prop_assert_eq!(placement.of(placed.lane), Some(placed));
            }
            for cpu in 0..80 {
                let dedicated = model.get(&cpu).and_then(|lanes| lanes.iter().find(|(_, quarters)| *quarters == 0));
                prop_assert_eq!(placement.dedicated(cpu), dedicated.map(|(lane, _)| *lane));
            }
        }
    }
}
