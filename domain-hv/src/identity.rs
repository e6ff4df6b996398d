//! Who is who. An identity is never given twice within a boot; the hardware tag of a machine's TLB
//! entries (its VMID) is something else and is recycled.

use core::fmt;

/// A machine's identity. The n-th machine of the plan is `VmId` n; later ones go on from there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VmId(u16);

impl VmId {
    /// The machine with this number in the plan.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "vm{}", u64::from(self.0))
    }
}

/// One K lane of one machine.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LaneId {
    /// Whose lane.
    pub vm: VmId,
    /// Its number within the machine, as the guest sees it in MPIDR_EL1.Aff0.
    pub index: u8,
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} lane {}", self.vm, u64::from(self.index))
    }
}
