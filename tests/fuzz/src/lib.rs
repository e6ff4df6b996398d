//! What a fuzzer feeds, and what the committed corpus replays in each test run.
//!
//! A target takes bytes as what a hostile guest does, and panics where it came through: a step count without bound, a
//! write to memory that the driver did not give, an answer that the specification forbids.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "for tests: whatever is unexpected ends them"
)]

mod device;
mod faults;
mod gpt;
mod guest;
mod input;
mod ring;
mod template;
mod watch;

/// What takes the bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 11] = [
    ("ring-split", ring::split),
    ("ring-packed", ring::packed),
    ("blk", device::blk),
    ("rng", device::rng),
    ("console", device::console),
    ("balloon", device::balloon),
    ("net", device::net),
    ("vsock", device::vsock),
    ("faulty-disk", faults::disk),
    ("faulty-device", faults::device),
    ("gpt", gpt::table),
];

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}
