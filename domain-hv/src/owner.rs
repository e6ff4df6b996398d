//! Whose a piece of the machine's memory is. What nobody owns is free.

use core::fmt;

use crate::identity::VmId;

/// The owner of a frame.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Owner {
    /// EL2's image, stacks and arenas.
    Hypervisor,
    /// Firmware said to leave it alone.
    Firmware,
    /// The machine's device tree.
    DeviceTree,
    /// The boot bundle: plan, kernels, initrds.
    Bundle,
    /// A machine's RAM.
    Guest(VmId),
    /// The translation tables of a machine.
    Tables(VmId),
}

impl Owner {
    /// Whether a guest may read and write the frame, and which.
    #[must_use]
    pub const fn guest(self) -> Option<VmId> {
        match self {
            Self::Guest(vm) => Some(vm),
            Self::Hypervisor
            | Self::Firmware
            | Self::DeviceTree
            | Self::Bundle
            | Self::Tables(_) => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Hypervisor => f.write_str("the hypervisor"),
            Self::Firmware => f.write_str("firmware"),
            Self::DeviceTree => f.write_str("the device tree"),
            Self::Bundle => f.write_str("the boot bundle"),
            Self::Guest(vm) => write!(f, "{vm}"),
            Self::Tables(vm) => write!(f, "the tables of {vm}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guests_ram_is_a_guests() {
        assert_eq!(Owner::Guest(VmId::new(3)).guest(), Some(VmId::new(3)));
        for other in [
            Owner::Hypervisor,
            Owner::Firmware,
            Owner::DeviceTree,
            Owner::Bundle,
            Owner::Tables(VmId::new(3)),
        ] {
            assert_eq!(other.guest(), None, "{other}");
        }
    }
}
