//! Guests that talk to each other and to the host.

#![allow(
    clippy::cast_possible_truncation,
    reason = "for tests: numbers are small"
)]

mod attacks;
mod away;
mod guests;
mod host;
mod streams;
