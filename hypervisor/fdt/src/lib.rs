//! The machine as its flattened device tree describes it.
//!
//! Nothing in EL2 assumes a board: RAM, interrupt controller, processors and serial port come from the blob that the
//! firmware leaves in x0. That blob is foreign input. It is read once at boot, before anything depends on it, without
//! a heap, without recursion, in time bounded by its size, and every refusal names the field that is wrong.
//!
//! The layers, lowest first: `header` proves that the blocks lie inside the blob, `tree` cuts the structure block into
//! tokens, `node` walks from node to node with their properties and the way down to them, `cells` decodes `reg`
//! and carries addresses through the `ranges` of the buses; `machine`, `gic`, `timer`, `uart`, `device` and `virtio`
//! know what nodes mean.
//!
//! All of it runs once and never again, so it is written to be small: plain loops, complaints of two words.
//!
//! Specification: Devicetree Specification v0.4, <https://www.devicetree.org/specifications/>; bindings as in Linux's
//! `Documentation/devicetree/bindings`.
#![no_std]
#![forbid(unsafe_code)]

mod cells;
mod device;
mod error;
mod gic;
mod header;
mod machine;
mod model;
mod node;
pub mod seeds;
mod timer;
mod tree;
mod uart;
mod virtio;

#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;
use stage2_addr::{HostPhys, HostRegion};

pub use device::{Device, Interrupt, Kind};
pub use error::FdtError;
pub use header::total_size;
pub use virtio::{MAX_VIRTIO, Virtio};

/// How many separate ranges of RAM a machine may have.
pub const MAX_RAM: usize = 16;
/// How many reserved ranges a machine may have.
pub const MAX_RESERVED: usize = 32;
/// How many processors a machine may have.
pub const MAX_CPUS: usize = 64;
/// How many redistributor ranges a machine may have.
pub const MAX_GICR: usize = 8;

/// What EL2 needs to know of the machine, all of it checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// RAM in the order of the tree, rounded inwards to pages; no two ranges overlap.
    pub ram: ArrayVec<HostRegion, MAX_RAM>,
    /// What firmware keeps for itself: the reservation block and the children of `/reserved-memory`, rounded outwards
    /// to pages. They may overlap each other and need not be in RAM.
    pub reserved: ArrayVec<HostRegion, MAX_RESERVED>,
    /// The affinity bits of each processor's MPIDR, in the order of `/cpus`; no two are equal.
    pub cpus: ArrayVec<u64, MAX_CPUS>,
    /// The GICv3 distributor.
    pub gicd: HostRegion,
    /// The GICv3 redistributors; how many processors share a range is for `GICR_TYPER` to say.
    pub gicr: ArrayVec<HostRegion, MAX_GICR>,
    /// The PL011 that `/chosen` names as standard output, or else the first one that is enabled.
    pub uart: HostRegion,
    /// The INTID of its interrupt, if it has one that all processors share.
    pub uart_irq: Option<u32>,
    /// The first enabled PL031, if its registers are where no other device and no RAM is.
    pub rtc: Option<HostRegion>,
    /// The boot bundle: what a loader calls the initial RAM disk. It lies in RAM.
    pub bundle: Option<HostRange>,
    /// Unpredictable bits that the loader left for whoever it starts.
    pub seed: Option<[u8; 32]>,
    /// How PSCI is called.
    pub psci: PsciConduit,
    /// The interrupts of the generic timer.
    pub timer_irqs: TimerIrqs,
}

/// A run of bytes in the machine's memory: not empty, and it does not wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRange {
    /// The first byte.
    pub base: HostPhys,
    /// How many bytes.
    pub len: u64,
}

/// The instruction that calls the firmware's PSCI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PsciConduit {
    /// `smc #0`: what a machine that enters its payload at EL2 has.
    Smc,
    /// `hvc #0`: there is another hypervisor below.
    Hvc,
}

/// INTIDs (16 to 31: they are private to a processor) of the generic timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerIrqs {
    /// Secure EL1 physical timer.
    pub secure: u32,
    /// Non-secure EL1 physical timer.
    pub phys: u32,
    /// Virtual timer.
    pub virt: u32,
    /// EL2 physical timer.
    pub hyp: u32,
}

/// Reads and checks the device tree at the start of `bytes`, which must begin on an 8-byte boundary.
///
/// # Errors
/// When anything that EL2 relies on is missing, malformed or contradictory; the error says where.
pub fn read(bytes: &[u8]) -> Result<Machine, FdtError> {
    let mut way = node::Way::new();
    machine::read(bytes, &mut way).map_err(|_| way.error())
}
