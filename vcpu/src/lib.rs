//! One virtual K lane: context, exits, system registers, PSCI, timer, vGIC.
//!
//! Why a crate of its own: everything a guest can provoke is judged here, without one privileged instruction, so that
//! all of it runs and is tested on the host. Nothing here allocates, blocks, panics or touches hardware; what must
//! happen on the machine is returned as a value for the `hypervisor` to carry out.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod context;
pub mod debug;
mod device;
pub mod exit;
pub mod hot;
pub mod idregs;
pub mod inject;
pub mod insn;
pub mod lane;
pub mod machine;
pub mod mmio;
pub mod psci;
pub mod refused;
#[cfg(test)]
mod rig;
pub mod serve;
pub mod smccc;
pub mod sysreg;
pub mod timer;
pub mod trace;
pub mod vgic;
pub mod virtio;
