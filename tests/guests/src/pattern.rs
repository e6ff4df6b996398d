//! Numbers that say whose they are: a sequence for each seed, and no two sequences with a value in common that anybody
//! would come across.

/// A sequence (SplitMix64).
#[derive(Debug, Clone)]
pub struct Pattern(u64);

impl Pattern {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: [u64; 4]) -> Self {
        Self(seed.into_iter().fold(0, |state, part| mixed(state ^ part)))
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }
}

const fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
