//! Guests on networks, and what reaches whom.

#![allow(
    clippy::cast_possible_truncation,
    reason = "for tests: numbers are small"
)]

mod attacks;
mod away;
mod commands;
mod express;
mod lan;
mod naive;
mod offloads;
mod outside;
mod queues;
mod races;
