//! Domains: who they are, what they own, where their lanes run, how they ended.
//!
//! A guest is a *hybrid machine*: it owns K lanes today, Q allocations and Φ envelopes to come. What is
//! here is true of all three kinds of resource: an identity that is never given twice, an owner for
//! each thing, a place for each lane and an ending for each machine. How a lane executes is `vcpu`'s
//! matter, how memory is mapped `stage2`'s; neither is known here.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod ending;
pub mod identity;
pub mod lifecycle;
pub mod owner;
pub mod placement;
pub mod prompt;
pub mod roster;
pub mod sched;

pub use ending::{Ending, StopReason};
pub use identity::{LaneId, VmId};
pub use lifecycle::{Lifecycle, MachineState, OnCrash};
pub use owner::Owner;
pub use placement::{NoPlace, Placed, Placement, PlacementError, Share};
pub use roster::Roster;
pub use sched::{AdmissionError, Decision, Dialogue, Scheduler, Server, Slot};
