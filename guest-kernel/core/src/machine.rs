//! What the device tree says about the machine.
//!
//! No address is compiled into the kernel: everything it touches is named here first. The tree is
//! read once, before the MMU is on, into plain values.

mod read;
#[cfg(test)]
pub(crate) mod tests;

use crate::MAX_LANES;
use crate::addr::PhysRange;
use arrayvec::ArrayVec;
use core::fmt;

/// How firmware or the hypervisor is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conduit {
    /// With `hvc #0`.
    Hvc,
    /// With `smc #0`.
    Smc,
}

/// A CPU's affinity, as `MPIDR_EL1` gives it without its flag bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Affinity(u64);

/// Aff3 and Aff2..Aff0 (DDI 0487, MPIDR_EL1).
const AFFINITY_BITS: u64 = 0xFF_00FF_FFFF;

impl Affinity {
    /// Reads an affinity out of an `MPIDR_EL1` value or a `/cpus` `reg`.
    #[must_use]
    pub const fn from_mpidr(mpidr: u64) -> Self {
        Self(mpidr & AFFINITY_BITS)
    }

    /// The value as PSCI and the device tree use it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Aff0 to Aff3.
    #[must_use]
    pub const fn levels(self) -> [u8; 4] {
        let [aff0, aff1, aff2, _, aff3, ..] = self.0.to_le_bytes();
        [aff0, aff1, aff2, aff3]
    }
}

/// The most virtio-mmio slots: what QEMU's `virt` and XDV have.
pub const MAX_VIRTIO: usize = 32;

/// A place where a virtio device may be (devicetree binding `virtio,mmio`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VirtioSlot {
    /// Its registers.
    pub range: PhysRange,
    /// Its interrupt.
    pub intid: u32,
}

/// The machine, as far as this kernel uses it.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// What `/chosen/xdv,guest-name` says, or "guest".
    pub name: &'a str,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// RAM.
    pub memory: ArrayVec<PhysRange, 8>,
    /// Parts of RAM that something else lives in: the initrd and the tree's own reservations.
    pub reserved: ArrayVec<PhysRange, 16>,
    /// The CPUs, in the tree's order.
    pub cpus: ArrayVec<Affinity, MAX_LANES>,
    /// How many CPUs the tree has beyond [`MAX_LANES`].
    pub cpus_left_out: usize,
    /// The interrupt controller's distributor.
    pub distributor: PhysRange,
    /// The interrupt controller's redistributors.
    pub redistributors: PhysRange,
    /// The UART, if there is one.
    pub uart: Option<PhysRange>,
    /// The virtio-mmio slots, in the order of their addresses.
    pub virtio: ArrayVec<VirtioSlot, MAX_VIRTIO>,
    /// The virtual timer's interrupt number.
    pub timer_intid: u32,
    /// How PSCI is called.
    pub conduit: Conduit,
    /// Every range that any device claims, ours included.
    pub claimed: ArrayVec<PhysRange, 64>,
}

impl Machine<'_> {
    /// RAM in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.len()))
    }
}

/// What keeps a device tree from being one this kernel can start from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MachineError {
    /// The bytes are not a device tree.
    NotADeviceTree,
    /// A node or property that must be there is not, or does not read.
    Missing(&'static str),
    /// There is more of something than the kernel has room for.
    TooMany(&'static str),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADeviceTree => f.write_str("x0 does not point to a device tree"),
            Self::Missing(what) => write!(f, "device tree: {what} is missing or malformed"),
            Self::TooMany(what) => write!(f, "device tree: too many {what}"),
        }
    }
}

/// The smallest tree: its header.
pub const SMALLEST_TREE: usize = 40;
/// The largest tree the arm64 boot protocol allows.
pub const LARGEST_TREE: usize = 2 << 20;

/// The length that a tree's header claims, if the header is one. `head` is its first 8 bytes.
#[must_use]
pub fn tree_length(head: [u8; 8]) -> Option<usize> {
    let [m0, m1, m2, m3, l0, l1, l2, l3] = head;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).ok()?;
    let is_tree = u32::from_be_bytes([m0, m1, m2, m3]) == 0xD00D_FEED;
    (is_tree && (SMALLEST_TREE..=LARGEST_TREE).contains(&length)).then_some(length)
}
