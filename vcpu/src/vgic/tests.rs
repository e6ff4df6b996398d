//! Tests of the virtual GIC against a model of the hardware below it and an oracle of the GIC a guest expects above it.

mod aside;
mod away;
mod cases;
mod edges;
mod hot;
mod life;
mod linked;
mod mmio;
mod oracle;
mod pulse;
mod random;
mod step;
mod threads;
mod tools;
mod world;

/// How many cases a property test runs: `PROPTEST_CASES`, or else what suits each run of the tests.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
