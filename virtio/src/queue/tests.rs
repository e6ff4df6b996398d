//! Both ring formats under drivers that behave, and under drivers that do not.

#![allow(
    clippy::cast_possible_truncation,
    reason = "for tests: the numbers are small"
)]

mod areas;
mod hostile_packed;
mod hostile_split;
mod model;
mod toctou;
mod total;

use std::boxed::Box;
use std::vec::Vec;

use super::{Broken, Queue, QueueConfig};
use crate::chain::Chain;
use crate::fake::{BASE, Ram};
use crate::features::Features;

/// Bytes of memory in these tests.
const BYTES: usize = 0x10_0000;
/// Where buffers may be.
const DATA: u64 = BASE + 0x8_0000;

/// Where a test's ring is: descriptors, driver area, device area, a page apart.
const RING: QueueConfig = QueueConfig {
    size: 8,
    descriptors: BASE,
    driver: BASE + 0x1000,
    device: BASE + 0x2000,
};

/// A buffer of a chain, as it should be: where, how long, whether the device writes it.
type Want = (u64, u32, bool);

/// What is in a chain.
fn contents(chain: &Chain) -> Vec<Want> {
    let readable = chain.readable;
    (chain.segments.iter().enumerate())
        .map(|(index, one)| (one.at.raw(), one.len, index >= readable))
        .collect()
}

/// A queue in that place.
fn queue(ram: &Ram, config: QueueConfig, features: Features) -> Queue {
    Queue::new(&config, 256, features, &ram).expect("a queue")
}

/// The next chain's buffers.
fn pop(queue: &mut Queue, ram: &Ram) -> Result<Option<Vec<Want>>, Broken> {
    let mut chain = Box::new(Chain::new());
    let popped = queue.pop(&ram, &mut chain)?;
    Ok(popped.then(|| contents(&chain)))
}
