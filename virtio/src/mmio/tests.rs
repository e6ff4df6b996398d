//! The registers against what the specification says of them.

#![allow(
    unused_must_use,
    reason = "most stores are on the way to the one that is tested"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "registers are halves and bytes of numbers"
)]

mod queues;
mod rig;
mod status;
mod sweep;
