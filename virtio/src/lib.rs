//! The device side of virtio 1.3.
//!
//! Why a crate of its own: rings, headers and registers are written by guests, and everything that a guest can write is
//! judged here, without one privileged instruction, so that all of it runs and is tested on the host. Nothing here
//! allocates, blocks, panics or touches hardware. Guest memory is reached through a port ([`GuestMemory`]), backends
//! through the traits of their devices, and whom to interrupt is returned as a value ([`Served`]).
//!
//! An allegation has one type, the proven thing another: what a driver writes into the transport's registers is a
//! [`QueueConfig`](queue::QueueConfig), and becomes a [`Queue`](queue::Queue) once; what it writes into descriptors
//! becomes a [`Chain`](chain::Chain), all of whose buffers are inside the guest's memory.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

pub mod balloon;
pub mod blk;
pub mod chain;
pub mod console;
pub mod device;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod faults;
pub mod features;
pub mod lint;
pub mod memory;
pub mod mmio;
pub mod net;
pub mod queue;
#[cfg(any(test, feature = "fake"))]
pub mod rig;
pub mod rng;
pub mod switch;
pub mod trace;
pub mod vsock;

pub use chain::{Chain, Segment};
pub use device::{Device, Env, Served};
pub use features::Features;
pub use memory::GuestMemory;
