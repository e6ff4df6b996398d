//! The true random number generator interface (Arm DEN0098), and the pool that it draws from.
//!
//! What a guest gets comes from a ChaCha20 generator at EL2. Its key is made of the seed that the machine's loader left in
//! the device tree and of the CPU's own random numbers (FEAT_RNG), whichever there are; without either the answer is
//! NO_ENTROPY. The key is replaced at every draw, so that what was given out cannot be found from what is left.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use super::{NOT_SUPPORTED, Request, Results};

/// TRNG_VERSION
pub const TRNG_VERSION: u32 = 0x8400_0050;
/// TRNG_FEATURES
pub const TRNG_FEATURES: u32 = 0x8400_0051;
/// TRNG_GET_UUID
pub const TRNG_GET_UUID: u32 = 0x8400_0052;
/// TRNG_RND32
pub const TRNG_RND32: u32 = 0x8400_0053;
/// TRNG_RND64
pub const TRNG_RND64: u32 = 0xC400_0053;

/// 1.0 (DEN0098 3.2).
const VERSION: u64 = 1 << 16;
const INVALID_PARAMETERS: u64 = (-2_i64).cast_unsigned();
const NO_ENTROPY: u64 = (-3_i64).cast_unsigned();
/// The generator's identity, `37222422-e5e2-48a4-906e-af9e7321464e`: byte 0 of the UUID in the low byte of `w0`.
const UUID_WORDS: [u64; 4] = [0x2224_2237, 0xA448_E2E5, 0x9EAF_6E90, 0x4E46_2173];

/// A request for random bits that has been judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Wanted {
    /// How many: 1 to 192, or to 96 of the 32-bit call.
    bits: u32,
    /// The 64-bit call.
    wide: bool,
}

/// Where random bits come from.
pub trait Entropy {
    /// 192 bits that nobody else has or will get; `None` when there are none to be had.
    fn draw(&mut self) -> Option<[u64; 3]>;
}

/// What a call asks for; `None` when it is none of these.
pub(super) const fn parse(function: u32, x1: u64) -> Option<Request> {
    let answer = match function {
        TRNG_VERSION => VERSION,
        TRNG_FEATURES => match (x1 & 0xFFFF_FFFF) as u32 {
            TRNG_VERSION | TRNG_FEATURES | TRNG_GET_UUID | TRNG_RND32 | TRNG_RND64 => 0,
            _ => NOT_SUPPORTED,
        },
        TRNG_GET_UUID => return Some(Request::Return(Results::Four(UUID_WORDS))),
        TRNG_RND32 => return Some(random(x1 & 0xFFFF_FFFF, false)),
        TRNG_RND64 => return Some(random(x1, true)),
        _ => return None,
    };
    Some(Request::Return(Results::One(answer)))
}

const fn random(bits: u64, wide: bool) -> Request {
    match bits {
        1..=96 => {}
        97..=192 if wide => {}
        _ => return Request::Return(Results::Four([INVALID_PARAMETERS, 0, 0, 0])),
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 192")]
    let bits = bits as u32;
    Request::Random(Wanted { bits, wide })
}

impl Wanted {
    /// The answer: the bits in X3, X2 and X1, from the lowest up, zero above them (DEN0098 3.5).
    pub fn answer(self, entropy: &mut impl Entropy) -> Results {
        let Some(words) = entropy.draw() else {
            return Results::Four([NO_ENTROPY, 0, 0, 0]);
        };
        let width = if self.wide { 64 } else { 32 };
        let [low, middle, high] = words;
        let part = |word: u64, index: u32| match self.bits.saturating_sub(index * width) {
            0 => 0,
            left => word & (u64::MAX >> (64 - left.min(width))),
        };
        Results::Four([0, part(high, 2), part(middle, 1), part(low, 0)])
    }
}

/// A generator and what it is keyed with.
#[derive(Debug)]
pub struct Pool {
    key: Option<[u8; 32]>,
}

impl Pool {
    /// A pool with a seed of 256 unpredictable bits, or none.
    #[must_use]
    pub const fn new(seed: Option<[u8; 32]>) -> Self {
        Self { key: seed }
    }

    /// 192 bits. `fresh` is the CPU's own generator, which may fail or be absent.
    pub fn draw(&mut self, mut fresh: impl FnMut() -> Option<u64>) -> Option<[u64; 3]> {
        let mut whole = true;
        let mut own = [0; 4];
        for word in &mut own {
            let random = fresh();
            whole &= random.is_some();
            *word = random.unwrap_or(0);
        }
        let mut key = match self.key {
            Some(key) => key,
            None if whole => [0; 32],
            None => return None,
        };
        for (chunk, word) in key.as_chunks_mut().0.iter_mut().zip(own) {
            *chunk = (u64::from_le_bytes(*chunk) ^ word).to_le_bytes();
        }
        let mut generator = ChaCha20Rng::from_seed(key);
        generator.fill_bytes(&mut key);
        self.key = Some(key);
        Some(core::array::from_fn(|_| generator.next_u64()))
    }
}

#[cfg(test)]
mod tests;
