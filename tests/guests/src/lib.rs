//! What the test guests share: reading their device tree, and keeping the score.
#![no_std]
#![forbid(unsafe_code)]

pub mod groups;
pub mod interrupts;
pub mod pattern;
pub mod score;
pub mod tree;
