//! What the test guests share: reading their device tree, virtio devices by hand, and keeping the score.
#![no_std]
#![forbid(unsafe_code)]

pub mod card;
pub mod groups;
pub mod interrupts;
pub mod pattern;
pub mod score;
pub mod slot;
pub mod tree;
