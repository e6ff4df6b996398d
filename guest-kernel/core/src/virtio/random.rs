//! Random numbers: some to choose by, and what a source of them should look like.

use super::Wrong;
use crate::pattern::mix;

/// Numbers to choose by: the same for the same seed.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    /// For a guest of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(
            name.bytes()
                .fold(0, |seed, byte| mix(seed ^ u64::from(byte))),
        )
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0).checked_rem(limit).unwrap_or(0)
    }
}

/// How many bytes are asked for at once.
pub const SIZES: [usize; 4] = [64, 1, 512, 4096];

/// Bytes that are looked at.
const LOOKED_AT: usize = 1024;
/// No two pieces of so many bytes are alike.
const PIECE: usize = 16;

/// Asks a source for bytes, and for more until there are as many as wanted, and looks at some: a source that repeats
/// itself, stands still or prefers a bit is found, one that is merely weak is not. Returns how many bytes it gave.
///
/// # Errors
/// What is wrong.
pub fn check(mut ask: impl FnMut(&mut [u8]) -> Result<usize, Wrong>) -> Result<u64, Wrong> {
    let mut given = 0;
    let mut first = [0; PIECE];
    let mut buffer = [0; 4096];
    for (nth, size) in SIZES.into_iter().enumerate() {
        let mut have = 0;
        while have < size {
            let rest = buffer.get_mut(have..size).unwrap_or_default();
            let most = rest.len();
            let count = ask(rest)?;
            if count == 0 || count > most {
                return Err(Wrong::Refused(given));
            }
            have += count;
            given += count as u64;
        }
        if let (0, Some(bytes)) = (nth, buffer.first_chunk()) {
            first = *bytes;
        }
    }
    let bytes = buffer.get(..LOOKED_AT).unwrap_or_default();
    // Of 1024 bytes, each of the eight bits is 1 in 416 to 608, but for one source in ten million.
    let ones = |bit: u32| bytes.iter().filter(|byte| *byte >> bit & 1 == 1).count();
    let is_even = (0..u8::BITS).all(|bit| (416..=608).contains(&ones(bit)));
    let mut pieces = bytes.chunks_exact(PIECE).enumerate();
    let repeats = pieces.any(|(nth, piece)| {
        let mut before = bytes.chunks_exact(PIECE).take(nth);
        piece == first || before.any(|other| piece == other)
    });
    if is_even && !repeats {
        return Ok(given);
    }
    Err(Wrong::Predictable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(bytes: &mut [u8], mut next: impl FnMut() -> u8) -> usize {
        bytes.iter_mut().for_each(|byte| *byte = next());
        bytes.len()
    }

    #[test]
    fn a_good_source_passes_in_pieces_too() {
        for most in [1, 7, 4096] {
            let mut choices = Choices::new("source");
            let given = check(|bytes| {
                let most = bytes.len().min(most);
                Ok(fill(&mut bytes[..most], || {
                    choices.below(256).to_le_bytes()[0]
                }))
            });
            assert_eq!(given, Ok(64 + 1 + 512 + 4096));
        }
    }

    #[test]
    fn a_bad_one_does_not() {
        assert_eq!(
            check(|bytes| Ok(fill(bytes, || 0))),
            Err(Wrong::Predictable)
        );
        let mut count = 0u8;
        let counting = check(|bytes| {
            Ok(fill(bytes, || {
                count = count.wrapping_add(1);
                count
            }))
        });
        assert_eq!(counting, Err(Wrong::Predictable));
        let mut choices = Choices::new("seven bits");
        let seven = check(|bytes| Ok(fill(bytes, || choices.below(128).to_le_bytes()[0])));
        assert_eq!(seven, Err(Wrong::Predictable));
        assert_eq!(check(|_| Ok(0)), Err(Wrong::Refused(0)));
        assert_eq!(check(|bytes| Ok(bytes.len() + 1)), Err(Wrong::Refused(0)));
        assert_eq!(check(|_| Err(Wrong::Driver)), Err(Wrong::Driver));
    }
}
