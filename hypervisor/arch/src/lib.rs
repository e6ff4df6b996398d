//! All unsafe code and assembly of EL2.
//!
//! Everything here is a port to the machine that a pure crate declared, or the few instructions that no
//! compiler writes: the entry, the vectors, the world switch. What it offers is safe to use: memory is
//! granted once, registers concern only guests, and every unsafe block says why it is sound.
//!
//! On the host nothing of it is built.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
mod cache;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
mod copy;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod debug;
#[cfg(target_os = "none")]
pub mod fault;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod hardware;
#[cfg(target_os = "none")]
mod head;
#[cfg(target_os = "none")]
pub mod image;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
mod optional;
#[cfg(target_os = "none")]
pub mod power;
#[cfg(target_os = "none")]
pub mod random;
#[cfg(all(target_os = "none", feature = "virtio"))]
pub mod reach;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
pub mod tables;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod vectors;
#[cfg(all(target_os = "none", feature = "virtio"))]
pub mod virtio;
#[cfg(target_os = "none")]
pub mod world;
