//! All unsafe code and assembly of the guest kernel.
//!
//! The functions offered here are safe to call: whatever they need to be true (that an address is
//! RAM, that registers are mapped, that tables outlive their use) is established inside this crate.
//! The one thing taken on trust is the device tree, which is the machine's word about itself.
//!
//! The binary hands itself over with [`kernel!`], which defines the symbols the assembly calls.

#![no_std]

extern crate alloc;

pub mod console;
pub mod cpu;
mod entry;
pub mod exception;
pub mod gic;
mod heap;
mod image;
pub mod memory;
pub mod misdeeds;
pub mod mmu;
pub mod power;
pub mod probe;
mod stack;
pub mod timer;
pub mod virtio;
pub mod xdv;

pub use entry::Kernel;
