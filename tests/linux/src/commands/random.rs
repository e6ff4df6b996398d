//! Numbers and bytes that are the same again for the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// One below a bound; 0 for the bound 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
    }
}

/// A seed of no particular value.
pub fn seed() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| {
            time.as_secs().wrapping_mul(31) ^ u64::from(time.subsec_nanos())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_depend_on_the_seed_alone_and_not_on_how_they_are_asked_for() {
        let (mut whole, mut parts) = ([0; 64], [0; 64]);
        Random::new(7).fill(&mut whole);
        let mut random = Random::new(7);
        for part in parts.chunks_mut(16) {
            random.fill(part);
        }
        assert_eq!(whole, parts);
        Random::new(8).fill(&mut parts);
        assert_ne!(whole, parts);
        assert_eq!(Random::new(1).below(0), 0);
    }
}
