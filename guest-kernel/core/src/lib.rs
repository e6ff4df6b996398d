//! The guest kernel's safe, host-tested half.
//!
//! Whatever can be decided without touching hardware is decided here, so that it can be tested on
//! the build machine: what the device tree says, which page-table entries follow from it, what the
//! command line asks for, and whether a self-check passed. The `guest-kernel-arch` crate does the
//! touching; the `guest-kernel` binary introduces the two to each other.
//!
//! State that several CPUs share is made of atomics throughout, so it is only ever reached through
//! shared references: there is no per-CPU `&mut` that two contexts could both hold.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod addr;
pub mod check;
pub mod interrupt;
pub mod ipi;
pub mod isolation;
pub mod line;
pub mod machine;
pub mod options;
pub mod paging;
pub mod pattern;
pub mod ram;
pub mod smp;
pub mod syndrome;
pub mod tick;
pub mod virtio;

/// The most CPUs one guest has (the machine's own limit: SGI targets fit one affinity group, and
/// each CPU owns two of the sixteen SGIs, see [`interrupt`]).
pub const MAX_LANES: usize = 8;
