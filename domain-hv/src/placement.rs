//! Which CPU runs which lane. A dedicated lane has a CPU to itself; shared lanes will meet here too.

use core::fmt;

use crate::identity::LaneId;

/// CPUs at most that a plan can place lanes on.
pub const MAX_CPUS: usize = 64;

/// Every lane on a CPU of its own.
#[derive(Debug)]
pub struct Placement {
    lane_of: [Option<LaneId>; MAX_CPUS],
    cpus: usize,
}

/// Why a lane has no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlacementError {
    /// The machine has no such CPU.
    NoSuchCpu {
        /// Who wants it.
        lane: LaneId,
        /// The CPU, by its position in the device tree.
        cpu: u32,
        /// How many there are.
        cpus: usize,
    },
    /// Two lanes want the same CPU.
    Taken {
        /// Who wants it too.
        lane: LaneId,
        /// The CPU.
        cpu: u32,
        /// Who has it.
        by: LaneId,
    },
}

impl Placement {
    /// A machine with this many CPUs (those past [`MAX_CPUS`] stay off) and no lane yet.
    #[must_use]
    pub const fn new(cpus: usize) -> Self {
        Self {
            lane_of: [None; MAX_CPUS],
            cpus: if cpus < MAX_CPUS { cpus } else { MAX_CPUS },
        }
    }

    /// Gives a CPU to a lane.
    ///
    /// # Errors
    /// The CPU does not exist or is another lane's; nothing has changed then.
    pub fn place(&mut self, lane: LaneId, cpu: u32) -> Result<(), PlacementError> {
        let cpus = self.cpus;
        let absent = PlacementError::NoSuchCpu { lane, cpu, cpus };
        let index = usize::try_from(cpu).map_err(|_| absent)?;
        let slot = self
            .lane_of
            .get_mut(..cpus)
            .and_then(|present| present.get_mut(index))
            .ok_or(absent)?;
        match *slot {
            Some(by) => Err(PlacementError::Taken { lane, cpu, by }),
            None => {
                *slot = Some(lane);
                Ok(())
            }
        }
    }

    /// The lane on this CPU.
    #[must_use]
    pub fn lane(&self, cpu: usize) -> Option<LaneId> {
        self.lane_of.get(cpu).copied().flatten()
    }

    /// Every CPU that has a lane, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, LaneId)> {
        self.lane_of
            .iter()
            .enumerate()
            .filter_map(|(cpu, lane)| lane.map(|lane| (cpu, lane)))
    }
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NoSuchCpu { lane, cpu, cpus } => {
                write!(
                    f,
                    "{lane} is to run on CPU {cpu}, but the machine has {cpus} CPUs"
                )
            }
            Self::Taken { lane, cpu, by } => {
                write!(f, "{lane} is to run on CPU {cpu}, which {by} has")
            }
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

    fn lane(vm: u16, index: u8) -> LaneId {
        LaneId {
            vm: VmId::new(vm),
            index,
        }
    }

    #[test]
    fn an_absent_cpu_is_refused_by_name() {
        let mut placement = Placement::new(2);
        let error = placement.place(lane(0, 1), 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vm0 lane 1 is to run on CPU 2, but the machine has 2 CPUs"
        );
    }

    #[test]
    fn a_taken_cpu_names_both_lanes() {
        let mut placement = Placement::new(2);
        placement.place(lane(0, 0), 1).unwrap();
        let error = placement.place(lane(1, 3), 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vm1 lane 3 is to run on CPU 1, which vm0 lane 0 has"
        );
    }

    #[test]
    fn cpus_past_the_limit_stay_off() {
        let mut placement = Placement::new(1000);
        assert!(placement.place(lane(0, 0), 63).is_ok());
        assert!(placement.place(lane(0, 1), 64).is_err());
        assert!(placement.place(lane(0, 1), u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn as_a_map_that_never_overwrites(cpus in 0usize..70, wishes in prop::collection::vec((0u16..4, 0u8..8, 0u32..80), 0..60)) {
            let mut placement = Placement::new(cpus);
            let mut model = BTreeMap::new();
            for (vm, index, cpu) in wishes {
                let ours = placement.place(lane(vm, index), cpu);
                let place = cpu as usize;
                if place >= cpus.min(MAX_CPUS) || model.contains_key(&place) {
                    prop_assert!(ours.is_err());
                } else {
                    prop_assert!(ours.is_ok());
                    model.insert(place, lane(vm, index));
                }
            }
            prop_assert!(placement.iter().eq(model.iter().map(|(&cpu, &lane)| (cpu, lane))));
            for cpu in 0..80 {
                prop_assert_eq!(placement.lane(cpu), model.get(&cpu).copied());
            }
        }
    }
}
