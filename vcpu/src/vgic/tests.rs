//! Tests of the virtual GIC against a model of the hardware below it and an oracle of the GIC a guest expects above it.

mod cases;
mod hot;
mod life;
mod mmio;
mod oracle;
mod random;
mod threads;
mod tools;
mod world;
