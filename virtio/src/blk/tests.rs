//! Requests against what the specification says of them.

#![allow(
    clippy::cast_possible_truncation,
    reason = "sizes of tests are small numbers"
)]

mod attacks;
mod flight;
mod model;
mod requests;
mod revoked;
pub(crate) mod rig;
pub(crate) mod slow;
