//! The memory check: every word gets a value that only its own address can have.
//!
//! Two patterns are written, the second the complement of the first, so that every bit is once 0
//! and once 1. A value depends on the word's address and on a seed made from the guest's name: two
//! addresses that reach one cell, or two guests that share a page, cannot both read back right.

use core::sync::atomic::{AtomicU64, Ordering};

/// Which of the two patterns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pass {
    /// The pattern.
    Plain,
    /// Its complement.
    Inverted,
}

/// The first word that did not read back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// Where.
    pub address: u64,
    /// What was written there.
    pub wanted: u64,
    /// What was read.
    pub found: u64,
}

/// How to walk memory.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    seed: u64,
    /// Words taken of every page; all 512, or the first few.
    words_per_page: usize,
}

/// Words in a page.
const PAGE_WORDS: usize = 512;
/// Words in a sample: a cache line.
const SAMPLE_WORDS: usize = 8;

impl Pattern {
    /// A pattern of its own for each guest name. `whole` takes every word, else a sample of each
    /// page is taken.
    #[must_use]
    pub fn new(name: &str, whole: bool) -> Self {
        let seed = name.bytes().fold(0x9E37_79B9_7F4A_7C15, |hash, byte| {
            mix(hash ^ u64::from(byte))
        });
        Self {
            seed,
            words_per_page: if whole { PAGE_WORDS } else { SAMPLE_WORDS },
        }
    }

    /// The value of the word at `address`.
    #[must_use]
    #[inline]
    pub fn value(&self, address: u64, pass: Pass) -> u64 {
        let value = mix(address ^ self.seed);
        match pass {
            Pass::Plain => value,
            Pass::Inverted => !value,
        }
    }

    /// Writes the pattern into pages whose first word is at `address`.
    pub fn fill(&self, address: u64, words: &[AtomicU64], pass: Pass) {
        self.each(address, words, |address, word| {
            word.store(self.value(address, pass), Ordering::Relaxed);
            Ok(())
        })
        .unwrap_or(());
    }

    /// Reads the pattern back. Returns a digest: the sum of all values read, each mixed once more,
    /// so that it does not depend on who reads which part in what order.
    ///
    /// # Errors
    /// The first word that is not what was written.
    pub fn verify(&self, address: u64, words: &[AtomicU64], pass: Pass) -> Result<u64, Mismatch> {
        let mut digest = 0u64;
        self.each(address, words, |address, word| {
            let found = word.load(Ordering::Relaxed);
            let wanted = self.value(address, pass);
            if found != wanted {
                return Err(Mismatch {
                    address,
                    wanted,
                    found,
                });
            }
            digest = digest.wrapping_add(found.rotate_left(17) ^ address);
            Ok(())
        })?;
        Ok(digest)
    }

    #[inline]
    fn each(
        &self,
        address: u64,
        words: &[AtomicU64],
        mut visit: impl FnMut(u64, &AtomicU64) -> Result<(), Mismatch>,
    ) -> Result<(), Mismatch> {
        let mut page_address = address;
        for page in words.chunks(PAGE_WORDS) {
            let mut address = page_address;
            for word in page.iter().take(self.words_per_page) {
                visit(address, word)?;
                address = address.wrapping_add(8);
            }
            page_address = page_address.wrapping_add(4096);
        }
        Ok(())
    }
}

/// The finaliser of splitmix64: a bijection, so distinct addresses have distinct values.
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: usize) -> Vec<AtomicU64> {
        (0..count * PAGE_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn what_was_written_reads_back_and_the_digest_ignores_the_order() {
        let (pattern, words) = (Pattern::new("alpha", true), pages(4));
        for pass in [Pass::Plain, Pass::Inverted] {
            pattern.fill(0x4000_0000, &words, pass);
            let whole = pattern.verify(0x4000_0000, &words, pass).unwrap();
            let (low, high) = words.split_at(PAGE_WORDS);
            let a = pattern.verify(0x4000_0000, low, pass).unwrap();
            let b = pattern.verify(0x4000_1000, high, pass).unwrap();
            assert_eq!(whole, a.wrapping_add(b));
        }
    }

    #[test]
    fn one_wrong_bit_is_found_and_named() {
        let (pattern, words) = (Pattern::new("alpha", true), pages(2));
        pattern.fill(0x1000, &words, Pass::Plain);
        words[700].fetch_xor(1 << 63, Ordering::Relaxed);
        let wrong = pattern.verify(0x1000, &words, Pass::Plain).unwrap_err();
        assert_eq!(wrong.address, 0x1000 + 700 * 8);
        assert_eq!(wrong.found, wrong.wanted ^ (1 << 63));
    }

    #[test]
    fn an_alias_or_another_guests_pattern_is_found() {
        let (alpha, beta, words) = (
            Pattern::new("alpha", true),
            Pattern::new("beta", true),
            pages(1),
        );
        beta.fill(0x1000, &words, Pass::Plain);
        assert!(alpha.verify(0x1000, &words, Pass::Plain).is_err());
        alpha.fill(0x2000, &words, Pass::Plain);
        assert!(alpha.verify(0x1000, &words, Pass::Plain).is_err());
        assert!(alpha.verify(0x2000, &words, Pass::Inverted).is_err());
    }

    #[test]
    fn a_sample_touches_every_page_but_not_every_word() {
        let (pattern, words) = (Pattern::new("alpha", false), pages(3));
        pattern.fill(0, &words, Pass::Plain);
        let touched = |page: &[AtomicU64]| {
            page.iter()
                .filter(|w| w.load(Ordering::Relaxed) != 0)
                .count()
        };
        assert!(
            words
                .chunks(PAGE_WORDS)
                .all(|page| touched(page) == SAMPLE_WORDS)
        );
        assert!(pattern.verify(0, &words, Pass::Plain).is_ok());
    }
}
